//! Optimisation jobs: started by a call, worked on elsewhere, looked at, followed and cancelled by others.
//!
//! Workers take jobs in and tell of them; the one loop of [`Gateway::run_jobs`](crate::Gateway::run_jobs) does
//! the work. What a job asks a model goes the way of every request, for the tenant whose job it is: through its
//! limits and its pipeline, the cache, the pools and the breakers.

mod api;
mod files;
mod follow;
mod id;
mod jobs;
mod model;
mod runner;

use std::{collections::BTreeMap, path::PathBuf};

use chimera_optimizer::Price;

pub(crate) use api::{look, start};
pub(crate) use jobs::Jobs;
pub(crate) use model::model;
pub(crate) use runner::run;

/// How many optimisation jobs there may be, and where they are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerSettings {
    /// Where jobs are kept: those that are not finished go on after a restart, those that waited begin, and those
    /// that are over can still be looked at. Default: nowhere.
    pub directory: Option<PathBuf>,
    /// Jobs worked on at once. Default 2.
    pub running: usize,
    /// Jobs that may wait for that. Default 16.
    pub waiting: usize,
    /// Jobs of each tenant that run or wait. Default 4.
    pub per_client: usize,
    /// Jobs that are over and can still be looked at. Default 64.
    pub kept: usize,
    /// Calls of a job under way at once, at most. Default 32.
    pub concurrency: usize,
    /// What models cost, by the name that calls know them by. No job with a budget in dollars may ask another.
    pub prices: BTreeMap<String, Price>,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            directory: None,
            running: 2,
            waiting: 16,
            per_client: 4,
            kept: 64,
            concurrency: 32,
            prices: BTreeMap::new(),
        }
    }
}
