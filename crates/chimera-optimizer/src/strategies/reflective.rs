//! Reflective evolution, after GEPA (arXiv 2507.19457): parents are drawn from the instance-wise frontier, a
//! model reads how each did on a few examples and rewrites one component, and what does better on the same
//! examples is kept. Now and then two lines are put together.
//!
//! What differs from the publication: it goes in rounds. As many small rewrites as the job has width are asked
//! for at once, those that pass are put together line by line, and the whole is tried; if it is no better, the
//! best of them alone. A round is three waits for a model, however wide it is, and every rewrite in it counts.
//! A minibatch is made of examples that the parent is known to be wrong on, as far as there are any, and those
//! are paid for already; the rewrites of a round share them out. It ends early when the best is right on the whole
//! validation set and two more rounds bring no other. Validation goes in two parts: a few examples are enough to be on the frontier; what is
//! ahead of the best on these is tried on all, beside the next round.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::{
    merge::{all_together, merge},
    minibatch::Minibatches,
    promotion::{NEARLY, Promotion, frontier, rung},
};
use crate::{
    board::{Board, Member, SAME},
    chance::Chance,
    lane::Verdict,
    proposer::Guidance,
    strategy::{Accept, Make, Outcome, Plan, Step, Strategy, Validate},
    task::Set,
};

/// Rewrites of a member in vain, after which one that is no worse will do: where two changes help only
/// together, the first of them has to be taken on trust.
const IN_VAIN: usize = 4;

/// Train examples that a union is tried on: what it is wrong on is what the next round learns from.
const FEED: usize = 12;

/// Rounds after a new best that is right on the whole validation set, before it is the end: no other can be seen to be
/// better by more than train examples.
const AFTER_RIGHT: usize = 2;

/// The knobs of [`Reflective`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReflectiveSettings {
    /// Examples of a minibatch. Default 2.
    pub minibatch: usize,
    /// Things that a rewrite may change. Small changes go together better than large ones. Default 2.
    pub step: usize,
    /// Merges at most. Default 20; zero switches them off.
    pub merges: usize,
    /// Validation examples that decide who is on the frontier. Default 10.
    pub rung: usize,
    /// Rounds before what is ahead on these is tried on all. Default 4.
    pub patience: usize,
}

impl Default for ReflectiveSettings {
    fn default() -> Self {
        Self { minibatch: 2, step: 2, merges: 20, rung: 10, patience: 4 }
    }
}

/// The strategy `reflective`.
#[derive(Debug, Default)]
pub struct Reflective {
    settings: ReflectiveSettings,
    minibatches: Minibatches,
    promotion: Promotion,
    /// Which component of a member is next.
    turns: HashMap<usize, usize>,
    merged: BTreeSet<(usize, usize)>,
    /// Merges that are due: one for each union that was tried.
    due: usize,
    /// Rewrites of each member that were no better, in a row.
    in_vain: HashMap<usize, usize>,
    /// Rewrites that are no better than their parents and no worse: the next round begins from there.
    aside: Vec<usize>,
    /// Steps of this round that are not begun.
    queue: VecDeque<Step>,
    /// Those that are under way.
    under_way: usize,
    /// Rewrites of this round that passed, and by how much.
    passed: Vec<(usize, f64)>,
    /// The best of them, to be tried alone if the union is no better than what they come from.
    fallback: Option<usize>,
    /// The best, and the rounds begun since it is.
    top: (Option<usize>, usize),
}

