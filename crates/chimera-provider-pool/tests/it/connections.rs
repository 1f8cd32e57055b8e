//! Connections are kept, bounded, and given back on every path.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use chimera_provider_pool::{Connect, Resolver, SendError, Target, TcpConnect, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{group, plain, send, settings, tcp};

#[tokio::test]
async fn one_after_another_requests_share_a_connection() {
    let (address, connections, served) = plain(Duration::ZERO).await;
    let group = group(settings(&format!("http://{address}")), tcp());
    for _ in 0..10 {
        assert_eq!(send(&group).await.unwrap().held, "hello");
    }
    assert_eq!((connections.load(SeqCst), served.load(SeqCst)), (1, 10));
    let provider = group.deployments()[0].provider();
    assert_eq!((provider.connections().open, provider.connections().idle), (1, 1));
}

#[tokio::test]
async fn at_the_bound_requests_wait_and_too_many_are_refused() {
    let (address, connections, served) = plain(Duration::from_millis(50)).await;
    let mut settings = settings(&format!("http://{address}"));
    (settings.max_connections, settings.max_waiting) = (2, 3);
    let group = group(settings, tcp());
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move { send(&group).await.map(|reply| reply.held) })
        })
        .collect();
    let mut refused = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(held) => assert_eq!(held, "hello"),
            Err(SendError::Overloaded) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((connections.load(SeqCst), served.load(SeqCst), refused), (2, 5, 3));
}

#[tokio::test]
async fn who_stops_waiting_leaves_no_trace() {
    let (address, ..) = plain(Duration::from_millis(200)).await;
    let mut settings = settings(&format!("http://{address}"));
    settings.max_connections = 1;
    let group = group(settings, tcp());
    let provider = group.deployments()[0].provider().clone();
    let busy = {
        let group = group.clone();
        tokio::spawn(async move { send(&group).await.map(|reply| reply.held) })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let given_up = tokio::time::timeout(Duration::from_millis(50), send(&group)).await;
    assert!(given_up.is_err());
    assert_eq!(provider.connections().waiting, 0);
    assert_eq!(busy.await.unwrap().unwrap(), "hello");
    assert_eq!(send(&group).await.unwrap().held, "hello");
    assert_eq!(provider.connections().open, 1);
}

#[tokio::test]
async fn a_request_that_is_dropped_closes_its_connection_and_frees_its_place() {
    let (address, ..) = plain(Duration::from_secs(60)).await;
    let group = group(settings(&format!("http://{address}")), tcp());
    assert!(tokio::time::timeout(Duration::from_millis(80), send(&group)).await.is_err());
    let deployment = &group.deployments()[0];
    assert_eq!(deployment.provider().connections().open, 0);
    assert!(deployment.breaker().try_acquire(std::time::Instant::now()).is_ok());
}

/// Node closes idle connections after 5 s: a request may meet one that is just being closed.
#[tokio::test]
async fn u16_a_connection_closed_while_idle_costs_no_request() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
            // Closed without a word, as soon as it is idle.
        }
    });
    let group = group(settings(&format!("http://{address}")), tcp());
    for _ in 0..50 {
        assert_eq!(send(&group).await.unwrap().held, "hello");
    }
}

#[tokio::test]
async fn connections_have_nodelay_set() {
    let (address, ..) = plain(Duration::ZERO).await;
    let connect = TcpConnect::new(Resolver::default()).unwrap();
    let target = Target::parse(&format!("http://{address}")).unwrap();
    match connect.connect(&target, None).await.unwrap().transport {
        Transport::Tcp(stream) => assert!(stream.nodelay().unwrap()),
        _ => panic!("a plain target is connected by TCP"),
    }
}

#[tokio::test]
async fn idle_connections_past_their_time_are_closed() {
    let (address, ..) = plain(Duration::ZERO).await;
    let mut settings = settings(&format!("http://{address}"));
    settings.idle_timeout = Duration::from_millis(50);
    let group = group(settings, tcp());
    send(&group).await.unwrap();
    let provider: Arc<_> = group.deployments()[0].provider().clone();
    assert_eq!(provider.connections().open, 1);
    tokio::time::sleep(Duration::from_millis(80)).await;
    provider.maintain();
    assert_eq!(provider.connections().open, 0);
}

#[tokio::test]
async fn connections_are_ready_before_anybody_asks() {
    let (address, connections, served) = plain(Duration::ZERO).await;
    let mut settings = settings(&format!("http://{address}"));
    (settings.min_idle, settings.max_connections) = (3, 4);
    let group = group(settings, tcp());
    let provider = group.deployments()[0].provider().clone();
    provider.warm(0).await;
    assert_eq!((provider.connections().open, provider.connections().idle), (3, 3));
    assert_eq!(send(&group).await.unwrap().held, "hello");
    provider.warm(0).await;
    assert_eq!((connections.load(SeqCst), served.load(SeqCst)), (3, 1), "one of them was used");
    // A provider that is not there is not waited for.
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut settings = crate::support::settings(&format!("http://{dead}"));
    settings.min_idle = 2;
    let group = crate::support::group(settings, tcp());
    let provider = group.deployments()[0].provider().clone();
    provider.warm(0).await;
    assert_eq!(provider.connections().open, 0);
}
