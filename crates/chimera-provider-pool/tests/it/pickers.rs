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
    AtLimit, Bounds, Classify, Connect, Connected, Connecting, Deployment, DeploymentSettings, Group,
    GroupSettings, InOrder, LeastLatency, Provider, Refusal, RefusalKind, RoundRobin, SharedPicker, Target,
    Transport, Verdict, Weighted,
};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::support::settings;

/// A provider in memory that answers after a while, and counts.
pub(crate) struct Slow {
    pub(crate) after: Duration,
    pub(crate) answer: &'static [u8],
    pub(crate) served: Arc<AtomicUsize>,
}

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
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
#[derive(Default)]
pub(crate) struct Plain {
    pub(crate) status: u16,
    pub(crate) affinity: Option<u64>,
    pub(crate) tenant: u64,
}

impl Classify for Plain {
    fn affinity(&self) -> Option<u64> {
        self.affinity
    }

    fn tenant(&self) -> u64 {
        self.tenant
    }

    fn head(&mut self, parts: &http::response::Parts) -> Verdict {
        self.status = parts.status.as_u16();
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        match (self.status, ended) {
            (_, false) => Verdict::NeedMore,
            (429, true) => Verdict::Refuse(Refusal { kind: RefusalKind::Throttled, retry_after: None }),
            (_, true) => Verdict::Accept,
        }
    }
}

