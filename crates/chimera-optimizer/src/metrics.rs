//! Every metric of this crate, its handles registered once.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The metrics of a job.
pub(crate) struct Metrics {
    pub(crate) known: Counter,
    good: Counter,
    failed: Counter,
    pub(crate) best: Gauge,
}

impl Metrics {
    pub(crate) fn new(label: &str) -> Self {
        let result =
            |result: &'static str| counter!("chimera_optimizer_evaluations_total", "result" => result);
        Self {
            known: result("known"),
            good: result("paid"),
            failed: result("failed"),
            best: gauge!("chimera_optimizer_best_score", "job" => label.to_owned()),
        }
    }

    pub(crate) fn evaluated(&self, failed: bool) {
        if failed { &self.failed } else { &self.good }.increment(1);
    }

    pub(crate) fn took(outcome: &'static str) -> Histogram {
        histogram!("chimera_optimizer_job_duration_seconds", "outcome" => outcome)
    }
}

/// The name, kind, labels and meaning of each metric, for the documentation.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    (
        "chimera_optimizer_evaluations_total",
        "counter",
        "result",
        "Roll-outs: paid, failed (for good), known (the same prompt and example were paid for before).",
    ),
    ("chimera_optimizer_best_score", "gauge", "job", "Best validation score of the job in that place."),
    (
        "chimera_optimizer_job_duration_seconds",
        "histogram",
        "outcome",
        "Time of jobs by how they ended: finished, budget, cancelled, paused, failed.",
    ),
];
