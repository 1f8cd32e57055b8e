//! Which deployment of a group is tried next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use crate::{
    deployment::Deployment,
    random::{GOLDEN, Random, scale},
};

/// The deployments of a group already tried for one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried(u64);

impl Tried {
    /// Whether a deployment was tried.
    pub fn contains(self, index: usize) -> bool {
        index >= 64 || self.0 & (1 << index) != 0
    }

    pub(crate) fn insert(&mut self, index: usize) {
        if index < 64 {
            self.0 |= 1 << index;
        }
    }

    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    pub(crate) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// Chooses a deployment.
///
/// The pool calls `pick` once before each attempt of a request, on the request's own task: it must
/// neither block nor allocate. It returns the index of a deployment that is not in `tried`, or `None`
/// when there is none left. Whether the deployment admits the request (breaker, keys, slots) is asked
/// afterwards; a refusal there leads to another call.
pub trait Picker: Send + Sync {
    /// The next deployment to try.
    fn pick(&self, deployments: &[Arc<Deployment>], tried: Tried, now: Instant) -> Option<usize>;
}

/// A picker behind one pointer.
pub type SharedPicker = Arc<dyn Picker>;

/// Always the first deployment that is left: a primary and its stand-ins.
#[derive(Debug, Default, Clone, Copy)]
pub struct InOrder;

impl Picker for InOrder {
    fn pick(&self, deployments: &[Arc<Deployment>], tried: Tried, _: Instant) -> Option<usize> {
        (0..deployments.len()).find(|index| !tried.contains(*index))
    }
}

/// Each request starts one further along.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl Picker for RoundRobin {
    fn pick(&self, deployments: &[Arc<Deployment>], tried: Tried, _: Instant) -> Option<usize> {
        let count = deployments.len();
        let start = self.next.fetch_add(1, Relaxed);
        (0..count).map(|step| start.wrapping_add(step) % count).find(|index| !tried.contains(*index))
    }
}

/// Each deployment as often as its weight says, evenly mixed: one of weight 3 beside one of weight 1 is not
/// picked three times in a row more often than need be.
#[derive(Debug, Default)]
pub struct Weighted {
    next: AtomicU64,
}

impl Picker for Weighted {
    fn pick(&self, deployments: &[Arc<Deployment>], tried: Tried, _: Instant) -> Option<usize> {
        let left = || deployments.iter().enumerate().filter(|(index, _)| !tried.contains(*index));
        let total = left().map(|(_, deployment)| u64::from(deployment.shares())).sum();
        // Multiples of the golden ratio fall into any interval as often as its length says.
        let turn = self.next.fetch_add(1, Relaxed);
        let mut at = scale(turn.wrapping_mul(GOLDEN), total);
        let mut found = left().find(|(_, deployment)| {
            let shares = u64::from(deployment.shares());
            let hit = at < shares;
            at = at.saturating_sub(shares);
            hit
        });
        // All that are left may have weight 0: stand-ins that are picked last.
        found.take().or_else(|| left().next()).map(|(index, _)| index)
    }
}

/// Of two at random the one that is likely to begin sooner: what is expected of it, times the requests
/// that it has in hand for its weight.
///
/// Two are enough to keep load from gathering, and few enough that not everybody runs to the same one
/// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"). What is expected is a peak
/// EWMA of the time to the first content; a failure counts as a very slow answer, so that a deployment
/// that refuses within a millisecond does not win.
#[derive(Debug, Default)]
pub struct LeastLatency {
    random: Random,
}

impl LeastLatency {
    /// One whose choices are those of a seed.
    pub fn seeded(seed: u64) -> Self {
        Self { random: Random::seeded(seed) }
    }

    /// A number below `bound`, which is small.
    fn below(&self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }
}

impl Picker for LeastLatency {
    fn pick(&self, deployments: &[Arc<Deployment>], tried: Tried, now: Instant) -> Option<usize> {
        let left = || (0..deployments.len()).filter(|index| !tried.contains(*index));
        let count = left().count();
        let first = self.below(count.max(1));
        // The second is another one: of those behind the first, counted in a circle.
        let second = (first + 1 + self.below(count.saturating_sub(1).max(1))) % count.max(1);
        let cost = |index: usize| {
            let deployment = deployments.get(index)?;
            let load = (deployment.in_flight() + 1) as f64 / deployment.weight();
            Some(deployment.latency.expected(now) * load)
        };
        match (left().nth(first)?, left().nth(second)?) {
            (one, other) if cost(other) < cost(one) => Some(other),
            (one, _) => Some(one),
        }
    }
}
