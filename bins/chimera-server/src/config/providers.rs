//! Providers, groups of their deployments, and clients.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::secs;
use crate::units::{SecretSource, Size, Span};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    pub(crate) dialect: Dialect,
    pub(crate) base_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<SecretSource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_keys: Vec<SecretSource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<String>,
    #[serde(default = "default_max_connections")]
    pub(crate) max_connections: usize,
    #[serde(default = "default_max_in_flight")]
    pub(crate) max_in_flight: usize,
    #[serde(default)]
    pub(crate) min_idle: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_in_flight: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_waiting: Option<usize>,
    #[serde(default = "five_seconds")]
    pub(crate) wait_target: Span,
    #[serde(default = "default_idle")]
    pub(crate) idle_timeout: Span,
    #[serde(default = "yes")]
    pub(crate) ask_usage: bool,
    #[serde(default = "no_time")]
    pub(crate) drain_for_usage: Span,
    #[serde(default)]
    pub(crate) responses: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_minute: Option<u64>,
    #[serde(default)]
    pub(crate) learn_limits: bool,
}

fn default_max_connections() -> usize {
    4096
}

fn default_max_in_flight() -> usize {
    16_384
}

fn default_idle() -> Span {
    secs(20)
}

fn no_time() -> Span {
    secs(0)
}

fn yes() -> bool {
    true
}

fn ten() -> u32 {
    10
}

fn three() -> u32 {
    3
}

fn one() -> u32 {
    1
}

fn quarter() -> Span {
    Span(Duration::from_millis(250))
}

fn five_seconds() -> Span {
    secs(5)
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) deployments: Vec<Deployment>,
    #[serde(default)]
    pub(crate) picker: Picker,
    #[serde(default = "yes")]
    pub(crate) failover_refused: bool,
    #[serde(default)]
    pub(crate) failover_broken: bool,
    #[serde(default = "ten")]
    pub(crate) retry_percent: u32,
    #[serde(default = "three")]
    pub(crate) retry_floor: u32,
    #[serde(default)]
    pub(crate) retries: u32,
    #[serde(default = "quarter")]
    pub(crate) retry_backoff: Span,
    #[serde(default = "five_seconds")]
    pub(crate) retry_max_pause: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_event_timeout: Option<Span>,
    #[serde(default)]
    pub(crate) hold_streams: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hedge_percentile: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) affinity_prefix: Option<Size>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deployment {
    pub(crate) provider: String,
    pub(crate) model: String,
    #[serde(default)]
    pub(crate) priority: u32,
    #[serde(default = "one")]
    pub(crate) weight: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Picker {
    #[default]
    InOrder,
    RoundRobin,
    Weighted,
    LeastLatency,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    pub(crate) key_sha256: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<usize>,
}
