//! What a run came to, as numbers: the JSON of a report is this.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    tally::{CACHE, MixTally, Tally, Times},
    threshold::{Quantity, Stat, Threshold},
    timeline::{Row, drift},
    watch::{Sample, Slopes},
};

/// Everything that a run came to. Times are in seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Name of the scenario.
    pub scenario: String,
    /// Base URL that was loaded.
    pub target: String,
    /// `closed`, `open`, `stress` or `replay`. Latencies of a closed loop leave out the time that requests would
    /// have waited; those of the others do not.
    pub shape: &'static str,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Seconds since 1970 when it began.
    pub began: u64,
    /// How long requests counted.
    pub seconds: f64,
    /// Whether it was ended before its time.
    pub interrupted: bool,
    /// All requests.
    pub overall: Numbers,
    /// Each kind.
    pub mixes: BTreeMap<String, Numbers>,
    /// Latency at many percentiles.
    pub curve: Vec<[f64; 2]>,
    /// Of a stress run, its steps.
    pub steps: Vec<StepReport>,
    /// Of a stress run, where it broke.
    pub breaking_point: Option<BreakingPoint>,
    /// Over time.
    pub timeline: Vec<Row>,
    /// The process that was watched.
    pub samples: Vec<Sample>,
    /// Whether it grew.
    pub slopes: Option<Slopes>,
    /// Median latency of the last third over that of the first.
    pub latency_drift: Option<f64>,
    /// The generator itself.
    pub generator: Generator,
    /// Why the result does not count, if it does not.
    pub refused: Option<String>,
    /// Each threshold.
    pub verdicts: Vec<Verdict>,
}

/// Who made a report, where.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Provenance {
    /// The command line.
    pub command: String,
    /// The commit that was checked out.
    pub commit: Option<String>,
    /// Processor, cores, memory, kernel.
    pub machine: BTreeMap<String, String>,
    /// Versions of what was used.
    pub versions: BTreeMap<String, String>,
}

/// What the generator did and used.
#[derive(Debug, Clone, Serialize)]
pub struct Generator {
    /// From the intended start to when the generator came to it; none in a closed loop.
    pub lag: Option<Percentiles>,
    /// Requests of the warm-up.
    pub warm_up: u64,
    /// Requests under way when the run was interrupted.
    pub unfinished: u64,
    /// Connections opened.
    pub connects: u64,
    /// Requests sent again because a kept connection had just been closed.
    pub resent: u64,
    /// CPU seconds of this process.
    pub cpu_seconds: Option<f64>,
    /// The most memory that this process had.
    pub peak_memory_bytes: Option<f64>,
}

/// Times of many requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(missing_docs, reason = "each is what it is called")]
pub struct Percentiles {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Percentiles {
    pub(crate) fn of(times: &Times) -> Option<Self> {
        Some(Self {
            count: times.count(),
            mean: times.mean()?,
            p50: times.percentile(50.0)?,
            p90: times.percentile(90.0)?,
            p95: times.percentile(95.0)?,
            p99: times.percentile(99.0)?,
            p999: times.percentile(99.9)?,
            max: times.max()?,
        })
    }
}

/// One kind of requests, or all of them.
#[derive(Debug, Clone, Serialize)]
pub struct Numbers {
    /// Good answers.
    pub ok: u64,
    /// All others.
    pub failed: u64,
    /// Of all that were answered or failed.
    pub error_rate: f64,
    /// Good answers a second.
    pub throughput: f64,
    /// Of all that a cache could have answered; none where the target tells nothing of a cache.
    pub hit_rate: Option<f64>,
    /// From the intended start to the last byte.
    pub latency: Option<Percentiles>,
    /// To the first event of a stream.
    pub first_event: Option<Percentiles>,
    /// To the first event that bears some of the answer.
    pub first_content: Option<Percentiles>,
    /// Between such events.
    pub gap: Option<Percentiles>,
    /// Tokens of the prompts, as the target counts them.
    pub input_tokens: u64,
    /// Tokens of the answers, as the target counts them.
    pub output_tokens: u64,
    /// Tokens of answers a second.
    pub tokens_per_second: f64,
    /// Bytes of request bodies.
    pub bytes_sent: u64,
    /// Bytes of answers' bodies.
    pub bytes_received: u64,
    /// By the `x-chimera-cache` header.
    pub cache: BTreeMap<&'static str, u64>,
    /// By class.
    pub errors: BTreeMap<String, ErrorCount>,
}

/// Errors of one class.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorCount {
    /// How many.
    pub count: u64,
    /// What the first one said.
    pub first: String,
}

