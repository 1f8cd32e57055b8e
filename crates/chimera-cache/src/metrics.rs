//! Every metric of this crate, its handles registered once per tier.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::stats::Evictions;

/// The metrics of one tier. Totals are kept by the tier itself and published when it is asked to.
pub(crate) struct TierMetrics {
    hits: Counter,
    misses: Counter,
    entries: Gauge,
    bytes: Gauge,
    capacity: Gauge,
    up: Gauge,
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
            entries: gauge!("chimera_cache_entries", "tier" => tier),
            bytes: gauge!("chimera_cache_bytes", "tier" => tier),
            capacity: gauge!("chimera_cache_capacity_bytes", "tier" => tier),
            up: gauge!("chimera_cache_tier_up", "tier" => tier),
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

    pub(crate) fn publish(
        &self,
        (hits, misses): (u64, u64),
        evictions: Evictions,
        entries: u64,
        bytes: u64,
        capacity: u64,
    ) {
        self.hits.absolute(hits);
        self.misses.absolute(misses);
        self.room.absolute(evictions.room);
        self.expired.absolute(evictions.expired);
        self.invalidated.absolute(evictions.invalidated);
        self.refused.absolute(evictions.refused);
        self.entries.set(entries as f64);
        self.bytes.set(bytes as f64);
        self.capacity.set(capacity as f64);
        self.up.set(1.0);
    }
}

/// The name, kind, labels and meaning of each metric, for the documentation.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    ("chimera_cache_lookups_total", "counter", "tier, result", "Look-ups: hit, miss."),
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
        "chimera_cache_operation_seconds",
        "histogram",
        "tier, operation",
        "Latency of get and put, one in 64 sampled.",
    ),
];
