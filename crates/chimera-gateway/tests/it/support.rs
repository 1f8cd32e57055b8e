//! A gateway in front of providers that do as they are told.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings as BreakerSettings};
use chimera_gateway::{Body, DialectId, Gateway, ModelProvider, Models, Settings};
use chimera_provider_pool::{
    Connect, ConnectError, Connected, Connecting, Credential, Deployment, Failover, Group, InOrder, Provider,
    ProviderSettings, Secret, Target, Transport,
};
use http::{HeaderName, Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

/// What an upstream does on one connection.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Reads one whole request and keeps it.
    Read,
    Write(Vec<u8>),
    /// Answers the request that was read last.
    Reply(fn(&str) -> Vec<u8>),
    Sleep(Duration),
    /// Waits until the other side closes; notes that it did, and how much came until then.
    AwaitClose,
    /// Begins again with the first act.
    Again,
}

#[derive(Clone, Debug)]
pub(crate) enum Script {
    Refuse,
    /// The connection attempt never ends.
    Hang,
    /// A fault of ours: the attempt panics.
    Panic,
    Acts(Vec<Act>),
}

/// A provider whose connections follow scripts, one each; the last is repeated.
#[derive(Default)]
pub(crate) struct Scripted {
    scripts: Mutex<VecDeque<Script>>,
    pub(crate) requests: Mutex<Vec<Vec<u8>>>,
    pub(crate) connects: AtomicUsize,
    pub(crate) closed: AtomicUsize,
    /// Bytes that came after the script was done with reading.
    pub(crate) drained: AtomicUsize,
}

impl Scripted {
    pub(crate) fn new(scripts: impl IntoIterator<Item = Script>) -> Arc<Self> {
        Arc::new(Self { scripts: Mutex::new(scripts.into_iter().collect()), ..Self::default() })
    }

    pub(crate) fn answering(answer: Vec<u8>) -> Arc<Self> {
        Self::new([Script::Acts(vec![Act::Read, Act::Write(answer), Act::Again])])
    }

    pub(crate) fn request(&self, index: usize) -> String {
        String::from_utf8_lossy(&self.requests.lock().unwrap()[index]).into_owned()
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(crate) fn body(&self, index: usize) -> String {
        self.request(index).split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn next(&self) -> Script {
        let mut scripts = self.scripts.lock().unwrap();
        if scripts.len() > 1 { scripts.pop_front().unwrap() } else { scripts[0].clone() }
    }

    async fn act(self: Arc<Self>, mut io: DuplexStream, acts: Vec<Act>) {
        let mut at = 0;
        let mut last = Vec::new();
        while let Some(act) = acts.get(at).cloned() {
            at += 1;
            match act {
                Act::Again => at = 0,
                Act::Read => match read_request(&mut io).await {
                    Some(request) => {
                        last.clone_from(&request);
                        self.requests.lock().unwrap().push(request);
                    }
                    None => break,
                },
                Act::Reply(reply) => {
                    if io.write_all(&reply(&String::from_utf8_lossy(&last))).await.is_err() {
                        break;
                    }
                }
                Act::Write(bytes) => {
                    if io.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
                Act::Sleep(time) => tokio::time::sleep(time).await,
                Act::AwaitClose => {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(read @ 1..) = io.read(&mut buffer).await {
                        self.drained.fetch_add(read, SeqCst);
                    }
                }
            }
        }
        self.closed.fetch_add(1, SeqCst);
    }
}

async fn read_request(io: &mut DuplexStream) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = io.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(request);
            }
        }
    }
}

/// A pipe that panics when it reads the word `planted`: a fault of ours in the middle of an answer.
struct Mined(DuplexStream);

impl AsyncRead for Mined {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        assert!(!buf.filled().windows(7).any(|word| word == b"planted"), "planted");
        polled
    }
}

