//! Optimisation jobs in the configuration file.

use std::{collections::BTreeMap, path::PathBuf};

use chimera_gateway::OptimizerSettings;
use chimera_optimizer::Price as Dollars;
use serde::{Deserialize, Serialize};

use super::ConfigError;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Optimizer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<PathBuf>,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) per_client: usize,
    pub(crate) kept: usize,
    pub(crate) concurrency: usize,
    pub(crate) prices: BTreeMap<String, Price>,
}

/// What a million tokens of a model cost, in dollars.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    pub(crate) input: f64,
    pub(crate) output: f64,
}

impl Default for Optimizer {
    fn default() -> Self {
        let OptimizerSettings { running, waiting, per_client, kept, concurrency, .. } =
            OptimizerSettings::default();
        Self { directory: None, running, waiting, per_client, kept, concurrency, prices: BTreeMap::new() }
    }
}

impl Optimizer {
    /// The settings, checked.
    pub(crate) fn settings(&self) -> Result<OptimizerSettings, ConfigError> {
        let wrong = |key: &str, why: &str| Err(ConfigError::new(format!("optimizer.{key}"), why));
        for (key, value, least, most) in [
            ("running", self.running, 0, 64),
            ("waiting", self.waiting, 1, 10_000),
            ("per_client", self.per_client, 1, 10_000),
            ("kept", self.kept, 0, 10_000),
            ("concurrency", self.concurrency, 1, 1024),
        ] {
            if !(least..=most).contains(&value) {
                return wrong(key, &format!("it must be from {least} to {most}"));
            }
        }
        let mut prices = BTreeMap::new();
        for (model, Price { input, output }) in &self.prices {
            let good = |price: &f64| price.is_finite() && *price >= 0.0;
            if !good(input) || !good(output) {
                return wrong(&format!("prices.{model}"), "a price is not below zero");
            }
            prices.insert(model.clone(), Dollars { input: *input, output: *output });
        }
        Ok(OptimizerSettings {
            directory: self.directory.clone(),
            running: self.running,
            waiting: self.waiting,
            per_client: self.per_client,
            kept: self.kept,
            concurrency: self.concurrency,
            prices,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_refused_by_the_name_of_its_key() {
        let key = |optimizer: Optimizer| optimizer.settings().err().map(|error| error.key);
        assert_eq!(key(Optimizer::default()), None);
        assert_eq!(
            key(Optimizer { concurrency: 0, ..Optimizer::default() }).as_deref(),
            Some("optimizer.concurrency")
        );
        let prices = BTreeMap::from([("m".to_owned(), Price { input: -1.0, output: 0.0 })]);
        assert_eq!(key(Optimizer { prices, ..Optimizer::default() }).as_deref(), Some("optimizer.prices.m"));
    }
}
