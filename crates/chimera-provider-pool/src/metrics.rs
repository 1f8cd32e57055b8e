//! Every metric of this crate, each handle registered once per provider or deployment.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{error::ConnectError, parking::KeyRest, queue::Shed};

/// The metrics of one provider's connections.
pub(crate) struct PoolMetrics {
    open: Gauge,
    idle: Gauge,
    in_use: Gauge,
    waiting: Gauge,
    ok: Counter,
    refused: Counter,
    timeout: Counter,
    resolve: Counter,
    tls: Counter,
    http: Counter,
    pub(crate) reused: Counter,
    pub(crate) stale: Counter,
}

impl PoolMetrics {
    pub(crate) fn new(provider: &str) -> Self {
        let state = |state: &'static str| gauge!("chimera_pool_connections", "provider" => provider.to_owned(), "state" => state);
        let connects = |result: &'static str| counter!("chimera_pool_connects_total", "provider" => provider.to_owned(), "result" => result);
        let checkouts = |result: &'static str| counter!("chimera_pool_checkouts_total", "provider" => provider.to_owned(), "result" => result);
        Self {
            open: state("open"),
            idle: state("idle"),
            in_use: state("in_use"),
            waiting: state("waiting"),
            ok: connects("ok"),
            refused: connects("refused"),
            timeout: connects("timeout"),
            resolve: connects("dns"),
            tls: connects("tls"),
            http: connects("http"),
            reused: checkouts("reused"),
            stale: checkouts("stale"),
        }
    }

    pub(crate) fn connected(&self, result: Result<(), &ConnectError>) {
        match result {
            Ok(()) => self.ok.increment(1),
            Err(ConnectError::Resolve(_)) => self.resolve.increment(1),
            Err(ConnectError::Tcp(_)) => self.refused.increment(1),
            Err(ConnectError::Tls(_)) => self.tls.increment(1),
            Err(ConnectError::Http(_)) => self.http.increment(1),
            Err(ConnectError::Timeout) => self.timeout.increment(1),
        }
    }

    pub(crate) fn publish(&self, open: usize, idle: usize, waiting: usize) {
        self.open.set(open as f64);
        self.idle.set(idle as f64);
        self.in_use.set(open.saturating_sub(idle) as f64);
        self.waiting.set(waiting as f64);
    }
}

/// How an attempt ended, as the metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// A valid answer, or the caller's own mistake rightly refused.
    Success,
    /// A fault of the provider or of the way to it.
    Failure,
    /// The provider asked for fewer requests.
    Throttled,
    /// The caller left.
    Cancelled,
}

/// The metrics of one deployment.
pub(crate) struct DeploymentMetrics {
    success: Counter,
    failure: Counter,
    throttled: Counter,
    cancelled: Counter,
    duration: Histogram,
    pub(crate) first_chunk: Histogram,
    pub(crate) wait: Histogram,
    slots_free: Gauge,
    slots_busy: Gauge,
    slots_waiting: Gauge,
    slots_limit: Gauge,
    shed_full: Counter,
    shed_old: Counter,
    shed_gone: Counter,
}

impl DeploymentMetrics {
    pub(crate) fn new(deployment: &str) -> Self {
        let attempts = |outcome: &'static str| counter!("chimera_attempts_total", "deployment" => deployment.to_owned(), "outcome" => outcome);
        let shed = |reason: &'static str| counter!("chimera_pool_shed_total", "deployment" => deployment.to_owned(), "reason" => reason);
        let slots = |state: &'static str| gauge!("chimera_pool_slots", "deployment" => deployment.to_owned(), "state" => state);
        Self {
            success: attempts("success"),
            failure: attempts("failure"),
            throttled: attempts("throttled"),
            cancelled: attempts("cancelled"),
            duration: histogram!("chimera_attempt_duration_seconds", "deployment" => deployment.to_owned()),
            first_chunk: histogram!("chimera_first_chunk_seconds", "deployment" => deployment.to_owned()),
            wait: histogram!("chimera_pool_wait_seconds", "deployment" => deployment.to_owned()),
            slots_free: slots("free"),
            slots_busy: slots("busy"),
            slots_waiting: slots("waiting"),
            slots_limit: slots("limit"),
            shed_full: shed("full"),
            shed_old: shed("old"),
            shed_gone: shed("gone"),
        }
    }

    pub(crate) fn attempt(&self, outcome: AttemptOutcome, seconds: f64) {
        match outcome {
            AttemptOutcome::Success => self.success.increment(1),
            AttemptOutcome::Failure => self.failure.increment(1),
            AttemptOutcome::Throttled => self.throttled.increment(1),
            AttemptOutcome::Cancelled => self.cancelled.increment(1),
        }
        self.duration.record(seconds);
    }