impl Reflective {
    /// The strategy with these settings.
    pub fn new(settings: ReflectiveSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Whether the best is right on all that decides, and rounds after it brought no other.
    fn is_enough(&mut self, board: &Board) -> bool {
        let best = board.best().map(|best| best.id);
        if best != self.top.0 {
            self.top = (best, 0);
        }
        let is_right = board.best().and_then(Member::mean).is_some_and(|mean| mean >= 1.0 - SAME);
        is_right && board.is_without_second() && self.top.1 > AFTER_RIGHT
    }

    fn rung(&self, board: &Board) -> usize {
        rung(board, self.settings.rung)
    }

    /// Plans the rewrites of a round.
    fn begin_round(&mut self, board: &Board, chance: &mut Chance) {
        self.promotion.waits();
        self.minibatches.begin();
        self.top.1 += 1;
        let width = board.width().saturating_sub(self.promotion.under_way()).max(1);
        let merge = self.merge(board, chance);
        self.queue.extend(merge);
        let (parents, weights) = self.parents(board);
        let mut aside = std::mem::take(&mut self.aside);
        aside.truncate(width.div_ceil(2));
        for _ in 0..width {
            let drawn = chance.weighted(&weights).and_then(|place| parents.get(place)).copied();
            let Some(parent) = aside.pop().or(drawn) else { return };
            let step = self.rewrite(board, parent, chance);
            self.queue.push_back(step);
        }
    }

    /// Who may be rewritten, and with what weight: the frontier by what each is best at. From who is right on
    /// all train examples nothing is learnt.
    fn parents(&self, board: &Board) -> (Vec<usize>, Vec<f64>) {
        let is_wrong =
            |id: usize| board.members().get(id).is_some_and(|member| !board.is_right_on_train(member));
        let found = frontier(board, self.rung(board)).into_iter().filter(|(id, _)| is_wrong(*id));
        let (parents, weights): (Vec<usize>, Vec<f64>) = found.map(|(id, wins)| (id, wins as f64)).unzip();
        if !parents.is_empty() {
            return (parents, weights);
        }
        let all = board.members().iter().filter(|member| is_wrong(member.id));
        all.map(|member| (member.id, member.mean().unwrap_or(0.0))).unzip()
    }

    fn rewrite(&mut self, board: &Board, parent: usize, chance: &mut Chance) -> Step {
        let on_a_plateau = self.in_vain.get(&parent).is_some_and(|times| *times >= IN_VAIN);
        let names: Vec<&str> =
            board.members().get(parent).map(|member| member.candidate.names().collect()).unwrap_or_default();
        let turn = self.turns.entry(parent).or_default();
        let component = names.get(*turn % names.len().max(1)).copied().unwrap_or_default().to_owned();
        *turn += 1;
        let guidance = Guidance { edits: Some(self.settings.step), ..Guidance::default() };
        Step {
            by: "reflect",
            make: Make::Rewrite { component, guidance, blind: false },
            parents: vec![parent],
            minibatch: self.minibatches.deal_wrong(board, parent, self.settings.minibatch, chance),
            accept: if on_a_plateau { Accept::NotWorse } else { Accept::Better },
            validate: Validate::First(0),
        }
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
        let mean = |id: usize| board.members().get(id).and_then(Member::mean);
        let (first, second) = if mean(pair.0) >= mean(pair.1) { pair } else { (pair.1, pair.0) };
        let minibatch = Vec::new();
        Some(self.trial("merge", Make::Ready(candidate), vec![first, second], minibatch, board))
    }

    /// Plans the trial of what passed: all together, or the best where nothing new comes of that.
    fn put_together(&mut self, board: &Board, chance: &mut Chance) {
        let mut passed = std::mem::take(&mut self.passed);
        passed.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        let ids: Vec<usize> = passed.iter().map(|(member, _)| *member).collect();
        let Some(first) = ids.first().copied() else { return };
        let union = if ids.len() > 1 { all_together(board, &ids) } else { None };
        let step = match union {
            Some(candidate) => {
                self.fallback = Some(first);
                let feed = self.feed(board, &ids, chance);
                self.trial("together", Make::Ready(candidate), ids, feed, board)
            }
            None => {
                let feed = self.feed(board, &[first], chance);
                self.trial("alone", Make::Again(first), vec![first], feed, board)
            }
        };
        self.queue.push_back(step);
    }

    /// A candidate that is there is tried, on train examples to learn from them and on validation examples.
    fn trial(
        &self,
        by: &'static str,
        make: Make,
        parents: Vec<usize>,
        minibatch: Vec<usize>,
        board: &Board,
    ) -> Step {
        let validate = Validate::First(self.rung(board));
        Step { by, make, parents, minibatch, accept: Accept::Always, validate }
    }

    /// Train examples for a union: those of its parts first.
    fn feed(&self, board: &Board, parts: &[usize], chance: &mut Chance) -> Vec<usize> {
        let parts = || parts.iter().filter_map(|id| board.members().get(*id));
        let before = parts().filter_map(|part| board.members().get(*part.parents.first()?)?.mean());
        if before.fold(0.0, f64::max) >= NEARLY {
            return (0..board.task().examples(Set::Train).len()).collect();
        }
        let seen: BTreeSet<usize> = parts().flat_map(|part| part.train.keys().copied()).collect();
        let mut seen: Vec<usize> = seen.into_iter().collect();
        chance.shuffle(&mut seen);
        seen.truncate(FEED);
        seen
    }

    fn settle_rewrite(&mut self, outcome: &Outcome) {
        let Some(parent) = outcome.step.parents.first() else { return };
        let times = self.in_vain.entry(*parent).or_default();
        let is_better = outcome.after > outcome.before + SAME;
        *times = if is_better { 0 } else { *times + 1 };
        if let (Verdict::Scored, Some(member)) = (outcome.verdict, outcome.member) {
            if is_better {
                self.passed.push((member, outcome.after - outcome.before));
            } else {
                self.aside.push(member);
            }
        }
    }

    /// What passed its minibatches and is no better on validation examples is where the next round begins, as
    /// what was no worse is; of a union the best part is tried alone first.
    fn settle_trial(&mut self, board: &Board, outcome: &Outcome) {
        self.due += 1;
        let rung = self.rung(board);
        let mean = |id: usize| board.mean_of_first(id, board.validation_order(), rung);
        let first = outcome.step.parents.first().and_then(|first| board.members().get(*first));
        let before = first.and_then(|first| mean(*first.parents.first()?));
        let fallback = self.fallback.take();
        if outcome.member.and_then(mean) > before {
            return;
        }
        let Some(best) = fallback else { return self.aside.extend(outcome.member) };
        let step = self.trial("alone", Make::Again(best), vec![best], Vec::new(), board);
        self.queue.push_back(step);
        self.aside.extend(outcome.step.parents.iter().filter(|part| **part != best));
    }
}

impl Strategy for Reflective {
    fn name(&self) -> &'static str {
        "reflective"
    }

    fn version(&self) -> String {
        format!("reflective in rounds, each wrong example once {:?}", self.settings)
    }

    fn plan(&mut self, board: &Board, chance: &mut Chance) -> Plan {
        if board.is_perfect() || self.is_enough(board) {
            return Plan::Done;
        }
        if let Some(step) = self.promotion.plan(board, self.settings.patience) {
            return Plan::Step(step);
        }
        if self.queue.is_empty() && self.under_way == 0 {
            if self.passed.is_empty() {
                self.begin_round(board, chance);
            } else {
                self.put_together(board, chance);
            }
        }
        let Some(step) = self.queue.pop_front() else { return Plan::Wait };
        self.under_way += 1;
        Plan::Step(step)
    }

    fn settle(&mut self, board: &Board, outcome: &Outcome) {
        if self.promotion.settle(outcome) {
            return;
        }
        self.under_way = self.under_way.saturating_sub(1);
        match outcome.step.by {
            "reflect" => self.settle_rewrite(outcome),
            "together" | "alone" => self.settle_trial(board, outcome),
            _ => {}
        }
    }
}
