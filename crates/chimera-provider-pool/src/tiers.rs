//! Priority tiers: who is asked only when everybody before is out.
//!
//! A group whose deployments are all of one priority has no tiers, and then none of this costs anything.

use std::sync::Arc;

use crate::{deployment::Deployment, picker::Tried};

/// The deployments of each tier as bits, the most preferred tier first; empty where there is but one.
#[derive(Debug, Default)]
pub(crate) struct Tiers(Box<[u64]>);

impl Tiers {
    pub(crate) fn of(deployments: &[Arc<Deployment>]) -> Self {
        let mut priorities: Vec<_> = deployments.iter().map(|deployment| deployment.priority()).collect();
        priorities.sort_unstable();
        priorities.dedup();
        if priorities.len() < 2 {
            return Self::default();
        }
        let members = |priority: &u32| {
            let of_it = deployments.iter().enumerate().filter(|(_, d)| d.priority() == *priority);
            of_it.filter(|(index, _)| *index < 64).fold(0, |bits, (index, _)| bits | 1 << index)
        };
        Self(priorities.iter().map(members).collect())
    }

    /// `tried`, with all but the first tier that has somebody left marked as tried, too.
    pub(crate) fn narrow(&self, tried: Tried) -> Tried {
        match self.0.iter().find(|tier| *tier & !tried.bits() != 0) {
            Some(tier) => Tried::from_bits(tried.bits() | !tier),
            None => tried,
        }
    }
}
