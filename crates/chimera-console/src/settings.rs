//! What an operator may set.

use std::collections::BTreeMap;

/// The settings of a console.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the page finds its assets, if not here: a CDN that fetches `/assets/` from this listener.
    pub asset_prefix: Option<String>,
    /// What the gateway is to reach.
    pub targets: Targets,
    /// What tokens cost, by deployment. Where nothing is priced, no spend is shown.
    pub prices: BTreeMap<String, Price>,
    /// The version to show.
    pub version: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            asset_prefix: None,
            targets: Targets::default(),
            prices: BTreeMap::new(),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Objectives, each over the last hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Targets {
    /// The share of requests that do not fail.
    pub availability: f64,
    /// The 95th percentile of generations, in seconds.
    pub latency_p95: f64,
    /// The 99th percentile of the gateway's own part, in seconds.
    pub overhead_p99: f64,
    /// The share of look-ups that hit.
    pub hit_rate: f64,
}

impl Default for Targets {
    fn default() -> Self {
        Self { availability: 0.999, latency_p95: 10.0, overhead_p99: 0.01, hit_rate: 0.7 }
    }
}

/// What a million tokens cost, in whatever currency.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Price {
    /// Of prompts.
    pub input: f64,
    /// Of prompts that the provider knows already.
    pub cached_input: f64,
    /// Of answers.
    pub output: f64,
}
