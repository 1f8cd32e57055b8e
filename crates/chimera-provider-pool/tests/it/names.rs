//! U17: names that do not resolve, hang, change, or have a thousand addresses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use chimera_provider_pool::{ConnectError, Resolver, SendError, TcpConnect};

use crate::support::{group, plain, send, settings};

fn ip(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

#[tokio::test(start_paused = true)]
async fn u17_a_name_is_asked_for_once_in_a_while_and_stale_answers_bridge_a_failure() {
    let asked = Arc::new(AtomicUsize::new(0));
    let says: Arc<Mutex<io::Result<Vec<IpAddr>>>> = Arc::new(Mutex::new(Ok(vec![ip(1)])));
    let (count, answer) = (asked.clone(), says.clone());
    let resolver = Resolver::with_lookup(move |_, _| {
        count.fetch_add(1, SeqCst);
        match &*answer.lock().unwrap() {
            Ok(addresses) => Ok(addresses.clone()),
            Err(error) => Err(error.kind().into()),
        }
    });
    for _ in 0..100 {
        assert_eq!(resolver.resolve("api.test", 443).await.unwrap()[0].ip(), ip(1));
    }
    assert_eq!(asked.load(SeqCst), 1, "no look-up per request");
    // It moves.
    *says.lock().unwrap() = Ok(vec![ip(2)]);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(resolver.resolve("api.test", 443).await.unwrap()[0].ip(), ip(2));
    // It is gone.
    *says.lock().unwrap() = Err(io::ErrorKind::NotFound.into());
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(resolver.resolve("api.test", 443).await.unwrap()[0].ip(), ip(2), "the last good one");
    assert!(resolver.resolve("never.test", 443).await.is_err());
    // It has a thousand addresses.
    *says.lock().unwrap() = Ok((0..1000).map(|n| ip((n % 250) as u8 + 1)).collect());
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(resolver.resolve("api.test", 443).await.unwrap().len() <= 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u17_a_resolver_that_hangs_is_given_up_and_takes_few_threads() {
    let hanging = Arc::new(AtomicUsize::new(0));
    let count = hanging.clone();
    let resolver = Resolver::with_lookup(move |_, _| {
        count.fetch_add(1, SeqCst);
        std::thread::sleep(Duration::from_millis(2500));
        Ok(vec![ip(1)])
    });
    let began = Instant::now();
    let waits: Vec<_> = (0..50)
        .map(|n| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&format!("host-{n}.test"), 443).await })
        })
        .collect();
    for wait in waits {
        assert!(wait.await.unwrap().is_err());
    }
    assert!(began.elapsed() < Duration::from_millis(2300), "{:?}", began.elapsed());
    assert!(hanging.load(SeqCst) <= 4, "{} threads are taken", hanging.load(SeqCst));
    // Blocking work of others goes on meanwhile.
    assert_eq!(tokio::task::spawn_blocking(|| 1).await.unwrap(), 1);
}

#[tokio::test]
async fn u17_who_asks_for_the_same_name_at_once_shares_the_look_up() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let resolver = Resolver::with_lookup(move |_, _| {
        count.fetch_add(1, SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        Ok(vec![ip(1)])
    });
    let waits: Vec<_> = (0..100)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve("api.test", 443).await })
        })
        .collect();
    for wait in waits {
        assert_eq!(wait.await.unwrap().unwrap()[0].ip(), ip(1));
    }
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test]
async fn u17_an_unknown_name_fails_the_attempt_before_anything_is_sent() {
    let (address, connections, _) = plain(Duration::ZERO).await;
    let known = Resolver::with_lookup(|host, _| match host {
        "known.test" => Ok(vec![ip(1)]),
        _ => Err(io::ErrorKind::NotFound.into()),
    });
    let connect: Arc<TcpConnect> = Arc::new(TcpConnect::new(known).unwrap());
    let good = group(settings(&format!("http://known.test:{}", address.port())), connect.clone());
    assert_eq!(send(&good).await.unwrap().held, "hello");
    let bad = group(settings(&format!("http://unknown.test:{}", address.port())), connect);
    let error = send(&bad).await.err().unwrap();
    assert!(matches!(&error, SendError::Connect(ConnectError::Resolve(_))), "{error}");
    assert!(error.is_unsent());
    assert_eq!(connections.load(SeqCst), 1);
}
