//! One deployment of one provider, and servers for it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings};
use chimera_provider_pool::{
    AtLimit, Bounds, Classify, Deployment, Failover, Group, InOrder, Provider, ProviderSettings, Reply,
    Resolver, SendError, SharedConnect, Target, TcpConnect, Verdict,
};
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

/// Takes any answer once it is whole.
pub(crate) struct Whole;

impl Classify for Whole {
    fn head(&mut self, _: &http::response::Parts) -> Verdict {
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        if ended { Verdict::Accept } else { Verdict::NeedMore }
    }
}

pub(crate) fn tcp() -> SharedConnect {
    Arc::new(TcpConnect::new(Resolver::default()).unwrap())
}

pub(crate) fn settings(url: &str) -> ProviderSettings {
    ProviderSettings::new("p", Target::parse(url).unwrap())
}

pub(crate) fn group(settings: ProviderSettings, connector: SharedConnect) -> Arc<Group> {
    let provider = Provider::new(settings, connector, 1).unwrap();
    let breaker = Breaker::new(Settings::default(), Instant::now());
    let deployment = Deployment::new("d", provider, None, breaker, 1000);
    Group::new("g", vec![deployment], Arc::new(InOrder), Failover::default())
}

pub(crate) async fn send(group: &Group) -> Result<Reply, SendError> {
    let bounds = Bounds {
        deadline: tokio::time::Instant::now() + Duration::from_secs(10),
        shortened: false,
        body_deadline: None,
        idle: None,
        hold_limit: 1 << 20,
        at_limit: AtLimit::Refuse,
        worker: 0,
    };
    let build = |_: &Deployment| Request::post("/x").body(Bytes::from_static(b"hi"));
    group.send(&bounds, &mut Whole, &build).await
}

/// Answers `text` to everything, after `pause`, and counts.
pub(crate) async fn answer(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    pause: Duration,
    served: Arc<AtomicUsize>,
) {
    let service = service_fn(move |_: Request<Incoming>| {
        let served = served.clone();
        async move {
            tokio::time::sleep(pause).await;
            served.fetch_add(1, SeqCst);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello"))))
        }
    });
    let io = TokioIo::new(io);
    // How a connection ends is the client's business here.
    let _ = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
    };
}

/// A plain HTTP/1.1 server: its address, its connections so far, its requests so far.
pub(crate) async fn plain(pause: Duration) -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, counted) = (connections.clone(), served.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            opened.fetch_add(1, SeqCst);
            tokio::spawn(answer(stream, false, pause, counted.clone()));
        }
    });
    (address, connections, served)
}
