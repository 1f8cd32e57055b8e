//! A thread that sends: its connections, what waits for them, and what it counts.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{runtime::LocalOptions, sync::Notify};

use crate::{
    connection::{Connection, Connector},
    exchange::{Failed, exchange},
    mix::Template,
    pacer::{self, Due},
    prompt::Prompt,
    random::{Random, Weighted, mix},
    schedule::Schedule,
    tally::{Class, Tally},
    trace::Trace,
};

/// Requests that may wait for a connection; more count as not sent.
const WAITING: usize = 65_536;

/// What a worker shares with whoever reads along.
pub(crate) struct Shared {
    /// Counted since it was last taken.
    pub(crate) tally: Mutex<Tally>,
    /// Requests under way.
    pub(crate) in_flight: AtomicU64,
    pub(crate) connections: AtomicU64,
}

impl Shared {
    pub(crate) fn new(mixes: usize) -> Self {
        Self {
            tally: Mutex::new(Tally::new(mixes)),
            in_flight: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        }
    }

    /// Takes what was counted and leaves `empty` in its place.
    pub(crate) fn take(&self, empty: Tally) -> Tally {
        std::mem::replace(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner), empty)
    }

    fn count(&self, note: impl FnOnce(&mut Tally)) {
        note(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What all workers of a run have in common.
pub(crate) struct Plan {
    pub(crate) templates: Vec<Template>,
    pub(crate) weights: Weighted,
    pub(crate) connector: Connector,
    pub(crate) trace: Arc<Trace>,
    pub(crate) timeout: Duration,
    /// When the run begins, from when requests count, and when the last may start.
    pub(crate) begin: Instant,
    pub(crate) counts_from: Instant,
    pub(crate) until: Instant,
    /// Requests left, if they are bounded.
    pub(crate) left: Option<AtomicU64>,
    /// Keeps this run's prompts apart from those of another.
    pub(crate) salt: u64,
    /// Which part of the run this is: prompts that come once come once in all parts.
    pub(crate) part: u64,
    /// Set to end the run.
    pub(crate) stop: Arc<AtomicBool>,
}

impl Plan {
    /// Whether one more request may start.
    fn one_more(&self) -> bool {
        let Some(left) = &self.left else { return true };
        left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// How a worker is told to send.
pub(crate) enum Pace {
    /// On all of its connections, one request after the other.
    Closed,
    /// When the schedule says.
    Open(Schedule),
}

/// One request to be sent.
#[derive(Clone, Copy)]
struct Job {
    intended: Instant,
    template: usize,
    prompt: Prompt,
}

struct Worker {
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    random: RefCell<Random>,
    fresh: Cell<u64>,
    /// The most connections.
    most: usize,
    open: Cell<usize>,
    idle: RefCell<Vec<Connection>>,
    waiting: RefCell<VecDeque<Job>>,
    /// Requests offered and not yet done with, those that wait included.
    under_way: Cell<usize>,
    quiet: Notify,
}

/// Sends until the plan is done, on this thread.
pub(crate) fn run(plan: Arc<Plan>, shared: Arc<Shared>, pace: Pace, number: u64, most: usize) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return shared.count(|tally| {
                if let Some(mix) = tally.mixes.first_mut() {
                    mix.error(Class::NotSent, || format!("no event loop: {error}"));
                }
            });
        }
    };
    let worker = Rc::new(Worker {
        random: RefCell::new(Random::new(mix(plan.salt ^ mix(number ^ plan.part << 16)))),
        // Numbers of workers, of parts and of runs lie far apart.
        fresh: Cell::new(mix(plan.salt ^ mix(!(number ^ plan.part << 16)))),
        most,
        open: Cell::new(0),
        idle: RefCell::default(),
        waiting: RefCell::default(),
        under_way: Cell::new(0),
        quiet: Notify::new(),
        plan,
        shared,
    });
    runtime.block_on(async {
        let work = async {
            match pace {
                Pace::Closed => worker.closed().await,
                Pace::Open(schedule) => worker.open(schedule).await,
            }
        };
        tokio::select! {
            () = work => {}
            () = stopped(&worker.plan.stop) => {}
        }
    });
    worker.shared.count(|tally| tally.unfinished += worker.under_way.get() as u64);
    worker.shared.in_flight.store(0, Relaxed);
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Worker {
    async fn closed(self: &Rc<Self>) {
        let now = Instant::now();
        tokio::time::sleep(self.plan.begin.saturating_duration_since(now)).await;
        let all: Vec<_> = (0..self.most)
            .map(|_| {
                let worker = Rc::clone(self);
                tokio::task::spawn_local(async move { worker.one_after_the_other().await })
            })
            .collect();
        for one in all {
            // A task that panics has said so.
            let _ = one.await;
        }
    }

    async fn one_after_the_other(self: Rc<Self>) {
        let mut connection = None;
        loop {
            let intended = Instant::now();
            if intended >= self.plan.until || !self.plan.one_more() {
                return;
            }
            let job = self.job(intended, None);
            self.offer(&job, None);
            let failed = self.serve(job, &mut connection).await;
            if failed {
                // A target that refuses must not turn this into a flood.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn open(self: &Rc<Self>, schedule: Schedule) {
        let plan = &self.plan;
        let mut dues = pacer::start(schedule, plan.begin, Arc::clone(&plan.stop));
        let mut batch: Vec<Due> = Vec::new();
        while dues.recv_many(&mut batch, 256).await > 0 {
            for (due, row) in batch.drain(..) {
                if due >= plan.until || !plan.one_more() {
                    dues.close();
                    break;
                }
                let job = self.job(due, Some(row));
                self.offer(&job, Some(Instant::now() - due));
                self.start(job);
            }
        }
        while self.under_way.get() > 0 {
            self.quiet.notified().await;
        }
    }

    fn job(&self, intended: Instant, row: Option<usize>) -> Job {
        let random = &mut *self.random.borrow_mut();
        let template = self.plan.weights.pick(random);
        let recorded = row.and_then(|row| self.plan.trace.rows.get(row));
        let prompt = match (recorded, self.plan.templates.get(template)) {
            (Some(row), _) => row.prompt,
            (None, Some(template)) => {
                self.fresh.set(self.fresh.get().wrapping_add(1));
                template.prompt(random, self.fresh.get(), self.plan.salt)
            }
            (None, None) => unreachable!("a scenario has a mix"),
        };
        Job { intended, template, prompt }
    }

    fn offer(&self, job: &Job, lag: Option<Duration>) {
        let counts = self.counts(job);
        self.under_way.set(self.under_way.get() + 1);
        self.shared.count(|tally| {
            if !counts {
                tally.warm_up += 1;
                return;
            }
            tally.offered += 1;
            if let Some(lag) = lag {
                tally.lag.record(lag);
            }
        });
    }

    fn counts(&self, job: &Job) -> bool {
        job.intended >= self.plan.counts_from
    }

    /// Gives a job to a connection that is idle, or to a new one, or lets it wait.
    fn start(self: &Rc<Self>, job: Job) {
        let idle = self.idle.borrow_mut().pop();
        if idle.is_none() && self.open.get() == self.most {
            let mut waiting = self.waiting.borrow_mut();
            if waiting.len() < WAITING {
                waiting.push_back(job);
            } else {
                self.fail(&job, Class::NotSent, || "too many requests wait for a connection".to_owned());
                self.done();
            }
            return;
        }
        if idle.is_none() {
            self.open.set(self.open.get() + 1);
        }
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move { worker.jobs(job, idle).await });
    }

    /// Serves a job and then what waits.
    async fn jobs(self: Rc<Self>, first: Job, mut connection: Option<Connection>) {
        let mut next = Some(first);
        while let Some(job) = next {
            self.serve(job, &mut connection).await;
            next = self.waiting.borrow_mut().pop_front();
        }
        match connection {
            Some(connection) => self.idle.borrow_mut().push(connection),
            None => self.open.set(self.open.get() - 1),
        }
    }

    /// Sends one request and counts what comes of it; says whether it failed.
    async fn serve(&self, job: Job, slot: &mut Option<Connection>) -> bool {
        self.shared.in_flight.fetch_add(1, Relaxed);
        let result = self.attempt(&job, slot).await;
        let failed = result.is_err();
        if let Err((class, why)) = result {
            self.drop_connection(slot);
            match class {
                Class::Timeout => self.timed_out(&job),
                class => self.fail(&job, class, || why),
            }
        }
        self.shared.in_flight.fetch_sub(1, Relaxed);
        self.done();
        failed
    }

    fn done(&self) {
        self.under_way.set(self.under_way.get() - 1);
        if self.under_way.get() == 0 {
            self.quiet.notify_one();
        }
    }

    fn drop_connection(&self, slot: &mut Option<Connection>) {
        if slot.take().is_some() {
            self.shared.connections.fetch_sub(1, Relaxed);
        }
    }

    async fn attempt(&self, job: &Job, slot: &mut Option<Connection>) -> Result<(), (Class, String)> {
        let Some(template) = self.plan.templates.get(job.template) else { return Ok(()) };
        let body = template.body(&job.prompt, &self.plan.trace.blocks);
        let (kept, deadline) = (slot.is_some(), Instant::now() + self.plan.timeout);
        match self.once(job, template, body.clone(), (slot, deadline)).await {
            Err(Failed::Stale) if kept => {
                self.drop_connection(slot);
                self.shared.count(|tally| tally.resent += 1);
            }
            Err(Failed::Stale) => return Err((Class::Broken, CLOSED.to_owned())),
            Err(Failed::Error(class, why)) => return Err((class, why)),
            Ok(()) => return Ok(()),
        }
        match self.once(job, template, body, (slot, deadline)).await {
            Err(Failed::Stale) => Err((Class::Broken, CLOSED.to_owned())),
            Err(Failed::Error(class, why)) => Err((class, why)),
            Ok(()) => Ok(()),
        }
    }

    async fn once(
        &self,
        job: &Job,
        template: &Template,
        body: Bytes,
        (slot, deadline): (&mut Option<Connection>, Instant),
    ) -> Result<(), Failed> {
        let connection = match slot {
            Some(connection) => connection,
            None => {
                let connect = self.plan.connector.connect(deadline);
                let fresh = match tokio::time::timeout_at(deadline.into(), connect).await {
                    Ok(Ok(fresh)) => fresh,
                    Ok(Err(error)) => return Err(Failed::Error(Class::Connect, error.to_string())),
                    Err(_) => return Err(Failed::Error(Class::Timeout, "no connection in time".to_owned())),
                };
                self.shared.connections.fetch_add(1, Relaxed);
                self.shared.count(|tally| tally.connects += 1);
                slot.insert(fresh)
            }
        };
        let (counts, sent) = (self.counts(job), body.len() as u64);
        let gap = |gap| {
            if counts {
                self.shared.count(|tally| {
                    if let Some(mix) = tally.mixes.get_mut(job.template) {
                        mix.gap.record(gap);
                    }
                });
            }
        };
        let good = exchange(connection, template, body, (job.intended, deadline), gap).await?;
        if counts {
            let latency = job.intended.elapsed();
            self.shared.count(|tally| {
                if let Some(mix) = tally.mixes.get_mut(job.template) {
                    good.count(latency, sent, mix);
                }
            });
        }
        Ok(())
    }

    fn fail(&self, job: &Job, class: Class, why: impl FnOnce() -> String) {
        if self.counts(job) {
            self.shared.count(|tally| {
                if let Some(mix) = tally.mixes.get_mut(job.template) {
                    mix.error(class, why);
                }
            });
        }
    }

    /// A request without an answer took at least as long as it was waited for: leaving it out would make the
    /// percentiles better the worse the target is.
    fn timed_out(&self, job: &Job) {
        let waited = job.intended.elapsed();
        if self.counts(job) {
            self.shared.count(|tally| {
                if let Some(mix) = tally.mixes.get_mut(job.template) {
                    mix.latency.record(waited);
                    mix.error(Class::Timeout, || format!("no answer within {waited:.1?}"));
                }
            });
        }
    }
}

const CLOSED: &str = "the connection was closed before an answer came";
