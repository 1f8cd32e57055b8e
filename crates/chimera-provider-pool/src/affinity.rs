//! Requests that begin alike go to the same deployment, so that the provider's own prompt cache knows
//! the beginning.
//!
//! Rendezvous hashing (Thaler and Ravishankar, 1998) gives each beginning an order of all deployments
//! that changes for few when one comes or goes, and needs no table. One that has more than its share in
//! hand is passed over for the next in that order (Mirrokni, Thorup and Zadimoghaddam, "Consistent
//! Hashing with Bounded Loads"): a prompt that everybody uses does not bring one deployment down.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
};

use crate::{
    deployment::Deployment,
    picker::Tried,
    random::{GOLDEN, mix},
};

/// What a deployment may have in hand, in parts of its fair share.
const SLACK: f64 = 1.25;

/// What a request begins with, as a number.
pub(crate) fn fingerprint(prefix: &[u8]) -> u64 {
    // The same in every process: gateways side by side send alike.
    BuildHasherDefault::<DefaultHasher>::default().hash_one(prefix)
}

/// The deployment for a beginning; `None` when none is left.
pub(crate) fn pick(fingerprint: u64, deployments: &[Arc<Deployment>], tried: Tried) -> Option<usize> {
    let left = || deployments.iter().enumerate().filter(|(index, _)| !tried.contains(*index));
    let (weights, load) = left().fold((0.0, 1.0), |(weights, load), (_, deployment)| {
        (weights + deployment.weight(), load + deployment.in_flight() as f64)
    });
    let is_within = |deployment: &Deployment| {
        let share = load * deployment.weight() / weights;
        ((deployment.in_flight() + 1) as f64) <= (share * SLACK).ceil()
    };
    let best = |only_within: bool| {
        let candidates = left().filter(|(_, deployment)| !only_within || is_within(deployment));
        let scored = candidates.map(|(index, deployment)| (score(fingerprint, deployment), index));
        scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, index)| index)
    };
    best(true).or_else(|| best(false))
}

/// Weighted rendezvous: the highest wins, each as often as its weight says.
fn score(fingerprint: u64, deployment: &Deployment) -> f64 {
    let hash = mix(fingerprint ^ deployment.name_hash().wrapping_mul(GOLDEN));
    let unit = (hash as f64 + 1.0) / (u64::MAX as f64 + 2.0);
    -deployment.weight() / unit.ln()
}