impl Numbers {
    pub(crate) fn of(mix: &MixTally, seconds: f64) -> Self {
        let span = seconds.max(1e-9);
        let cache = CACHE.iter().zip(mix.cache).filter(|(_, count)| *count > 0);
        let errors = mix.errors.iter().map(|(class, (count, first))| {
            (class.to_string(), ErrorCount { count: *count, first: first.clone() })
        });
        Self {
            ok: mix.ok,
            failed: mix.failed(),
            error_rate: error_rate(mix).unwrap_or(0.0),
            throughput: mix.ok as f64 / span,
            hit_rate: hit_rate(mix),
            latency: Percentiles::of(&mix.latency),
            first_event: Percentiles::of(&mix.first_event),
            first_content: Percentiles::of(&mix.first_content),
            gap: Percentiles::of(&mix.gap),
            input_tokens: mix.input_tokens,
            output_tokens: mix.output_tokens,
            tokens_per_second: mix.output_tokens as f64 / span,
            bytes_sent: mix.bytes_sent,
            bytes_received: mix.bytes_received,
            cache: cache.map(|(name, count)| (*name, count)).collect(),
            errors: errors.collect(),
        }
    }
}

fn error_rate(mix: &MixTally) -> Option<f64> {
    let all = mix.ok + mix.failed();
    (all > 0).then(|| mix.failed() as f64 / all as f64)
}

fn hit_rate(mix: &MixTally) -> Option<f64> {
    let (hits, all) = mix.hits();
    (all > 0).then(|| hits as f64 / all as f64)
}

/// One step of a stress run.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Requests a second that were to start.
    pub rate: f64,
    /// What came of them.
    pub numbers: Numbers,
    /// The generator's lag at the 99th percentile.
    pub lag_p99: Option<f64>,
    /// Thresholds that broke.
    pub broken: Vec<String>,
}

/// Where a stress run broke.
#[derive(Debug, Clone, Serialize)]
pub struct BreakingPoint {
    /// The rate at which it did.
    pub rate: f64,
    /// The last rate before it.
    pub held: Option<f64>,
    /// What broke.
    pub broken: Vec<String>,
}

/// Whether a threshold held.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// As it was written.
    pub threshold: String,
    /// What the quantity was; none if nothing was told of it.
    pub value: Option<f64>,
    /// The value for people.
    pub shown: String,
    /// Whether it held.
    pub held: bool,
}

/// What thresholds are held against.
pub(crate) struct Evidence<'a> {
    pub(crate) tally: &'a Tally,
    pub(crate) names: &'a [String],
    pub(crate) seconds: f64,
    pub(crate) rows: &'a [Row],
    pub(crate) slopes: Option<Slopes>,
}

impl Evidence<'_> {
    /// What became of a threshold. One of the defaults that cannot be known is left out: an endpoint without a
    /// cache is not at fault. One that was asked for and cannot be known is broken.
    pub(crate) fn judge(&self, threshold: &Threshold) -> Option<Verdict> {
        let value = self.value(threshold);
        if value.is_none() && threshold.by_default && threshold.quantity == Quantity::HitRate {
            return None;
        }
        Some(Verdict {
            threshold: threshold.text.clone(),
            value,
            shown: value.map_or_else(|| "not known".to_owned(), |value| show(threshold.quantity, value)),
            held: value.is_some_and(|value| threshold.holds(value)),
        })
    }

    fn value(&self, threshold: &Threshold) -> Option<f64> {
        let all;
        let mix = match &threshold.mix {
            None => {
                all = self.tally.all();
                &all
            }
            Some(name) => {
                let at = self.names.iter().position(|known| known == name)?;
                self.tally.mixes.get(at)?
            }
        };
        match threshold.quantity {
            Quantity::Latency(stat) => at(&mix.latency, stat),
            Quantity::FirstEvent(stat) => at(&mix.first_event, stat),
            Quantity::FirstContent(stat) => at(&mix.first_content, stat),
            Quantity::Gap(stat) => at(&mix.gap, stat),
            Quantity::ErrorRate => error_rate(mix),
            Quantity::HitRate => hit_rate(mix),
            Quantity::Throughput => Some(mix.ok as f64 / self.seconds.max(1e-9)),
            Quantity::TokensPerSecond => Some(mix.output_tokens as f64 / self.seconds.max(1e-9)),
            Quantity::MemorySlope => self.slopes.map(|slopes| slopes.memory_per_hour),
            Quantity::FilesSlope => self.slopes.map(|slopes| slopes.fds_per_hour),
            Quantity::ThreadsSlope => self.slopes.map(|slopes| slopes.threads_per_hour),
            Quantity::LatencyDrift => drift(self.rows),
        }
    }
}

