//! The operator's console in the configuration file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::secs;
use crate::units::Span;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Console {
    pub(crate) enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) asset_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load_reports: Option<String>,
    pub(crate) targets: Targets,
    pub(crate) prices: BTreeMap<String, Price>,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            enabled: true,
            asset_prefix: None,
            load_reports: None,
            targets: Targets::default(),
            prices: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Targets {
    pub(crate) availability: f64,
    pub(crate) latency_p95: Span,
    pub(crate) overhead_p99: Span,
    pub(crate) hit_rate: f64,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            availability: 0.999,
            latency_p95: secs(10),
            overhead_p99: Span(std::time::Duration::from_millis(10)),
            hit_rate: 0.7,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    pub(crate) input: f64,
    pub(crate) output: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cached_input: Option<f64>,
}
