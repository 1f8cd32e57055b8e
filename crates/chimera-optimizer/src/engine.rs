//! Everything that is paid for goes through here: slots, retries, the memo, the journal.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use futures_util::future::try_join_all;
use tokio::{
    sync::{OnceCell, Semaphore, SemaphorePermit},
    time::{Instant, sleep},
};

use crate::{
    budget::{Budget, Limit, Used},
    candidate::{Candidate, Digest},
    chance::Chance,
    dataset::Example,
    evaluator::{Case, Evaluator, SharedEvaluator, within},
    event::{Event, Events},
    health::{Health, Next, Pause},
    journal::{Entry, Journal, JournalError, Past},
    metrics::Metrics,
    model::{CallError, CallErrorKind, LanguageModel, SharedModel},
    program::{Made, cut},
    proposer::{Proposal, Proposer, Reflection, SharedProposer},
    rollout::Rollout,
    settings::Settings,
    spend::Spend,
    task::{Set, Task},
};

/// The longest feedback kept of one judgement, in bytes.
const LONGEST_FEEDBACK: usize = 8 << 10;

/// Why no more calls are made.
#[derive(Debug)]
pub(crate) enum Stop {
    Journal(JournalError),
    Paused(String),
    Spent(Limit),
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

/// A place among the calls under way.
type Slot<'a> = Option<SemaphorePermit<'a>>;

/// What is under way, and what it has cost so far. What a call costs that brings nothing is counted here.
struct Tab {
    key: Digest,
    made: Made,
    /// Whether all of it is in the journal.
    is_kept: bool,
}

type Memo<T> = Mutex<HashMap<Digest, Arc<OnceCell<Arc<T>>>>>;

pub(crate) struct Engine {
    pub(crate) task: Arc<Task>,
    pub(crate) metrics: Metrics,
    model: SharedModel,
    evaluator: SharedEvaluator,
    proposer: SharedProposer,
    budget: Budget,
    seed: u64,
    slots: Semaphore,
    health: Health,
    pause: (std::time::Duration, std::time::Duration),
    rollouts: Memo<Rollout>,
    proposals: Memo<Proposal>,
    /// What earlier runs of the job began.
    begun: Mutex<HashMap<Digest, Made>>,
    journal: Option<Journal>,
    events: Events,
    tokens: AtomicU64,
    nanodollars: AtomicU64,
    errors: AtomicUsize,
}

/// Who does the work of a job.
#[derive(Debug, Clone)]
pub(crate) struct Crew {
    pub(crate) model: SharedModel,
    pub(crate) evaluator: SharedEvaluator,
    pub(crate) proposer: SharedProposer,
}

impl Engine {
    pub(crate) fn new(
        task: Arc<Task>,
        crew: Crew,
        settings: &Settings,
        journal: Option<Journal>,
        past: Past,
        events: Events,
    ) -> Self {
        let engine = Self {
            metrics: Metrics::new(&settings.label),
            model: crew.model,
            evaluator: crew.evaluator,
            proposer: crew.proposer,
            budget: settings.budget,
            seed: settings.seed,
            slots: Semaphore::new(settings.concurrency),
            health: Health::new(settings.pause_after, settings.retries, settings.backoff),
            pause: (settings.probe_every, settings.pause_limit),
            rollouts: Memo::default(),
            proposals: Memo::default(),
            begun: Mutex::default(),
            journal,
            events,
            tokens: AtomicU64::new(0),
            nanodollars: AtomicU64::new(0),
            errors: AtomicUsize::new(0),
            task,
        };
        for (_, rollout) in &past.rollouts {
            engine.count(rollout.spend);
            engine.errors.fetch_add(usize::from(rollout.failed), Relaxed);
        }
        for (_, proposal) in &past.proposals {
            engine.count(proposal.spend);
        }
        for made in past.begun.values() {
            engine.count(made.spend);
        }
        engine.begun.lock().unwrap_or_else(PoisonError::into_inner).extend(past.begun);
        fill(&engine.rollouts, past.rollouts);
        fill(&engine.proposals, past.proposals);
        engine
    }

    /// Roll-outs of a candidate on some examples of a set, in their order.
    pub(crate) async fn rollouts(
        &self,
        candidate: &Candidate,
        set: Set,
        places: &[usize],
        used: &mut Vec<Used>,
    ) -> Result<Vec<Arc<Rollout>>, Stop> {
        let digest = candidate.digest();
        let examples = places.iter().filter_map(|place| self.task.examples(set).get(*place));
        let all = try_join_all(examples.map(|example| self.rollout(candidate, digest, example))).await?;
        used.extend(all.iter().map(|(key, one)| Used { key: *key, spend: one.spend, evaluation: true }));
        Ok(all.into_iter().map(|(_, rollout)| rollout).collect())
    }

