//! What has been counted since the start, and what lies between two such counts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    prometheus::{Sample, samples},
    settings::Price,
};

/// Routes whose time is that of a model.
const GENERATIONS: [&str; 6] =
    ["chat_completions", "responses", "messages", "generate_content", "stream_generate_content", "generate"];

/// Counts: since the start, or in a [`Span`].
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Totals {
    good: f64,
    failed: f64,
    /// Refused for a fault of the caller's or by a limit.
    refused: f64,
    cancelled: f64,
    generation: Buckets,
    overhead: Buckets,
    hits: f64,
    lookups: f64,
    input: f64,
    output: f64,
    spent: f64,
    /// Not counts: how it is now.
    in_flight: f64,
    memory: f64,
}

/// Samples of a histogram that are at most so large each, smallest bound first.
#[derive(Debug, Clone, Default, PartialEq)]
struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    fn add(&mut self, bound: f64, count: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => {
                let at = self.0.partition_point(|(known, _)| *known < bound);
                self.0.insert(at, (bound, count));
            }
        }
    }

    fn since(&self, before: &Self) -> Self {
        let earlier =
            |bound: f64| before.0.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
        Self(self.0.iter().map(|&(bound, count)| (bound, (count - earlier(bound)).max(0.0))).collect())
    }

    /// The quantile, on a straight line inside its bucket; `None` where there are no samples.
    fn quantile(&self, share: f64) -> Option<f64> {
        let (_, all) = *self.0.last()?;
        if all <= 0.0 {
            return None;
        }
        let wanted = share * all;
        let (mut floor, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.0 {
            if count >= wanted {
                let inside = (count - below).max(f64::MIN_POSITIVE);
                // Of the last, unbounded one no more is known than where it begins.
                return Some(if bound.is_finite() {
                    floor + (bound - floor) * (wanted - below) / inside
                } else {
                    floor
                });
            }
            (floor, below) = (bound, count);
        }
        None
    }
}

impl Totals {
    /// The counts of a metrics page.
    pub(crate) fn read(page: &str, prices: &BTreeMap<String, Price>) -> Self {
        let mut totals = Self::default();
        for sample in samples(page) {
            totals.count(&sample, prices);
        }
        totals
    }

    fn count(&mut self, sample: &Sample<'_>, prices: &BTreeMap<String, Price>) {
        let value = sample.value;
        match sample.name {
            "chimera_requests_total" => match sample.label("outcome") {
                Some("success") => self.good += value,
                Some("failure") => self.failed += value,
                Some("cancelled") => self.cancelled += value,
                _ => self.refused += value,
            },
            "chimera_request_duration_seconds_bucket"
                if sample.label("route").is_some_and(|route| GENERATIONS.contains(&route)) =>
            {
                self.generation.add(bound(sample), value);
            }
            "chimera_overhead_seconds_bucket"
                if !sample.is("route", "models") && !sample.is("route", "other") =>
            {
                self.overhead.add(bound(sample), value);
            }
            "chimera_cache_lookups_total" if !sample.is("tier", "alias") => {
                if sample.is("result", "hit") {
                    self.hits += value;
                }
                if sample.is("tier", "l1") {
                    self.lookups += value;
                }
            }
            "chimera_tokens_total" => self.count_tokens(sample, prices),
            "chimera_pool_slots" if sample.is("state", "busy") => self.in_flight += value,
            "process_resident_memory_bytes" => self.memory = value,
            _ => {}
        }
    }

    fn count_tokens(&mut self, sample: &Sample<'_>, prices: &BTreeMap<String, Price>) {
        let price = sample.label("deployment").and_then(|name| prices.get(name)).copied().unwrap_or_default();
        // Tokens of a known prompt are among those of all prompts.
        let each = match sample.label("direction") {
            Some("input") => {
                self.input += sample.value;
                price.input
            }
            Some("output") => {
                self.output += sample.value;
                price.output
            }
            Some("cached_input") => price.cached_input - price.input,
            _ => 0.0,
        };
        self.spent += sample.value * each / 1e6;
    }

