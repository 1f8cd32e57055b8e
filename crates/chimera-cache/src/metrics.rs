//! Every metric of this crate, its handles registered once per tier.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{
    guard::GuardState,
    stats::Evictions,
    tiered::{Coherence, TieredSnapshot},
};

/// The metrics of one tier. Totals are kept by the tier itself and published when it is asked to.
pub(crate) struct TierMetrics {
    hits: Counter,
    misses: Counter,
    room: Counter,
    expired: Counter,
    invalidated: Counter,
    refused: Counter,
    get: Histogram,
    put: Histogram,
}

impl TierMetrics {
    pub(crate) fn new(tier: &'static str) -> Self {
        let lookups = |result: &'static str| counter!("chimera_cache_lookups_total", "tier" => tier, "result" => result);
        let evictions = |reason: &'static str| counter!("chimera_cache_evictions_total", "tier" => tier, "reason" => reason);
        let operation = |operation: &'static str| histogram!("chimera_cache_operation_seconds", "tier" => tier, "operation" => operation);
        Self {
            hits: lookups("hit"),
            misses: lookups("miss"),
            room: evictions("room"),
            expired: evictions("expired"),
            invalidated: evictions("invalidated"),
            refused: evictions("refused"),
            get: operation("get"),
            put: operation("put"),
        }
    }

    pub(crate) fn got(&self, latency: Duration) {
        self.get.record(latency.as_secs_f64());
    }

    pub(crate) fn put(&self, latency: Duration) {
        self.put.record(latency.as_secs_f64());
    }

    pub(crate) fn publish(&self, (hits, misses): (u64, u64), evictions: Evictions) {
        self.hits.absolute(hits);
        self.misses.absolute(misses);
        self.room.absolute(evictions.room);
        self.expired.absolute(evictions.expired);
        self.invalidated.absolute(evictions.invalidated);
        self.refused.absolute(evictions.refused);
    }
}

/// The metrics of a tier that knows its size, and is always there.
pub(crate) struct SizeMetrics {
    entries: Gauge,
    bytes: Gauge,
    capacity: Gauge,
    up: Gauge,
}

impl SizeMetrics {
    pub(crate) fn new(tier: &'static str) -> Self {
        Self {
            entries: gauge!("chimera_cache_entries", "tier" => tier),
            bytes: gauge!("chimera_cache_bytes", "tier" => tier),
            capacity: gauge!("chimera_cache_capacity_bytes", "tier" => tier),
            up: gauge!("chimera_cache_tier_up", "tier" => tier),
        }
    }

    pub(crate) fn publish(&self, entries: u64, bytes: u64, capacity: u64) {
        self.entries.set(entries as f64);
        self.bytes.set(bytes as f64);
        self.capacity.set(capacity as f64);
        self.up.set(1.0);
    }
}

/// The metrics of a tier that may be away.
pub(crate) struct RemoteMetrics {
    up: Gauge,
    errors: Counter,
    left_alone: Counter,
    /// Of look-ups and of writes, one for each state.
    breakers: [[Gauge; 3]; 2],
}

impl RemoteMetrics {
    pub(crate) fn new(tier: &'static str) -> Self {
        let state = |operation: &'static str, state: GuardState| gauge!("chimera_cache_breaker_state", "tier" => tier, "operation" => operation, "state" => state.name());
        Self {
            breakers: ["get", "put"].map(|operation| GuardState::ALL.map(|of| state(operation, of))),
            up: gauge!("chimera_cache_tier_up", "tier" => tier),
            errors: counter!("chimera_cache_lookups_total", "tier" => tier, "result" => "error"),
            left_alone: counter!("chimera_cache_left_alone_total", "tier" => tier),
        }
    }

    pub(crate) fn publish(&self, up: bool, errors: u64, left_alone: u64) {
        self.up.set(f64::from(u8::from(up)));
        self.errors.absolute(errors);
        self.left_alone.absolute(left_alone);
    }

    pub(crate) fn publish_breakers(&self, states: [GuardState; 2]) {
        for (gauges, state) in self.breakers.iter().zip(states) {
            for (gauge, of) in gauges.iter().zip(GuardState::ALL) {
                gauge.set(f64::from(u8::from(of == state)));
            }
        }
    }
}

/// The metrics of a cache of two tiers.
pub(crate) struct TieredMetrics {
    promoted: Counter,
    demoted: Counter,
    stored: Counter,
    refused: Counter,
    failed: Counter,
    dropped: Counter,
    queued: Gauge,
    tracking: Gauge,
    emptied: Counter,
    pub(crate) renewals: RenewalMetrics,
}

/// What is counted of old values, with a far tier or without one.
pub(crate) struct RenewalMetrics {
    while_revalidate: Counter,
    if_error: Counter,
    early: Counter,
}

