//! What must hold: `p95 < 10s`, `error_rate < 1%`, `hit_rate > 70%`, `throughput > 10/s`.

use crate::{ScenarioError, units};

/// The service levels that are asked for where a scenario names none.
pub(crate) const DEFAULTS: [&str; 4] =
    ["p95 < 10s", "error_rate < 1%", "hit_rate > 70%", "throughput > 10/s"];

/// A bound that a run keeps or breaks.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// As it was written.
    pub text: String,
    /// The mix that it is about; all of them without.
    pub(crate) mix: Option<String>,
    pub(crate) quantity: Quantity,
    /// Whether the quantity must be below the bound, not above.
    pub(crate) below: bool,
    /// In seconds, parts of one, per second, or per hour.
    pub(crate) bound: f64,
    /// Nobody asked for it: what cannot be known does not break it.
    pub(crate) by_default: bool,
}

/// What can be bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Quantity {
    Latency(Stat),
    FirstEvent(Stat),
    FirstContent(Stat),
    Gap(Stat),
    ErrorRate,
    HitRate,
    Throughput,
    TokensPerSecond,
    /// Growth of the watched process, per hour.
    MemorySlope,
    FilesSlope,
    ThreadsSlope,
    /// The median of the last third of the run over that of the first third.
    LatencyDrift,
}

/// A number that stands for many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stat {
    Percentile(f64),
    Mean,
    Max,
}

impl Threshold {
    /// Reads one bound; `mixes` are the names that may stand before a quantity.
    pub fn parse(text: &str, mixes: &[&str]) -> Result<Self, ScenarioError> {
        let wrong = |why: String| ScenarioError::new("thresholds", format!("`{text}`: {why}"));
        let at = text.find(['<', '>']).ok_or_else(|| wrong("it has neither < nor >".into()))?;
        let (left, right) = text.split_at(at);
        let below = right.starts_with('<');
        let right = right.get(1..).unwrap_or_default().trim();
        let left = left.trim();
        let (mix, name) = match left.split_once('.') {
            Some((first, rest)) if mixes.contains(&first) => (Some(first.to_owned()), rest),
            _ => (None, left),
        };
        let quantity = quantity(name).ok_or_else(|| wrong(format!("`{name}` is no quantity: {KNOWN}")))?;
        let (bound, unit) = bound(quantity, right);
        let bound = bound.ok_or_else(|| wrong(format!("`{right}` is not {unit}")))?;
        Ok(Self { text: text.to_owned(), mix, quantity, below, bound, by_default: false })
    }

    /// Whether a value keeps it.
    pub(crate) fn holds(&self, value: f64) -> bool {
        if self.below { value < self.bound } else { value > self.bound }
    }
}

const KNOWN: &str = "p50, p95, p99.9, mean, max (of latency, or after first_event., first_content., gap.), \
error_rate, hit_rate, throughput, tokens_per_second, memory_slope, fds_slope, threads_slope, latency_drift; \
a mix's name and a dot may stand before it";

fn quantity(name: &str) -> Option<Quantity> {
    Some(match name {
        "error_rate" => Quantity::ErrorRate,
        "hit_rate" => Quantity::HitRate,
        "throughput" => Quantity::Throughput,
        "tokens_per_second" => Quantity::TokensPerSecond,
        "memory_slope" => Quantity::MemorySlope,
        "fds_slope" => Quantity::FilesSlope,
        "threads_slope" => Quantity::ThreadsSlope,
        "latency_drift" => Quantity::LatencyDrift,
        _ => {
            if let Some(stat) = stat(name) {
                return Some(Quantity::Latency(stat));
            }
            let (what, rest) = name.split_once('.')?;
            let stat = stat(rest)?;
            match what {
                "latency" => Quantity::Latency(stat),
                "first_event" => Quantity::FirstEvent(stat),
                "first_content" => Quantity::FirstContent(stat),
                "gap" => Quantity::Gap(stat),
                _ => return None,
            }
        }
    })
}

fn stat(name: &str) -> Option<Stat> {
    match name {
        "mean" => Some(Stat::Mean),
        "max" => Some(Stat::Max),
        _ => {
            let percentile: f64 = name.strip_prefix('p')?.parse().ok()?;
            (percentile > 0.0 && percentile <= 100.0).then_some(Stat::Percentile(percentile))
        }
    }
}

/// The bound in the quantity's unit, and what it should look like.
fn bound(quantity: Quantity, text: &str) -> (Option<f64>, &'static str) {
    let plain = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    match quantity {
        Quantity::Latency(_) | Quantity::FirstEvent(_) | Quantity::FirstContent(_) | Quantity::Gap(_) => {
            (units::duration(text).map(|time| time.as_secs_f64()), "a duration such as 250ms or 10s")
        }
        Quantity::ErrorRate | Quantity::HitRate => {
            let percent = text.strip_suffix('%').and_then(plain).map(|percent| percent / 100.0);
            (percent.filter(|part| (0.0..=1.0).contains(part)), "a share such as 1%")
        }
        Quantity::Throughput | Quantity::TokensPerSecond => {
            (text.strip_suffix("/s").and_then(plain), "a rate such as 10/s")
        }
        Quantity::MemorySlope => (text.strip_suffix("/h").and_then(units::bytes), "a growth such as 10MiB/h"),
        Quantity::FilesSlope | Quantity::ThreadsSlope => {
            (text.strip_suffix("/h").and_then(plain), "a growth such as 5/h")
        }
        Quantity::LatencyDrift => (plain(text), "a ratio such as 1.2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Threshold {
        Threshold::parse(text, &["chat"]).unwrap()
    }

    #[test]
    fn the_defaults_are_read() {
        let all: Vec<_> = DEFAULTS.iter().map(|text| parse(text)).collect();
        assert_eq!(all[0].quantity, Quantity::Latency(Stat::Percentile(95.0)));
        assert_eq!((all[0].bound, all[0].below), (10.0, true));
        assert_eq!((all[1].bound, all[2].bound, all[3].bound), (0.01, 0.7, 10.0));
        assert!(all[2].holds(0.71) && !all[2].holds(0.7));
    }

    #[test]
    fn a_mix_and_a_part_may_be_named() {
        let one = parse("chat.first_event.p99.9 < 200ms");
        assert_eq!(one.mix.as_deref(), Some("chat"));
        assert_eq!(one.quantity, Quantity::FirstEvent(Stat::Percentile(99.9)));
        assert_eq!(parse("memory_slope < 1MiB/h").bound, 1024.0 * 1024.0);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "p95",
            "p0 < 1s",
            "p101 < 1s",
            "p95 < 10",
            "p95 <= 10s",
            "error_rate < 5",
            "hits > 1%",
            "embed.p95 < 1s",
        ] {
            let error = Threshold::parse(text, &["chat"]).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
