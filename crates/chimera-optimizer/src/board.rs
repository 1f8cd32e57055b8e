//! What is known: the candidates that were accepted, their scores, the frontier, the best.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    candidate::{Candidate, Digest},
    frontier::Frontier,
    lane::{Done, Verdict},
    settings::Second,
    strategy::{Make, Outcome},
    task::{Set, Task},
};

/// Scores closer than this are the same.
pub(crate) const SAME: f64 = 1e-9;

/// A candidate that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its number: the seed prompt's is zero.
    pub id: usize,
    /// Its texts.
    pub candidate: Candidate,
    /// The members that it comes from.
    pub parents: Vec<usize>,
    /// How it was made.
    pub by: &'static str,
    /// What was said of the change.
    pub note: String,
    /// Scores on the validation examples that it was tried on.
    pub validation: BTreeMap<usize, f64>,
    /// Scores on the train examples that it was tried on.
    pub train: BTreeMap<usize, f64>,
    /// Mean tokens of its roll-outs.
    pub tokens: f64,
    /// Whether it was given up within its validation.
    pub given_up: bool,
}

impl Member {
    /// The mean of its validation scores, where there are any.
    pub fn mean(&self) -> Option<f64> {
        mean(self.validation.values().copied())
    }
}

fn mean(scores: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = scores.fold((0usize, 0.0), |(count, sum), score| (count + 1, sum + score));
    (count > 0).then(|| sum / count as f64)
}

/// Of two that are equal on the validation set, the one that is better on train examples which both were tried
/// on; the shorter one if there is no difference.
fn is_better_at_equal(one: &Member, other: &Member) -> bool {
    let both = one.train.iter().filter_map(|(place, score)| Some((score, other.train.get(place)?)));
    let ahead: f64 = both.map(|(one, other)| one - other).sum();
    ahead > SAME || (ahead > -SAME && one.candidate.length() < other.candidate.length())
}

/// What has to be beaten: the best member's scores, and the best of anybody, by example.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bar {
    pub(crate) best: Vec<f64>,
    pub(crate) top: Vec<f64>,
}

/// All that a strategy may look at.
#[derive(Debug)]
pub struct Board {
    task: Arc<Task>,
    second: Second,
    members: Vec<Member>,
    by_digest: HashMap<Digest, usize>,
    best: Option<usize>,
    frontier: Vec<(usize, usize)>,
    bar: Arc<Bar>,
    tried: usize,
    order: Arc<[usize]>,
    width: usize,
    pub(crate) left: Option<usize>,
}

impl Board {
    pub(crate) fn new(task: Arc<Task>, second: Second, order: Arc<[usize]>, width: usize) -> Self {
        let candidate = task.seed().clone();
        let seed = Member {
            id: 0,
            parents: Vec::new(),
            by: "seed",
            note: String::new(),
            validation: BTreeMap::new(),
            train: BTreeMap::new(),
            tokens: 0.0,
            given_up: false,
            candidate,
        };
        Self {
            by_digest: HashMap::from([(seed.candidate.digest(), 0)]),
            task,
            second,
            members: vec![seed],
            best: None,
            frontier: Vec::new(),
            bar: Arc::default(),
            tried: 0,
            order,
            width,
            left: None,
        }
    }

    /// The task.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The candidates that were accepted, by number.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The best member, once the seed is scored.
    pub fn best(&self) -> Option<&Member> {
        self.members.get(self.best?)
    }

    /// Members that were tried on the whole validation set and are best on some of it, and on how much.
    pub fn frontier(&self) -> &[(usize, usize)] {
        &self.frontier
    }

    /// The order in which validation examples are tried, the same for all candidates.
    pub fn validation_order(&self) -> &[usize] {
        &self.order
    }

    /// Whether a member was tried on the whole validation set.
    pub fn is_complete(&self, member: &Member) -> bool {
        member.validation.len() == self.task.examples(Set::Validation).len()
    }

    /// The mean of a member's scores on the first `count` validation examples of an order, if it has all.
    pub fn mean_of_first(&self, member: usize, order: &[usize], count: usize) -> Option<f64> {
        let member = self.members.get(member)?;
        let scores: Option<Vec<f64>> =
            order.iter().take(count).map(|place| member.validation.get(place).copied()).collect();
        mean(scores?.into_iter())
    }

    /// What a member is chosen by: its mean validation score, less what the second objective takes.
    pub fn utility(&self, member: &Member) -> Option<f64> {
        let taken = match self.second {
            Second::Nothing => 0.0,
            Second::Length(weight) => weight * member.candidate.length() as f64 / 1000.0,
            Second::Cost(weight) => weight * member.tokens / 1000.0,
        };
        member.mean().map(|mean| mean - taken)
    }

    /// Whether no candidate can be better than the best: it was right on the whole validation set, and on all
    /// train examples.
    pub fn is_perfect(&self) -> bool {
        let is_right = |best: &Member| best.mean().is_some_and(|mean| mean >= 1.0 - SAME);
        self.is_without_second()
            && self.best().is_some_and(|best| is_right(best) && self.is_right_on_train(best))
    }

