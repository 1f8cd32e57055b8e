//! Every metric of this crate, each handle registered once.

use std::{collections::HashMap, sync::Arc};

use chimera_protocol::Usage;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{compress::Encoding, route::RouteLabel};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum RequestOutcome {
    /// Answered.
    Success,
    /// Refused for a fault of its own.
    Rejected,
    /// Refused by a limit.
    Throttled,
    /// Failed for a fault of ours or of a provider's.
    Failure,
    /// The caller left.
    Cancelled,
}

impl RequestOutcome {
    const ALL: [Self; 5] = [Self::Success, Self::Rejected, Self::Throttled, Self::Failure, Self::Cancelled];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Rejected => "rejected",
            Self::Throttled => "throttled",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }

    pub(crate) fn of_status(status: u16) -> Self {
        match status {
            429 => Self::Throttled,
            400..=499 => Self::Rejected,
            500.. => Self::Failure,
            _ => Self::Success,
        }
    }
}

struct RouteMetrics {
    outcomes: [Counter; 5],
    duration: Histogram,
    overhead: Histogram,
}

/// The handles of one gateway.
pub(crate) struct GatewayMetrics {
    routes: Vec<RouteMetrics>,
    compressed: [(Counter, Counter); 3],
    pub(crate) panics: Counter,
    pub(crate) coalesced: Counter,
    pub(crate) drained: Counter,
    pub(crate) drained_in_vain: Counter,
    pub(crate) reloads_ok: Counter,
    pub(crate) reloads_failed: Counter,
    pub(crate) bodies_in_flight: Gauge,
    pub(crate) flights: Gauge,
}

impl GatewayMetrics {
    pub(crate) fn new() -> Self {
        let route = |label: RouteLabel| {
            RouteMetrics {
            outcomes: RequestOutcome::ALL.map(|outcome| {
                counter!("chimera_requests_total", "route" => label.as_str(), "outcome" => outcome.as_str())
            }),
            duration: histogram!("chimera_request_duration_seconds", "route" => label.as_str()),
            overhead: histogram!("chimera_overhead_seconds", "route" => label.as_str()),
        }
        };
        let compressed = |encoding: Encoding, direction: &'static str| counter!("chimera_compression_bytes_total", "encoding" => encoding.as_str(), "direction" => direction);
        Self {
            routes: RouteLabel::ALL.into_iter().map(route).collect(),
            compressed: Encoding::ALL.map(|e| (compressed(e, "in"), compressed(e, "out"))),
            panics: counter!("chimera_panics_total"),
            coalesced: counter!("chimera_coalesced_requests_total"),
            drained: counter!("chimera_drained_streams_total", "result" => "ended"),
            drained_in_vain: counter!("chimera_drained_streams_total", "result" => "cut"),
            reloads_ok: counter!("chimera_reloads_total", "result" => "ok"),
            reloads_failed: counter!("chimera_reloads_total", "result" => "failed"),
            bodies_in_flight: gauge!("chimera_request_bodies_bytes"),
            flights: gauge!("chimera_cache_flights"),
        }
    }

    pub(crate) fn request(&self, label: RouteLabel, outcome: RequestOutcome, total: f64, overhead: f64) {
        if let Some(route) = self.routes.get(label as usize) {
            if let Some(counter) = route.outcomes.get(outcome as usize) {
                counter.increment(1);
            }
            route.duration.record(total);
            route.overhead.record(overhead);
        }
    }

    pub(crate) fn compressed(&self, encoding: Encoding, plain: usize, encoded: usize) {
        if let Some((before, after)) = self.compressed.get(encoding as usize) {
            before.increment(plain as u64);
            after.increment(encoded as u64);
        }
    }
}

/// Token counters of one deployment.
struct TokenMetrics {
    input: Counter,
    output: Counter,
    cached_input: Counter,
}

/// Token counters by deployment, for one configuration.
pub(crate) struct Tokens(HashMap<String, TokenMetrics, foldhash::fast::RandomState>);

impl Tokens {
    pub(crate) fn new<'a>(deployments: impl IntoIterator<Item = &'a str>) -> Self {
        let tokens = |deployment: &str, direction: &'static str| counter!("chimera_tokens_total", "deployment" => deployment.to_owned(), "direction" => direction);
        Self(
            deployments
                .into_iter()
                .map(|name| {
                    let metrics = TokenMetrics {
                        input: tokens(name, "input"),
                        output: tokens(name, "output"),
                        cached_input: tokens(name, "cached_input"),
                    };
                    (name.to_owned(), metrics)
                })
                .collect(),
        )
    }

    pub(crate) fn used(self: &Arc<Self>, deployment: &str, usage: &Usage) {
        if let Some(tokens) = self.0.get(deployment) {
            tokens.input.increment(usage.input_tokens.unwrap_or(0));
            tokens.output.increment(usage.output_tokens.unwrap_or(0));
            tokens.cached_input.increment(usage.cached_input_tokens.unwrap_or(0));
        }
    }
}

/// The name, kind, labels and meaning of each metric, for the documentation.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    (
        "chimera_requests_total",
        "counter",
        "route, outcome",
        "Requests by outcome: success, rejected (the caller's fault), throttled, failure, cancelled. Probes of health are not counted.",
    ),
    (
        "chimera_request_duration_seconds",
        "histogram",
        "route",
        "Time from a request's head to the last byte of its answer.",
    ),
    (
        "chimera_overhead_seconds",
        "histogram",
        "route",
        "The part of that time spent in the gateway: all of it less the wait for providers; of a stream, to its first content.",
    ),
    (
        "chimera_tokens_total",
        "counter",
        "deployment, direction",
        "Tokens as providers count them: input, output, cached_input. Answers from the cache count nothing.",
    ),
    (
        "chimera_compression_bytes_total",
        "counter",
        "encoding, direction",
        "Bytes of answers before (in) and after (out) compression.",
    ),
    ("chimera_cache_flights", "gauge", "", "Calls under way that others who ask the same follow."),
    (
        "chimera_coalesced_requests_total",
        "counter",
        "",
        "Requests that joined a call already under way for the same answer.",
    ),
    (
        "chimera_drained_streams_total",
        "counter",
        "result",
        "Streams read on for their usage after every caller had left: ended, or cut by time or fault.",
    ),
    (
        "chimera_panics_total",
        "counter",
        "",
        "Panics in the gateway: each ended one request, or a loop that was begun anew. Any is a bug worth reporting.",
    ),
    (
        "chimera_reloads_total",
        "counter",
        "result",
        "Configuration reloads: ok, failed (the old configuration stayed).",
    ),
    (
        "chimera_request_bodies_bytes",
        "gauge",
        "",
        "Bytes of request bodies being read or waiting to be sent.",
    ),
];
