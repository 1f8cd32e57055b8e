//! What a request costs in the pool, over a pipe in memory: picking, checking out, sending, giving back.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{hint::black_box, sync::Arc, time::Duration};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings};
use chimera_provider_pool::{
    AtLimit, Bounds, Classify, Connect, Connected, Connecting, Deployment, Failover, Group, InOrder,
    LeastLatency, Picker, Provider, ProviderSettings, RoundRobin, Target, Transport, Tried, Verdict,
};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Pipe;

impl Connect for Pipe {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async {
            let (near, mut far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while far.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let _ = far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(near)), http2: false })
        })
    }
}

struct Whole;

impl Classify for Whole {
    fn head(&mut self, _: &http::response::Parts) -> Verdict {
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        if ended { Verdict::Accept } else { Verdict::NeedMore }
    }
}

fn deployments(count: usize) -> Vec<Arc<Deployment>> {
    (0..count)
        .map(|n| {
            let settings =
                ProviderSettings::new(format!("p{n}"), Target::parse("http://example.test").unwrap());
            let provider = Provider::new(settings, Arc::new(Pipe), 1).unwrap();
            let breaker = Breaker::new(Settings::default(), std::time::Instant::now());
            Deployment::new(format!("d{n}"), provider, None, breaker, 1000)
        })
        .collect()
}

fn picking(c: &mut Criterion) {
    let deployments = deployments(8);
    let (round_robin, least) = (RoundRobin::default(), LeastLatency::default());
    let now = std::time::Instant::now();
    c.bench_function("pick of 8, least latency", |b| {
        b.iter(|| least.pick(black_box(&deployments), Tried::default(), now));
    });
    c.bench_function("pick of 8, round robin", |b| {
        b.iter(|| round_robin.pick(black_box(&deployments), Tried::default(), now));
    });
    c.bench_function("pick of 8, in order", |b| {
        b.iter(|| InOrder.pick(black_box(&deployments), Tried::default(), now));
    });
}

fn sending(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let group = Group::new("g", deployments(1), Arc::new(InOrder), Failover::default());
    let build = |_: &Deployment| http::Request::post("/").body(Bytes::from_static(b"hi"));
    c.bench_function("send over a warm connection", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let bounds = Bounds {
                    deadline: tokio::time::Instant::now() + Duration::from_secs(5),
                    shortened: false,
                    body_deadline: None,
                    idle: None,
                    hold_limit: 1 << 20,
                    at_limit: AtLimit::Refuse,
                    worker: 0,
                };
                group.send(&bounds, &mut Whole, &build).await.unwrap()
            })
        });
    });
}

criterion_group!(benches, picking, sending);
criterion_main!(benches);
