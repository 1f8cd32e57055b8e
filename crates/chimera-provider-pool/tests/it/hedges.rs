//! A second try beside a late first one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings};
use chimera_provider_pool::{
    Bounds, Classify, Connect, Connected, Connecting, Deployment, Failover, Group, GroupSettings, InOrder,
    Provider, Reply, Target, Transport, Verdict,
};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::{
    pickers::{OK, bounds},
    support::settings,
};

const MS: Duration = Duration::from_millis(1);

/// Answers after 20 ms, but after a second while it is told to be late; counts what was cut off.
struct Late {
    late: Arc<AtomicUsize>,
    served: AtomicUsize,
    cancelled: Arc<AtomicUsize>,
}

struct ToLate(Arc<Late>);

impl Connect for ToLate {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let late = self.0.clone();
        Box::pin(async move {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while theirs.read(&mut request).await.is_ok_and(|read| read > 0) {
                    late.served.fetch_add(1, SeqCst);
                    let wait = if late.late.load(SeqCst) > 0 { 1000 * MS } else { 20 * MS };
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {
                            let _ = theirs.write_all(OK).await;
                        }
                        _ = theirs.read(&mut request) => {
                            late.cancelled.fetch_add(1, SeqCst);
                            return;
                        }
                    }
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: false })
        })
    }
}

/// Takes anything once it is whole, and may be asked for twice.
#[derive(Default)]
struct Twice;

impl Classify for Twice {
    fn fork(&self) -> Option<Self> {
        Some(Self)
    }

    fn head(&mut self, _: &http::response::Parts) -> Verdict {
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        if ended { Verdict::Accept } else { Verdict::NeedMore }
    }
}

/// Two deployments, of which the first is asked first.
fn pair(failover: Failover, hedge_percentile: Option<u32>) -> (Arc<Group>, [Arc<Late>; 2]) {
    let lates = [(); 2].map(|()| {
        Arc::new(Late { late: Arc::default(), served: AtomicUsize::new(0), cancelled: Arc::default() })
    });
    let deployments = lates.iter().enumerate().map(|(index, late)| {
        let provider = Provider::new(settings("http://pipe"), Arc::new(ToLate(late.clone())), 1).unwrap();
        let breaker = Breaker::new(Settings::default(), Instant::now().into_std());
        Deployment::new(format!("d{index}"), provider, None, breaker, 100)
    });
    let deployments = deployments.collect();
    let settings = GroupSettings { failover, hedge_percentile, ..GroupSettings::default() };
    (Group::with_settings("g", deployments, Arc::new(InOrder), settings), lates)
}

async fn stream(group: &Group) -> (Reply, Duration) {
    let began = Instant::now();
    let bounds = Bounds { idle: Some(60_000 * MS), ..bounds() };
    let build = |_: &Deployment| Request::post("/").body(Bytes::from_static(b"hi"));
    let reply = group.send(&bounds, &mut Twice, &build).await.unwrap();
    (reply, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_late_first_one_is_overtaken_and_cancelled() {
    let (group, [one, two]) = pair(Failover::default(), Some(95));
    for _ in 0..30 {
        stream(&group).await;
    }
    assert_eq!((one.served.load(SeqCst), two.served.load(SeqCst)), (30, 0), "nobody was late");
    one.late.store(1, SeqCst);
    let (reply, took) = stream(&group).await;
    assert!(took < 60 * MS, "{took:?}");
    assert_eq!((reply.deployment.name(), reply.attempts), ("d1", 2));
    drop(reply);
    tokio::time::sleep(MS).await;
    assert_eq!(one.cancelled.load(SeqCst), 1, "the loser is cut off at once");
    assert_eq!(group.deployments()[0].in_flight(), 0);
    // When both are late, the first to begin is still the first.
    two.late.store(1, SeqCst);
    let (reply, took) = stream(&group).await;
    assert_eq!((reply.deployment.name(), took.as_millis()), ("d0", 1000));
    tokio::time::sleep(MS).await;
    assert_eq!(two.cancelled.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn hedges_come_out_of_the_retry_budget_and_are_off_unless_asked_for() {
    let none = Failover { retry_percent: 0, retry_floor: 0, ..Failover::default() };
    for (failover, percentile) in [(none, Some(95)), (Failover::default(), None)] {
        let (group, [one, two]) = pair(failover, percentile);
        for _ in 0..30 {
            stream(&group).await;
        }
        one.late.store(1, SeqCst);
        let (reply, took) = stream(&group).await;
        assert_eq!((reply.deployment.name(), took.as_millis()), ("d0", 1000));
        assert_eq!(two.served.load(SeqCst), 0);
    }
}