fn at(times: &Times, stat: Stat) -> Option<f64> {
    match stat {
        Stat::Percentile(percentile) => times.percentile(percentile),
        Stat::Mean => times.mean(),
        Stat::Max => times.max(),
    }
}

fn show(quantity: Quantity, value: f64) -> String {
    use crate::units::{show_bytes, show_seconds};
    match quantity {
        Quantity::Latency(_) | Quantity::FirstEvent(_) | Quantity::FirstContent(_) | Quantity::Gap(_) => {
            show_seconds(value)
        }
        Quantity::ErrorRate | Quantity::HitRate => format!("{:.2} %", 100.0 * value),
        Quantity::Throughput | Quantity::TokensPerSecond => format!("{value:.1}/s"),
        Quantity::MemorySlope => format!("{}/h", show_bytes(value)),
        Quantity::FilesSlope | Quantity::ThreadsSlope => format!("{value:.1}/h"),
        Quantity::LatencyDrift => format!("{value:.2}"),
    }
}

/// Latency at percentiles that come closer to all by a tenth of the rest each.
pub(crate) fn curve(times: &Times) -> Vec<[f64; 2]> {
    let mut points = Vec::new();
    for nines in 0..5_i32 {
        for part in 0..9_i32 {
            let percentile = 100.0 - 10_f64.powi(2 - nines) * (1.0 - f64::from(part) / 10.0);
            // Beyond this many there is but one sample.
            if times.count() as f64 * (100.0 - percentile) / 100.0 > 0.999 {
                points.extend(times.percentile(percentile).map(|value| [percentile, value]));
            }
        }
    }
    points.extend(times.max().map(|max| [100.0, max]));
    points
}

/// Why a result does not count: a generator that is late measures itself.
pub(crate) fn refusal(lag: &Times, most: Duration) -> Option<String> {
    let p99 = lag.percentile(99.0)?;
    (p99 > most.as_secs_f64()).then(|| {
        format!(
            "the generator was late by {} at the 99th percentile, more than {}: this machine, or so many \
             workers, cannot offer this rate",
            crate::units::show_seconds(p99),
            crate::units::show_seconds(most.as_secs_f64())
        )
    })
}

impl Report {
    /// Whether everything held that was to hold.
    pub fn held(&self) -> bool {
        self.refused.is_none() && self.verdicts.iter().all(|verdict| verdict.held)
    }

    /// The report as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_that_cannot_be_known_breaks_nothing_and_a_wish_does() {
        let tally = Tally::new(1);
        let names = ["chat".to_owned()];
        let evidence = Evidence { tally: &tally, names: &names, seconds: 1.0, rows: &[], slopes: None };
        let wish = Threshold::parse("hit_rate > 70%", &[]).unwrap();
        assert!(!evidence.judge(&wish).unwrap().held);
        assert_eq!(evidence.judge(&Threshold { by_default: true, ..wish }), None);
        let growth = Threshold::parse("memory_slope < 1MiB/h", &[]).unwrap();
        assert_eq!(evidence.judge(&growth).unwrap().shown, "not known");
    }

    #[test]
    fn a_late_generator_is_told() {
        let mut lag = Times::default();
        (0..100).for_each(|_| lag.record(Duration::from_millis(3)));
        assert!(refusal(&lag, Duration::from_millis(1)).unwrap().contains("3.00 ms"));
        assert_eq!(refusal(&lag, Duration::from_millis(5)), None);
        assert_eq!(refusal(&Times::default(), Duration::ZERO), None);
    }

    #[test]
    fn the_curve_ends_where_samples_do() {
        let mut times = Times::default();
        (1..=1000).for_each(|ms| times.record(Duration::from_millis(ms)));
        let curve = curve(&times);
        assert!(curve.windows(2).all(|two| two[0][0] < two[1][0] && two[0][1] <= two[1][1]));
        assert!((curve[curve.len() - 2][0] - 99.9).abs() < 1e-9, "{curve:?}");
    }
}
