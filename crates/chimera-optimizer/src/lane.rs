//! The work of one step, from the making of a candidate to its scores.

use std::sync::Arc;

use futures_util::future::try_join;
use serde::Serialize;

use crate::{
    board::{Bar, SAME},
    budget::Used,
    candidate::Candidate,
    engine::{Engine, Stop},
    proposer::{Guidance, Record, Reflection},
    race::{RUNG, is_hopeless},
    rollout::Rollout,
    strategy::{Accept, Make, Step, Validate},
    task::Set,
};

/// What became of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// The parent was perfect on the minibatch: there was nothing to learn.
    NothingWrong,
    /// The proposer brought no usable text, or the one that was there; or what was put together is too long.
    NothingNew,
    /// It is a member already.
    Known,
    /// It did not pass its minibatch.
    Rejected,
    /// It passed, and was clearly worse than the best within its validation.
    GivenUp,
    /// It passed, and was tried on what was wanted.
    Scored,
}

impl Verdict {
    /// Whether it passed its minibatch.
    pub fn is_accepted(self) -> bool {
        matches!(self, Self::GivenUp | Self::Scored)
    }
}

/// A step with what it needs, taken when it was begun.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) seed: u64,
    pub(crate) step: Step,
    pub(crate) parent: Candidate,
    /// The member that is tried again.
    pub(crate) again: Option<Candidate>,
    pub(crate) bar: Arc<Bar>,
    /// The order of validation examples.
    pub(crate) validation: Arc<[usize]>,
    pub(crate) race: bool,
}

type Found = Vec<(usize, Arc<Rollout>)>;

/// What a step found.
#[derive(Debug, Clone)]
pub(crate) struct Done {
    pub(crate) number: u64,
    pub(crate) step: Step,
    pub(crate) child: Option<Candidate>,
    pub(crate) before: Found,
    pub(crate) after: Found,
    pub(crate) validation: Found,
    pub(crate) verdict: Verdict,
    pub(crate) note: String,
    pub(crate) used: Vec<Used>,
}

/// Does the work of a step.
pub(crate) async fn work(engine: &Engine, order: Order) -> Result<Done, Stop> {
    let mut done = Done {
        number: order.number,
        step: order.step.clone(),
        child: None,
        before: Vec::new(),
        after: Vec::new(),
        validation: Vec::new(),
        verdict: Verdict::NothingNew,
        note: String::new(),
        used: Vec::new(),
    };
    match &order.step.make {
        Make::Again(_) => done.child.clone_from(&order.again),
        Make::Ready(candidate) => done.child = Some(candidate).filter(|one| fits(engine, one)).cloned(),
        Make::Rewrite { component, guidance, blind } => {
            done.before = tried(engine, &order.parent, &order.step.minibatch, &mut done.used).await?;
            let perfect = done.before.iter().all(|(_, rollout)| rollout.score >= 1.0 - SAME);
            if perfect && !done.before.is_empty() && !blind {
                done.verdict = Verdict::NothingWrong;
                return Ok(done);
            }
            done.child = rewrite(engine, &order, (component, guidance, *blind), &mut done).await?;
        }
    }
    let Some(child) = done.child.clone() else { return Ok(done) };
    if order.step.accept == Accept::Always {
        // Nothing hangs on the minibatch: both sets at once.
        let mut apart = Done { used: Vec::new(), verdict: Verdict::Scored, ..done.clone() };
        let both = try_join(
            compare(engine, &order, &child, &mut done),
            validate(engine, &order, &child, &mut apart),
        );
        both.await?;
        done.used.append(&mut apart.used);
        (done.validation, done.verdict) = (apart.validation, apart.verdict);
        return Ok(done);
    }
    compare(engine, &order, &child, &mut done).await?;
    if !passes(order.step.accept, &done) {
        done.verdict = Verdict::Rejected;
        return Ok(done);
    }
    done.verdict = Verdict::Scored;
    validate(engine, &order, &child, &mut done).await?;
    Ok(done)
}

/// Whether no text is longer than it may become; those that the job began with are as long as they are.
fn fits(engine: &Engine, candidate: &Candidate) -> bool {
    let (longest, seed) = (engine.task.longest_text(), engine.task.seed());
    candidate.iter().all(|(name, text)| text.len() <= longest || seed.text(name) == Some(text))
}

async fn tried(
    engine: &Engine,
    candidate: &Candidate,
    places: &[usize],
    used: &mut Vec<Used>,
) -> Result<Found, Stop> {
    let found = engine.rollouts(candidate, Set::Train, places, used).await?;
    Ok(places.iter().copied().zip(found).collect())
}

