//! What a tier has done: totals, rates over the last while, latencies.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{counters::Lookups, guard::GuardState, latency::Latency};

/// A tier at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TierSnapshot {
    /// Its name.
    pub tier: &'static str,
    /// Whether it answers.
    pub up: bool,
    /// Why it does not, if it does not.
    pub why_down: Option<&'static str>,
    /// Entries held; zero where nobody counts them.
    pub entries: u64,
    /// Bytes held, overhead included.
    pub bytes: u64,
    /// Bytes that it may hold.
    pub capacity_bytes: u64,
    /// Look-ups that found a fresh value.
    pub hits: u64,
    /// Look-ups that did not.
    pub misses: u64,
    /// Hits as a share of look-ups.
    pub hit_rate: HitRate,
    /// Entries that are gone, by reason.
    pub evictions: Evictions,
    /// What stands before it, where something does.
    pub breakers: Option<TierBreakers>,
    /// Values found that did not stand the check, and so were misses.
    pub flawed: u64,
    /// Sampled latencies of look-ups.
    pub get: OperationLatency,
    /// Sampled latencies of writes.
    pub put: OperationLatency,
}

/// What stands before a tier that is left alone while it does not answer well: look-ups and writes are judged apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierBreakers {
    /// The one before look-ups.
    pub reads: GuardState,
    /// The one before writes and leases.
    pub writes: GuardState,
}

#[cfg(any(feature = "redis", feature = "disk"))]
impl TierSnapshot {
    /// Of a tier that counts nothing itself.
    pub(crate) fn unknown(tier: &'static str, now: Instant) -> Self {
        let stats = Stats::new();
        let nothing = OperationLatency { p50: None, p99: None };
        Self {
            tier,
            up: true,
            why_down: None,
            entries: 0,
            bytes: 0,
            capacity_bytes: 0,
            hits: 0,
            misses: 0,
            hit_rate: stats.hit_rate(now),
            evictions: Evictions::default(),
            breakers: None,
            flawed: 0,
            get: nothing,
            put: nothing,
        }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn connected(mut self, up: bool, flawed: u64) -> Self {
        self.up = up;
        self.flawed = flawed;
        self.why_down = (!up).then_some("not connected");
        self
    }
}

/// Hits as a share of look-ups; `None` where there were no look-ups.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HitRate {
    /// Over the last minute.
    pub last_1m: Option<f64>,
    /// Over the last five minutes.
    pub last_5m: Option<f64>,
    /// Over the last hour.
    pub last_1h: Option<f64>,
    /// Since the start.
    pub total: Option<f64>,
}

/// Entries that are gone, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evictions {
    /// To make room.
    pub room: u64,
    /// Past their time.
    pub expired: u64,
    /// On request.
    pub invalidated: u64,
    /// Never admitted: heavier than the heaviest allowed.
    pub refused: u64,
}

/// Quantiles of an operation's latency in seconds; `None` before the first sample.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct OperationLatency {
    /// The median.
    pub p50: Option<f64>,
    /// 99 of 100 were faster.
    pub p99: Option<f64>,
}

impl OperationLatency {
    pub(crate) fn of(latency: &Latency) -> Self {
        Self { p50: latency.quantile(0.5), p99: latency.quantile(0.99) }
    }
}

/// How often totals are remembered for the rates, and for how long.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
const SAMPLES: usize = 720;

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    hits: u64,
    misses: u64,
}

/// Totals; rates from totals remembered every few seconds, so that a look-up pays for one increment and no
/// clock.
pub(crate) struct Stats {
    pub(crate) lookups: Lookups,
    pub(crate) room: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) invalidated: AtomicU64,
    pub(crate) refused: AtomicU64,
    samples: Mutex<VecDeque<Sample>>,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            lookups: Lookups::default(),
            room: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            invalidated: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            samples: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn totals(&self) -> (u64, u64) {
        self.lookups.totals()
    }

    pub(crate) fn evictions(&self) -> Evictions {
        Evictions {
            room: self.room.load(Relaxed),
            expired: self.expired.load(Relaxed),
            invalidated: self.invalidated.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    /// Remembers the totals, if it is time to.
    pub(crate) fn sample(&self, now: Instant) {
        let (hits, misses) = self.totals();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let due = samples.back().is_none_or(|last| now.saturating_duration_since(last.at) >= SAMPLE_EVERY);
        if due {
            samples.push_back(Sample { at: now, hits, misses });
            if samples.len() > SAMPLES + 1 {
                samples.pop_front();
            }
        }
    }

    pub(crate) fn hit_rate(&self, now: Instant) -> HitRate {
        let (hits, misses) = self.totals();
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |span: u64| {
            let span = Duration::from_secs(span);
            // The youngest sample that is at least that old; before there is one, everything counts.
            let from = samples.iter().rev().find(|sample| now.saturating_duration_since(sample.at) >= span);
            let (h, m) = from.map_or((0, 0), |sample| (sample.hits, sample.misses));
            share(hits.saturating_sub(h), misses.saturating_sub(m))
        };
        HitRate { last_1m: over(60), last_5m: over(300), last_1h: over(3600), total: share(hits, misses) }
    }
}

fn share(hits: u64, misses: u64) -> Option<f64> {
    let lookups = hits + misses;
    (lookups > 0).then(|| hits as f64 / lookups as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_look_back_for_as_long_as_they_say() {
        let stats = Stats::new();
        let start = Instant::now();
        // Ten minutes of misses, then two of hits.
        for second in 0..720_u64 {
            let now = start + Duration::from_secs(second);
            stats.lookups.stripe().count(second >= 600);
            stats.sample(now);
        }
        let rate = stats.hit_rate(start + Duration::from_secs(720));
        assert_eq!(rate.last_1m, Some(1.0));
        let five = rate.last_5m.unwrap();
        assert!((0.38..0.42).contains(&five), "{five}");
        assert_eq!(rate.last_1h, rate.total);
        assert_eq!(Stats::new().hit_rate(start).total, None);
    }
}
