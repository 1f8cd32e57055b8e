//! A second try beside the first, when that is late to begin.
//!
//! Most of a slow tail is one deployment's bad moment. A request whose first content is later than nearly
//! all others were is sent to a second deployment as well; whoever begins first is taken, and the other is
//! cancelled (Dean and Barroso, "The Tail at Scale"). Both may be billed, so it is off unless asked for,
//! it comes out of the group's retry budget, and each one is counted.

use std::{
    pin::pin,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    classify::{Classify, Refusal, RefusalKind},
    course::Course,
    deployment::Group,
    error::SendError,
    metrics::HedgeMetrics,
    picker::Tried,
    reply::Reply,
    send::{Bounds, Build},
};

/// Answers before what is late can be told.
const ENOUGH: u32 = 20;
/// Answers that count: beyond it all counts are halved, so that the past fades.
const MOST: u32 = 1024;
/// A hedge sooner than this saves nobody anything.
const SOONEST: Duration = Duration::from_millis(5);
/// Four buckets for each power of two of microseconds.
const BUCKETS: usize = 160;

/// The hedging of one group.
pub(crate) struct Hedging {
    /// The share of answers that begin sooner than a hedge, in hundredths.
    percentile: u32,
    buckets: [AtomicU32; BUCKETS],
    total: AtomicU32,
    metrics: HedgeMetrics,
}

impl Hedging {
    pub(crate) fn new(percentile: u32) -> Self {
        let buckets = [const { AtomicU32::new(0) }; BUCKETS];
        Self { percentile, buckets, total: AtomicU32::new(0), metrics: HedgeMetrics::new() }
    }

    /// An answer began after `took`.
    fn observe(&self, took: Duration) {
        if let Some(bucket) = self.buckets.get(place(took)) {
            bucket.fetch_add(1, Relaxed);
        }
        if self.total.fetch_add(1, Relaxed) + 1 >= MOST {
            let halve =
                |count: &AtomicU32| count.fetch_update(Relaxed, Relaxed, |n| Some(n / 2)).unwrap_or(0) / 2;
            self.total.store(self.buckets.iter().map(halve).sum(), Relaxed);
        }
    }

    /// When an answer is late; `None` while too few have been seen.
    fn delay(&self) -> Option<Duration> {
        let total = self.total.load(Relaxed);
        if total < ENOUGH {
            return None;
        }
        let wanted = u64::from(total) * u64::from(self.percentile) / 100;
        let mut seen = 0;
        let late = self.buckets.iter().position(|bucket| {
            seen += u64::from(bucket.load(Relaxed));
            seen > wanted
        });
        Some(upper_end(late.unwrap_or(BUCKETS - 1)).max(SOONEST))
    }
}

/// The bucket of a time.
fn place(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(4);
    let power = micros.ilog2();
    let quarter = (micros >> (power - 2)) & 0b11;
    ((power as usize - 2) * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The end of a bucket.
fn upper_end(place: usize) -> Duration {
    Duration::from_micros((5 + place as u64 % 4) << (place / 4))
}

/// Who was first.
enum First {
    Primary(Result<Reply, SendError>),
    Hedge(Result<Reply, SendError>),
}

impl Group {
    /// Sends a request, and once more to another deployment if the first is late.
    pub(crate) async fn send_hedged<C: Classify>(
        &self,
        hedging: &Hedging,
        bounds: &Bounds,
        classify: &mut C,
        build: &Build<'_>,
    ) -> Result<Reply, SendError> {
        let (Some(delay), Some(mut other)) = (hedging.delay(), classify.fork()) else {
            let sent = self.send_in_turn(bounds, classify, build, Course::default()).await;
            return hedging.learn(sent);
        };
        let asked = AtomicU64::new(0);
        let first = {
            let course = Course { asked: Some(&asked), ..Course::default() };
            let mut primary = pin!(self.send_in_turn(bounds, classify, build, course));
            tokio::select! {
                biased;
                sent = &mut primary => return hedging.learn(sent),
                () = tokio::time::sleep(delay) => {}
            }
            let tried = Tried::from_bits(asked.load(Relaxed));
            let left = (0..self.deployments.len()).any(|index| !tried.contains(index));
            if !left || !self.budget.withdraw(Instant::now().into_std()) {
                hedging.metrics.denied.increment(1);
                return hedging.learn(primary.await);
            }
            let course = Course { asked: Some(&asked), ..Course::default() };
            let mut hedge = pin!(self.send_in_turn(bounds, &mut other, build, course));
            // Who fails does not end the race: the other may still answer.
            let first = tokio::select! {
                biased;
                sent = &mut primary => First::Primary(sent),
                sent = &mut hedge => First::Hedge(sent),
            };
            match first {
                First::Primary(sent) if !answers(&sent) => match hedge.await {
                    won if answers(&won) => First::Hedge(won),
                    _ => First::Primary(sent),
                },
                First::Hedge(sent) if !answers(&sent) => First::Primary(primary.await),
                first => first,
            }
        };
        match first {
            First::Primary(sent) => {
                hedging.metrics.lost.increment(1);
                hedging.learn(sent)
            }
            First::Hedge(sent) => {
                hedging.metrics.won.increment(1);
                *classify = other;
                hedging.learn(sent.map(|mut reply| {
                    reply.attempts += 1;
                    reply
                }))
            }
        }
    }
}

fn answers(sent: &Result<Reply, SendError>) -> bool {
    let is_final = |refusal: &Refusal| refusal.kind == RefusalKind::Rightful;
    sent.as_ref().is_ok_and(|reply| reply.refusal.as_ref().is_none_or(is_final))
}

impl Hedging {
    fn learn(&self, sent: Result<Reply, SendError>) -> Result<Reply, SendError> {
        if let Ok(reply) = &sent
            && reply.refusal.is_none()
            && reply.parts.status.is_success()
        {
            self.observe(reply.judged - reply.started);
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_told_within_a_quarter() {
        let hedging = Hedging::new(95);
        for n in 1..=100_u64 {
            assert_eq!(hedging.delay().is_some(), n > u64::from(ENOUGH));
            hedging.observe(Duration::from_millis(10 * n));
        }
        let late = hedging.delay().unwrap();
        assert!((950..=1200).contains(&late.as_millis()), "{late:?}");
        // The past fades.
        for _ in 0..5000 {
            hedging.observe(Duration::from_millis(20));
        }
        let late = hedging.delay().unwrap();
        assert!((20..=26).contains(&late.as_millis()), "{late:?}");
    }

    #[test]
    fn every_time_has_a_bucket_that_it_fits_in() {
        for micros in (0..200).chain([999, 1_000_000, 123_456_789, u64::MAX]) {
            let took = Duration::from_micros(micros);
            let end = upper_end(place(took));
            assert!(place(took) == BUCKETS - 1 || end > took, "{took:?} {end:?}");
            assert!(
                micros < 8 || place(took) == BUCKETS - 1 || end.as_micros() as u64 * 4 / 5 <= micros.max(5),
                "{took:?} {end:?}"
            );
        }
    }
}
