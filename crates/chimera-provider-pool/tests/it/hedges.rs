//! A second try beside a late first one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings};
use chimera_provider_pool::{
    Bounds, Classify, Connect, Connected, Connecting, Deployment, Failover, Group, GroupSettings, InOrder,
    Provider, Refusal, RefusalKind, Reply, Target, Transport, Verdict,
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

const NO: &[u8] = b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno";
const MS: Duration = Duration::from_millis(1);

/// Answers after 20 ms, but after as many as it is told while it is late; counts what was cut off.
struct Late {
    late: Arc<AtomicUsize>,
    refuses: AtomicBool,
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
                    let wait = Duration::from_millis(late.late.load(SeqCst).max(20) as u64);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {
                            let answer = if late.refuses.load(SeqCst) { NO } else { OK };
                            let _ = theirs.write_all(answer).await;
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

/// Takes any 200 once it is whole, and may be asked for twice.
#[derive(Default)]
struct Twice {
    refused: bool,
}

impl Classify for Twice {
    fn fork(&self) -> Option<Self> {
        Some(Self::default())
    }

    fn head(&mut self, parts: &http::response::Parts) -> Verdict {
        self.refused = !parts.status.is_success();
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        match ended {
            false => Verdict::NeedMore,
            true if self.refused => Verdict::Refuse(Refusal { kind: RefusalKind::Fault, retry_after: None }),
            true => Verdict::Accept,
        }
    }
}

/// Two deployments, of which the first is asked first.
fn pair(failover: Failover, hedge_percentile: Option<u32>) -> (Arc<Group>, [Arc<Late>; 2]) {
    let lates = [(); 2].map(|()| {
        Arc::new(Late {
            late: Arc::default(),
            refuses: AtomicBool::new(false),
            served: AtomicUsize::new(0),
            cancelled: Arc::default(),
        })
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
    let reply = group.send(&bounds, &mut Twice::default(), &build).await.unwrap();
    (reply, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_late_first_one_is_overtaken_and_cancelled() {
    let (group, [one, two]) = pair(Failover::default(), Some(95));
    for _ in 0..30 {
        stream(&group).await;
    }
    assert_eq!((one.served.load(SeqCst), two.served.load(SeqCst)), (30, 0), "nobody was late");
    one.late.store(1000, SeqCst);
    let (reply, took) = stream(&group).await;
    assert!(took < 60 * MS, "{took:?}");
    assert_eq!((reply.deployment.name(), reply.attempts), ("d1", 2));
    drop(reply);
    tokio::time::sleep(MS).await;
    assert_eq!(one.cancelled.load(SeqCst), 1, "the loser is cut off at once");
    assert_eq!(group.deployments()[0].in_flight(), 0);
    // When both are late, the first to begin is still the first.
    two.late.store(1000, SeqCst);
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
        one.late.store(1000, SeqCst);
        let (reply, took) = stream(&group).await;
        assert_eq!((reply.deployment.name(), took.as_millis()), ("d0", 1000));
        assert_eq!(two.served.load(SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_one_that_is_refused_leaves_it_to_the_second_that_is_under_way() {
    let (group, [one, two]) = pair(Failover::default(), Some(95));
    for _ in 0..30 {
        stream(&group).await;
    }
    one.late.store(1000, SeqCst);
    one.refuses.store(true, SeqCst);
    two.late.store(2000, SeqCst);
    let (reply, took) = stream(&group).await;
    assert_eq!((reply.deployment.name(), reply.attempts), ("d1", 2));
    assert!(took < 2100 * MS, "{took:?}");
    assert_eq!(two.served.load(SeqCst), 1, "it is asked once for one request");
}

#[tokio::test(start_paused = true)]
async fn a_second_one_that_is_refused_leaves_it_to_the_first() {
    let (group, [one, two]) = pair(Failover::default(), Some(95));
    for _ in 0..30 {
        stream(&group).await;
    }
    one.late.store(1000, SeqCst);
    two.refuses.store(true, SeqCst);
    let (reply, took) = stream(&group).await;
    assert_eq!((reply.deployment.name(), took.as_millis()), ("d0", 1000));
    assert_eq!((one.served.load(SeqCst), two.served.load(SeqCst)), (31, 1));
}
