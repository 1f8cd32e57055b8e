//! The public catalogue of failoverbench (methodology 0.1), S01 to S16, at its published times: one
//! provider that misbehaves by the name of the model, one fallback that is well, and both views: what
//! the caller got, and what the provider saw of it.
//!
//! A verdict is `pass` when the caller got the whole answer and every check of the scenario held, the
//! advisory ones too. A stream that was begun cannot be taken back, so whoever wants S08, S09, S10 and
//! S14 answered in full has it held back (`hold_streams`); without that they are clean errors (`safe`),
//! which is tested as well.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use chimera_circuit_breaker::{Breaker, Settings as BreakerSettings};
use chimera_gateway::{CachePolicy, DialectId, Gateway, ModelProvider, Models, Settings};
use chimera_provider_pool::{
    Connect, Connected, Connecting, Deployment, Failover, Group, GroupSettings, InOrder, Provider,
    ProviderSettings, Target, Transport,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep},
};

use crate::support::{CHAT, END, SSE_HEAD, call, chunk, post, unary, unary_with};

const PRIMARY: &str = "primary";
const FALLBACK: &str = "fallback";
const TOKENS: usize = 60;
const BETWEEN: Duration = Duration::from_millis(15);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the primary does.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    RetryAfterOnce,
    Throttles,
    FailsOnce,
    Down,
    ResetOnce,
    Silent,
    SlowFirst,
    CutAt40,
    StallsAt20,
    MalformedTenth,
    NoDone,
    TooLong,
    Filtered,
    DownFor(Duration),
}

/// The providers: a pipe for each connection, and a log of every attempt.
struct Wall {
    fault: Fault,
    began: Instant,
    /// The model, when, and how large the request was.
    log: Mutex<Vec<(String, Duration)>>,
}

