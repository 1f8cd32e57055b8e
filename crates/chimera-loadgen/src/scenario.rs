//! A scenario file, checked: nothing behind this module sees a raw setting.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use crate::{mix::Mix, target::Target, threshold::Threshold};

mod raw;
#[cfg(test)]
mod tests;

/// No run takes longer: what is bounded in count alone ends here at the latest.
pub(crate) const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// Why a scenario cannot be run: the key at fault and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct ScenarioError {
    key: String,
    why: String,
}

impl ScenarioError {
    pub(crate) fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }

    /// The key at fault.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// What is sent where, how fast, for how long, and what must hold.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name in reports.
    pub name: String,
    /// Makes arrivals and prompts come again; without, every run asks anew, so that what one run left in a
    /// cache does not flatter the next.
    pub seed: Option<u64>,
    /// Where load goes.
    pub target: Target,
    /// Bounds of the run.
    pub limits: Limits,
    /// How requests arrive.
    pub shape: Shape,
    /// What is asked.
    pub mix: Vec<Mix>,
    /// Whose memory, files and threads are sampled.
    pub watch: Option<Watch>,
    /// What must hold.
    pub thresholds: Vec<Threshold>,
}

/// Bounds of a run.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Most connections; in a closed loop, all of them.
    pub connections: usize,
    /// How long requests are sent before any counts.
    pub warm_up: Duration,
    /// How long requests that count are sent.
    pub duration: Option<Duration>,
    /// Most requests, those of the warm-up included.
    pub count: Option<u64>,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Threads that send.
    pub workers: usize,
    /// The generator's own delay, at the 99th percentile, beyond which a result is refused.
    pub max_lag: Duration,
}

/// Gaps between the arrivals of an open loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrivals {
    /// All alike.
    Constant,
    /// As of many independent users.
    Poisson,
}

/// A rate for some time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub lasts: Duration,
}

/// How requests arrive.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Each connection asks when it was answered.
    Closed,
    /// At these rates one after the other, answered or not.
    Open {
        /// The gaps.
        arrivals: Arrivals,
        /// The rates.
        steps: Vec<Step>,
    },
    /// One step after the other until a threshold breaks.
    Stress {
        /// The gaps.
        arrivals: Arrivals,
        /// The rates.
        steps: Vec<Step>,
        /// The rate that must hold for the run to be a success.
        at_least: f64,
    },
    /// As recorded.
    Replay {
        /// The file.
        trace: PathBuf,
        /// How much faster than recorded.
        speed: f64,
    },
}

/// A process to watch.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Which one.
    pub whose: Watched,
    /// How often.
    pub every: Duration,
}

/// Where numbers of a process come from.
#[derive(Debug, Clone)]
pub enum Watched {
    /// The kernel, by process id.
    Pid(u32),
    /// `process_*` metrics in Prometheus' text format at a URL.
    Metrics(Box<Target>),
}

/// What a command line may put in the place of a scenario's settings.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// For `target.url`.
    pub url: Option<String>,
    /// For `target.remote`.
    pub remote: bool,
    /// For `target.api_key_env`.
    pub api_key_env: Option<String>,
    /// For `open.rate`.
    pub rate: Option<f64>,
    /// For `load.connections`.
    pub connections: Option<usize>,
    /// For `load.workers`.
    pub workers: Option<usize>,
    /// For `load.duration`.
    pub duration: Option<Duration>,
    /// For `load.warm_up`.
    pub warm_up: Option<Duration>,
    /// For `load.count`.
    pub count: Option<u64>,
    /// For `replay.trace`.
    pub trace: Option<PathBuf>,
    /// For `replay.speed`.
    pub speed: Option<f64>,
    /// For `watch.pid`.
    pub pid: Option<u32>,
    /// For `watch.metrics`.
    pub metrics: Option<String>,
    /// For the model of every mix.
    pub model: Option<String>,
}

impl Scenario {
    /// Reads a scenario. The key itself is read from the environment and never kept in text.
    pub fn parse(text: &str, overrides: &Overrides) -> Result<Self, ScenarioError> {
        let mut raw: raw::Raw = toml::from_str(text)
            .map_err(|error| ScenarioError::new("scenario", error.to_string().trim_end().to_owned()))?;
        raw.apply(overrides);
        raw.resolve()
    }
}
