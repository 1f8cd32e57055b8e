//! Descent along textual gradients, after TextGrad and ProTeGi: what a model says is wrong is the gradient,
//! how many things it may change is the step size, what earlier gradients said is the momentum, and the best
//! few candidates are the beam.
//!
//! It goes in rounds. Every member of the beam is rewritten several times, each time from other examples.
//! The changes of those that did better are summed up, as gradients of a batch are: one candidate has them all.
//! Every one of these runs against the beam by successive halving: all on a few validation
//! examples, the better half on twice as many, until those left are tried on all. A round that found no new
//! best halves the step, one that did makes it a little longer.

use std::collections::{BTreeSet, VecDeque};

use super::{merge::three_way, minibatch::Minibatches};
use crate::{
    board::{Board, Member},
    chance::Chance,
    lane::Verdict,
    proposer::Guidance,
    strategy::{Accept, Make, Outcome, Plan, Step, Strategy, Validate},
    task::Set,
};

/// The knobs of [`Gradient`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GradientSettings {
    /// Examples of a minibatch. Default 4.
    pub minibatch: usize,
    /// Candidates that are kept from round to round. Default 2.
    pub beam: usize,
    /// Rewrites of each in a round. Default 4.
    pub branches: usize,
    /// Things that a rewrite may change at most, at first. Default 4.
    pub step: usize,
    /// Gradients of earlier rounds that are told again. Default 4.
    pub momentum: usize,
    /// Validation examples of the first rung. Default 8.
    pub rung: usize,
}

impl Default for GradientSettings {
    fn default() -> Self {
        Self { minibatch: 4, beam: 2, branches: 4, step: 4, momentum: 4, rung: 8 }
    }
}

/// Where a round is.
#[derive(Debug, Default)]
enum Phase {
    /// So many rewrites are still to be planned.
    #[default]
    Begin,
    Rewrite,
    /// What the rewrites of one parent found is put together.
    Sum,
    /// The field on a rung of so many validation examples.
    Halve(usize),
}

/// The strategy `gradient`.
#[derive(Debug)]
pub struct Gradient {
    settings: GradientSettings,
    minibatches: Minibatches,
    phase: Phase,
    beam: Vec<usize>,
    /// What is to be planned in this phase, and of which member.
    queue: VecDeque<(usize, Make)>,
    /// Steps planned and not settled.
    open: usize,
    /// Who runs in this round.
    field: BTreeSet<usize>,
    step: usize,
    helped: VecDeque<String>,
    hurt: VecDeque<String>,
    found: bool,
    /// Whether the last round found none.
    on_a_plateau: bool,
    /// Rounds in a row, at the shortest step, that found nothing.
    stuck: usize,
}

impl Default for Gradient {
    fn default() -> Self {
        Self::new(GradientSettings::default())
    }
}

impl Gradient {
    /// The strategy with these settings.
    pub fn new(settings: GradientSettings) -> Self {
        Self {
            step: settings.step.max(1),
            settings,
            minibatches: Minibatches::default(),
            phase: Phase::Begin,
            beam: vec![0],
            queue: VecDeque::new(),
            open: 0,
            field: BTreeSet::new(),
            helped: VecDeque::new(),
            hurt: VecDeque::new(),
            found: false,
            on_a_plateau: false,
            stuck: 0,
        }
    }

    /// Goes on to the next phase when this one has nothing left to plan and nothing under way.
    fn advance(&mut self, board: &Board, chance: &mut Chance) {
        let total = board.task().examples(Set::Validation).len();
        match self.phase {
            Phase::Begin => {
                self.field = self.beam.iter().copied().collect();
                self.found = false;
                self.rewrites(board, chance);
                self.phase = Phase::Rewrite;
            }
            Phase::Rewrite if self.field.len() == self.beam.len() => self.end_round(board),
            Phase::Rewrite => {
                self.sums(board);
                self.phase = Phase::Sum;
            }
            Phase::Sum => self.rung(board, self.settings.rung.clamp(1, total)),
            Phase::Halve(count) if count >= total => self.end_round(board),
            Phase::Halve(count) => {
                let keep = self.field.len().div_ceil(2).max(self.settings.beam);
                self.keep(board, count, keep);
                self.rung(board, (count * 2).min(total));
            }
        }
    }

    fn rewrites(&mut self, board: &Board, chance: &mut Chance) {
        let guidance = Guidance {
            edits: Some(self.step),
            helped: self.helped.iter().cloned().collect(),
            hurt: self.hurt.iter().cloned().collect(),
        };
        for _ in 0..self.settings.branches.max(1) {
            for parent in &self.beam {
                let Some(member) = board.members().get(*parent) else { continue };
                let names: Vec<&str> = member.candidate.names().collect();
                let component = names.get(chance.below(names.len())).copied().unwrap_or_default().to_owned();
                let make = Make::Rewrite { component, guidance: guidance.clone(), blind: false };
                self.queue.push_back((*parent, make));
            }
        }
    }

