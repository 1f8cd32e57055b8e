//! The configuration file: what may stand in it, and its defaults.

mod console;
mod optimizer;
mod providers;
mod read;
mod sections;

use std::{collections::BTreeMap, time::Duration};

use chimera_gateway::PipelineSpec;
use serde::{Deserialize, Serialize};

pub(crate) use console::*;
pub(crate) use optimizer::*;
pub(crate) use providers::*;
pub(crate) use read::*;
pub(crate) use sections::*;

use crate::{cache::Cache, traces::Traces, transform::Pool, units::Span};

/// The whole file. Every key has a default; unknown keys are refused.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) server: Server,
    pub(crate) log: Log,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) cache: Cache,
    pub(crate) compression: Compression,
    pub(crate) breaker: Breaker,
    pub(crate) admin: Admin,
    pub(crate) providers: BTreeMap<String, Provider>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) clients: BTreeMap<String, Client>,
    pub(crate) transforms: BTreeMap<String, PipelineSpec>,
    pub(crate) worker_pool: Pool,
    pub(crate) traces: Traces,
    pub(crate) optimizer: Optimizer,
    pub(crate) console: Console,
}

pub(crate) const fn secs(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

/// A configuration that cannot be used: the key at fault, and why. Quotes no value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key}: {why}")]
pub(crate) struct ConfigError {
    pub(crate) key: String,
    pub(crate) why: String,
}

impl ConfigError {
    pub(crate) fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }
}

#[cfg(test)]
mod tests;
