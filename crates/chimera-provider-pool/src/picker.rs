//! Which deployment of a group is tried next.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::deployment::Deployment;

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
}

/// Chooses a deployment.
///
/// The pool calls `pick` once before each attempt of a request, on the request's own task: it must
/// neither block nor allocate. It returns the index of a deployment that is not in `tried`, or `None`
/// when there is none left. Whether the deployment admits the request (breaker, keys, slots) is asked
/// afterwards; a refusal there leads to another call.
pub trait Picker: Send + Sync {
    /// The next deployment to try.
    fn pick(&self, deployments: &[Arc<Deployment>], tried: Tried) -> Option<usize>;
}

/// A picker behind one pointer.
pub type SharedPicker = Arc<dyn Picker>;

/// Always the first deployment that is left: a primary and its stand-ins.
#[derive(Debug, Default, Clone, Copy)]
pub struct InOrder;

impl Picker for InOrder {
    fn pick(&self, deployments: &[Arc<Deployment>], tried: Tried) -> Option<usize> {
        (0..deployments.len()).find(|index| !tried.contains(*index))
    }
}

/// Each request starts one further along.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl Picker for RoundRobin {
    fn pick(&self, deployments: &[Arc<Deployment>], tried: Tried) -> Option<usize> {
        let count = deployments.len();
        let start = self.next.fetch_add(1, Relaxed);
        (0..count).map(|step| start.wrapping_add(step) % count).find(|index| !tried.contains(*index))
    }
}
