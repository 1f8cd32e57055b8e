//! How long a deployment takes to its first content, as far as the last seconds tell.
//!
//! Peak EWMA, after Finagle's balancer: a slower answer than expected counts at once, a faster one by and
//! by, and what has not been heard of for a while is forgotten. It is fed with the time to the first
//! content, never the total: a long answer is no slow provider. A failure counts as a very slow answer,
//! or the deployment that fails fastest would draw all requests.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How fast the past is forgotten: a third of it is left after this long. Finagle's default.
const TAU: Duration = Duration::from_secs(10);
/// What is expected of a deployment that has not been heard of. Its first sample takes the place of it.
const UNKNOWN: Duration = Duration::from_secs(1);
/// The word before the first sample.
const UNHEARD: u64 = u64::MAX;
/// What a failure counts as, at least.
const PENALTY: Duration = Duration::from_secs(5);

/// The estimate and its time in one word, so that it is read and written without a lock: microseconds in
/// the upper half, milliseconds after `epoch` in the lower.
#[derive(Debug)]
pub(crate) struct PeakEwma {
    epoch: Instant,
    word: AtomicU64,
}

impl PeakEwma {
    pub(crate) fn new(now: Instant) -> Self {
        Self { epoch: now, word: AtomicU64::new(UNHEARD) }
    }

    /// Takes in one time to first content.
    pub(crate) fn observe(&self, sample: Duration, now: Instant) {
        let (sample, stamp) = (micros(sample), self.stamp(now));
        let observe = |word| {
            if word == UNHEARD {
                return Some(pack(sample, stamp));
            }
            let (estimate, since) = unpack(word);
            let left = decay(since, stamp);
            // A peak is believed at once.
            let mixed = f64::from(estimate) * left + f64::from(sample) * (1.0 - left);
            let estimate = if sample > estimate { sample } else { mixed as u32 };
            Some(pack(estimate, stamp))
        };
        let _ = self.word.fetch_update(Relaxed, Relaxed, observe);
    }

    /// Takes in a failure.
    pub(crate) fn penalize(&self, now: Instant) {
        let known = match self.word.load(Relaxed) {
            UNHEARD => Duration::ZERO,
            word => Duration::from_micros(unpack(word).0.into()),
        };
        self.observe(PENALTY.max(known), now);
    }

    /// What is expected now, in seconds; it falls while nothing is heard.
    pub(crate) fn expected(&self, now: Instant) -> f64 {
        let word = self.word.load(Relaxed);
        if word == UNHEARD {
            return UNKNOWN.as_secs_f64();
        }
        let (estimate, since) = unpack(word);
        f64::from(estimate) * decay(since, self.stamp(now)) / 1e6
    }

    /// Milliseconds; after 49 days they begin anew, which is a moment's confusion.
    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX).min(u32::MAX - 1)
}

fn pack(estimate: u32, stamp: u32) -> u64 {
    u64::from(estimate) << 32 | u64::from(stamp)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// What is left of an estimate after a while.
fn decay(since: u32, now: u32) -> f64 {
    let elapsed = now.wrapping_sub(since);
    // Threads may see their clocks in another order: then no time has passed.
    let elapsed = if elapsed > u32::MAX / 2 { 0 } else { elapsed };
    (-f64::from(elapsed) / TAU.as_millis() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_by_and_by() {
        let start = Instant::now();
        let ewma = PeakEwma::new(start);
        assert!((ewma.expected(start) - 1.0).abs() < 1e-9, "unknown until it is heard of");
        ewma.observe(100 * MS, start + TAU);
        assert!((ewma.expected(start + TAU) - 0.1).abs() < 1e-9, "the first word counts as it is");
        ewma.observe(3000 * MS, start + TAU);
        assert!((ewma.expected(start + TAU) - 3.0).abs() < 1e-9);
        let later = ewma.expected(start + 2 * TAU);
        assert!((later - 3.0 * (-1.0_f64).exp()).abs() < 1e-3, "{later}");
        for step in 0..1000 {
            ewma.observe(50 * MS, start + 2 * TAU + step * 100 * MS);
        }
        let settled = ewma.expected(start + 2 * TAU + 100_000 * MS);
        assert!((settled - 0.05).abs() < 0.01, "{settled}");
    }

    #[test]
    fn u12_a_failure_is_as_bad_as_the_slowest_answer() {
        let start = Instant::now();
        let ewma = PeakEwma::new(start);
        ewma.observe(MS, start);
        ewma.penalize(start);
        assert!(ewma.expected(start) >= 5.0);
        ewma.observe(60_000 * MS, start);
        ewma.penalize(start);
        assert!(ewma.expected(start) >= 60.0, "it never makes things look better");
    }

    #[test]
    fn time_that_runs_backwards_is_no_time() {
        let start = Instant::now();
        let ewma = PeakEwma::new(start);
        ewma.observe(2000 * MS, start + 500 * MS);
        assert!((ewma.expected(start) - 2.0).abs() < 1e-9);
    }
}
