//! Every metric of this crate, its handles registered once.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Why a job was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    Full,
    Stale,
    Late,
}

/// The metrics of one step.
pub(crate) struct StepMetrics {
    pub(crate) took: Histogram,
    pub(crate) failed: Counter,
}

impl StepMetrics {
    pub(crate) fn new(step: &str) -> Self {
        Self {
            took: histogram!("chimera_transform_duration_seconds", "step" => step.to_owned()),
            failed: counter!("chimera_transform_failures_total", "step" => step.to_owned()),
        }
    }
}

/// The metrics of answers that were held against a schema.
#[derive(Debug)]
pub(crate) struct SchemaMetrics {
    pub(crate) fit: Counter,
    pub(crate) repaired: Counter,
    pub(crate) unfit: Counter,
}

impl SchemaMetrics {
    pub(crate) fn new() -> Self {
        let answers = |result: &'static str| counter!("chimera_schema_answers_total", "result" => result);
        Self { fit: answers("fit"), repaired: answers("repaired"), unfit: answers("unfit") }
    }
}

/// The metrics of a worker pool.
pub(crate) struct PoolMetrics {
    pub(crate) depth: Gauge,
    pub(crate) busy: Gauge,
    pub(crate) wait: Histogram,
    full: Counter,
    stale: Counter,
    late: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) panics: Counter,
}

impl PoolMetrics {
    pub(crate) fn new() -> Self {
        let rejected = |why: &'static str| counter!("chimera_worker_pool_rejected_total", "reason" => why);
        Self {
            depth: gauge!("chimera_worker_pool_queue_depth"),
            busy: gauge!("chimera_worker_pool_busy"),
            wait: histogram!("chimera_worker_pool_wait_seconds"),
            full: rejected("full"),
            stale: rejected("stale"),
            late: rejected("late"),
            cancelled: counter!("chimera_worker_pool_cancelled_total"),
            panics: counter!("chimera_worker_pool_panics_total"),
        }
    }

    pub(crate) fn rejected(&self, why: Rejected) {
        match why {
            Rejected::Full => self.full.increment(1),
            Rejected::Stale => self.stale.increment(1),
            Rejected::Late => self.late.increment(1),
        }
    }
}

/// The name, kind, labels and meaning of each metric, for the documentation.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    ("chimera_transform_duration_seconds", "histogram", "step", "Time that a step took for a request."),
    (
        "chimera_transform_failures_total",
        "counter",
        "step",
        "Requests that a step refused or failed on, passed over or not.",
    ),
    (
        "chimera_schema_answers_total",
        "counter",
        "result",
        "Texts of answers held against a schema: fit, repaired (and fit then), unfit.",
    ),
    ("chimera_worker_pool_queue_depth", "gauge", "", "Jobs that wait for a thread of the worker pool."),
    ("chimera_worker_pool_busy", "gauge", "", "Threads of the worker pool that work."),
    ("chimera_worker_pool_wait_seconds", "histogram", "", "Time that jobs waited for a thread."),
    (
        "chimera_worker_pool_rejected_total",
        "counter",
        "reason",
        "Jobs turned away: full (the queue), stale (its oldest has waited too long), late (past its deadline).",
    ),
    ("chimera_worker_pool_cancelled_total", "counter", "", "Jobs whose caller had left before they began."),
    ("chimera_worker_pool_panics_total", "counter", "", "Jobs that ended in a panic."),
];
