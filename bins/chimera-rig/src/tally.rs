//! What a driver counted, and how it tells it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

/// The counts of one connection, or of all once merged.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) latencies: Vec<u64>,
    pub(crate) firsts: Vec<u64>,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) cache: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts an answer that came whole, with nanoseconds to its first and last byte.
    pub(crate) fn success(&mut self, first: Duration, all: Duration, cache: Option<String>) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.firsts.push(nanos(first));
        self.latencies.push(nanos(all));
        if let Some(cache) = cache {
            *self.cache.entry(cache).or_default() += 1;
        }
    }

    pub(crate) fn error(&mut self, error: impl ToString) {
        self.errors += 1;
        if self.first_error.is_none() {
            self.first_error = Some(error.to_string());
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.firsts.extend(other.firsts);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        for (key, count) in other.cache {
            *self.cache.entry(key).or_default() += count;
        }
    }

    /// One line of JSON; times in microseconds.
    pub(crate) fn report(mut self, elapsed: Duration) -> Value {
        let requests = self.latencies.len();
        let seconds = elapsed.as_secs_f64();
        json!({
            "requests": requests, "errors": self.errors, "first_error": self.first_error,
            "seconds": seconds, "rps": requests as f64 / seconds.max(1e-9),
            "latency_us": quantiles(&mut self.latencies),
            "first_byte_us": quantiles(&mut self.firsts), "cache": self.cache,
        })
    }
}

fn quantiles(nanos: &mut [u64]) -> Value {
    nanos.sort_unstable();
    let at = |q: f64| {
        let rank = (q * nanos.len() as f64).ceil() as usize;
        nanos.get(rank.saturating_sub(1)).map(|n| *n as f64 / 1e3)
    };
    json!({"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut nanos: Vec<u64> = (1..=100).rev().map(|n| n * 1000).collect();
        assert_eq!(quantiles(&mut nanos), json!({"p50": 50.0, "p90": 90.0, "p99": 99.0, "max": 100.0}));
        assert_eq!(quantiles(&mut [])["p50"], Value::Null);
    }
}
