//! What a strategy is: a plain value that says what is tried next. It makes no call, reads no clock and sees
//! results in the order in which it asked for them.
//!
//! That order is the point. Steps are begun in order, worked on in any order, and settled in order, as a
//! processor retires instructions: a strategy that draws chance only from what it is handed decides the same
//! whichever call comes back first.

use crate::{board::Board, candidate::Candidate, chance::Chance, lane::Verdict, proposer::Guidance};

/// What a strategy wants next.
#[derive(Debug, Clone, PartialEq)]
pub enum Plan {
    /// Begin a step.
    Step(Step),
    /// Ask again when another step is settled. With none under way, it is the end.
    Wait,
    /// There is nothing left to try.
    Done,
}

/// One candidate to make and try.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// How it is made, for people: a word from a closed set.
    pub by: &'static str,
    /// How it is made.
    pub make: Make,
    /// The members that it comes from; the first is what it is compared with. Must not be empty.
    pub parents: Vec<usize>,
    /// Train examples that it and its first parent are tried on, by their places.
    pub minibatch: Vec<usize>,
    /// What the minibatch decides.
    pub accept: Accept,
    /// How much of the validation set it is tried on when it was accepted.
    pub validate: Validate,
}

/// How a candidate is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Make {
    /// A component of the first parent is rewritten by the proposer.
    Rewrite {
        /// Which one.
        component: String,
        /// Which way to go.
        guidance: Guidance,
        /// Whether the proposer sees nothing of how the parent did on the minibatch.
        blind: bool,
    },
    /// It is there.
    Ready(Candidate),
    /// It is a member, to be tried on more examples.
    Again(usize),
}

/// What decides on a minibatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// The candidate has to be better than its parent.
    Better,
    /// It must not be worse.
    NotWorse,
    /// Nothing is decided.
    Always,
}

/// How much of the validation set a candidate is tried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validate {
    /// So many examples, the first of an order that is the same for all candidates; none of them for zero.
    First(usize),
    /// All, unless it is clearly worse than the best.
    All,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What was wanted.
    pub step: Step,
    /// What became of it.
    pub verdict: Verdict,
    /// The member that it is now, or was already.
    pub member: Option<usize>,
    /// The first parent's mean score on the minibatch.
    pub before: f64,
    /// Its own.
    pub after: f64,
    /// What the proposer said.
    pub note: String,
    /// Whether there is a new best.
    pub best: bool,
}

/// Decides what is tried.
///
/// A job calls [`plan`](Self::plan) when a step may begin, until it waits or is done, and
/// [`settle`](Self::settle) once for each step, in the order in which they were planned. Everything random
/// comes from the [`Chance`] that is handed in; the same calls with the same arguments bring the same plans.
pub trait Strategy: Send + 'static {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Everything about it that changes what is tried.
    fn version(&self) -> String;

    /// What is tried next.
    fn plan(&mut self, board: &Board, chance: &mut Chance) -> Plan;

    /// What became of a step.
    fn settle(&mut self, board: &Board, outcome: &Outcome) {
        let _ = (board, outcome);
    }
}

impl Strategy for Box<dyn Strategy> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn version(&self) -> String {
        (**self).version()
    }

    fn plan(&mut self, board: &Board, chance: &mut Chance) -> Plan {
        (**self).plan(board, chance)
    }

    fn settle(&mut self, board: &Board, outcome: &Outcome) {
        (**self).settle(board, outcome);
    }
}
