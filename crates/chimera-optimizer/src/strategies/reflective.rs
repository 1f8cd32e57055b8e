//! Reflective evolution, after GEPA (arXiv 2507.19457): a parent is drawn from the instance-wise frontier, a
//! model reads how it did on a few examples and rewrites one component, and what does better on the same
//! examples is tried on the validation set. Now and then two lines are put together.
//!
//! What differs from the publication: several proposals are under way at once; a minibatch leaves out examples
//! that the parent is known to be right on; a candidate that is clearly worse than the best and better than
//! everybody nowhere is given up within its validation.

use std::collections::{BTreeSet, HashMap};

use super::{merge::merge, minibatch::Minibatches};
use crate::{
    board::Board,
    chance::Chance,
    lane::Verdict,
    proposer::Guidance,
    strategy::{Accept, Make, Outcome, Plan, Step, Strategy, Validate},
};

/// The knobs of [`Reflective`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectiveSettings {
    /// Examples of a minibatch. Default 3.
    pub minibatch: usize,
    /// Merges at most. Default 5; zero switches them off.
    pub merges: usize,
}

impl Default for ReflectiveSettings {
    fn default() -> Self {
        Self { minibatch: 3, merges: 5 }
    }
}

/// The strategy `reflective`.
#[derive(Debug, Default)]
pub struct Reflective {
    settings: ReflectiveSettings,
    minibatches: Minibatches,
    /// Which component of a member is next.
    turns: HashMap<usize, usize>,
    merged: BTreeSet<(usize, usize)>,
    /// Merges that are due: one for each candidate that made it.
    due: usize,
}

impl Reflective {
    /// The strategy with these settings.
    pub fn new(settings: ReflectiveSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    fn merge(&mut self, board: &Board, chance: &mut Chance) -> Option<Step> {
        if self.due == 0 || self.merged.len() >= self.settings.merges {
            return None;
        }
        let (pair, candidate) = merge(board, |pair| self.merged.contains(pair), chance)?;
        self.merged.insert(pair);
        self.due -= 1;
        let mean = |id: usize| board.members().get(id).and_then(|member| member.mean());
        let (first, second) = if mean(pair.0) >= mean(pair.1) { pair } else { (pair.1, pair.0) };
        Some(Step {
            by: "merge",
            make: Make::Ready(candidate),
            parents: vec![first, second],
            minibatch: self.minibatches.deal(board, self.settings.minibatch + 2, chance),
            accept: Accept::NotWorse,
            validate: Validate::All,
        })
    }
}

impl Strategy for Reflective {
    fn name(&self) -> &'static str {
        "reflective"
    }

    fn version(&self) -> String {
        format!("reflective {:?}", self.settings)
    }

    fn plan(&mut self, board: &Board, chance: &mut Chance) -> Plan {
        if board.is_perfect() {
            return Plan::Done;
        }
        if let Some(step) = self.merge(board, chance) {
            return Plan::Step(step);
        }
        let weights: Vec<f64> = board.frontier().iter().map(|(_, wins)| *wins as f64).collect();
        let drawn = chance.weighted(&weights).and_then(|place| board.frontier().get(place));
        let Some((parent, _)) = drawn.copied() else { return Plan::Wait };
        let names: Vec<&str> =
            board.members().get(parent).map(|member| member.candidate.names().collect()).unwrap_or_default();
        let turn = self.turns.entry(parent).or_default();
        let component = names.get(*turn % names.len().max(1)).copied().unwrap_or_default().to_owned();
        *turn += 1;
        Plan::Step(Step {
            by: "reflect",
            make: Make::Rewrite { component, guidance: Guidance::default(), blind: false },
            parents: vec![parent],
            minibatch: self.minibatches.deal_to(board, parent, self.settings.minibatch, chance),
            accept: Accept::Better,
            validate: Validate::All,
        })
    }

    fn settle(&mut self, _: &Board, outcome: &Outcome) {
        if outcome.verdict == Verdict::Scored && outcome.step.by != "merge" {
            self.due += 1;
        }
    }
}