    async fn rollout(
        &self,
        candidate: &Candidate,
        digest: Digest,
        example: &Example,
    ) -> Result<(Digest, Arc<Rollout>), Stop> {
        let key = key_of(digest, example);
        let cell = cell(&self.rollouts, key);
        if let Some(known) = cell.get() {
            self.metrics.known.increment(1);
            return Ok((key, Arc::clone(known)));
        }
        let rollout = cell.get_or_try_init(|| self.pay(key, candidate, example)).await?;
        Ok((key, Arc::clone(rollout)))
    }

    async fn pay(&self, key: Digest, candidate: &Candidate, example: &Example) -> Result<Arc<Rollout>, Stop> {
        let seed = Chance::new(self.seed, u64::from_le_bytes(first_half(example.digest()))).number();
        let (program, mut slot, mut tab) = (self.task.program(), None, self.tab(key));
        let mut failure = None;
        while let Some(asked) = program.next(candidate, example, &tab.made.traces, seed) {
            match self.call(&mut slot, &mut tab, || self.model.ask(asked.clone())).await? {
                Ok(answer) => {
                    self.charge(&mut tab, answer.spend);
                    program.take(&mut tab.made.traces, asked.user, answer.text);
                }
                Err(error) => {
                    tab.made.traces.clear();
                    failure = Some(error);
                    break;
                }
            }
        }
        let rollout = match failure {
            None => self.judge(example, tab, &mut slot).await?,
            Some(error) => failed(tab.made, &error),
        };
        drop(slot);
        self.errors.fetch_add(usize::from(rollout.failed), Relaxed);
        self.metrics.evaluated(rollout.failed);
        if let Some(journal) = &self.journal {
            journal.write(&Entry::Rollout { key: key.to_string(), found: rollout.clone() })?;
        }
        Ok(Arc::new(rollout))
    }

    /// Judges in the slot that the output was made in: what is paid for does not queue up before it is kept.
    async fn judge<'a>(
        &'a self,
        example: &Example,
        mut tab: Tab,
        slot: &mut Slot<'a>,
    ) -> Result<Rollout, Stop> {
        let output = tab.made.output().to_owned();
        let judge = || self.evaluator.evaluate(Case { example, output: &output });
        Ok(match self.call(slot, &mut tab, judge).await? {
            Ok(mut judgement) => {
                self.charge(&mut tab, judgement.spend);
                cut(&mut judgement.feedback, LONGEST_FEEDBACK);
                Rollout {
                    score: within(judgement.score),
                    output,
                    feedback: judgement.feedback,
                    traces: tab.made.traces,
                    spend: tab.made.spend,
                    failed: false,
                }
            }
            Err(error) => failed(tab.made, &error),
        })
    }

    /// A proposal; the same reflection is answered once.
    pub(crate) async fn propose(
        &self,
        reflection: Reflection,
        used: &mut Vec<Used>,
    ) -> Result<Arc<Proposal>, Stop> {
        let text = serde_json::to_vec(&reflection).unwrap_or_default();
        let key = Digest::of_parts([b"proposal".as_slice(), &text]);
        let cell = cell(&self.proposals, key);
        let proposal = cell.get_or_try_init(|| self.pay_proposal(key, &reflection)).await?;
        used.push(Used { key, spend: proposal.spend, evaluation: false });
        Ok(Arc::clone(proposal))
    }

    async fn pay_proposal(&self, key: Digest, reflection: &Reflection) -> Result<Arc<Proposal>, Stop> {
        let (mut slot, mut tab) = (None, self.tab(key));
        let propose = || self.proposer.propose(reflection.clone());
        let proposal = match self.call(&mut slot, &mut tab, propose).await? {
            Ok(proposal) => {
                self.charge(&mut tab, proposal.spend);
                Proposal { spend: tab.made.spend, ..proposal }
            }
            Err(error) => {
                self.errors.fetch_add(1, Relaxed);
                Proposal { note: error.message, text: None, spend: tab.made.spend }
            }
        };
        drop(slot);
        if let Some(journal) = &self.journal {
            journal.write(&Entry::Proposal { key: key.to_string(), found: proposal.clone() })?;
        }
        Ok(Arc::new(proposal))
    }

    /// What an earlier run of the job began.
    fn tab(&self, key: Digest) -> Tab {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        Tab { key, is_kept: true, made: begun.unwrap_or_default() }
    }

    fn charge(&self, tab: &mut Tab, spend: Spend) {
        tab.made.spend += spend;
        tab.is_kept = false;
        self.count(spend);
    }

