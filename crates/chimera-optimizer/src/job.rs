//! A job from its beginning to its findings.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast, watch},
    time::{Instant, timeout_at},
};

use crate::{
    board::Member,
    budget::Limit,
    candidate::{Candidate, Digest},
    engine::{Crew, Engine, Stop},
    error::{OptimizeError, TaskError},
    evaluator::{Evaluator, SharedEvaluator},
    event::{Event, Events, Progress},
    findings::{Findings, Scores, changes, lineage},
    journal::{Journal, JournalError, Past},
    metrics::Metrics,
    model::{LanguageModel, SharedModel},
    proposer::{ModelProposer, Proposer, SharedProposer},
    search::{Ended, Interrupts, Search},
    settings::Settings,
    stats::Estimate,
    strategies::Reflective,
    strategy::Strategy,
    task::{Set, Task},
};

/// The part of a limited time that is kept for the final check.
const KEPT: f64 = 0.1;

/// What a job is made of.
pub struct Optimization {
    task: Task,
    crew: Crew,
    settings: Settings,
    strategy: Box<dyn Strategy>,
    journal: Option<PathBuf>,
    names: String,
}

impl Optimization {
    /// A job of a task, the model that is put to work, and what judges it. The same model proposes, and the
    /// strategy is `reflective`, unless something else is said.
    pub fn new(task: Task, model: impl LanguageModel, evaluator: impl Evaluator) -> Self {
        let model = SharedModel::new(model);
        let proposer = SharedProposer::new(ModelProposer::new(model.clone(), "same"));
        let crew = Crew { evaluator: SharedEvaluator::new(evaluator), proposer, model };
        Self {
            task,
            crew,
            settings: Settings::default(),
            strategy: Box::new(Reflective::default()),
            journal: None,
            names: String::new(),
        }
    }

    /// Who proposes.
    #[must_use]
    pub fn proposer(mut self, proposer: impl Proposer) -> Self {
        self.crew.proposer = SharedProposer::new(proposer);
        self
    }

    /// What is tried.
    #[must_use]
    pub fn strategy(mut self, strategy: impl Strategy) -> Self {
        self.strategy = Box::new(strategy);
        self
    }

    /// How the job works.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The name of the model that is put to work: a journal of another is not resumed.
    #[must_use]
    pub fn model_name(mut self, name: impl Into<String>) -> Self {
        self.names = name.into();
        self
    }

    /// Where to write what was paid for. A job that finds its journal there goes on from it.
    #[must_use]
    pub fn journal(mut self, path: impl Into<PathBuf>) -> Self {
        self.journal = Some(path.into());
        self
    }

    /// Checks the settings; nothing has begun yet.
    pub fn build(self) -> Result<Job, TaskError> {
        self.settings.validate().map_err(|error| error.under("settings"))?;
        let (cancel, cancelled) = watch::channel(false);
        Ok(Job { made: self, events: Events::new(), cancel: Arc::new(cancel), cancelled })
    }

    /// What tells the job from every other.
    fn digest(&self) -> Digest {
        let parts = [
            self.task.digest().to_string(),
            self.names.clone(),
            self.crew.evaluator.version(),
            self.crew.proposer.version(),
            self.strategy.version(),
            self.settings.version(),
        ];
        Digest::of_parts(parts.iter().map(String::as_bytes))
    }
}

/// A job that is ready to run.
pub struct Job {
    made: Optimization,
    events: Events,
    cancel: Arc<watch::Sender<bool>>,
    cancelled: watch::Receiver<bool>,
}

/// A hold on a job while it runs.
#[derive(Debug, Clone)]
pub struct Handle {
    events: Events,
    cancel: Arc<watch::Sender<bool>>,
}

impl Handle {
    /// Events from now on. A follower that is too far behind is told how many it has lost.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.follow()
    }

    /// How far the job is, at any time.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.events.progress()
    }

    /// Whether the job was cancelled.
    pub fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Ends the job: calls under way are dropped at once, what was paid for is kept in the journal.
    pub fn cancel(&self) {
        self.cancel.send_replace(true);
    }
}

impl Job {
    /// Where to write what was paid for, as [`Optimization::journal`] has it.
    pub fn set_journal(&mut self, path: impl Into<PathBuf>) {
        self.made.journal = Some(path.into());
    }

    /// The metric label of the job, from a closed set: a place among those that run.
    pub fn set_label(&mut self, label: impl Into<String>) {
        self.made.settings.label = label.into();
    }

    /// A hold on the job.
    pub fn handle(&self) -> Handle {
        Handle { events: self.events.clone(), cancel: Arc::clone(&self.cancel) }
    }

    /// Runs to the end. Dropping the future ends everything that works for the job.
    pub async fn run(self) -> Result<Findings, OptimizeError> {
        let (events, began) = (self.events.clone(), Instant::now());
        let result = Box::pin(self.work()).await;
        let (ended, score) = match &result {
            Ok(found) => (found.ended.word(), found.scores.validation.map(|scores| scores.mean)),
            Err(OptimizeError::CancelledAtStart) => ("cancelled", None),
            Err(OptimizeError::PausedAtStart(_)) => ("paused", None),
            Err(_) => ("failed", None),
        };
        Metrics::took(ended).record(began.elapsed().as_secs_f64());
        events.send(Event::Finished { ended, score });
        result
    }

