//! What was counted. Its size depends on the kinds of requests, not on their number.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;

/// Times in microseconds, to three digits.
#[derive(Debug, Clone)]
pub(crate) struct Times(Histogram<u64>);

/// The longest time that is told apart.
const LONGEST: u64 = 3_600_000_000;

impl Default for Times {
    fn default() -> Self {
        match Histogram::new(3) {
            Ok(histogram) => Self(histogram),
            Err(_) => unreachable!("three digits are allowed"),
        }
    }
}

impl Times {
    pub(crate) fn record(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST);
        if self.0.record(micros.clamp(1, LONGEST)).is_err() {
            unreachable!("a histogram that grows takes any value");
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.0.add(&other.0).is_err() {
            unreachable!("a histogram that grows takes any other");
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Seconds below which so many percent lie.
    pub(crate) fn percentile(&self, percentile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_percentile(percentile) as f64 / 1e6)
    }

    pub(crate) fn mean(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.mean() / 1e6)
    }

    pub(crate) fn max(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.max() as f64 / 1e6)
    }
}

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// No connection was had, TLS included.
    Connect,
    /// The answer did not end in time.
    Timeout,
    /// The connection broke.
    Broken,
    /// The answer's status was not one of success.
    Status(u16),
    /// The answer was not what the dialect promises.
    Invalid,
    /// A stream ended before its end.
    Cut,
    /// A stream told an error.
    ErrorEvent,
    /// All connections were busy, and too many requests waited for one.
    NotSent,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Timeout => f.write_str("timeout"),
            Self::Broken => f.write_str("broken connection"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Invalid => f.write_str("invalid answer"),
            Self::Cut => f.write_str("stream cut short"),
            Self::ErrorEvent => f.write_str("error in stream"),
            Self::NotSent => f.write_str("not sent"),
        }
    }
}

/// Values of `x-chimera-cache`, and the rest.
pub(crate) const CACHE: [&str; 7] = ["l1", "l2", "stale", "coalesced", "miss", "bypass", "other"];

/// One kind of request.
#[derive(Debug, Clone, Default)]
pub(crate) struct MixTally {
    pub(crate) ok: u64,
    /// From the intended start to the last byte. A request that ran out of time counts with the time it had.
    pub(crate) latency: Times,
    /// From the intended start to the first event of a stream.
    pub(crate) first_event: Times,
    /// From the intended start to the first event that bears some of the answer.
    pub(crate) first_content: Times,
    /// Between events that do.
    pub(crate) gap: Times,
    pub(crate) cache: [u64; CACHE.len()],
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// How many of each class, and what the first one said.
    pub(crate) errors: BTreeMap<Class, (u64, String)>,
}

impl MixTally {
    pub(crate) fn error(&mut self, class: Class, why: impl FnOnce() -> String) {
        self.errors.entry(class).or_insert_with(|| (0, why())).0 += 1;
    }

    pub(crate) fn cache(&mut self, value: &[u8]) {
        let word = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let at = CACHE.iter().position(|known| known.as_bytes() == word);
        if let Some(count) = self.cache.get_mut(at.unwrap_or(CACHE.len() - 1)) {
            *count += 1;
        }
    }

    pub(crate) fn failed(&self) -> u64 {
        self.errors.values().map(|(count, _)| count).sum()
    }

    /// Hits and all answers that could have been one. Who was spared a call of the provider was hit.
    pub(crate) fn hits(&self) -> (u64, u64) {
        let [l1, l2, stale, coalesced, miss, ..] = self.cache;
        let hits = l1 + l2 + stale + coalesced;
        (hits, hits + miss)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.ok += other.ok;
        self.latency.merge(&other.latency);
        self.first_event.merge(&other.first_event);
        self.first_content.merge(&other.first_content);
        self.gap.merge(&other.gap);
        for (mine, theirs) in self.cache.iter_mut().zip(other.cache) {
            *mine += theirs;
        }
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        for (class, (count, why)) in &other.errors {
            self.errors.entry(*class).or_insert_with(|| (0, why.clone())).0 += count;
        }
    }
}

/// All kinds, and the generator itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) mixes: Vec<MixTally>,
    /// Requests that were to start.
    pub(crate) offered: u64,
    /// From the intended start to when the generator came to it.
    pub(crate) lag: Times,
    /// Requests of the warm-up, which count for nothing else.
    pub(crate) warm_up: u64,
    /// Requests that were still under way at the end.
    pub(crate) unfinished: u64,
    pub(crate) connects: u64,
    /// Requests sent again because a kept connection had just been closed.
    pub(crate) resent: u64,
}

impl Tally {
    pub(crate) fn new(mixes: usize) -> Self {
        Self { mixes: vec![MixTally::default(); mixes], ..Self::default() }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.mixes.iter_mut().zip(&other.mixes) {
            mine.merge(theirs);
        }
        self.offered += other.offered;
        self.lag.merge(&other.lag);
        self.warm_up += other.warm_up;
        self.unfinished += other.unfinished;
        self.connects += other.connects;
        self.resent += other.resent;
    }

    /// All mixes as one.
    pub(crate) fn all(&self) -> MixTally {
        let mut all = MixTally::default();
        self.mixes.iter().for_each(|mix| all.merge(mix));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_merged_are_what_one_would_have_counted() {
        let (mut one, mut odd, mut even) = (Times::default(), Times::default(), Times::default());
        for micros in 1..=10_000_u64 {
            let time = Duration::from_micros(micros * 37);
            one.record(time);
            if micros % 2 == 0 { even.record(time) } else { odd.record(time) }
        }
        odd.merge(&even);
        for percentile in [1.0, 50.0, 95.0, 99.9, 100.0] {
            assert_eq!(one.percentile(percentile), odd.percentile(percentile));
        }
        let exact = 5000.0 * 37.0 / 1e6;
        assert!((one.percentile(50.0).unwrap() - exact).abs() < exact / 500.0);
    }

    #[test]
    fn nothing_counted_has_no_percentile() {
        assert_eq!(Times::default().percentile(50.0), None);
        assert_eq!(Times::default().mean(), None);
    }

    #[test]
    fn cache_results_are_read_by_their_first_word() {
        let mut mix = MixTally::default();
        for value in ["l1", "l2", "coalesced", "miss; reason=cold", "bypass", "new-thing"] {
            mix.cache(value.as_bytes());
        }
        assert_eq!(mix.cache, [1, 1, 0, 1, 1, 1, 1]);
        assert_eq!(mix.hits(), (3, 4));
    }

    #[test]
    fn errors_keep_the_first_reason_of_each_class() {
        let mut mix = MixTally::default();
        mix.error(Class::Status(500), || "first".into());
        mix.error(Class::Status(500), || "second".into());
        let mut other = MixTally::default();
        other.error(Class::Timeout, String::new);
        mix.merge(&other);
        assert_eq!(mix.failed(), 3);
        assert_eq!(mix.errors[&Class::Status(500)], (2, "first".into()));
    }
}
