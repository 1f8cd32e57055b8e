//! More than can be served: rows O01 to O06 of the fault catalogue, in simulated time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings};
use chimera_provider_pool::{
    Bounds, Classify, Connect, Connected, Connecting, Credential, Deployment, DeploymentSettings, Failover,
    Group, GroupSettings, InOrder, Provider, Refusal, RefusalKind, Secret, SendError, Target, Transport,
    Verdict,
};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::{
    pickers::{OK, Plain, Slow, bounds},
    support::settings,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn group_of(connector: Arc<dyn Connect>, settings_: &DeploymentSettings) -> Arc<Group> {
    let provider = Provider::new(settings("http://pipe"), connector, 1).unwrap();
    let breaker = Breaker::new(Settings::default(), Instant::now().into_std());
    let deployment = Deployment::with_settings("d", provider, None, breaker, settings_);
    Group::new("g", vec![deployment], Arc::new(InOrder), Failover::default())
}

/// Ten at once, a tenth of a second each: a hundred a second.
fn hundred_a_second() -> Arc<Group> {
    let slow = Slow { after: 100 * MS, answer: OK, served: Arc::default() };
    let settings = DeploymentSettings { max_in_flight: 10, ..DeploymentSettings::default() };
    group_of(Arc::new(slow), &settings)
}

async fn send(group: &Group, tenant: u64) -> Result<(), SendError> {
    let build = |_: &Deployment| Request::post("/").body(Bytes::from_static(b"hi"));
    let mut classify = Plain { tenant, ..Plain::default() };
    group.send(&bounds(), &mut classify, &build).await.map(|_| ())
}

/// How the requests of one tenant ended.
#[derive(Default)]
struct Ends {
    served: Vec<Duration>,
    refused: Vec<Duration>,
}

impl Ends {
    fn p99(times: &[Duration]) -> Duration {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        sorted[sorted.len() * 99 / 100]
    }
}

/// Requests of a tenant at a fixed rate, whatever becomes of them.
async fn open_loop(group: &Arc<Group>, tenant: u64, a_second: u32, seconds: u32) -> Ends {
    let ends = Arc::new(Mutex::new(Ends::default()));
    let began = Instant::now();
    let mut tasks = Vec::new();
    for n in 0..a_second * seconds {
        tokio::time::sleep_until(began + SECOND * n / a_second).await;
        let (group, ends) = (group.clone(), ends.clone());
        tasks.push(tokio::spawn(async move {
            let began = Instant::now();
            let sent = send(&group, tenant).await;
            let took = began.elapsed();
            let mut ends = ends.lock().unwrap();
            match sent {
                Ok(()) => ends.served.push(took),
                Err(SendError::Overloaded) => ends.refused.push(took),
                Err(error) => panic!("{error}"),
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    Arc::into_inner(ends).unwrap().into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn o01_at_ten_times_the_load_goodput_stays_and_the_rest_is_refused_at_once() {
    let group = hundred_a_second();
    let ends = open_loop(&group, 1, 1000, 20).await;
    assert!(ends.served.len() >= 20 * 90, "{} of 2000", ends.served.len());
    assert_eq!(ends.served.len() + ends.refused.len(), 20_000, "nobody is forgotten");
    let (served, refused) = (Ends::p99(&ends.served), Ends::p99(&ends.refused));
    assert!(served <= 205 * MS, "at most twice as long as without load: {served:?}");
    assert!(refused <= 10 * MS, "{refused:?}");
    tokio::time::sleep(SECOND).await;
    let began = Instant::now();
    send(&group, 1).await.unwrap();
    assert!(began.elapsed() <= 101 * MS, "as before");
    let deployment = &group.deployments()[0];
    assert_eq!((deployment.in_flight(), deployment.waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn o02_a_tenant_at_ten_times_the_load_takes_nothing_from_another() {
    let group = hundred_a_second();
    let (hog, other) = tokio::join!(open_loop(&group, 1, 1000, 20), open_loop(&group, 2, 30, 20));
    assert!(other.served.len() * 100 >= 600 * 95, "{} of 600", other.served.len());
    assert!(hog.served.len() >= 20 * 60, "what is left is the other's: {}", hog.served.len());
}

/// A provider whose answers take as long as it is told, and that counts how many it has in hand.
struct Tired {
    millis: AtomicU64,
    in_hand: AtomicUsize,
    most: AtomicUsize,
}

struct ToTired(Arc<Tired>);

impl Connect for ToTired {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let tired = self.0.clone();
        Box::pin(async move {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while theirs.read(&mut request).await.is_ok_and(|read| read > 0) {
                    tired.most.fetch_max(tired.in_hand.fetch_add(1, SeqCst) + 1, SeqCst);
                    tokio::time::sleep(MS * tired.millis.load(SeqCst) as u32).await;
                    tired.in_hand.fetch_sub(1, SeqCst);
                    let _ = theirs.write_all(OK).await;
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: false })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn o03_a_provider_that_slows_down_is_asked_less_at_once() {
    let tired = Arc::new(Tired {
        millis: AtomicU64::new(100),
        in_hand: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let settings = DeploymentSettings {
        max_in_flight: 200,
        adaptive_floor: Some(5),
        max_waiting: Some(10_000),
        ..DeploymentSettings::default()
    };
    let group = group_of(Arc::new(ToTired(tired.clone())), &settings);
    let callers: Vec<_> = (0..400)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move {
                loop {
                    // Who is refused comes again.
                    if send(&group, 1).await.is_err() {
                        tokio::time::sleep(100 * MS).await;
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(30 * SECOND).await;
    let deployment = &group.deployments()[0];
    let well = deployment.limit();
    assert!(well > 100, "it has grown: {well}");
    tired.millis.store(1000, SeqCst);
    tokio::time::sleep(30 * SECOND).await;
    let slow = deployment.limit();
    assert!(slow < well / 4 && slow >= 5, "{slow}, from {well}");
    tired.most.store(0, SeqCst);
    tokio::time::sleep(5 * SECOND).await;
    assert!(tired.most.load(SeqCst) <= slow + 5, "{tired_most:?}", tired_most = tired.most);
    callers.into_iter().for_each(|caller| caller.abort());
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!((deployment.in_flight(), deployment.waiting()), (0, 0));
}

/// A provider that cuts every third connection after the request.
struct Moody(AtomicUsize);

impl Connect for Moody {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let mood = self.0.fetch_add(1, SeqCst);
        Box::pin(async move {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while theirs.read(&mut request).await.is_ok_and(|read| read > 0) {
                    tokio::time::sleep(20 * MS).await;
                    if mood.is_multiple_of(3) {
                        return;
                    }
                    let _ = theirs.write_all(OK).await;
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: false })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn o06_overload_disconnects_and_resets_together_leave_no_trace() {
    let settings =
        DeploymentSettings { max_in_flight: 7, max_waiting: Some(20), ..DeploymentSettings::default() };
    let group = group_of(Arc::new(Moody(AtomicUsize::new(0))), &settings);
    let served = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for n in 0..3000_u32 {
        let (group, served) = (group.clone(), served.clone());
        let task = tokio::spawn(async move {
            let patience = MS * (n * 7919 % 60);
            if let Ok(Ok(())) = tokio::time::timeout(patience, send(&group, u64::from(n % 5))).await {
                served.fetch_add(1, SeqCst);
            }
        });
        tasks.push(task);
        if n % 10 == 0 {
            tokio::time::sleep(MS).await;
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(served.load(SeqCst) > 10, "{served:?}");
    let deployment = &group.deployments()[0];
    assert_eq!((deployment.in_flight(), deployment.waiting()), (0, 0));
    let connections = deployment.provider().connections();
    assert_eq!((connections.open, connections.waiting), (connections.idle, 0));
    // And it still serves, once the breaker lets it.
    tokio::time::sleep(60 * SECOND).await;
    let mut answers = 0;
    for _ in 0..10 {
        answers += usize::from(send(&group, 1).await.is_ok());
    }
    assert!(answers > 0);
}

/// Its first connection says no in an answer that does not end; the others answer.
struct Reluctant(AtomicUsize);

impl Connect for Reluctant {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let no: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n";
        let answer = if self.0.fetch_add(1, SeqCst) == 0 { no } else { OK };
        Box::pin(async move {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while theirs.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let _ = theirs.write_all(answer).await;
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: false })
        })
    }
}

/// Takes what does not begin with a no.
struct Early;

impl Classify for Early {
    fn head(&mut self, _: &http::response::Parts) -> Verdict {
        Verdict::NeedMore
    }

    fn body(&mut self, so_far: &[u8], ended: bool) -> Verdict {
        match (so_far, ended) {
            (b"no", _) => Verdict::Refuse(Refusal { kind: RefusalKind::Fault, retry_after: None }),
            (_, true) => Verdict::Accept,
            _ => Verdict::NeedMore,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_does_not_end_keeps_no_place_from_the_next_attempt() {
    let (mut one, deployment) =
        (settings("http://pipe"), DeploymentSettings { max_in_flight: 1, ..Default::default() });
    one.max_connections = 1;
    let provider = Provider::new(one, Arc::new(Reluctant(AtomicUsize::new(0))), 1).unwrap();
    let breaker = Breaker::new(Settings::default(), Instant::now().into_std());
    let deployment = Deployment::with_settings("d", provider, None, breaker, &deployment);
    let failover = Failover { retries: 1, ..Failover::default() };
    let group = Group::new("g", vec![deployment], Arc::new(InOrder), failover);
    let build = |_: &Deployment| Request::post("/").body(Bytes::from_static(b"hi"));
    let began = Instant::now();
    let reply = group.send(&bounds(), &mut Early, &build).await.unwrap();
    assert_eq!((reply.attempts, &*reply.held), (2, &b"ok"[..]));
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_shed_takes_nothing_of_a_keys_allowance() {
    let slow = Slow { after: 100 * MS, answer: OK, served: Arc::default() };
    let mut one = settings("http://pipe");
    one.credentials =
        vec![Credential::new(http::header::AUTHORIZATION, "Bearer ", Secret::new("key")).unwrap()];
    // Ten at once, then one a second.
    one.requests_per_minute = Some(60);
    let provider = Provider::new(one, Arc::new(slow), 1).unwrap();
    let breaker = Breaker::new(Settings::default(), Instant::now().into_std());
    let narrow = DeploymentSettings { max_in_flight: 1, max_waiting: Some(0), ..Default::default() };
    let deployment = Deployment::with_settings("d", provider, None, breaker, &narrow);
    let group = Group::new("g", vec![deployment], Arc::new(InOrder), Failover::default());
    let busy = {
        let group = group.clone();
        tokio::spawn(async move { send(&group, 1).await })
    };
    tokio::time::sleep(MS).await;
    for _ in 0..50 {
        assert!(matches!(send(&group, 1).await, Err(SendError::Overloaded)));
    }
    busy.await.unwrap().unwrap();
    for _ in 0..9 {
        send(&group, 1).await.unwrap();
    }
    // Whose keys all rest is not waited for.
    while send(&group, 1).await.is_ok() {}
    assert!(matches!(send(&group, 1).await, Err(SendError::RateLimited { .. })));
    assert_eq!(group.deployments()[0].in_flight(), 0);
}

/// Answers after 100 ms, and refuses what it is asked wrongly at once.
struct Strict;

impl Connect for Strict {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            let (ours, mut theirs) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while theirs.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer = if request.starts_with(b"POST /wrong") {
                        &b"HTTP/1.1 400 X\r\ncontent-length: 2\r\n\r\nno"[..]
                    } else {
                        tokio::time::sleep(100 * MS).await;
                        OK
                    };
                    let _ = theirs.write_all(answer).await;
                }
            });
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: false })
        })
    }
}

/// A provider refuses a wrong request sooner than it answers a right one.
#[tokio::test(start_paused = true)]
async fn what_is_asked_wrongly_says_nothing_of_how_soon_answers_begin() {
    let settings =
        DeploymentSettings { max_in_flight: 200, adaptive_floor: Some(5), ..DeploymentSettings::default() };
    let group = group_of(Arc::new(Strict), &settings);
    let ask = |path: &'static str| {
        let group = group.clone();
        async move {
            let build = |_: &Deployment| Request::post(path).body(Bytes::from_static(b"hi"));
            group.send(&bounds(), &mut Plain::default(), &build).await.unwrap().parts.status.as_u16()
        }
    };
    for _ in 0..10 {
        assert_eq!(ask("/").await, 200);
    }
    let before = group.deployments()[0].limit();
    assert_eq!(ask("/wrong").await, 400);
    for _ in 0..20 {
        assert_eq!(ask("/").await, 200);
    }
    assert_eq!(group.deployments()[0].limit(), before);
}

/// Who waits for a connection waits for the gateway's own bound, and not for the provider.
#[tokio::test(start_paused = true)]
async fn a_wait_for_a_connection_is_no_fault_of_a_provider_whose_streams_are_held_back() {
    let mut one = settings("http://pipe");
    one.max_connections = 1;
    let slow = Slow { after: 5 * SECOND, answer: OK, served: Arc::default() };
    let provider = Provider::new(one, Arc::new(slow), 1).unwrap();
    let group = |settings| {
        let breaker = Breaker::new(Settings::default(), Instant::now().into_std());
        let deployment = Deployment::new("d", provider.clone(), None, breaker, 10);
        Group::with_settings("g", vec![deployment], Arc::new(InOrder), settings)
    };
    let (busy, held) = (
        group(GroupSettings::default()),
        group(GroupSettings { hold_streams: true, ..GroupSettings::default() }),
    );
    let first = tokio::spawn(async move { send(&busy, 1).await });
    tokio::time::sleep(MS).await;
    let build = |_: &Deployment| Request::post("/").body(Bytes::from_static(b"hi"));
    let bounds = Bounds { idle: Some(SECOND), ..bounds() };
    let sent = held.send(&bounds, &mut Plain::default(), &build).await.err();
    assert!(matches!(sent, Some(SendError::Overloaded)), "{sent:?}");
    let seen = held.deployments()[0].breaker().snapshot(Instant::now().into_std());
    assert_eq!((seen.calls, seen.failures), (0, 0));
    first.await.unwrap().unwrap();
}
