//! The sections that every gateway has: listeners, log, timeouts, limits, compression, breakers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::secs;
use crate::units::{Size, Span};

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    pub(crate) listen: String,
    pub(crate) admin_listen: String,
    pub(crate) workers: usize,
    pub(crate) max_connections: usize,
    pub(crate) header_timeout: Span,
    pub(crate) idle_timeout: Span,
    pub(crate) write_stall_timeout: Span,
    pub(crate) drain_min: Span,
    pub(crate) drain_max: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) handover: Option<PathBuf>,
    pub(crate) watch: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            admin_listen: "127.0.0.1:8081".into(),
            workers: 0,
            max_connections: 20_000,
            header_timeout: secs(10),
            idle_timeout: secs(75),
            write_stall_timeout: secs(60),
            drain_min: secs(1),
            drain_max: secs(600),
            handover: None,
            watch: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    pub(crate) standard: Span,
    pub(crate) llm: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_event: Option<Span>,
    pub(crate) stream_idle: Span,
    pub(crate) optimization: Span,
    pub(crate) health: Span,
    pub(crate) connect: Span,
    pub(crate) request_body: Span,
    pub(crate) request_body_idle: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            standard: secs(30),
            llm: secs(120),
            first_event: None,
            stream_idle: secs(60),
            optimization: secs(600),
            health: secs(5),
            connect: secs(2),
            request_body: secs(30),
            request_body_idle: secs(10),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) request: Size,
    pub(crate) requests_in_flight: Size,
    pub(crate) answer: Size,
    pub(crate) hold: Size,
    pub(crate) event: Size,
    pub(crate) streams_in_flight: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Size(32 << 20),
            requests_in_flight: Size(512 << 20),
            answer: Size(64 << 20),
            hold: Size(64 << 10),
            event: Size(1 << 20),
            streams_in_flight: Size(256 << 20),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Compression {
    pub(crate) enabled: bool,
    pub(crate) min_size: Size,
    pub(crate) event_streams: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self { enabled: true, min_size: Size(1024), event_streams: false }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Breaker {
    pub(crate) window: Span,
    pub(crate) minimum_calls: u32,
    pub(crate) failure_rate: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slow_call: Option<Span>,
    pub(crate) slow_call_rate: f64,
    pub(crate) consecutive_failures: u32,
    pub(crate) open_base: Span,
    pub(crate) open_max: Span,
    pub(crate) probes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) probe_every: Option<Span>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            window: secs(10),
            minimum_calls: 20,
            failure_rate: 0.5,
            slow_call: None,
            slow_call_rate: 1.0,
            consecutive_failures: 5,
            open_base: secs(5),
            open_max: secs(60),
            probes: 3,
            probe_every: None,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_sha256: Option<String>,
}
