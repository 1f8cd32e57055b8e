//! The loop of a job: steps are begun in order, worked on in any order, and settled in order.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    board::{Board, Member},
    budget::{Ledger, Limit},
    chance::Chance,
    engine::{Engine, Stop},
    event::{Event, Events, Progress},
    journal::JournalError,
    lane::{self, Done, Order},
    settings::Settings,
    strategy::{Accept, Make, Plan, Step, Strategy, Validate},
    task::Set,
};

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ended {
    /// The strategy had nothing left to try.
    Finished,
    /// A limit was reached.
    Budget(Limit),
    /// It was cancelled; it can be resumed.
    Cancelled,
    /// Nothing answered for too long; it can be resumed.
    Paused(String),
}

impl Ended {
    /// One word: finished, budget, cancelled or paused.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Budget(_) => "budget",
            Self::Cancelled => "cancelled",
            Self::Paused(_) => "paused",
        }
    }
}

/// The best score after so many roll-outs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Roll-outs spent.
    pub evaluations: usize,
    /// The best mean validation score.
    pub score: f64,
}

/// Steps in a row without a roll-out, beyond which nothing new is to be hoped for.
const IDLE: usize = 60;

type Lane<'a> = Pin<Box<dyn Future<Output = Result<Done, Stop>> + Send + 'a>>;

/// What interrupts a search.
pub(crate) struct Interrupts {
    pub(crate) cancel: watch::Receiver<bool>,
    pub(crate) deadline: Option<Instant>,
}