    pub(crate) fn shed(&self, why: Shed) {
        match why {
            Shed::Full => self.shed_full.increment(1),
            Shed::Old => self.shed_old.increment(1),
            Shed::Gone => self.shed_gone.increment(1),
        }
    }

    pub(crate) fn publish(&self, free: usize, busy: usize, waiting: usize, limit: usize) {
        self.slots_free.set(free as f64);
        self.slots_busy.set(busy as f64);
        self.slots_waiting.set(waiting as f64);
        self.slots_limit.set(limit as f64);
    }
}

/// Counts how often keys of one provider were left to rest, by reason.
pub(crate) struct KeyMetrics([(KeyRest, Counter); 5]);

impl KeyMetrics {
    pub(crate) fn new(provider: &str) -> Self {
        let rests = |why: KeyRest| counter!("chimera_key_rests_total", "provider" => provider.to_owned(), "reason" => why.as_str());
        Self(KeyRest::ALL.map(|why| (why, rests(why))))
    }

    pub(crate) fn rests(&self, why: KeyRest) {
        if let Some((_, counter)) = self.0.iter().find(|(other, _)| *other == why) {
            counter.increment(1);
        }
    }
}

/// Counts requests that were late to begin, by what became of the second try.
pub(crate) struct HedgeMetrics {
    pub(crate) won: Counter,
    pub(crate) lost: Counter,
    pub(crate) denied: Counter,
}

impl HedgeMetrics {
    pub(crate) fn new() -> Self {
        let hedges = |result: &'static str| counter!("chimera_hedges_total", "result" => result);
        Self { won: hedges("won"), lost: hedges("lost"), denied: hedges("denied") }
    }
}

/// Counts one move to another deployment or another connection, by reason.
pub(crate) struct RetryMetrics {
    pub(crate) unsent: Counter,
    pub(crate) refused: Counter,
    pub(crate) broken: Counter,
    pub(crate) slow: Counter,
    pub(crate) denied: Counter,
    budget: Gauge,
}

impl RetryMetrics {
    pub(crate) fn new(group: &str) -> Self {
        let retries = |reason: &'static str| counter!("chimera_retries_total", "reason" => reason);
        let budget = gauge!("chimera_retry_budget_ratio", "group" => group.to_owned());
        Self {
            unsent: retries("unsent"),
            refused: retries("refused"),
            broken: retries("broken"),
            slow: retries("slow"),
            denied: retries("denied"),
            budget,
        }
    }

    pub(crate) fn publish(&self, budget: f64) {
        self.budget.set(budget);
    }
}

/// The name, kind and meaning of each metric, for the documentation.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    (
        "chimera_pool_connections",
        "gauge",
        "provider, state",
        "Connections to a provider: open, idle, in_use; and requests waiting for one.",
    ),
    (
        "chimera_pool_connects_total",
        "counter",
        "provider, result",
        "Connection attempts: ok, refused, timeout, dns, tls, http.",
    ),
    (
        "chimera_pool_checkouts_total",
        "counter",
        "provider, result",
        "Idle connections taken up again (reused), or found closed when they were (stale).",
    ),
    (
        "chimera_pool_slots",
        "gauge",
        "deployment, state",
        "Places in flight at a deployment: free, busy, their limit; and requests waiting for one.",
    ),
    (
        "chimera_pool_shed_total",
        "counter",
        "deployment, reason",
        "Requests that got no place: full (as many waited as may), old (one of the tenant had waited too long), gone (waited in vain, or made room).",
    ),
    (
        "chimera_pool_wait_seconds",
        "histogram",
        "deployment",
        "Time a request waited for a slot and a connection.",
    ),
    (
        "chimera_attempts_total",
        "counter",
        "deployment, outcome",
        "Attempts by outcome: success, failure, throttled, cancelled. One per attempt.",
    ),
    (
        "chimera_attempt_duration_seconds",
        "histogram",
        "deployment",
        "Time from the start of an attempt to its last byte.",
    ),
    (
        "chimera_first_chunk_seconds",
        "histogram",
        "deployment",
        "Time from the start of an attempt to the first content of its answer.",
    ),
    (
        "chimera_retries_total",
        "counter",
        "reason",
        "Further attempts for one request: unsent, refused, broken, slow (no content in the group's time); and those that the budget denied.",
    ),
    (
        "chimera_hedges_total",
        "counter",
        "result",
        "Streams late to begin that were sent to a second deployment: won (the second was taken), lost (the first was); each of both may be billed twice. And denied by the budget.",
    ),
    (
        "chimera_key_rests_total",
        "counter",
        "provider, reason",
        "Keys left to rest, for one model: throttled, nearly_used (as the provider's limits tell); for all: quota, refused (401, 403), payment (402).",
    ),
    (
        "chimera_retry_budget_ratio",
        "gauge",
        "group",
        "What is left of a group's retry budget, from 0 to 1. At 0 refusals are passed on instead of tried again.",
    ),
];
