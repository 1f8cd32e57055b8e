//! A permit: leave to try once, and the duty to say how it went.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::breaker::Breaker;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went well.
    Success,
    /// It did not.
    Failure,
    /// The other side asked for less: no failure, but not what a probe hopes for either.
    Throttled,
    /// It was given up for reasons of the caller's own. Counts neither way.
    Cancelled,
}

/// Leave to try once. Dropped without a record it is neutral.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    /// The period of the breaker in which it was given.
    generation: u64,
    probe: bool,
    recorded: bool,
}

impl Permit {
    pub(crate) fn new(breaker: Arc<Breaker>, generation: u64, probe: bool) -> Self {
        Self { breaker, generation, probe, recorded: false }
    }

    /// Whether it was given while the breaker was half-open: its outcome decides.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Says how the operation ended and how long it took to show.
    pub fn record(mut self, outcome: Outcome, latency: Duration, now: Instant) {
        if outcome != Outcome::Cancelled {
            self.recorded = true;
            self.breaker.record(self.generation, self.probe, outcome, latency, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe && !self.recorded {
            self.breaker.release_probe(self.generation);
        }
    }
}
