//! How long operations take: a small histogram of fixed buckets.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Four buckets to each power of two nanoseconds: a quantile is at most a quarter too high.
const PER_OCTAVE: u32 = 4;
const BUCKETS: usize = 40 * PER_OCTAVE as usize;

/// Counts of latencies from 1 ns to about 18 minutes.
pub(crate) struct Latency([AtomicU64; BUCKETS]);

impl Default for Latency {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Latency {
    pub(crate) fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        if let Some(bucket) = self.0.get(index(nanos)).or(self.0.last()) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    /// The upper edge of the bucket in which the quantile lies, in seconds.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<f64> {
        let counts: Vec<u64> = self.0.iter().map(|bucket| bucket.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        let rank = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            total > 0 && seen >= rank
        })?;
        Some(upper_edge(at) as f64 / 1e9)
    }
}

fn index(nanos: u64) -> usize {
    let octave = nanos.ilog2();
    // The two bits below the leading one number the quarter.
    let quarter = if octave >= 2 { (nanos >> (octave - 2)) & 3 } else { 0 };
    octave as usize * PER_OCTAVE as usize + quarter as usize
}

fn upper_edge(index: usize) -> u64 {
    let (octave, quarter) = (index as u32 / PER_OCTAVE, index as u64 % u64::from(PER_OCTAVE));
    let base = 1_u64 << octave.min(62);
    base + base / 4 * (quarter + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_at_most_a_quarter_too_high() {
        let latency = Latency::default();
        for nanos in 1..=10_000 {
            latency.record(Duration::from_nanos(nanos));
        }
        for (quantile, exact) in [(0.5, 5e-6), (0.99, 9.9e-6)] {
            let found = latency.quantile(quantile).unwrap();
            assert!(found >= exact && found <= exact * 1.26, "{quantile}: {found}");
        }
        assert_eq!(Latency::default().quantile(0.5), None);
        latency.record(Duration::MAX);
        assert!(latency.quantile(1.0).is_some());
    }
}