    /// What came to pass in the `seconds` since `before`.
    pub(crate) fn since(&self, before: &Self, seconds: f64) -> Span {
        let more = |now: f64, then: f64| (now - then).max(0.0);
        Span {
            seconds,
            counts: Self {
                good: more(self.good, before.good),
                failed: more(self.failed, before.failed),
                refused: more(self.refused, before.refused),
                cancelled: more(self.cancelled, before.cancelled),
                generation: self.generation.since(&before.generation),
                overhead: self.overhead.since(&before.overhead),
                hits: more(self.hits, before.hits),
                lookups: more(self.lookups, before.lookups),
                input: more(self.input, before.input),
                output: more(self.output, before.output),
                spent: more(self.spent, before.spent),
                in_flight: self.in_flight,
                memory: self.memory,
            },
        }
    }

    fn requests(&self) -> f64 {
        self.good + self.failed + self.refused + self.cancelled
    }
}

fn bound(sample: &Sample<'_>) -> f64 {
    sample.label("le").and_then(|bound| bound.parse().ok()).unwrap_or(f64::INFINITY)
}

/// What came to pass in a stretch of time.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    seconds: f64,
    counts: Totals,
}

/// The quantities of [`Span::row`], in its order.
pub(crate) const COLUMNS: [&str; 10] =
    ["rate", "failed", "refused", "p50", "p95", "p99", "hit", "input", "output", "in_flight"];

impl Span {
    /// A row of the history: `None` where nothing is known.
    pub(crate) fn row(&self) -> [Option<f64>; 10] {
        let counts = &self.counts;
        let each = |count: f64| Some(rounded(count / self.seconds.max(1e-9)));
        let generation = |share: f64| counts.generation.quantile(share).map(rounded);
        [
            each(counts.requests()),
            each(counts.failed),
            each(counts.refused),
            generation(0.5),
            generation(0.95),
            generation(0.99),
            self.hit_rate(),
            each(counts.input),
            each(counts.output),
            Some(counts.in_flight),
        ]
    }

    /// The same for the live state, with what has no history.
    pub(crate) fn told(&self) -> Value {
        let counts = &self.counts;
        let mut told: serde_json::Map<_, _> =
            COLUMNS.iter().map(|name| (*name).to_owned()).zip(self.row().map(Value::from)).collect();
        told.insert("overhead_p99".to_owned(), counts.overhead.quantile(0.99).map(rounded).into());
        told.insert("memory".to_owned(), counts.memory.into());
        Value::Object(told)
    }

    /// Sums, for objectives.
    pub(crate) fn sums(&self) -> Value {
        let counts = &self.counts;
        json!({
            "requests": counts.requests(), "failed": counts.failed, "refused": counts.refused,
            "cancelled": counts.cancelled,
            // Callers' own faults and departures are not held against the gateway.
            "counted": counts.requests() - counts.refused - counts.cancelled,
            "p95": counts.generation.quantile(0.95).map(rounded),
            "overhead_p99": counts.overhead.quantile(0.99).map(rounded),
            "hit": self.hit_rate(), "lookups": counts.lookups,
            "input": counts.input, "output": counts.output, "spent": rounded(counts.spent),
            "seconds": self.seconds.round(),
        })
    }

    fn hit_rate(&self) -> Option<f64> {
        let counts = &self.counts;
        (counts.lookups > 0.0).then(|| rounded((counts.hits / counts.lookups).min(1.0)))
    }
}