    /// Plans, for each parent with several rewrites that did better, one candidate with the changes of all.
    fn sums(&mut self, board: &Board) {
        for parent in &self.beam {
            let children = self.field.iter().filter_map(|id| board.members().get(*id)).filter(|member| {
                member.by == "gradient"
                    && !self.beam.contains(&member.id)
                    && member.parents.first() == Some(parent)
            });
            let children: Vec<&Member> = children.collect();
            let (Some(old), true) = (board.members().get(*parent), children.len() > 1) else { continue };
            let sum = children
                .iter()
                .fold(old.candidate.clone(), |sum, child| three_way(&old.candidate, &sum, &child.candidate));
            self.queue.push_back((*parent, Make::Ready(sum)));
        }
    }

    /// Plans what the field lacks on a rung.
    fn rung(&mut self, board: &Board, count: usize) {
        self.phase = Phase::Halve(count);
        let lacking = self.field.iter().filter(|member| {
            board.members().get(**member).is_some_and(|member| member.validation.len() < count)
        });
        self.queue = lacking.map(|member| (*member, Make::Again(*member))).collect();
    }

    /// Leaves the best of the field by their first `count` validation examples.
    fn keep(&mut self, board: &Board, count: usize, keep: usize) {
        let order = board.validation_order();
        let mut field: Vec<(usize, f64)> = self
            .field
            .iter()
            .map(|member| (*member, board.mean_of_first(*member, order, count).unwrap_or(0.0)))
            .collect();
        field.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
        self.field = field.into_iter().take(keep).map(|(member, _)| member).collect();
    }

    fn end_round(&mut self, board: &Board) {
        let mut complete: Vec<(usize, f64)> = self
            .field
            .iter()
            .chain(&self.beam)
            .filter_map(|id| board.members().get(*id))
            .filter(|member| board.is_complete(member))
            .filter_map(|member| Some((member.id, board.utility(member)?)))
            .collect();
        // Of equals the younger on a plateau: where two changes help only together, the first of them has to
        // be taken on trust.
        self.on_a_plateau = !self.found;
        let age = |id: usize| if self.on_a_plateau { usize::MAX - id } else { id };
        complete.sort_by(|one, other| other.1.total_cmp(&one.1).then(age(one.0).cmp(&age(other.0))));
        complete.dedup();
        self.beam = complete.into_iter().take(self.settings.beam.max(1)).map(|(member, _)| member).collect();
        if self.beam.is_empty() {
            self.beam.push(0);
        }
        if self.found {
            self.step = (self.step + 1).min(2 * self.settings.step.max(1));
            self.stuck = 0;
        } else if self.step > 1 {
            self.step /= 2;
        } else {
            // Small steps lead nowhere from here: out of the hole with a long one.
            self.stuck += 1;
            if self.stuck >= 2 {
                self.step = 2 * self.settings.step.max(1);
                self.stuck = 0;
            }
        }
        self.phase = Phase::Begin;
    }

    fn remember(&mut self, note: &str, helped: bool) {
        if note.is_empty() || self.settings.momentum == 0 {
            return;
        }
        let notes = if helped { &mut self.helped } else { &mut self.hurt };
        notes.push_back(note.chars().take(400).collect());
        if notes.len() > self.settings.momentum {
            notes.pop_front();
        }
    }
}

impl Strategy for Gradient {
    fn name(&self) -> &'static str {
        "gradient"
    }

    fn version(&self) -> String {
        format!("gradient {:?}", self.settings)
    }

    fn plan(&mut self, board: &Board, chance: &mut Chance) -> Plan {
        if board.is_perfect() {
            return Plan::Done;
        }
        // A round that cannot begin anything ends at once; the next one does.
        for _ in 0..8 {
            if self.open > 0 || !self.queue.is_empty() {
                break;
            }
            self.advance(board, chance);
        }
        let Some((parent, make)) = self.queue.pop_front() else { return Plan::Wait };
        self.open += 1;
        let count = if let Phase::Halve(count) = self.phase { count } else { self.settings.rung.max(1) };
        let by = match make {
            Make::Again(_) => "halve",
            Make::Ready(_) => "sum",
            Make::Rewrite { .. } => "gradient",
        };
        let size = if by == "gradient" { self.settings.minibatch } else { 0 };
        Plan::Step(Step {
            by,
            make,
            parents: vec![parent],
            minibatch: self.minibatches.deal_to(board, parent, size, chance),
            accept: match by {
                "gradient" if self.on_a_plateau => Accept::NotWorse,
                "gradient" => Accept::Better,
                _ => Accept::Always,
            },
            validate: Validate::First(count),
        })
    }

    fn settle(&mut self, _: &Board, outcome: &Outcome) {
        self.open = self.open.saturating_sub(1);
        self.found |= outcome.best;
        if outcome.step.by == "sum" {
            self.field.extend(outcome.member);
        }
        if outcome.step.by != "gradient" {
            return;
        }
        match (outcome.verdict, outcome.member) {
            (Verdict::Scored, Some(member)) => {
                self.field.insert(member);
                self.remember(&outcome.note, true);
            }
            (Verdict::Rejected, _) => self.remember(&outcome.note, false),
            _ => {}
        }
    }
}
