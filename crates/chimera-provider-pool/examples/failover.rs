//! A group of two providers of which the first is down: the second answers.
#![allow(clippy::print_stdout, clippy::indexing_slicing, missing_docs)]

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings};
use chimera_provider_pool::{
    AtLimit, Bounds, Classify, Connect, ConnectError, Connected, Connecting, Deployment, Failover, Group,
    InOrder, Provider, ProviderSettings, Target, Transport, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Refuses, or answers every request with the same words over a pipe in this process.
struct Pretend {
    up: bool,
}

impl Connect for Pretend {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let up = self.up;
        let connected: Pin<Box<dyn Future<Output = Result<Connected, ConnectError>> + Send>> =
            Box::pin(async move {
                if !up {
                    return Err(ConnectError::Tcp(std::io::ErrorKind::ConnectionRefused.into()));
                }
                let (near, mut far) = tokio::io::duplex(4096);
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    while far.read(&mut request).await.is_ok_and(|read| read > 0) {
                        let _ = far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
                    }
                });
                Ok(Connected { transport: Transport::Other(Box::new(near)), http2: false })
            });
        connected
    }
}

/// Takes any answer once it is whole.
struct Whole;

impl Classify for Whole {
    fn head(&mut self, _: &http::response::Parts) -> Verdict {
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        if ended { Verdict::Accept } else { Verdict::NeedMore }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut deployments = Vec::new();
    for (name, up) in [("down", false), ("up", true)] {
        let settings = ProviderSettings::new(name, Target::parse("http://example.test")?);
        let provider = Provider::new(settings, Arc::new(Pretend { up }), 1)?;
        let breaker = Breaker::new(Settings::default(), Instant::now());
        deployments.push(Deployment::new(name, provider, None, breaker, 16));
    }
    let group = Group::new("example", deployments, Arc::new(InOrder), Failover::default());
    let bounds = Bounds {
        deadline: tokio::time::Instant::now() + Duration::from_secs(5),
        shortened: false,
        body_deadline: None,
        idle: None,
        hold_limit: 1 << 20,
        at_limit: AtLimit::Refuse,
        worker: 0,
    };
    let build = |_: &Deployment| http::Request::post("/").body(Bytes::from_static(b"hi"));
    for _ in 0..6 {
        let reply = group.send(&bounds, &mut Whole, &build).await?;
        println!("{} said {:?}", reply.deployment.name(), reply.held);
    }
    println!("the first one's breaker is {}", group.deployments()[0].breaker().state(Instant::now()));
    Ok(())
}
