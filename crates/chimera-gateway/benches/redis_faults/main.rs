//! What a gateway's callers notice of a Redis that is killed, frozen, full or failing over while they ask.
//! Every request is a miss, so that each would ask it. Prints a table of `docs/cache.md`.
//!
//! `cargo bench -p chimera-gateway --bench redis_faults`, about 45 seconds; it needs a `redis-server`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod servers;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings as BreakerSettings};
use chimera_gateway::{Admin, AdminHooks, DialectId, Gateway, ModelProvider, Models, SecondTier, Settings};
use chimera_provider_pool::{
    Connect, Connected, Connecting, Deployment, Failover, Group, InOrder, Provider, ProviderSettings, Target,
    Transport,
};
use http::Request;
use http_body_util::{BodyExt, Empty, Full};
use servers::Redis;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::{LocalSet, spawn_local},
};

const CALLERS: u64 = 4;

/// A provider behind a pipe that says the same to everything.
struct Says(Vec<u8>);

impl Connect for Says {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let answer = self.0.clone();
        Box::pin(async {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
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

fn gateway(url: &str) -> Gateway {
    let body = r#"{"id":"c","object":"chat.completion","created":1,"model":"gpt-bench","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let settings = ProviderSettings::new("p", Target::parse("http://upstream.test").unwrap());
    let provider = Provider::new(settings, Arc::new(Says(answer.into_bytes())), 1).unwrap();
    let breaker = Breaker::new(BreakerSettings::default(), Instant::now());
    let deployment = Deployment::new("p", provider.clone(), None, breaker, 1000);
    let group = Group::new("p", vec![deployment], Arc::new(InOrder), Failover::default());
    let mut models = Models::default();
    models.add_provider(ModelProvider {
        provider,
        dialects: vec![DialectId::OpenAi],
        group,
        patterns: vec!["gpt-*".to_owned()],
        ask_usage: true,
        drain_for_usage: Duration::ZERO,
    });
    Gateway::with_second_tier(Settings::new(models), &SecondTier::new(url, b"shared").unwrap()).unwrap()
}

/// Whether the second tier is up and told of changes.
async fn page(gateway: &Gateway) -> (bool, bool) {
    let hooks = AdminHooks::default();
    let request = Request::get("/api/v1/cache/metrics").header("host", "localhost");
    let answer =
        Admin::new(gateway.clone(), hooks).handle(request.body(Empty::<Bytes>::new()).unwrap()).await;
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (page["tiers"][1]["up"] == true, page["tracking"]["state"] == "on")
}

/// When a request began, how long it took, whether it was answered.
type Seen = (Instant, Duration, bool);

/// Asks what nobody asked before, about every millisecond.
async fn caller(gateway: Gateway, number: u64, ends: Rc<Cell<bool>>, seen: Rc<RefCell<Vec<Seen>>>) {
    for n in 0.. {
        if ends.get() {
            return;
        }
        let body = format!(
            r#"{{"model":"gpt-bench","messages":[{{"role":"user","content":"{number} {n} {}"}}]}}"#,
            "what is the answer? ".repeat(50)
        );
        let request = Request::post("/v1/chat/completions")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)));
        let began = Instant::now();
        let answer = gateway.handle(request.unwrap()).await;
        let status = answer.status();
        let whole = answer.into_body().collect().await.is_ok();
        seen.borrow_mut().push((began, began.elapsed(), status == 200 && whole));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How long until the second tier is or is not in use, looked at every other millisecond; the bound where it
/// stays as it is.
async fn until(gateway: &Gateway, up: bool, bound: Duration) -> Option<Duration> {
    let began = Instant::now();
    while began.elapsed() < bound {
        if page(gateway).await.0 == up {
            return Some(began.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

fn p99(seen: &[Seen], from: Instant, to: Instant) -> (f64, usize) {
    let within = seen.iter().filter(|seen| seen.0 >= from && seen.0 < to);
    let mut times: Vec<_> = within.map(|seen| seen.1).collect();
    times.sort_unstable();
    (times.get(times.len() * 99 / 100).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3), times.len())
}

/// Two seconds later it is back.
async fn mended_by(mends: impl FnOnce()) -> Instant {
    tokio::time::sleep(Duration::from_secs(2)).await;
    mends();
    Instant::now()
}

/// When it was there again is what `mends` says.
async fn fault(name: &str, url: &str, breaks: impl FnOnce(), mends: impl Future<Output = Instant>) {
    let gateway = gateway(url);
    while page(&gateway).await != (true, true) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (ends, seen) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(Vec::new())));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| spawn_local(caller(gateway.clone(), number, ends.clone(), seen.clone())))
        .collect();
    let warm = Instant::now() + Duration::from_millis(500);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let broken = Instant::now();
    breaks();
    let off = until(&gateway, false, Duration::from_secs(2)).await;
    let mended = mends.await;
    let on = until(&gateway, true, Duration::from_secs(10)).await.map(|_| mended.elapsed());
    tokio::time::sleep(Duration::from_millis(500)).await;
    ends.set(true);
    for caller in callers {
        caller.await.unwrap();
    }
    let seen = seen.borrow();
    let failed = seen.iter().filter(|seen| !seen.2).count();
    let well = p99(&seen, warm, broken);
    // Requests that were under way when it was given up still wait for their deadline.
    let given_up = broken + off.unwrap_or_default();
    let (before, after) = (p99(&seen, broken, given_up), p99(&seen, given_up, mended));
    let ms = |time: Option<Duration>| {
        time.map_or("never".to_owned(), |time| format!("{:.0} ms", time.as_secs_f64() * 1e3))
    };
    let added = |(p99, requests): (f64, usize)| match requests {
        0 => "none began".to_owned(),
        _ => format!("{:+.2} ms of {requests}", p99 - well.0),
    };
    println!(
        "| {name} | {failed} of {} | {:.2} ms | {} | {} | {} | {} |",
        seen.len(),
        well.0,
        added(before),
        ms(off),
        added(after),
        ms(on)
    );
}

async fn all() {
    println!(
        "| Redis is | failed | p99 while well | added before it is left alone | left alone after | added after | used again after its return |"
    );
    println!("|---|---|---|---|---|---|---|");
    let url = |redis: &Redis| format!("redis://127.0.0.1:{}", redis.port);
    let redis = RefCell::new(Redis::start(&[]));
    let (at, port) = (url(&redis.borrow()), redis.borrow().port);
    let again = mended_by(|| drop(redis.replace(Redis::start_on(port, &[]))));
    fault("killed", &at, || redis.borrow_mut().kill(), again).await;
    let redis = Redis::start(&[]);
    fault("frozen", &url(&redis), || redis.signal("-STOP"), mended_by(|| redis.signal("-CONT"))).await;
    let redis = Redis::start(&[]);
    let limit = |bytes: &str| assert!(redis.say(&format!("CONFIG SET maxmemory {bytes}")).starts_with("+OK"));
    fault("out of memory", &url(&redis), || limit("1"), mended_by(|| limit("0"))).await;
    let mut master = Redis::start(&["--repl-diskless-sync-delay", "0"]);
    let of_master = format!("127.0.0.1 {}", master.port);
    let replica = Redis::start(&["--replicaof", &of_master]);
    let sentinel = Redis::sentinel(master.port);
    while !replica.say("INFO replication").contains("master_link_status:up")
        || !sentinel.say("SENTINEL REPLICAS main").contains(&replica.port.to_string())
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let at = format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=main", sentinel.port);
    let elected = async {
        while !replica.say("ROLE").contains("master") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Instant::now()
    };
    fault("failing over, by a sentinel", &at, || master.kill(), elected).await;
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, all());
}
