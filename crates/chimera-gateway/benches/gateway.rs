//! A request's way through the gateway without sockets: a hit, a miss, and a stream of 64 events.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{cell::Cell, future::poll_fn, pin::Pin, sync::Arc};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings as BreakerSettings};
use chimera_gateway::{DialectId, Gateway, ModelProvider, Models, Settings};
use chimera_provider_pool::{
    Connect, Connected, Connecting, Deployment, Failover, Group, InOrder, Provider, ProviderSettings, Target,
    Transport,
};
use criterion::{Criterion, criterion_group, criterion_main};
use http::Request;
use http_body::Body as _;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A provider behind a pipe that says the same to everything.
struct Says(Vec<u8>);

impl Connect for Says {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let answer = self.0.clone();
        Box::pin(async {
            let (near, mut far) = tokio::io::duplex(256 * 1024);
            tokio::spawn(async move {
                let mut request = [0; 16 * 1024];
                while far.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let _ = far.write_all(&answer).await;
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(near)), http2: false })
        })
    }
}

fn gateway(answer: Vec<u8>) -> Gateway {
    let settings = ProviderSettings::new("p", Target::parse("http://upstream.test").unwrap());
    let provider = Provider::new(settings, Arc::new(Says(answer)), 1).unwrap();
    let breaker = Breaker::new(BreakerSettings::default(), std::time::Instant::now());
    let deployment = Deployment::new("p", provider.clone(), None, breaker, 1000);
    let group = Group::new("p", vec![deployment], Arc::new(InOrder), Failover::default());
    let mut models = Models::default();
    let patterns = vec!["gpt-*".to_owned()];
    models.add_provider(ModelProvider {
        provider,
        dialects: vec![DialectId::OpenAi],
        group,
        patterns,
        ask_usage: true,
        drain_for_usage: std::time::Duration::ZERO,
    });
    Gateway::new(Settings::new(models), [7; 32]).unwrap()
}

/// About 2 KB, different for each number.
fn request(number: u64, stream: bool) -> Request<Full<Bytes>> {
    let prompt = format!("{number} {}", "what is the answer to this question? ".repeat(50));
    let body = format!(
        r#"{{"model":"gpt-bench","stream":{stream},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    Request::post("/v1/chat/completions")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

/// The same from a caller of Anthropic's dialect.
fn foreign(stream: bool) -> Request<Full<Bytes>> {
    let prompt = "what is the answer to this question? ".repeat(50);
    let body = format!(
        r#"{{"model":"gpt-bench","max_tokens":50,"stream":{stream},"messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    Request::post("/v1/messages")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

async fn ask(gateway: &Gateway, request: Request<Full<Bytes>>) -> usize {
    let mut body = gateway.handle(request).await.into_body();
    let mut bytes = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    bytes
}

fn unary() -> Vec<u8> {
    let text = "an answer of some length. ".repeat(50);
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"gpt-bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}}}"#
    );
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn stream() -> Vec<u8> {
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

fn ways(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let number = Cell::new(0);
    let next = || {
        number.set(number.get() + 1);
        number.get()
    };
    let plain = gateway(unary());
    c.bench_function("hit", |b| b.iter(|| runtime.block_on(ask(&plain, request(0, false)))));
    c.bench_function("hit, told in another dialect", |b| {
        b.iter(|| runtime.block_on(ask(&plain, foreign(false))));
    });
    c.bench_function("miss", |b| b.iter(|| runtime.block_on(ask(&plain, request(next(), false)))));
    let streaming = gateway(stream());
    c.bench_function("stream of 64 events, hit", |b| {
        b.iter(|| runtime.block_on(ask(&streaming, request(0, true))));
    });
    c.bench_function("stream of 64 events, hit, told in another dialect", |b| {
        b.iter(|| runtime.block_on(ask(&streaming, foreign(true))));
    });
    c.bench_function("stream of 64 events, miss", |b| {
        b.iter(|| runtime.block_on(ask(&streaming, request(next(), true))));
    });
}

criterion_group!(benches, ways);
criterion_main!(benches);