    /// Whether the score alone makes one candidate better than another.
    pub fn is_without_second(&self) -> bool {
        self.second == Second::Nothing
    }

    /// Whether a member is known to be right on every train example.
    pub fn is_right_on_train(&self, member: &Member) -> bool {
        member.train.len() == self.task.examples(Set::Train).len()
            && member.train.values().all(|score| *score >= 1.0 - SAME)
    }

    /// Roll-outs that are left, where they are limited.
    pub fn evaluations_left(&self) -> Option<usize> {
        self.left
    }

    /// How many steps are under way at once.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Candidates tried so far.
    pub fn tried(&self) -> usize {
        self.tried
    }

    pub(crate) fn bar(&self) -> Arc<Bar> {
        Arc::clone(&self.bar)
    }

    /// Takes up what a step found.
    pub(crate) fn settle(&mut self, done: &Done) -> Outcome {
        self.tried += 1;
        for (place, rollout) in &done.before {
            if let Some(parent) = done.step.parents.first().and_then(|parent| self.members.get_mut(*parent)) {
                parent.train.insert(*place, rollout.score);
            }
        }
        let (member, verdict) = self.enter(done);
        if let Some(member) = member {
            self.score(member, done);
        }
        let best = !done.validation.is_empty() && self.choose();
        Outcome {
            step: done.step.clone(),
            verdict,
            member,
            before: mean(done.before.iter().map(|(_, one)| one.score)).unwrap_or(0.0),
            after: mean(done.after.iter().map(|(_, one)| one.score)).unwrap_or(0.0),
            note: done.note.clone(),
            best,
        }
    }

    /// Finds or makes the member that a candidate is.
    fn enter(&mut self, done: &Done) -> (Option<usize>, Verdict) {
        if let Make::Again(member) = done.step.make {
            let given_up = done.verdict == Verdict::GivenUp;
            self.members.get_mut(member).into_iter().for_each(|member| member.given_up |= given_up);
            return (Some(member), done.verdict);
        }
        let Some(candidate) = &done.child else { return (None, done.verdict) };
        let digest = candidate.digest();
        if let Some(known) = self.by_digest.get(&digest) {
            return (Some(*known), Verdict::Known);
        }
        if done.verdict == Verdict::Rejected {
            return (None, done.verdict);
        }
        let id = self.members.len();
        self.by_digest.insert(digest, id);
        self.members.push(Member {
            id,
            candidate: candidate.clone(),
            parents: done.step.parents.clone(),
            by: done.step.by,
            note: done.note.clone(),
            validation: BTreeMap::new(),
            train: BTreeMap::new(),
            tokens: 0.0,
            given_up: done.verdict == Verdict::GivenUp,
        });
        (Some(id), done.verdict)
    }

    fn score(&mut self, member: usize, done: &Done) {
        let Some(member) = self.members.get_mut(member) else { return };
        let had = (member.train.len() + member.validation.len()) as f64;
        let mut tokens = member.tokens * had;
        for (set, found) in [(Set::Train, &done.after), (Set::Validation, &done.validation)] {
            for (place, rollout) in found {
                let scores = if set == Set::Train { &mut member.train } else { &mut member.validation };
                if scores.insert(*place, rollout.score).is_none() {
                    tokens += rollout.spend.all_tokens() as f64;
                }
            }
        }
        let have = (member.train.len() + member.validation.len()) as f64;
        member.tokens = if have > 0.0 { tokens / have } else { 0.0 };
    }

    /// Finds frontier and best anew; says whether there is a new best.
    fn choose(&mut self) -> bool {
        let columns = self.order.len();
        let row = |member: &Member| -> Vec<f64> { member.validation.values().copied().collect() };
        let complete: Vec<&Member> = self.members.iter().filter(|member| self.is_complete(member)).collect();
        let rows: Vec<Vec<f64>> = complete.iter().map(|member| row(member)).collect();
        let number = |place: usize| complete.get(place).map_or(0, |member| member.id);
        let frontier =
            Frontier::of(&rows).members().iter().map(|(place, wins)| (number(*place), *wins)).collect();
        let mut best: Option<(&Member, f64)> = None;
        let mut top = vec![0.0; columns];
        for member in complete {
            for (top, score) in top.iter_mut().zip(member.validation.values()) {
                *top = score.max(*top);
            }
            let Some(utility) = self.utility(member) else { continue };
            let better = best.is_none_or(|(other, has)| {
                utility > has + SAME || (utility > has - SAME && is_better_at_equal(member, other))
            });
            if better {
                best = Some((member, utility));
            }
        }
        let Some((best, _)) = best else { return false };
        let (id, scores) = (best.id, row(best));
        self.frontier = frontier;
        let new = self.best != Some(id);
        self.bar = Arc::new(Bar { best: scores, top });
        self.best = Some(id);
        new
    }
}