/// A group, and how often each of its deployments was asked.
fn fleet(picker: SharedPicker, members: &[(u64, &'static [u8])]) -> (Arc<Group>, Vec<Arc<AtomicUsize>>) {
    let members: Vec<_> = members.iter().map(|(millis, answer)| (*millis, *answer, 0, 1)).collect();
    fleet_of(picker, &members, GroupSettings::default())
}

/// The same of deployments with a priority and a weight.
fn fleet_of(
    picker: SharedPicker,
    members: &[(u64, &'static [u8], u32, u32)],
    group: GroupSettings,
) -> (Arc<Group>, Vec<Arc<AtomicUsize>>) {
    let mut counts = Vec::new();
    let now = Instant::now().into_std();
    let deployments = members.iter().enumerate().map(|(index, (millis, answer, priority, weight))| {
        let served = Arc::new(AtomicUsize::new(0));
        counts.push(served.clone());
        let slow = Slow { after: Duration::from_millis(*millis), answer, served };
        let provider = Provider::new(settings("http://pipe"), Arc::new(slow), 1).unwrap();
        let breaker = Breaker::new(Settings::default(), now);
        let settings = DeploymentSettings {
            max_in_flight: 1000,
            priority: *priority,
            weight: *weight,
            ..DeploymentSettings::default()
        };
        Deployment::with_settings(format!("d{index}"), provider, None, breaker, &settings)
    });
    let deployments = deployments.collect();
    (Group::with_settings("g", deployments, picker, group), counts)
}

fn asked(counts: &[Arc<AtomicUsize>]) -> Vec<usize> {
    counts.iter().map(|count| count.load(SeqCst)).collect()
}

async fn one(group: &Group, affinity: Option<u64>) -> u16 {
    let build = |_: &Deployment| Request::post("/").body(Bytes::from_static(b"hi"));
    let mut classify = Plain { affinity, ..Plain::default() };
    group.send(&bounds(), &mut classify, &build).await.unwrap().parts.status.as_u16()
}

pub(crate) fn bounds() -> Bounds {
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
                    let reply = group.send(&bounds, &mut Plain::default(), &build).await.unwrap();
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
        let reply = group.send(&bounds, &mut Plain::default(), &build).await.unwrap();
        assert_eq!((reply.parts.status.as_u16(), &reply.held[..]), (429, &b"no"[..]));
    }
    let asked: usize = counts.iter().map(|count| count.load(SeqCst)).sum();
    // A tenth, the floor at the start, and that of the three to four simulated seconds.
    assert!((3000..=3300 + 30 + 12).contains(&asked), "{asked}");
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

#[tokio::test(start_paused = true)]
async fn weights_are_kept_to_and_mixed_evenly() {
    let (group, counts) = fleet_of(
        Arc::new(Weighted::default()),
        &[(1, OK, 0, 5), (1, OK, 0, 3), (1, OK, 0, 2), (1, OK, 0, 0)],
        GroupSettings::default(),
    );
    for round in 1..=10 {
        for _ in 0..100 {
            one(&group, None).await;
        }
        for (count, share) in asked(&counts).iter().zip([50, 30, 20, 0]) {
            assert!(count.abs_diff(share * round) <= 3, "{:?} after {round} hundred", asked(&counts));
        }
    }
    // Whoever has no weight is still there when nobody else is.
    let (group, counts) = fleet_of(
        Arc::new(Weighted::default()),
        &[(1, THROTTLED, 0, 5), (1, OK, 0, 0)],
        GroupSettings::default(),
    );
    assert_eq!(one(&group, None).await, 200);
    assert_eq!(asked(&counts), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_lower_tier_is_asked_when_all_of_the_higher_are_out() {
    let members = [(1, OK, 1, 1), (1, OK, 0, 1), (1, OK, 0, 1), (1, OK, 2, 1)];
    for picker in [Arc::new(RoundRobin::default()) as SharedPicker, Arc::new(InOrder)] {
        let (group, counts) = fleet_of(picker, &members, GroupSettings::default());
        for _ in 0..100 {
            one(&group, None).await;
        }
        assert_eq!((asked(&counts)[0], asked(&counts)[3]), (0, 0));
        assert_eq!(asked(&counts)[1] + asked(&counts)[2], 100);
    }
    let members = [(1, OK, 1, 1), (1, THROTTLED, 0, 1), (1, THROTTLED, 0, 1), (1, OK, 2, 1)];
    let (group, counts) = fleet_of(Arc::new(RoundRobin::default()), &members, GroupSettings::default());
    assert_eq!(one(&group, None).await, 200);
    assert_eq!(asked(&counts), [1, 1, 1, 0]);
}

/// Alike ones go to the same place, different ones to all, and few move when one place is gone.
#[tokio::test(start_paused = true)]
async fn requests_that_begin_alike_go_to_the_same_deployment() {
    let group_settings = GroupSettings { affinity_prefix: Some(4), ..GroupSettings::default() };
    let members = [(1, OK, 0, 1), (1, OK, 0, 1), (1, OK, 0, 1), (1, OK, 0, 1)];
    let (group, counts) = fleet_of(Arc::new(RoundRobin::default()), &members, group_settings.clone());
    assert_eq!(group.affinity(b"abc"), None, "too short to be worth it");
    assert_eq!(group.affinity(b"abcd1"), group.affinity(b"abcd2"));
    let mut homes = Vec::new();
    for n in 0..400_u32 {
        let before = asked(&counts);
        let affinity = group.affinity(&n.to_le_bytes());
        for _ in 0..2 {
            one(&group, affinity).await;
        }
        let after = asked(&counts);
        let home: Vec<_> = (0..4).filter(|index| after[*index] == before[*index] + 2).collect();
        assert_eq!(home.len(), 1, "{before:?} {after:?}");
        homes.push(home[0]);
    }
    assert!(asked(&counts).iter().all(|count| *count > 120), "{:?}", asked(&counts));
    // Without the last one, those of the others stay.
    let (fewer, counts) = fleet_of(Arc::new(RoundRobin::default()), &members[..3], group_settings);
    for (n, home) in (0..400_u32).zip(homes).filter(|(_, home)| *home < 3) {
        let before = asked(&counts)[home];
        one(&fewer, fewer.affinity(&n.to_le_bytes())).await;
        assert_eq!(asked(&counts)[home], before + 1);
    }
}

/// A beginning that everybody uses is not sent to one deployment alone.
#[tokio::test(start_paused = true)]
async fn affinity_is_bounded_by_load() {
    let group_settings = GroupSettings { affinity_prefix: Some(4), ..GroupSettings::default() };
    let members = [(100, OK, 0, 1), (100, OK, 0, 1), (100, OK, 0, 1), (100, OK, 0, 1)];
    let (group, counts) = fleet_of(Arc::new(RoundRobin::default()), &members, group_settings);
    let affinity = group.affinity(b"same");
    let callers: Vec<_> = (0..40)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move { one(&group, affinity).await })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 200);
    }
    // Forty at once: ten each is fair, and a quarter more is allowed.
    assert!(asked(&counts).iter().all(|count| *count <= 13), "{:?}", asked(&counts));
}

#[tokio::test(start_paused = true)]
async fn least_latency_sends_the_larger_one_more() {
    let members = [(50, OK, 0, 3), (50, OK, 0, 1)];
    let (group, counts) = fleet_of(Arc::new(LeastLatency::seeded(7)), &members, GroupSettings::default());
    load(&group, 1000).await;
    let asked = asked(&counts);
    assert!(asked[0] > 2 * asked[1] && asked[1] > 100, "{asked:?}");
}
