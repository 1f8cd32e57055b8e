//! The state of a breaker in one word.

use crate::{permit::Ticket, state::State};

// The state word, from the low end: 2 bits of state, 8 bits of probes in flight, 8 bits of probes that
// succeeded, 5 bits of openings since it was last closed (the exponent of the open period), 41 bits of
// generation. One compare-and-swap changes all of it together, so that no permit can act on a period
// that is over.
const STATE_MASK: u64 = 0b11;
const PROBES_SHIFT: u32 = 2;
const SUCCESSES_SHIFT: u32 = 10;
const OPENINGS_SHIFT: u32 = 18;
const GENERATION_SHIFT: u32 = 23;
const BYTE: u64 = 0xff;
pub(crate) const MOST_OPENINGS: u64 = 0b1_1111;
pub(crate) const CLOSED: u64 = 0;
pub(crate) const OPEN: u64 = 1;
pub(crate) const HALF_OPEN: u64 = 2;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) u64);

impl Word {
    pub(crate) fn new(state: u64, openings: u64, generation: u64) -> Self {
        Self(generation << GENERATION_SHIFT | openings << OPENINGS_SHIFT | state)
    }

    /// The word of the period after this one.
    pub(crate) fn next(self, state: u64, openings: u64) -> Self {
        Self::new(state, openings.min(MOST_OPENINGS), self.generation() + 1)
    }

    pub(crate) fn state(self) -> State {
        match self.0 & STATE_MASK {
            CLOSED => State::Closed,
            OPEN => State::Open,
            _ => State::HalfOpen,
        }
    }

    pub(crate) fn probes(self) -> u64 {
        self.0 >> PROBES_SHIFT & BYTE
    }

    pub(crate) fn successes(self) -> u64 {
        self.0 >> SUCCESSES_SHIFT & BYTE
    }

    pub(crate) fn openings(self) -> u64 {
        self.0 >> OPENINGS_SHIFT & MOST_OPENINGS
    }

    pub(crate) fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    pub(crate) fn ticket(self, probe: bool) -> Ticket {
        Ticket { generation: self.generation(), probe }
    }

    pub(crate) fn with_probe(self) -> Self {
        Self(self.0 + (1 << PROBES_SHIFT))
    }

    pub(crate) fn without_probe(self) -> Self {
        Self(self.0 - (1 << PROBES_SHIFT))
    }

    pub(crate) fn with_success(self) -> Self {
        Self(self.0 + (1 << SUCCESSES_SHIFT))
    }
}
