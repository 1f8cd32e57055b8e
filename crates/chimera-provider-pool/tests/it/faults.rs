//! One of three deployments is ill, each in another way: what callers notice of it, in simulated time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings, State};
use chimera_provider_pool::{
    Bounds, Classify, Connect, Connected, Connecting, Deployment, Failover, Group, GroupSettings,
    LeastLatency, Provider, Refusal, RefusalKind, RoundRobin, SharedPicker, Target, Transport, Verdict,
};
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::Instant,
};

use crate::{
    pickers::{OK, bounds},
    support::settings,
};

const MS: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Ill {
    Well,
    /// Connections are never accepted.
    BlackHole,
    Fails,
    /// The connection is cut after the request.
    Resets,
    /// A byte now and then.
    Trickles,
    Throttles,
}

impl Connect for Ill {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        let ill = *self;
        Box::pin(async move {
            if ill == Self::BlackHole {
                std::future::pending::<()>().await;
            }
            let (ours, theirs) = tokio::io::duplex(4096);
            tokio::spawn(serve(theirs, ill));
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: false })
        })
    }
}

async fn serve(mut io: DuplexStream, ill: Ill) {
    let mut request = [0; 4096];
    while io.read(&mut request).await.is_ok_and(|read| read > 0) {
        let answer: &[u8] = match ill {
            Ill::Fails => b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno",
            Ill::Throttles => b"HTTP/1.1 429 X\r\ncontent-length: 2\r\n\r\nno",
            Ill::Resets => return,
            Ill::Trickles => {
                for byte in OK {
                    tokio::time::sleep(10_000 * MS).await;
                    if io.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            _ => {
                tokio::time::sleep(40 * MS).await;
                OK
            }
        };
        if io.write_all(answer).await.is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Honest(u16);

impl Classify for Honest {
    fn head(&mut self, parts: &http::response::Parts) -> Verdict {
        self.0 = parts.status.as_u16();
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        let refuse = |kind| Verdict::Refuse(Refusal { kind, retry_after: None });
        match (self.0, ended) {
            (_, false) => Verdict::NeedMore,
            (429, true) => refuse(RefusalKind::Throttled),
            (500.., true) => refuse(RefusalKind::Fault),
            (_, true) => Verdict::Accept,
        }
    }
}

fn trio(ill: Ill, picker: SharedPicker) -> Arc<Group> {
    let members = [Ill::Well, ill, Ill::Well].into_iter().enumerate().map(|(index, ill)| {
        let provider = Provider::new(settings("http://pipe"), Arc::new(ill), 1).unwrap();
        let breaker = Breaker::new(Settings::default(), Instant::now().into_std());
        Deployment::new(format!("d{index}"), provider, None, breaker, 1000)
    });
    let failover = Failover { broken: true, ..Failover::default() };
    let first_event = Some(1000 * MS);
    let settings = GroupSettings { failover, first_event, ..GroupSettings::default() };
    Group::with_settings("g", members.collect(), picker, settings)
}

/// Eight callers for so long: each request's start, time and whether it was answered.
async fn load(group: &Arc<Group>, long: Duration) -> Vec<(Duration, Duration, bool)> {
    let began = Instant::now();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while began.elapsed() < long {
                    let (at, now) = (began.elapsed(), Instant::now());
                    let bounds = Bounds { idle: Some(60_000 * MS), ..bounds() };
                    let build = |_: &Deployment| Request::post("/").body(Bytes::from_static(b"hi"));
                    let sent = group.send(&bounds, &mut Honest::default(), &build).await;
                    let answered = sent.is_ok_and(|reply| reply.refusal.is_none());
                    seen.push((at, now.elapsed(), answered));
                }
                seen
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    all
}

fn p99(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Once the breaker is open, callers are as well off as without the ill one; and before, they get answers.
#[tokio::test(start_paused = true)]
async fn one_of_three_may_be_ill_in_any_way() {
    let well = load(&trio(Ill::Well, Arc::new(RoundRobin::default())), 30_000 * MS).await;
    let baseline = p99(well.iter().map(|(_, took, _)| *took));
    for ill in [Ill::BlackHole, Ill::Fails, Ill::Resets, Ill::Trickles, Ill::Throttles] {
        for picker in [Arc::new(RoundRobin::default()) as SharedPicker, Arc::new(LeastLatency::seeded(7))] {
            let group = trio(ill, picker);
            let seen = load(&group, 30_000 * MS).await;
            let answered = seen.iter().filter(|(_, _, answered)| *answered).count();
            assert!(answered * 1000 >= seen.len() * 999, "{ill:?}: {answered} of {}", seen.len());
            let late = seen.iter().filter(|(at, ..)| *at >= 5_000 * MS).map(|(_, took, _)| *took);
            let late = p99(late);
            assert!(late * 10 <= baseline * 11, "{ill:?}: {late:?} where {baseline:?} was usual");
        }
    }
}

/// Round robin asks the ill one until its breaker opens, and that is soon.
#[tokio::test(start_paused = true)]
async fn a_breaker_opens_within_five_failures_or_five_seconds() {
    for ill in [Ill::BlackHole, Ill::Fails, Ill::Resets, Ill::Trickles] {
        let group = trio(ill, Arc::new(RoundRobin::default()));
        load(&group, 5_000 * MS).await;
        let breaker = group.deployments()[1].breaker();
        let seen = breaker.snapshot(Instant::now().into_std());
        assert!(seen.state != State::Closed, "{ill:?}: {seen:?}");
        // Eight callers may have been under way when the fifth failed.
        assert!(seen.failures <= 5 + 8, "{ill:?}: {seen:?}");
    }
}