/// Tries child and parent on the minibatch, as far as that was not done.
async fn compare(engine: &Engine, order: &Order, child: &Candidate, done: &mut Done) -> Result<(), Stop> {
    let places = &order.step.minibatch;
    let (mut by_parent, mut by_child) = (Vec::new(), Vec::new());
    let want_parent = done.before.is_empty() && order.step.accept != Accept::Always;
    let parent = if want_parent { places.as_slice() } else { &[] };
    let (before, after) = try_join(
        tried(engine, &order.parent, parent, &mut by_parent),
        tried(engine, child, places, &mut by_child),
    )
    .await?;
    if want_parent {
        done.before = before;
    }
    done.after = after;
    done.used.append(&mut by_parent);
    done.used.append(&mut by_child);
    Ok(())
}

fn passes(accept: Accept, done: &Done) -> bool {
    let sum = |found: &Found| found.iter().map(|(_, rollout)| rollout.score).sum::<f64>();
    match accept {
        Accept::Always => true,
        Accept::Better => sum(&done.after) > sum(&done.before) + SAME,
        Accept::NotWorse => sum(&done.after) >= sum(&done.before) - SAME,
    }
}

async fn rewrite(
    engine: &Engine,
    order: &Order,
    (component, guidance, blind): (&String, &Guidance, bool),
    done: &mut Done,
) -> Result<Option<Candidate>, Stop> {
    let Some(text) = order.parent.text(component) else { return Ok(None) };
    let records = if blind { Vec::new() } else { records(engine, component, &done.before) };
    let reflection = Reflection {
        about: engine.task.purpose().to_owned(),
        component: component.clone(),
        text: text.to_owned(),
        records,
        guidance: guidance.clone(),
        max_bytes: engine.task.longest_text(),
        seed: order.seed,
    };
    let proposal = engine.propose(reflection, &mut done.used).await?;
    done.note.clone_from(&proposal.note);
    let new = proposal.text.as_deref().filter(|new| *new != text && new.len() <= engine.task.longest_text());
    Ok(new.map(|new| order.parent.with(component, new)))
}

/// What the stages with the component were given and answered.
fn records(engine: &Engine, component: &str, found: &Found) -> Vec<Record> {
    let stages: Vec<&str> = engine.task.program().stages_of(component).collect();
    let mut records = Vec::new();
    for (_, rollout) in found {
        let seen = rollout.traces.iter().filter(|trace| stages.contains(&trace.stage.as_str()));
        let (mut input, mut output) = (String::new(), String::new());
        for trace in seen {
            input.push_str(&trace.input);
            output.push_str(&trace.output);
        }
        if !rollout.traces.last().is_some_and(|last| stages.contains(&last.stage.as_str())) {
            output.push_str("\n(and in the end) ");
            output.push_str(&rollout.output);
        }
        records.push(Record { input, output, score: rollout.score, feedback: rollout.feedback.clone() });
    }
    records
}

/// Tries a candidate on the validation set, rung by rung when it may be given up.
async fn validate(engine: &Engine, order: &Order, child: &Candidate, done: &mut Done) -> Result<(), Stop> {
    let total = order.validation.len();
    let (count, race) = match order.step.validate {
        Validate::First(count) => (count.min(total), false),
        Validate::All => (total, order.race && order.bar.best.len() == total),
    };
    let mut left = order.validation.get(..count).unwrap_or_default();
    let mut rung = if race { RUNG } else { count };
    while !left.is_empty() {
        // Rungs grow: the longer it lasts, the less is saved by giving up early, and each rung is a wait.
        let (places, rest) = left.split_at(rung.min(left.len()));
        (left, rung) = (rest, 2 * rung);
        let found = engine.rollouts(child, Set::Validation, places, &mut done.used).await?;
        done.validation.extend(places.iter().copied().zip(found));
        if race && is_given_up(&order.bar, &done.validation, total) {
            done.verdict = Verdict::GivenUp;
            break;
        }
    }
    Ok(())
}

/// Clearly worse than the best, and better than everybody nowhere.
fn is_given_up(bar: &Bar, found: &Found, total: usize) -> bool {
    let score = |row: &[f64], place: usize| row.get(place).copied().unwrap_or(0.0);
    let pairs: Vec<(f64, f64)> =
        found.iter().map(|(place, rollout)| (rollout.score, score(&bar.best, *place))).collect();
    let special = found.iter().any(|(place, rollout)| rollout.score > score(&bar.top, *place) + SAME);
    !special && is_hopeless(&pairs, total)
}
