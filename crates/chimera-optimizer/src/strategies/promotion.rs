//! Who is tried on the whole validation set: what is ahead of the best on the examples that decide who is on
//! the frontier. It goes on beside everything else.

use std::collections::HashMap;

use crate::{
    board::{Board, Member, SAME},
    frontier::Frontier,
    strategy::{Accept, Make, Outcome, Step, Validate},
    task::Set,
};

/// From this score on, so little is wrong that all train examples are looked at to find it.
pub(super) const NEARLY: f64 = 0.8;

/// How such a step is made.
const BY: &str = "validate";

/// What is on the way to the whole validation set.
#[derive(Debug, Default)]
pub(super) struct Promotion {
    /// Rounds since somebody was.
    waited: usize,
    /// Who is, and by how much each was ahead.
    promoted: HashMap<usize, f64>,
}

impl Promotion {
    /// How many there are.
    pub(super) fn under_way(&self) -> usize {
        self.promoted.len()
    }

    /// Another round begins.
    pub(super) fn waits(&mut self) {
        self.waited += 1;
    }

    /// The member that is furthest ahead of the best on the examples that it was tried on is tried on all;
    /// beside those that are on the way already, only one that is ahead of them.
    pub(super) fn plan(&mut self, board: &Board, patience: usize) -> Option<Step> {
        let (order, total) = (board.validation_order(), board.validation_order().len());
        let best = board.best()?.id;
        // Improvements come one upon another: what is ahead now is soon behind, unless nothing comes.
        let is_time =
            self.waited >= patience || board.evaluations_left().is_some_and(|left| left < 3 * total);
        let ahead = |member: &Member| {
            let rung = member.validation.len();
            let mean = board.mean_of_first(member.id, order, rung)?;
            let by = mean - board.mean_of_first(best, order, rung)?;
            // One that came later and is as good has at least passed its minibatch.
            let is_wanted = by > SAME || (by > -SAME && member.id > best && is_time);
            (rung < total && !member.given_up && is_wanted && (is_time || mean >= 1.0 - SAME))
                .then_some((member.id, by))
        };
        let (member, by) =
            board.members().iter().filter_map(ahead).max_by(|one, other| one.1.total_cmp(&other.1))?;
        if self.promoted.values().any(|other| by <= other + SAME) {
            return None;
        }
        // Both sets at once: what is left to be learnt, or that nothing is, is known as soon as the score.
        let rung = board.members().get(member)?.validation.len();
        let is_near = board.mean_of_first(member, order, rung).is_some_and(|mean| mean >= NEARLY);
        let train = if is_near { board.task().examples(Set::Train).len() } else { 0 };
        self.promoted.insert(member, by);
        self.waited = 0;
        Some(Step {
            by: BY,
            make: Make::Again(member),
            parents: vec![member],
            minibatch: (0..train).collect(),
            accept: Accept::Always,
            validate: Validate::All,
        })
    }

    /// Whether a step was one of these.
    pub(super) fn settle(&mut self, outcome: &Outcome) -> bool {
        if let (BY, Make::Again(member)) = (outcome.step.by, &outcome.step.make) {
            self.promoted.remove(member);
        }
        outcome.step.by == BY
    }
}

/// How many validation examples decide who is on the frontier: so many, or more until the best is wrong on one.
pub(super) fn rung(board: &Board, least: usize) -> usize {
    let (order, mut rung) = (board.validation_order(), least.max(1));
    let is_right = |rung| {
        let best = board.best().and_then(|best| board.mean_of_first(best.id, order, rung));
        best.is_some_and(|mean| mean >= 1.0 - SAME)
    };
    while rung < order.len() && is_right(rung) {
        rung *= 2;
    }
    rung.min(order.len())
}

/// The members that are best on some of the first validation examples, of those that were tried on all of these.
pub(super) fn frontier(board: &Board, count: usize) -> Vec<(usize, usize)> {
    let row = |member: &Member| -> Option<(usize, Vec<f64>)> {
        let scores =
            board.validation_order().iter().take(count).map(|place| member.validation.get(place).copied());
        Some((member.id, scores.collect::<Option<_>>()?))
    };
    let (ids, rows): (Vec<usize>, Vec<Vec<f64>>) = board.members().iter().filter_map(row).unzip();
    let found = Frontier::of(&rows);
    found.members().iter().filter_map(|(place, wins)| Some((*ids.get(*place)?, *wins))).collect()
}
