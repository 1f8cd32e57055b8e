//! Reflective evolution, after GEPA (arXiv 2507.19457): a parent is drawn from the instance-wise frontier, a
//! model reads how it did on a few examples and rewrites one component, and what does better on the same
//! examples is tried on the validation set. Now and then two lines are put together.
//!
//! What differs from the publication: several proposals are under way at once; a minibatch leaves out examples
//! that the parent is known to be right on; texts of one component are merged line by line; and validation goes
//! in two parts: a candidate is tried on a few examples, which is enough to be on the frontier, and on all of
//! them when it is ahead of the best on these, so that only what may be the new best pays for the whole set.

use std::collections::{BTreeSet, HashMap};

use super::{merge::merge, minibatch::Minibatches};
use crate::{
    board::{Board, Member, SAME},
    chance::Chance,
    frontier::Frontier,
    lane::Verdict,
    proposer::Guidance,
    strategy::{Accept, Make, Outcome, Plan, Step, Strategy, Validate},
};

/// Rewrites of a member in vain, after which one that is no worse will do: where two changes help only
/// together, the first of them has to be taken on trust.
const IN_VAIN: usize = 4;

/// The knobs of [`Reflective`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectiveSettings {
    /// Examples of a minibatch. Default 3.
    pub minibatch: usize,
    /// Merges at most. Default 20; zero switches them off.
    pub merges: usize,
    /// Validation examples that decide who is on the frontier. Default 10.
    pub rung: usize,
    /// Steps before what is ahead on these is tried on all. Default 4.
    pub patience: usize,
}