    async fn work(self) -> Result<Findings, OptimizeError> {
        let Self { made, events, cancelled, .. } = self;
        let (journal, past) = open(made.journal.clone(), made.digest()).await?;
        let (before, resumed) = (past.elapsed, past.rollouts.len() + past.proposals.len());
        events.send(Event::Started { resumed });
        let settings = made.settings;
        let strategy = made.strategy.name();
        let engine = Engine::new(Arc::new(made.task), made.crew, &settings, journal, past, events.clone());
        let end = settings.budget.wall.map(|wall| Instant::now() + wall.saturating_sub(before));
        let check = !engine.task.examples(Set::HeldOut).is_empty();
        let kept = settings.budget.wall.filter(|_| check).map_or(Duration::ZERO, |wall| wall.mul_f64(KEPT));
        let deadline = end.map(|end| end.checked_sub(kept).unwrap_or(end));
        let mut interrupts = Interrupts { cancel: cancelled, deadline };
        let mut search = Search::new(&engine, &settings, made.strategy, events, before);
        let mut ended = search.run(&mut interrupts).await?;
        interrupts.deadline = end;
        if let (Some(best), Ended::Finished | Ended::Budget(_)) = (search.board.best(), &ended) {
            let best = best.candidate.clone();
            if let Some(why) = final_check(&engine, &best, interrupts).await? {
                ended = why;
            }
        }
        engine.clock(search.elapsed())?;
        let findings = findings(&engine, &search, strategy, ended);
        drop(search);
        if let Some(journal) = engine.into_journal() {
            blocking(move || journal.close()).await?;
        }
        findings
    }
}

async fn open(path: Option<PathBuf>, job: Digest) -> Result<(Option<Journal>, Past), JournalError> {
    let Some(path) = path else { return Ok((None, Past::default())) };
    let (journal, past) = blocking(move || Journal::open(&path, job)).await?;
    Ok((Some(journal), past))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, JournalError> + Send + 'static,
) -> Result<T, JournalError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(JournalError::Stopped))
}

/// Tries seed and best on the held-out examples. Says how the job ended when it could not be done.
async fn final_check(
    engine: &Engine,
    best: &Candidate,
    mut interrupts: Interrupts,
) -> Result<Option<Ended>, JournalError> {
    let places: Vec<usize> = (0..engine.task.examples(Set::HeldOut).len()).collect();
    let (mut by_seed, mut by_best) = (Vec::new(), Vec::new());
    let both = futures_util::future::try_join(
        engine.rollouts(engine.task.seed(), Set::HeldOut, &places, &mut by_seed),
        engine.rollouts(best, Set::HeldOut, &places, &mut by_best),
    );
    let end = interrupts.deadline;
    let timed = async move {
        match end {
            Some(end) => {
                timeout_at(end, both).await.map_err(|_| Stop::Spent(Limit::Wall)).and_then(|done| done)
            }
            None => both.await,
        }
    };
    let done = tokio::select! {
        biased;
        _ = interrupts.cancel.wait_for(|cancelled| *cancelled) => return Ok(Some(Ended::Cancelled)),
        done = timed => done,
    };
    match done {
        Ok(_) => Ok(None),
        Err(Stop::Journal(error)) => Err(error),
        Err(Stop::Paused(reason)) => Ok(Some(Ended::Paused(reason))),
        Err(Stop::Spent(limit)) => Ok(Some(Ended::Budget(limit))),
    }
}

fn findings(
    engine: &Engine,
    search: &Search<'_>,
    strategy: &'static str,
    ended: Ended,
) -> Result<Findings, OptimizeError> {
    let (Some(best), Some(seed)) = (search.board.best(), search.board.members().first()) else {
        return Err(match ended {
            Ended::Cancelled => OptimizeError::CancelledAtStart,
            Ended::Paused(reason) => OptimizeError::PausedAtStart(reason),
            Ended::Budget(_) | Ended::Finished => OptimizeError::BudgetTooSmall,
        });
    };
    let held_out = |member: &Member| engine.known(&member.candidate, Set::HeldOut);
    let scores = |member: &Member| Scores {
        train: Estimate::of(member.train.values().copied()),
        validation: Estimate::of(member.validation.values().copied()),
        held_out: Estimate::of(held_out(member).into_iter().map(|rollout| rollout.score)),
    };
    let mut checked = held_out(seed);
    if best.id != seed.id {
        checked.extend(held_out(best));
    }
    Ok(Findings {
        task: engine.task.name().to_owned(),
        strategy,
        ended,
        best: best.candidate.clone(),
        best_member: best.id,
        scores: scores(best),
        seed: seed.candidate.clone(),
        seed_scores: scores(seed),
        changes: changes(&seed.candidate, &best.candidate),
        lineage: lineage(&search.board),
        curve: search.curve.clone(),
        evaluations: search.ledger.evaluations(),
        check_evaluations: checked.len(),
        spend: checked.iter().fold(search.ledger.spend(), |sum, rollout| sum + rollout.spend),
        tried: search.board.tried().saturating_sub(1),
        errors: engine.errors(),
        seconds: search.elapsed().as_secs_f64(),
    })
}