impl Wall {
    fn attempts(&self, model: &str) -> Vec<Duration> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|(name, _)| name == model).map(|(_, at)| *at).collect()
    }

    async fn serve(self: Arc<Self>, mut io: DuplexStream) {
        while let Some(request) = read(&mut io).await {
            let request: serde_json::Value = serde_json::from_str(&request).unwrap();
            let model = request["model"].as_str().unwrap().to_owned();
            let attempt = self.attempts(&model).len();
            self.log.lock().unwrap().push((model.clone(), self.began.elapsed()));
            let prefilled = request["messages"].as_array().unwrap().last().unwrap()["role"] == "assistant";
            let goes_on = if model == FALLBACK && prefilled {
                io.write_all(&error(400, "prefill_not_supported")).await.is_ok()
            } else if model == FALLBACK {
                well(&mut io, &model, TOKENS, true).await
            } else {
                self.misbehave(&mut io, attempt).await
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    async fn misbehave(&self, io: &mut DuplexStream, attempt: usize) -> bool {
        let answer = match self.fault {
            Fault::RetryAfterOnce if attempt == 0 => {
                unary_with(429, "retry-after: 2\r\n", r#"{"error":{"message":"slow down"}}"#)
            }
            Fault::Throttles => error(429, "rate_limit_exceeded"),
            Fault::FailsOnce if attempt == 0 => error(500, "server_error"),
            Fault::Down => error(503, "overloaded"),
            Fault::DownFor(outage) if self.began.elapsed() < outage => error(503, "overloaded"),
            Fault::ResetOnce if attempt == 0 => return false,
            Fault::TooLong => error(400, "context_length_exceeded"),
            Fault::Filtered => error(400, "content_policy_violation"),
            Fault::Silent => {
                sleep(seconds(120)).await;
                return false;
            }
            Fault::SlowFirst => {
                let _ = io.write_all(SSE_HEAD.as_bytes()).await;
                sleep(seconds(20)).await;
                return tokens(io, PRIMARY, 0..TOKENS).await && finish(io, PRIMARY, true).await;
            }
            Fault::CutAt40 => {
                let _ = io.write_all(SSE_HEAD.as_bytes()).await;
                tokens(io, PRIMARY, 0..40).await;
                return false;
            }
            Fault::StallsAt20 => {
                let _ = io.write_all(SSE_HEAD.as_bytes()).await;
                tokens(io, PRIMARY, 0..20).await;
                sleep(seconds(30)).await;
                return false;
            }
            Fault::MalformedTenth => {
                let _ = io.write_all(SSE_HEAD.as_bytes()).await;
                return tokens(io, PRIMARY, 0..9).await
                    && io.write_all(&chunk("data: {\"choices\":[{\"delta\"\n\n")).await.is_ok()
                    && tokens(io, PRIMARY, 9..TOKENS).await
                    && finish(io, PRIMARY, true).await;
            }
            Fault::NoDone => return well(io, PRIMARY, TOKENS, false).await,
            _ => return well(io, PRIMARY, TOKENS, true).await,
        };
        io.write_all(&answer).await.is_ok()
    }
}

fn error(status: u16, code: &str) -> Vec<u8> {
    unary(status, &format!(r#"{{"error":{{"message":"{code}","code":"{code}"}}}}"#))
}

/// Reads one request; its body.
async fn read(io: &mut DuplexStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = io.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8(bytes.clone()).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.parse().unwrap() {
            return Some(body.to_owned());
        }
    }
}

fn event(model: &str, delta: &str, finish: &str) -> Vec<u8> {
    chunk(&format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"{model}\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    ))
}

async fn tokens(io: &mut DuplexStream, model: &str, range: std::ops::Range<usize>) -> bool {
    for n in range {
        sleep(BETWEEN).await;
        let delta = format!("{{\"content\":\"word{n} \"}}");
        if io.write_all(&event(model, &delta, "null")).await.is_err() {
            return false;
        }
    }
    true
}

async fn finish(io: &mut DuplexStream, model: &str, done: bool) -> bool {
    let mut bytes = event(model, "{}", "\"stop\"");
    bytes.extend(chunk(&format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"{model}\",\"choices\":[],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":60,\"total_tokens\":69}}}}\n\n"
    )));
    if done {
        bytes.extend(chunk("data: [DONE]\n\n"));
    }
    bytes.extend_from_slice(END);
    io.write_all(&bytes).await.is_ok()
}

async fn well(io: &mut DuplexStream, model: &str, count: usize, done: bool) -> bool {
    let _ = io.write_all(SSE_HEAD.as_bytes()).await;
    tokens(io, model, 0..count).await && finish(io, model, done).await
}

struct ToWall(Arc<Wall>);

impl Connect for ToWall {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(64 << 10);
            tokio::spawn(self.0.clone().serve(far));
            Ok(Connected { transport: Transport::Other(Box::new(near)), http2: false })
        })
    }
}

/// What the caller got.
struct Got {
    status: u16,
    content: String,
    model: Option<String>,
    usage: bool,
    /// Whether it was told of an error, in whatever way.
    error: bool,
    body: String,
    took: Duration,
}

impl Got {
    fn is_complete(&self) -> bool {
        let canonical: String = (0..TOKENS).map(|n| format!("word{n} ")).collect();
        !self.error && self.content == canonical
    }

    /// Not rescued, but told so: never a part that looks like the whole.
    fn is_clean_error(&self) -> bool {
        self.error && !self.body.contains("[DONE]")
    }
}

/// A gateway before the wall.
struct Bench {
    gateway: Gateway,
    wall: Arc<Wall>,
}

impl Bench {
    /// Streams are held back.
    fn held(fault: Fault) -> Self {
        Self::new(fault, true)
    }

    fn new(fault: Fault, hold_streams: bool) -> Self {
        let wall = Arc::new(Wall { fault, began: Instant::now(), log: Mutex::default() });
        let settings = ProviderSettings::new("wall", Target::parse("http://wall.test").unwrap());
        let provider = Provider::new(settings, Arc::new(ToWall(wall.clone())), 1).unwrap();
        let now = Instant::now().into_std();
        let deployment = |name: &str| {
            let breaker = BreakerSettings { open_max: seconds(20), ..BreakerSettings::default() };
            let breaker = Breaker::new(breaker, now);
            Deployment::new(name, provider.clone(), Some(name.to_owned()), breaker, 100)
        };
        let own = Group::new("wall", vec![deployment("own")], Arc::new(InOrder), Failover::default());
        let mut models = Models::default();
        models.add_provider(ModelProvider {
            provider: provider.clone(),
            dialects: vec![DialectId::OpenAi],
            group: own,
            patterns: Vec::new(),
            ask_usage: true,
            drain_for_usage: Duration::ZERO,
        });
        // One further attempt, one fallback, ten seconds to the first content.
        let failover = Failover { retries: 1, broken: true, ..Failover::default() };
        let first_event = Some(seconds(10));
        let settings = GroupSettings { failover, first_event, hold_streams, ..GroupSettings::default() };
        let members = vec![deployment(PRIMARY), deployment(FALLBACK)];
        models.add_group(Group::with_settings("sut", members, Arc::new(InOrder), settings));
        let mut settings = Settings::new(models);
        settings.cache.policy = CachePolicy::Off;
        Self { gateway: Gateway::new(settings, [7; 32]).unwrap(), wall }
    }

    async fn ask(&self) -> Got {
        let began = Instant::now();
        let body = r#"{"model":"sut","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"sixty words"}]}"#;
        let answer = call(&self.gateway, post(CHAT, body)).await;
        let mut got = Got {
            status: answer.status,
            content: String::new(),
            model: None,
            usage: false,
            error: answer.status != 200 || answer.aborted,
            body: answer.body,
            took: began.elapsed(),
        };
        for data in got.body.clone().lines().filter_map(|line| line.strip_prefix("data: ")) {
            let Ok(event) = serde_json::from_str::<serde_json::Value>(data) else {
                got.error |= data != "[DONE]";
                continue;
            };
            got.error |= event.get("error").is_some();
            got.usage |= event["usage"].is_object();
            got.model = event["model"].as_str().map(str::to_owned).or(got.model);
            got.content += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
        }
        got
    }

    fn primary(&self) -> Vec<Duration> {
        self.wall.attempts(PRIMARY)
    }

    fn fallback(&self) -> usize {
        self.wall.attempts(FALLBACK).len()
    }
}

#[tokio::test(start_paused = true)]
async fn s01_429_with_retry_after() {
    let bench = Bench::held(Fault::RetryAfterOnce);
    let got = bench.ask().await;
    let attempts = bench.primary();
    assert!(got.is_complete() && got.took <= seconds(20));
    assert_eq!(attempts.len(), 2);
    assert!(attempts[1] - attempts[0] >= Duration::from_millis(1800), "{attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn s02_429_without_retry_after_persistent() {
    let bench = Bench::held(Fault::Throttles);
    let got = bench.ask().await;
    let attempts = bench.primary();
    assert!(got.is_complete() && got.took <= seconds(40));
    assert!(attempts.len() <= 6);
    assert!(attempts.iter().filter(|at| **at <= attempts[0] + seconds(3)).count() <= 4);
}

#[tokio::test(start_paused = true)]
async fn s03_500_once_then_healthy() {
    let bench = Bench::held(Fault::FailsOnce);
    let got = bench.ask().await;
    assert!(got.is_complete() && got.took <= seconds(20));
    assert_eq!((bench.primary().len(), bench.fallback()), (2, 0), "the same provider, once more");
}

#[tokio::test(start_paused = true)]
async fn s04_503_persistent() {
    let bench = Bench::held(Fault::Down);
    let got = bench.ask().await;
    assert!(got.is_complete() && got.took <= seconds(40));
    assert!(bench.primary().len() <= 6);
}

#[tokio::test(start_paused = true)]
async fn s05_a_reset_before_headers() {
    let bench = Bench::held(Fault::ResetOnce);
    let got = bench.ask().await;
    assert!(got.is_complete() && got.took <= seconds(20));
}

#[tokio::test(start_paused = true)]
async fn s06_no_response_at_all() {
    for hold_streams in [true, false] {
        let bench = Bench::new(Fault::Silent, hold_streams);
        let got = bench.ask().await;
        assert!(got.is_complete() && got.took <= seconds(100), "{:?}", got.took);
        assert_eq!(bench.primary().len(), 1, "who is silent is not asked again");
    }
}

#[tokio::test(start_paused = true)]
async fn s07_slow_first_token() {
    for hold_streams in [true, false] {
        let bench = Bench::new(Fault::SlowFirst, hold_streams);
        let got = bench.ask().await;
        assert!(got.is_complete() && got.took <= seconds(15), "{:?}", got.took);
    }
}

#[tokio::test(start_paused = true)]
async fn s08_a_stream_cut_in_mid_answer() {
    let bench = Bench::held(Fault::CutAt40);
    let got = bench.ask().await;
    assert!(got.is_complete() && got.took <= seconds(40));
    let live = Bench::new(Fault::CutAt40, false).ask().await;
    assert!(live.is_clean_error() && live.took <= seconds(40));
}

#[tokio::test(start_paused = true)]
async fn s09_a_stream_that_stalls() {
    let bench = Bench::held(Fault::StallsAt20);
    let got = bench.ask().await;
    assert!(got.is_complete() && got.took <= seconds(45), "{:?}", got.took);
    assert!(bench.ask().await.is_complete(), "alive after it");
    let bench = Bench::new(Fault::StallsAt20, false);
    let live = bench.ask().await;
    assert!(live.is_clean_error() && live.took <= seconds(45), "{:?}", live.took);
}

#[tokio::test(start_paused = true)]
async fn s10_a_malformed_chunk_in_the_stream() {
    let bench = Bench::held(Fault::MalformedTenth);
    let got = bench.ask().await;
    assert!(got.is_complete() && got.took <= seconds(30));
    assert!(bench.ask().await.is_complete(), "alive after it");
}

#[tokio::test(start_paused = true)]
async fn s11_a_stream_without_done() {
    for hold_streams in [true, false] {
        let got = Bench::new(Fault::NoDone, hold_streams).ask().await;
        assert!(got.is_complete() && got.usage && got.took <= seconds(8), "{:?}", got.took);
        assert!(got.body.ends_with("data: [DONE]\n\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn s12_context_length_exceeded() {
    let bench = Bench::held(Fault::TooLong);
    let got = bench.ask().await;
    assert!(got.is_complete() && got.took <= seconds(20));
    assert_eq!(bench.primary().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn s13_a_content_filter_rejection() {
    let bench = Bench::held(Fault::Filtered);
    let got = bench.ask().await;
    assert!(got.error && got.status == 400 && got.body.contains("content_policy_violation"));
    assert_eq!((bench.primary().len(), bench.fallback()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn s14_a_fallback_that_rejects_prefill() {
    let bench = Bench::held(Fault::CutAt40);
    let got = bench.ask().await;
    assert!(got.is_complete() && !got.body.contains("prefill"));
    let live = Bench::new(Fault::CutAt40, false).ask().await;
    assert!(live.is_clean_error() && !live.body.contains("prefill"));
}

#[tokio::test(start_paused = true)]
async fn s15_a_primary_that_flaps() {
    const OUTAGE: Duration = Duration::from_secs(60);
    let bench = Bench::held(Fault::DownFor(OUTAGE));
    let mut attempts_during_outage = 0;
    let mut recovered = None;
    for _ in 0..20 {
        let began = bench.wall.began.elapsed();
        let before = bench.primary().len();
        let got = bench.ask().await;
        assert!(got.is_complete() && got.took <= seconds(30), "served, whoever is down");
        if began < OUTAGE {
            attempts_during_outage += bench.primary().len() - before;
        } else if got.model.as_deref() == Some(PRIMARY) {
            recovered = recovered.or(Some(began));
        }
        let next = began + seconds(4);
        tokio::time::sleep_until(bench.wall.began + next.max(bench.wall.began.elapsed())).await;
    }
    assert!(recovered.is_some_and(|at| at <= OUTAGE + seconds(30)), "{recovered:?}");
    assert!(attempts_during_outage < 15, "the breaker keeps most of them away: {attempts_during_outage}");
}

#[tokio::test(start_paused = true)]
async fn s16_the_account_of_a_fail_over() {
    let bench = Bench::held(Fault::Down);
    let got = bench.ask().await;
    assert!(got.is_complete() && got.usage);
    assert_eq!(got.model.as_deref(), Some(FALLBACK));
    assert!(bench.primary().len() <= 6);
}