    /// A call failed: what was paid for before it is written down, for the next one may never be made.
    fn keep(&self, tab: &mut Tab) -> Result<(), JournalError> {
        match &self.journal {
            Some(journal) if !tab.is_kept => {
                tab.is_kept = true;
                journal.write(&Entry::Begun { key: tab.key.to_string(), found: tab.made.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Makes a call in a slot, the one that is held if there is one, as often as it is worth it. The slot
    /// is kept when it succeeds.
    async fn call<'a, T, F>(
        &'a self,
        slot: &mut Slot<'a>,
        tab: &mut Tab,
        make: impl Fn() -> F,
    ) -> Result<Result<T, CallError>, Stop>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut tries = 0;
        let mut probing: Option<Pause> = None;
        loop {
            let result = self.once(slot, &make, probing.is_some()).await?;
            let error = match result {
                Ok(found) => {
                    self.well();
                    return Ok(Ok(found));
                }
                Err(error) => error,
            };
            *slot = None;
            tries += 1;
            if error.spend != Spend::default() {
                self.charge(tab, error.spend);
            }
            if error.kind == CallErrorKind::Unreadable {
                self.well();
                probing = None;
            }
            let next = self.health.failed(&error, tries);
            if next != Next::GiveUp {
                self.keep(tab)?;
            }
            match (next, probing) {
                (Next::GiveUp, _) => {
                    if error.kind == CallErrorKind::Refused {
                        self.well();
                    }
                    return Ok(Err(error));
                }
                (Next::Retry(wait), _) => sleep(wait).await,
                (Next::Wait, None) => {}
                (Next::Wait | Next::Probe, Some(pause)) if Instant::now() >= pause.until => {
                    return Err(Stop::Paused(error.message));
                }
                (Next::Wait | Next::Probe, pause) => {
                    if pause.is_none() {
                        self.events.send(Event::Paused { reason: error.message.clone() });
                    }
                    let pause =
                        pause.unwrap_or(Pause { every: self.pause.0, until: Instant::now() + self.pause.1 });
                    probing = Some(pause);
                    sleep(pause.every.min(pause.until.saturating_duration_since(Instant::now()))).await;
                }
            }
        }
    }

    async fn once<'a, T, F>(
        &'a self,
        slot: &mut Slot<'a>,
        make: &impl Fn() -> F,
        probing: bool,
    ) -> Result<Result<T, CallError>, Stop>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        while slot.is_none() {
            if !probing {
                self.health.open().await;
            }
            let Ok(free) = self.slots.acquire().await else {
                return Ok(Err(CallError::transient("the job has ended")));
            };
            // The pause may have come while this call waited for its slot.
            if probing || !self.health.is_paused() {
                self.admit()?;
                *slot = Some(free);
            }
        }
        Ok(make().await)
    }

    fn well(&self) {
        if self.health.answered() {
            self.events.send(Event::Resumed);
        }
    }

    /// No call is begun once tokens or money are used up, whatever was estimated.
    fn admit(&self) -> Result<(), Stop> {
        if self.budget.tokens.is_some_and(|limit| self.tokens.load(Relaxed) >= limit) {
            return Err(Stop::Spent(Limit::Tokens));
        }
        let spent = self.nanodollars.load(Relaxed) as f64;
        if self.budget.dollars.is_some_and(|limit| spent >= limit * 1e9) {
            return Err(Stop::Spent(Limit::Money));
        }
        Ok(())
    }

    fn count(&self, spend: Spend) {
        self.tokens.fetch_add(spend.all_tokens(), Relaxed);
        self.nanodollars.fetch_add(spend.nanodollars, Relaxed);
    }

    /// What is known of a candidate on a set, without asking anybody.
    pub(crate) fn known(&self, candidate: &Candidate, set: Set) -> Vec<Arc<Rollout>> {
        let digest = candidate.digest();
        let memo = self.rollouts.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.task.examples(set).iter().map(|example| key_of(digest, example));
        keys.filter_map(|key| memo.get(&key)?.get().cloned()).collect()
    }

    /// The journal, when nothing is called any more.
    pub(crate) fn into_journal(self) -> Option<Journal> {
        self.journal
    }

    /// Calls that failed for good.
    pub(crate) fn errors(&self) -> usize {
        self.errors.load(Relaxed)
    }

    pub(crate) fn clock(&self, elapsed: std::time::Duration) -> Result<(), JournalError> {
        let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        self.journal.as_ref().map_or(Ok(()), |journal| journal.write(&Entry::Clock { milliseconds }))
    }
}

fn failed(made: Made, error: &CallError) -> Rollout {
    Rollout {
        score: 0.0,
        output: made.output().to_owned(),
        feedback: format!("The call failed: {}", error.message),
        traces: made.traces,
        spend: made.spend,
        failed: true,
    }
}

fn key_of(candidate: Digest, example: &Example) -> Digest {
    Digest::of_parts([candidate.0.as_slice(), &example.digest().0])
}

fn first_half(digest: Digest) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = digest.0;
    [a, b, c, d, e, f, g, h]
}

fn cell<T>(memo: &Memo<T>, key: Digest) -> Arc<OnceCell<Arc<T>>> {
    Arc::clone(memo.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
}

fn fill<T>(memo: &Memo<T>, known: Vec<(Digest, T)>) {
    let mut memo = memo.lock().unwrap_or_else(PoisonError::into_inner);
    memo.extend(known.into_iter().map(|(key, one)| (key, Arc::new(OnceCell::new_with(Some(Arc::new(one)))))));
}