impl RenewalMetrics {
    fn new() -> Self {
        let old = |reason: &'static str| counter!("chimera_cache_renewals_total", "reason" => reason);
        Self { while_revalidate: old("stale"), if_error: old("error"), early: old("early") }
    }

    pub(crate) fn publish(&self, seen: &TieredSnapshot) {
        self.while_revalidate.absolute(seen.stale);
        self.if_error.absolute(seen.stale_on_error);
        self.early.absolute(seen.early);
    }
}

impl TieredMetrics {
    pub(crate) fn new() -> Self {
        let moves = |direction: &'static str| counter!("chimera_cache_moves_total", "direction" => direction);
        let writes = |result: &'static str| counter!("chimera_cache_writes_total", "result" => result);
        Self {
            promoted: moves("promote"),
            demoted: moves("demote"),
            stored: writes("stored"),
            refused: writes("refused"),
            failed: writes("failed"),
            dropped: writes("dropped"),
            queued: gauge!("chimera_cache_write_queue"),
            tracking: gauge!("chimera_cache_tracking_up"),
            emptied: counter!("chimera_cache_emptied_total"),
            renewals: RenewalMetrics::new(),
        }
    }

    pub(crate) fn publish(&self, seen: &TieredSnapshot) {
        self.promoted.absolute(seen.promoted);
        self.demoted.absolute(seen.demoted);
        self.stored.absolute(seen.writes.stored);
        self.refused.absolute(seen.writes.refused);
        self.failed.absolute(seen.writes.failed);
        self.dropped.absolute(seen.writes.dropped);
        self.queued.set(seen.writes.queued as f64);
        self.tracking.set(f64::from(u8::from(seen.coherence == Coherence::Tracked)));
        self.emptied.absolute(seen.distrusted);
    }
}

/// What is counted of values in a remote tier that did not stand the check.
#[cfg(any(feature = "redis", feature = "disk"))]
pub(crate) struct CheckMetrics([Counter; 6]);

#[cfg(any(feature = "redis", feature = "disk"))]
impl CheckMetrics {
    pub(crate) fn new(tier: &'static str) -> Self {
        let reasons = crate::envelope::Flaw::ALL;
        Self(
            reasons.map(
                |flaw| counter!("chimera_cache_bad_values_total", "tier" => tier, "reason" => flaw.name()),
            ),
        )
    }

    pub(crate) fn bad(&self, flaw: crate::envelope::Flaw) {
        if let Some(counter) = self.0.get(flaw as usize) {
            counter.increment(1);
        }
    }
}

/// The name, kind, labels and meaning of each metric, for the documentation.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    ("chimera_cache_lookups_total", "counter", "tier, result", "Look-ups: hit, miss, error."),
    ("chimera_cache_entries", "gauge", "tier", "Entries held."),
    ("chimera_cache_bytes", "gauge", "tier", "Bytes held, the overhead of entries included."),
    ("chimera_cache_capacity_bytes", "gauge", "tier", "Bytes that the tier may hold."),
    (
        "chimera_cache_evictions_total",
        "counter",
        "tier, reason",
        "Entries gone: room, expired, invalidated; refused ones were too heavy to be let in.",
    ),
    ("chimera_cache_tier_up", "gauge", "tier", "1 while the tier answers."),
    (
        "chimera_cache_left_alone_total",
        "counter",
        "tier",
        "Operations spared a tier that did not answer well.",
    ),
    (
        "chimera_cache_moves_total",
        "counter",
        "direction",
        "Entries that went up after a hit (promote) or down when pushed out (demote).",
    ),
    (
        "chimera_cache_writes_total",
        "counter",
        "result",
        "Writes to the far tier: stored, refused (too large), failed, dropped (no room in the queue).",
    ),
    ("chimera_cache_write_queue", "gauge", "", "Writes to the far tier that wait."),
    (
        "chimera_cache_renewals_total",
        "counter",
        "reason",
        "Old values served: stale (while it is renewed), error (it cannot be), early (before it expires).",
    ),
    ("chimera_cache_tracking_up", "gauge", "", "1 while changes by other processes are told."),
    (
        "chimera_cache_emptied_total",
        "counter",
        "",
        "Times that the memory tier was emptied, because changes by others may have been missed.",
    ),
    (
        "chimera_cache_breaker_state",
        "gauge",
        "tier, operation, state",
        "1 for the state that the breaker before a far tier's get or put is in: closed, open, half_open.",
    ),
    (
        "chimera_cache_bad_values_total",
        "counter",
        "tier, reason",
        "Values that did not stand the check on reading: version, size, checksum, key, expired, value.",
    ),
    (
        "chimera_cache_operation_seconds",
        "histogram",
        "tier, operation",
        "Latency of get and put; of those in memory one in 64 is timed.",
    ),
];