impl AsyncWrite for Mined {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

pub(crate) struct ScriptConnect(pub(crate) Arc<Scripted>);

impl Connect for ScriptConnect {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            self.0.connects.fetch_add(1, SeqCst);
            match self.0.next() {
                Script::Refuse => Err(ConnectError::Tcp(io::ErrorKind::ConnectionRefused.into())),
                Script::Hang => std::future::pending().await,
                Script::Panic => panic!("planted"),
                Script::Acts(acts) => {
                    let (near, far) = tokio::io::duplex(1 << 20);
                    tokio::spawn(self.0.clone().act(far, acts));
                    Ok(Connected { transport: Transport::Other(Box::new(Mined(near))), http2: false })
                }
            }
        })
    }
}

pub(crate) const KEY: &str = "sk-canary-0123456789";

pub(crate) fn provider(name: &str, dialect: DialectId, upstream: &Arc<Scripted>) -> ModelProvider {
    let key = format!("{KEY}-{name}");
    let credential = match dialect {
        DialectId::OpenAi | DialectId::Responses => {
            Credential::new(http::header::AUTHORIZATION, "Bearer ", Secret::new(key))
        }
        DialectId::Anthropic => Credential::new(HeaderName::from_static("x-api-key"), "", Secret::new(key)),
        DialectId::Gemini => Credential::new(HeaderName::from_static("x-goog-api-key"), "", Secret::new(key)),
    };
    provider_with(name, dialect, upstream, vec![credential.unwrap()])
}

pub(crate) fn provider_with(
    name: &str,
    dialect: DialectId,
    upstream: &Arc<Scripted>,
    credentials: Vec<Credential>,
) -> ModelProvider {
    provider_tuned(name, dialect, upstream, |settings| settings.credentials = credentials)
}

/// A provider whose settings are those that `tune` leaves.
pub(crate) fn provider_tuned(
    name: &str,
    dialect: DialectId,
    upstream: &Arc<Scripted>,
    tune: impl FnOnce(&mut ProviderSettings),
) -> ModelProvider {
    let mut settings = ProviderSettings::new(name, Target::parse("http://upstream.test").unwrap());
    tune(&mut settings);
    let provider = Provider::new(settings, Arc::new(ScriptConnect(upstream.clone())), 1).unwrap();
    let deployment = deployment(name, &provider, None);
    let group = Group::new(name, vec![deployment], Arc::new(InOrder), Failover::default());
    let patterns = vec![match dialect {
        DialectId::OpenAi | DialectId::Responses => "gpt-*".to_owned(),
        DialectId::Anthropic => "claude-*".to_owned(),
        DialectId::Gemini => "gemini-*".to_owned(),
    }];
    ModelProvider {
        provider,
        dialects: vec![dialect],
        group,
        patterns,
        ask_usage: true,
        drain_for_usage: Duration::ZERO,
    }
}

pub(crate) fn deployment(name: &str, provider: &Arc<Provider>, model: Option<&str>) -> Arc<Deployment> {
    let breaker = Breaker::new(BreakerSettings::default(), std::time::Instant::now());
    Deployment::new(name, provider.clone(), model.map(str::to_owned), breaker, 1000)
}

/// Bearer credentials.
pub(crate) fn bearers<const N: usize>(keys: [&str; N]) -> Vec<Credential> {
    let credential = |key| Credential::new(http::header::AUTHORIZATION, "Bearer ", Secret::new(key)).unwrap();
    keys.map(credential).to_vec()
}

/// A gateway over one provider.
pub(crate) fn gateway(dialect: DialectId, upstream: &Arc<Scripted>) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", dialect, upstream));
    Gateway::new(Settings::new(models), [7; 32]).unwrap()
}

/// A gateway with the group `duo`: first `one`, then `two`.
pub(crate) fn duo(one: &Arc<Scripted>, two: &Arc<Scripted>, failover: Failover) -> Gateway {
    duo_of([(DialectId::OpenAi, one), (DialectId::OpenAi, two)], failover)
}