/// Four digits are more than a plot shows.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    match digits {
        0.. => (value * 10_f64.powi(digits)).round() / 10_f64.powi(digits),
        _ => value.round(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(good: u32, slow: u32) -> String {
        format!(
            "chimera_requests_total{{route=\"chat_completions\",outcome=\"success\"}} {good}\n\
             chimera_requests_total{{route=\"messages\",outcome=\"failure\"}} 1\n\
             chimera_requests_total{{route=\"messages\",outcome=\"throttled\"}} 2\n\
             chimera_request_duration_seconds_bucket{{route=\"chat_completions\",le=\"0.1\"}} {good}\n\
             chimera_request_duration_seconds_bucket{{route=\"chat_completions\",le=\"1\"}} {}\n\
             chimera_request_duration_seconds_bucket{{route=\"chat_completions\",le=\"+Inf\"}} {}\n\
             chimera_request_duration_seconds_bucket{{route=\"models\",le=\"+Inf\"}} 1000\n\
             chimera_cache_lookups_total{{tier=\"alias\",result=\"hit\"}} 99\n\
             chimera_cache_lookups_total{{tier=\"l1\",result=\"hit\"}} 3\n\
             chimera_cache_lookups_total{{tier=\"l1\",result=\"miss\"}} 2\n\
             chimera_cache_lookups_total{{tier=\"l2\",result=\"hit\"}} 1\n\
             chimera_tokens_total{{deployment=\"d\",direction=\"input\"}} 3000000\n\
             chimera_tokens_total{{deployment=\"d\",direction=\"cached_input\"}} 1000000\n\
             chimera_tokens_total{{deployment=\"d\",direction=\"output\"}} 500000\n",
            good + slow,
            good + slow
        )
    }

    #[test]
    fn what_lies_between_two_pages_is_told() {
        let price = Price { input: 2.0, cached_input: 0.5, output: 10.0 };
        let prices = BTreeMap::from([("d".to_owned(), price)]);
        let (before, after) = (Totals::default(), Totals::read(&page(90, 10), &prices));
        let span = after.since(&before, 10.0);
        let told = span.told();
        assert_eq!((told["rate"].as_f64(), told["failed"].as_f64()), (Some(9.3), Some(0.1)));
        assert_eq!((told["refused"].as_f64(), told["hit"].as_f64()), (Some(0.2), Some(0.8)));
        // The 95th of a hundred is the fifth of the ten that took from 0.1 to 1 s.
        assert_eq!((told["p50"].as_f64(), told["p95"].as_f64()), (Some(0.05556), Some(0.55)));
        let sums = span.sums();
        assert_eq!((sums["counted"].as_f64(), sums["requests"].as_f64()), (Some(91.0), Some(93.0)));
        // Two million new input tokens, one million known ones, half a million of answers.
        assert_eq!(sums["spent"].as_f64(), Some(4.0 + 0.5 + 5.0));
        let later = Totals::read(&page(90, 20), &prices).since(&after, 10.0);
        assert_eq!(later.row()[0], Some(0.0), "nothing was counted since");
        assert_eq!(later.row()[3], Some(0.55), "all ten were slow");
    }

    #[test]
    fn a_restart_is_not_a_negative_rate() {
        let (before, after) = (Totals::read(&page(90, 10), &BTreeMap::new()), Totals::default());
        let row = after.since(&before, 5.0).row();
        assert_eq!((row[0], row[3], row[6]), (Some(0.0), None, None));
    }

    #[test]
    fn the_unbounded_bucket_tells_where_it_begins() {
        let buckets = Buckets(vec![(1.0, 1.0), (f64::INFINITY, 10.0)]);
        assert_eq!(buckets.quantile(0.99), Some(1.0));
        assert_eq!(Buckets::default().quantile(0.5), None);
    }

    #[test]
    fn numbers_have_four_digits() {
        let cases = [
            (0.0, 0.0),
            (0.123_456, 0.1235),
            (12_345.6, 12_346.0),
            (1.0, 1.0),
            (0.000_012_345_6, 0.000_012_35),
        ];
        for (value, wanted) in cases {
            assert!((rounded(value) - wanted).abs() < 1e-12, "{value}");
        }
    }
}
