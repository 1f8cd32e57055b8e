//! A request's way through the gateway without sockets: before it a caller, behind it a pipe that says the
//! same to everything.

use std::{error::Error, future::poll_fn, pin::Pin, sync::Arc};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings as BreakerSettings};
use chimera_gateway::{DialectId, Gateway, ModelProvider, Models, Settings};
use chimera_provider_pool::{
    Connect, Connected, Connecting, Deployment, Failover, Group, InOrder, Provider, ProviderSettings, Target,
    Transport,
};
use http::Request;
use http_body::Body as _;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Counted<'a> = &'a mut dyn FnMut(&mut dyn FnMut(u64));
type Done = Result<(), Box<dyn Error>>;

/// One question asked again and again.
pub(crate) fn hit(counted: Counted<'_>) -> Done {
    ask_each(counted, unary(), false, |_| 0)
}

/// A new question each time.
pub(crate) fn miss(counted: Counted<'_>) -> Done {
    ask_each(counted, unary(), false, |number| number)
}

/// A new question each time, answered by a stream of 64 events.
pub(crate) fn stream(counted: Counted<'_>) -> Done {
    ask_each(counted, events(), true, |number| number)
}

/// One question asked again and again, answered by the stream that is kept.
pub(crate) fn stream_hit(counted: Counted<'_>) -> Done {
    ask_each(counted, events(), true, |_| 0)
}

fn ask_each(counted: Counted<'_>, answer: Vec<u8>, stream: bool, question: fn(u64) -> u64) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let gateway = gateway(answer)?;
    let mut failed = None;
    counted(&mut |number| {
        if let Err(error) = runtime.block_on(ask(&gateway, question(number), stream)) {
            failed.get_or_insert(error);
        }
    });
    failed.map_or(Ok(()), Err)
}

/// A provider behind a pipe.
struct Says(Vec<u8>);

impl Connect for Says {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let answer = self.0.clone();
        Box::pin(async {
            let (near, mut far) = tokio::io::duplex(256 * 1024);
            tokio::spawn(async move {
                let mut request = [0; 16 * 1024];
                while far.read(&mut request).await.is_ok_and(|read| read > 0) {
                    // The gateway may have gone, which the next read tells.
                    let _ = far.write_all(&answer).await;
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(near)), http2: false })
        })
    }
}

fn gateway(answer: Vec<u8>) -> Result<Gateway, Box<dyn Error>> {
    let settings = ProviderSettings::new("p", Target::parse("http://upstream.test")?);
    let provider = Provider::new(settings, Arc::new(Says(answer)), 1)?;
    let breaker = Breaker::new(BreakerSettings::default(), std::time::Instant::now());
    let deployment = Deployment::new("p", provider.clone(), None, breaker, 1000);
    let mut models = Models::default();
    models.add_provider(ModelProvider {
        provider,
        dialects: vec![DialectId::OpenAi],
        group: Group::new("p", vec![deployment], Arc::new(InOrder), Failover::default()),
        patterns: vec!["gpt-*".to_owned()],
        ask_usage: true,
        drain_for_usage: std::time::Duration::ZERO,
    });
    Ok(Gateway::new(Settings::new(models), [7; 32])?)
}

/// Asks with about 2 KB, different for each number, and reads the whole answer.
async fn ask(gateway: &Gateway, number: u64, stream: bool) -> Done {
    let prompt = format!("{number:08} {}", "what is the answer to this question? ".repeat(50));
    let body = format!(
        r#"{{"model":"gpt-gauge","stream":{stream},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    let request = Request::post("/v1/chat/completions")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = gateway.handle(request).await;
    if response.status() != http::StatusCode::OK {
        return Err(format!("the gateway answered {}", response.status()).into());
    }
    let mut body = response.into_body();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame?;
    }
    Ok(())
}

fn unary() -> Vec<u8> {
    let text = "an answer of some length. ".repeat(50);
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"gpt-gauge","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}}}"#
    );
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into()
}

fn events() -> Vec<u8> {
    let event = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"},\"finish_reason\":null}]}\n\n";
    let stop = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let mut bytes =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for event in [event; 64].into_iter().chain([stop]) {
        bytes.extend_from_slice(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