/// The group `duo` of two providers that speak what they are said to.
pub(crate) fn duo_of(
    [(first, one), (second, two)]: [(DialectId, &Arc<Scripted>); 2],
    failover: Failover,
) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", first, one));
    models.add_provider(provider("two", second, two));
    let deployments = ["one", "two"]
        .map(|name| {
            deployment(
                &format!("{name}/m-{name}"),
                &models.provider(name).unwrap().provider,
                Some(&format!("m-{name}")),
            )
        })
        .to_vec();
    models.add_group(Group::new("duo", deployments, Arc::new(InOrder), failover));
    Gateway::new(Settings::new(models), [7; 32]).unwrap()
}

/// A gateway with one group of so many OpenAI providers: `0`, `1` and so on.
pub(crate) fn group_of(name: &str, upstreams: &[Arc<Scripted>], failover: Failover) -> Gateway {
    let mut models = Models::default();
    let mut deployments = Vec::new();
    for (index, upstream) in upstreams.iter().enumerate() {
        let one = provider(&index.to_string(), DialectId::OpenAi, upstream);
        deployments.push(deployment(&format!("{index}/m"), &one.provider, Some("m")));
        models.add_provider(one);
    }
    models.add_group(Group::new(name, deployments, Arc::new(InOrder), failover));
    Gateway::new(Settings::new(models), [7; 32]).unwrap()
}

pub(crate) fn post(path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
        .unwrap()
}

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A chat request with its own prompt.
pub(crate) fn chat(model: &str, prompt: &str, stream: bool) -> Request<Full<Bytes>> {
    let stream = if stream { r#","stream":true"# } else { "" };
    post(
        CHAT,
        &format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{prompt}"}}]{stream}}}"#),
    )
}

/// A response read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
    /// Whether the transfer was cut.
    pub(crate) aborted: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub(crate) async fn next(body: &mut Body) -> Option<Result<Bytes, chimera_gateway::Aborted>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

/// A deployment that takes one request at a time, behind the model `narrow`.
pub(crate) fn narrow(upstream: &Arc<Scripted>) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, upstream));
    let breaker = Breaker::new(BreakerSettings::default(), std::time::Instant::now());
    let provider = models.provider("one").unwrap().provider.clone();
    let deployment = Deployment::new("narrow", provider, Some("m".to_owned()), breaker, 1);
    models.add_group(Group::new("narrow", vec![deployment], Arc::new(InOrder), Failover::default()));
    Gateway::new(Settings::new(models), [7; 32]).unwrap()
}

pub(crate) async fn finish(response: Response<Body>) -> Answer {
    let (parts, mut body) = response.into_parts();
    let (mut text, mut aborted) = (Vec::new(), false);
    while let Some(data) = next(&mut body).await {
        match data {
            Ok(data) => text.extend_from_slice(&data),
            Err(_) => aborted = true,
        }
    }
    let body = String::from_utf8(text).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body, aborted }
}

pub(crate) async fn call(gateway: &Gateway, request: Request<Full<Bytes>>) -> Answer {
    finish(gateway.handle(request).await).await
}

/// An answer with a content length.
pub(crate) fn unary(status: u16, body: &str) -> Vec<u8> {
    unary_with(status, "", body)
}

pub(crate) fn unary_with(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n{body}").into_bytes()
}

pub(crate) const SSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

pub(crate) fn chunk(data: &str) -> Vec<u8> {
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

pub(crate) const END: &[u8] = b"0\r\n\r\n";

/// A whole stream, each event a chunk of its own.
pub(crate) fn stream(events: &[&str]) -> Vec<u8> {
    let mut out = SSE_HEAD.as_bytes().to_vec();
    events.iter().for_each(|event| out.extend(chunk(event)));
    out.extend_from_slice(END);
    out
}

pub(crate) fn delta(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    )
}

pub(crate) const ROLE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
pub(crate) const STOP: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
pub(crate) const USAGE: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n";
pub(crate) const DONE: &str = "data: [DONE]\n\n";

pub(crate) const ANSWER: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":"hello there"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#;

/// Gives other tasks a chance, without time passing.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// A body that never ends and never says anything.
pub(crate) struct Silent;

impl http_body::Body for Silent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}
