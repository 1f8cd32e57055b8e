//! Where requests go, in simulated time.

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
    AtLimit, Bounds, Classify, Connect, Connected, Connecting, Deployment, Failover, Group, LeastLatency,
    Provider, Refusal, RefusalKind, RoundRobin, SharedPicker, Target, Transport, Verdict,
};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::support::settings;

/// A provider in memory that answers after a while, and counts.
struct Slow {
    after: Duration,
    answer: &'static [u8],
    served: Arc<AtomicUsize>,
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const THROTTLED: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\nno";

impl Connect for Slow {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let (after, answer, served) = (self.after, self.answer, self.served.clone());
        Box::pin(async move {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while theirs.read(&mut request).await.is_ok_and(|read| read > 0) {
                    served.fetch_add(1, SeqCst);
                    tokio::time::sleep(after).await;
                    let _ = theirs.write_all(answer).await;
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: false })
        })
    }
}

/// Takes a 200, and takes a 429 for what it is.
struct Plain(u16);

impl Classify for Plain {
    fn head(&mut self, parts: &http::response::Parts) -> Verdict {
        self.0 = parts.status.as_u16();
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        match (self.0, ended) {
            (_, false) => Verdict::NeedMore,
            (429, true) => Verdict::Refuse(Refusal { kind: RefusalKind::Throttled, retry_after: None }),
            (_, true) => Verdict::Accept,
        }
    }
}

/// A group, and how often each of its deployments was asked.
fn fleet(picker: SharedPicker, members: &[(u64, &'static [u8])]) -> (Arc<Group>, Vec<Arc<AtomicUsize>>) {
    let mut counts = Vec::new();
    let now = Instant::now().into_std();
    let deployments = members.iter().map(|(millis, answer)| {
        let served = Arc::new(AtomicUsize::new(0));
        counts.push(served.clone());
        let slow = Slow { after: Duration::from_millis(*millis), answer, served };
        let provider = Provider::new(settings("http://pipe"), Arc::new(slow), 1).unwrap();
        Deployment::new("d", provider, None, Breaker::new(Settings::default(), now), 1000)
    });
    let deployments = deployments.collect();
    (Group::new("g", deployments, picker, Failover::default()), counts)
}

fn bounds() -> Bounds {
    Bounds {
        deadline: Instant::now() + Duration::from_secs(60),
        shortened: false,
        body_deadline: None,
        idle: None,
        hold_limit: 1024,
        at_limit: AtLimit::Refuse,
        worker: 0,
    }
}

/// `count` requests, eight at a time; how long each took, sorted.
async fn load(group: &Arc<Group>, count: usize) -> Vec<Duration> {
    let left = Arc::new(AtomicUsize::new(count));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (group, left) = (group.clone(), left.clone());
            tokio::spawn(async move {
                let mut times = Vec::new();
                while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                    let began = Instant::now();
                    let bounds = bounds();
                    let build = |_: &Deployment| Request::post("/").body(Bytes::from_static(b"hi"));
                    let reply = group.send(&bounds, &mut Plain(0), &build).await.unwrap();
                    assert_eq!(reply.held, "ok");
                    times.push(began.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for caller in callers {
        times.extend(caller.await.unwrap());
    }
    times.sort_unstable();
    times
}

/// Three deployments that all refuse see hardly more than they were asked.
#[tokio::test(start_paused = true)]
async fn o04_when_everybody_refuses_nobody_is_asked_much_more() {
    let (group, counts) = fleet(Arc::new(RoundRobin::default()), &[(1, THROTTLED); 3]);
    let bounds = bounds();
    for _ in 0..3000 {
        let build = |_: &Deployment| Request::post("/").body(Bytes::from_static(b"hi"));
        let reply = group.send(&bounds, &mut Plain(0), &build).await.unwrap();
        assert_eq!((reply.parts.status.as_u16(), &reply.held[..]), (429, &b"no"[..]));
    }
    let asked: usize = counts.iter().map(|count| count.load(SeqCst)).sum();
    // A tenth, the floor at the start, and that of the three to four simulated seconds.
    assert!((3300..=3300 + 30 + 12).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn u12_who_refuses_fastest_does_not_win() {
    let members = [(50, OK), (50, OK), (1, THROTTLED)];
    let (group, counts) = fleet(Arc::new(LeastLatency::seeded(7)), &members);
    load(&group, 1000).await;
    let asked: Vec<_> = counts.iter().map(|count| count.load(SeqCst)).collect();
    assert!(asked[2] * 20 < asked[0] + asked[1], "{asked:?}");
    assert!(asked[0].min(asked[1]) > 300, "and the others share: {asked:?}");
}

/// One of four is ten times slower: round robin sends it every fourth request.
#[tokio::test(start_paused = true)]
async fn a_slow_deployment_is_left_alone() {
    let members = [(40, OK), (40, OK), (40, OK), (400, OK)];
    let (group, counts) = fleet(Arc::new(LeastLatency::seeded(7)), &members);
    let least = load(&group, 2000).await;
    let asked: Vec<_> = counts.iter().map(|count| count.load(SeqCst)).collect();
    assert!(asked[3] * 50 < 2000, "{asked:?}");
    let (group, counts) = fleet(Arc::new(RoundRobin::default()), &members);
    let robin = load(&group, 2000).await;
    assert!(counts[3].load(SeqCst) * 5 > 2000);
    let p98 = |times: &[Duration]| times[times.len() * 98 / 100];
    assert!(p98(&least) * 3 < p98(&robin), "{:?} {:?}", p98(&least), p98(&robin));
}