pub(crate) struct Search<'a> {
    pub(crate) board: Board,
    pub(crate) ledger: Ledger,
    pub(crate) curve: Vec<Point>,
    engine: &'a Engine,
    settings: &'a Settings,
    strategy: Box<dyn Strategy>,
    events: Events,
    chance: Chance,
    order: Arc<[usize]>,
    began: Instant,
    before: Duration,
    clock: Instant,
    next: u64,
    settled: u64,
    /// A step that is planned and does not fit into the budget yet.
    pending: Option<Step>,
    /// Steps in a row that cost no roll-out: whatever is proposed was tried before.
    idle: usize,
    accepted: usize,
    last_accepted: String,
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        settings: &'a Settings,
        strategy: Box<dyn Strategy>,
        events: Events,
        before: Duration,
    ) -> Self {
        let total = engine.task.examples(Set::Validation).len();
        let later = 2 * engine.task.examples(Set::HeldOut).len();
        let order: Arc<[usize]> = Chance::new(settings.seed, 2).sample(total, total).into();
        Self {
            board: Board::new(Arc::clone(&engine.task), settings.second, Arc::clone(&order), settings.width),
            ledger: Ledger::new(settings.budget, later),
            curve: Vec::new(),
            chance: Chance::new(settings.seed, 1),
            engine,
            settings,
            strategy,
            events,
            order,
            began: Instant::now(),
            before,
            clock: Instant::now(),
            next: 0,
            settled: 0,
            pending: None,
            idle: 0,
            accepted: 0,
            last_accepted: String::new(),
        }
    }

    /// Time of this run and those before.
    pub(crate) fn elapsed(&self) -> Duration {
        self.before + self.began.elapsed()
    }

    /// Searches until something ends it.
    pub(crate) async fn run(&mut self, interrupts: &mut Interrupts) -> Result<Ended, JournalError> {
        let mut lanes: FuturesUnordered<Lane<'a>> = FuturesUnordered::new();
        let mut waiting: BTreeMap<u64, Done> = BTreeMap::new();
        let seed = Step {
            by: "seed",
            make: Make::Again(0),
            parents: vec![0],
            minibatch: Vec::new(),
            accept: Accept::Always,
            validate: Validate::First(self.order.len()),
        };
        if let Err(limit) = self.begin(seed, &lanes) {
            return Ok(Ended::Budget(limit));
        }
        let mut ended = Ended::Finished;
        while self.settled < self.next {
            let deadline = interrupts.deadline;
            let done = tokio::select! {
                biased;
                _ = interrupts.cancel.wait_for(|cancelled| *cancelled) => return Ok(Ended::Cancelled),
                () = until(deadline) => return Ok(Ended::Budget(Limit::Wall)),
                done = lanes.next() => done,
            };
            match done {
                Some(Ok(done)) => drop(waiting.insert(done.number, done)),
                Some(Err(Stop::Journal(error))) => return Err(error),
                Some(Err(Stop::Paused(reason))) => return Ok(Ended::Paused(reason)),
                Some(Err(Stop::Spent(limit))) => return Ok(Ended::Budget(limit)),
                None => break,
            }
            while let Some(done) = waiting.remove(&self.settled) {
                self.settle(&done)?;
                ended = self.fill(&lanes);
            }
        }
        Ok(ended)
    }

    /// Begins steps until the width is used. What it returns is how the job ended, if none is under way.
    fn fill(&mut self, lanes: &FuturesUnordered<Lane<'a>>) -> Ended {
        while ((self.next - self.settled) as usize) < self.settings.width {
            if self.idle >= IDLE {
                return Ended::Finished;
            }
            let step = match self.pending.take() {
                Some(step) => step,
                None => match self.strategy.plan(&self.board, &mut self.chance) {
                    Plan::Step(step) => step,
                    Plan::Wait | Plan::Done => return Ended::Finished,
                },
            };
            if let Err(limit) = self.begin(step.clone(), lanes) {
                self.pending = Some(step);
                return Ended::Budget(limit);
            }
        }
        Ended::Finished
    }

    fn begin(&mut self, step: Step, lanes: &FuturesUnordered<Lane<'a>>) -> Result<(), Limit> {
        let proposes = matches!(step.make, Make::Rewrite { .. });
        self.ledger.reserve(self.next, self.most(&step), proposes)?;
        let candidate = |id: usize| self.board.members().get(id).map(|member| member.candidate.clone());
        let order = Order {
            number: self.next,
            seed: Chance::new(self.settings.seed, self.next ^ (1 << 40)).number(),
            parent: step.parents.first().and_then(|parent| candidate(*parent)).unwrap_or_default(),
            again: if let Make::Again(member) = step.make { candidate(member) } else { None },
            bar: self.board.bar(),
            validation: Arc::clone(&self.order),
            race: self.settings.race,
            step,
        };
        self.next += 1;
        lanes.push(Box::pin(lane::work(self.engine, order)));
        Ok(())
    }

    /// How many roll-outs a step can cost.
    fn most(&self, step: &Step) -> usize {
        let total = self.order.len();
        let wanted = match step.validate {
            Validate::First(count) => count.min(total),
            Validate::All => total,
        };
        let member = |id: Option<&usize>| id.and_then(|id| self.board.members().get(*id));
        let known =
            |member: &Member| step.minibatch.iter().filter(|place| member.train.contains_key(place)).count();
        let minibatch = step.minibatch.len();
        match &step.make {
            Make::Again(id) => {
                let (train, validation) =
                    member(Some(id)).map_or((0, 0), |member| (known(member), member.validation.len()));
                minibatch - train + wanted.saturating_sub(validation)
            }
            Make::Ready(_) if step.accept == Accept::Always => minibatch + wanted,
            _ => 2 * minibatch - member(step.parents.first()).map_or(0, known) + wanted,
        }
    }

    fn settle(&mut self, done: &Done) -> Result<(), JournalError> {
        self.settled += 1;
        let spent = self.ledger.evaluations();
        self.ledger.settle(done.number, &done.used);
        self.idle = if self.ledger.evaluations() > spent { 0 } else { self.idle + 1 };
        self.board.left = self.ledger.evaluations_left();
        let frontier = self.board.frontier().to_vec();
        let outcome = self.board.settle(done);
        self.ledger.stepped(outcome.best);
        if done.step.by != "seed" {
            self.tell(done.number, &outcome);
            self.strategy.settle(&self.board, &outcome);
        }
        if frontier != self.board.frontier() {
            let members = self.board.frontier().iter().map(|(member, _)| *member).collect();
            self.events.send(Event::Frontier { members });
        }
        if let (true, Some(best)) = (outcome.best, self.board.best()) {
            let score = best.mean().unwrap_or(0.0);
            self.curve.push(Point { evaluations: self.ledger.evaluations(), score });
            self.engine.metrics.best.set(score);
            self.events.send(Event::Best { member: best.id, score });
        }
        self.events.send(Event::Budget(self.progress()));
        if self.clock.elapsed() >= Duration::from_secs(1) {
            self.clock = Instant::now();
            self.engine.clock(self.elapsed())?;
        }
        Ok(())
    }

    fn tell(&mut self, step: u64, outcome: &crate::strategy::Outcome) {
        let parent = outcome.step.parents.first().copied().unwrap_or(0);
        self.events.send(Event::Tried {
            step,
            by: outcome.step.by,
            parent,
            verdict: outcome.verdict,
            before: outcome.before,
            after: outcome.after,
        });
        let again = matches!(outcome.step.make, Make::Again(_));
        if let (true, false, Some(member)) = (outcome.verdict.is_accepted(), again, outcome.member) {
            self.accepted += 1;
            // A union has nothing to say for itself.
            if !outcome.note.is_empty() {
                self.last_accepted.clone_from(&outcome.note);
            }
            let validation = self.board.members().get(member).and_then(Member::mean);
            self.events.send(Event::Accepted { member, parent, validation, note: outcome.note.clone() });
        }
    }

    /// How far the job is.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            evaluations: self.ledger.evaluations(),
            evaluations_left: self.ledger.evaluations_left(),
            spend: self.ledger.spend(),
            seconds: self.elapsed().as_secs_f64(),
            best: self.board.best().and_then(Member::mean),
            tried: self.board.tried().saturating_sub(1),
            accepted: self.accepted,
            last_accepted: self.last_accepted.clone(),
            paused: None,
        }
    }
}

pub(crate) async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
