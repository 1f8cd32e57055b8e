//! A permit: leave to try once, and the duty to say how it went.

use std::{
    ops::Deref,
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
///
/// It holds on to its breaker: by a reference where it stays on the stack, which costs nothing; where it travels,
/// by a [`Hold`](crate::Hold), or by an [`Arc`], which costs threads that admit all the time a cache line that goes
/// to and fro between them.
#[derive(Debug)]
pub struct Permit<B: Deref<Target = Breaker> = Arc<Breaker>> {
    breaker: B,
    ticket: Ticket,
    recorded: bool,
}

/// What a breaker admits with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    /// The period of the breaker in which it was given.
    pub(crate) generation: u64,
    pub(crate) probe: bool,
}

impl<B: Deref<Target = Breaker>> Permit<B> {
    pub(crate) fn new(breaker: B, ticket: Ticket) -> Self {
        Self { breaker, ticket, recorded: false }
    }

    /// Whether it was given while the breaker was half-open: its outcome decides.
    pub fn is_probe(&self) -> bool {
        self.ticket.probe
    }

    /// Says how the operation ended and how long it took to show.
    pub fn record(mut self, outcome: Outcome, latency: Duration, now: Instant) {
        if outcome != Outcome::Cancelled {
            self.recorded = true;
            self.breaker.record(self.ticket, outcome, latency, now);
        }
    }
}

impl<B: Deref<Target = Breaker>> Drop for Permit<B> {
    fn drop(&mut self) {
        if self.ticket.probe && !self.recorded {
            self.breaker.release_probe(self.ticket.generation);
        }
    }
}