impl Default for ReflectiveSettings {
    fn default() -> Self {
        Self { minibatch: 3, merges: 20, rung: 10, patience: 4 }
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
    /// Rewrites of each member that did not pass, in a row.
    in_vain: HashMap<usize, usize>,
    /// A rewrite that is no better than its parent and no worse: the next one begins from there.
    aside: Option<usize>,
    /// Steps since one was.
    waited: usize,
    /// The members that are being tried on all examples, and by how much they were ahead.
    promoted: HashMap<usize, f64>,
}

impl Reflective {
    /// The strategy with these settings.
    pub fn new(settings: ReflectiveSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// How many validation examples decide who is on the frontier: enough for the best to be wrong on one.
    fn rung(&self, board: &Board) -> usize {
        let (order, mut rung) = (board.validation_order(), self.settings.rung.max(1));
        let is_right = |rung| {
            let best = board.best().and_then(|best| board.mean_of_first(best.id, order, rung));
            best.is_some_and(|mean| mean >= 1.0 - SAME)
        };
        while rung < order.len() && is_right(rung) {
            rung *= 2;
        }
        rung.min(order.len())
    }

    fn merge(&mut self, board: &Board, chance: &mut Chance) -> Option<Step> {
        if self.due == 0 || self.merged.len() >= self.settings.merges {
            return None;
        }
        let members: Vec<usize> =
            frontier(board, self.rung(board)).iter().map(|(member, _)| *member).collect();
        let (pair, candidate) = merge(board, &members, |pair| self.merged.contains(pair), chance)?;
        self.merged.insert(pair);
        self.due -= 1;
        let (first, second) =
            if mean(board, pair.0) >= mean(board, pair.1) { pair } else { (pair.1, pair.0) };
        Some(Step {
            by: "merge",
            make: Make::Ready(candidate),
            parents: vec![first, second],
            minibatch: Vec::new(),
            accept: Accept::Always,
            validate: Validate::First(self.rung(board)),
        })
    }

    /// The member that is furthest ahead of the best on the examples that it was tried on is tried on all;
    /// beside those that are on the way already, only one that is ahead of them.
    fn promote(&mut self, board: &Board) -> Option<Step> {
        let (order, total) = (board.validation_order(), board.validation_order().len());
        let best = board.best()?.id;
        // Improvements come one upon another: what is ahead now is soon behind, unless nothing comes.
        let is_time = self.waited >= self.settings.patience
            || board.evaluations_left().is_some_and(|left| left < 3 * total);
        let ahead = |member: &Member| {
            let rung = member.validation.len();
            let by = board.mean_of_first(member.id, order, rung)? - board.mean_of_first(best, order, rung)?;
            let is_right = board.mean_of_first(member.id, order, rung)? >= 1.0 - SAME;
            // One that came later and is as good has at least passed its minibatch.
            let is_wanted = by > SAME || (by > -SAME && member.id > best && is_time);
            (rung < total && !member.given_up && is_wanted && (is_time || is_right))
                .then_some((member.id, by))
        };
        let (member, by) =
            board.members().iter().filter_map(ahead).max_by(|one, other| one.1.total_cmp(&other.1))?;
        if self.promoted.values().any(|other| by <= other + SAME) {
            return None;
        }
        self.promoted.insert(member, by);
        self.waited = 0;
        Some(Step {
            by: "validate",
            make: Make::Again(member),
            parents: vec![member],
            minibatch: Vec::new(),
            accept: Accept::Always,
            validate: Validate::All,
        })
    }
}

fn mean(board: &Board, member: usize) -> f64 {
    board.members().get(member).and_then(Member::mean).unwrap_or(0.0)
}

/// The members that are best on some of the first validation examples, on which all were tried.
fn frontier(board: &Board, count: usize) -> Vec<(usize, usize)> {
    let row = |member: &Member| -> Option<(usize, Vec<f64>)> {
        let scores =
            board.validation_order().iter().take(count).map(|place| member.validation.get(place).copied());
        Some((member.id, scores.collect::<Option<_>>()?))
    };
    let (ids, rows): (Vec<usize>, Vec<Vec<f64>>) = board.members().iter().filter_map(row).unzip();
    let found = Frontier::of(&rows);
    found.members().iter().filter_map(|(place, wins)| Some((*ids.get(*place)?, *wins))).collect()
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
        if let Some(step) = self.promote(board) {
            return Plan::Step(step);
        }
        if let Some(step) = self.merge(board, chance) {
            return Plan::Step(step);
        }
        let mut frontier = frontier(board, self.rung(board));
        // From who is right on all train examples nothing is learnt.
        let wrong =
            |id: usize| board.members().get(id).is_some_and(|member| !board.is_right_on_train(member));
        let weight = |(id, wins): &(usize, usize)| if wrong(*id) { *wins as f64 } else { 0.0 };
        let mut weights: Vec<f64> = frontier.iter().map(weight).collect();
        if weights.iter().all(|weight| *weight == 0.0) {
            frontier = board
                .members()
                .iter()
                .filter(|member| wrong(member.id))
                .map(|member| (member.id, 1))
                .collect();
            weights = frontier.iter().map(|(id, _)| mean(board, *id)).collect();
        }
        let drawn = chance.weighted(&weights).and_then(|place| frontier.get(place));
        let drawn = self.aside.take().or(drawn.map(|(member, _)| *member));
        let Some(parent) = drawn else { return Plan::Wait };
        let on_a_plateau = self.in_vain.get(&parent).is_some_and(|times| *times >= IN_VAIN);
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
            accept: if on_a_plateau { Accept::NotWorse } else { Accept::Better },
            validate: Validate::First(self.rung(board)),
        })
    }

    fn settle(&mut self, _: &Board, outcome: &Outcome) {
        self.waited += 1;
        if let Make::Again(member) = outcome.step.make {
            self.promoted.remove(&member);
        }
        if let ("reflect", Some(parent)) = (outcome.step.by, outcome.step.parents.first()) {
            let times = self.in_vain.entry(*parent).or_default();
            let is_better = outcome.after > outcome.before + SAME;
            *times = if is_better { 0 } else { *times + 1 };
            if outcome.verdict == Verdict::Scored && !is_better {
                self.aside = outcome.member;
            }
        }
        if outcome.verdict == Verdict::Scored && outcome.step.by == "reflect" {
            self.due += 1;
        }
    }
}
