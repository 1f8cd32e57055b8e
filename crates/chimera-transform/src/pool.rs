//! Threads for work that would block an event loop.
//!
//! An async runtime's own blocking pool grows to hundreds of threads and queues without end: under load
//! everything is slow and nothing is refused. Here as many threads work as there are cores, so many jobs
//! wait and for so long, and the next one is turned away at once, with a reason.
//!
//! The threads are started with the first job: who never needs them pays nothing.

mod queue;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::metrics::{PoolMetrics, Rejected};
pub use queue::Priority;
use queue::Queue;

/// How many threads work, and what may wait for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSettings {
    /// Threads. Default one for each core.
    pub threads: usize,
    /// Jobs that may wait. Default 1,024.
    pub queue: usize,
    /// How long a job may wait. Default 5 s.
    pub max_age: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, queue: 1024, max_age: Duration::from_secs(5) }
    }
}

/// Why a job has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Too many jobs wait.
    #[error("too many jobs wait for a worker")]
    Full,
    /// Jobs wait for too long.
    #[error("jobs wait for a worker for too long")]
    Stale,
    /// Its deadline was over before it began.
    #[error("the deadline was over before the job began")]
    Late,
    /// It panicked.
    #[error("the job panicked")]
    Panicked,
    /// The pool is gone.
    #[error("the worker pool has stopped")]
    Stopped,
}

impl From<Rejected> for PoolError {
    fn from(why: Rejected) -> Self {
        match why {
            Rejected::Full => Self::Full,
            Rejected::Stale => Self::Stale,
            Rejected::Late => Self::Late,
        }
    }
}

/// Tells a job whether anybody still waits for it.
#[derive(Debug, Clone)]
pub struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// Whether the caller has left.
    pub fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A job under way. Dropping it cancels the job: one that has not begun never does.
#[derive(Debug)]
pub struct Job<T> {
    result: oneshot::Receiver<Result<T, PoolError>>,
    cancelled: Cancelled,
}

impl<T> Future for Job<T> {
    type Output = Result<T, PoolError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.result).poll(cx).map(|result| result.unwrap_or(Err(PoolError::Stopped)))
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.cancelled.0.store(true, Relaxed);
    }
}

impl<T> Job<T> {
    /// Waits for it on a thread of one's own: not for use in an async runtime.
    pub fn wait(mut self) -> Result<T, PoolError> {
        let (_, nobody) = oneshot::channel();
        std::mem::replace(&mut self.result, nobody).blocking_recv().unwrap_or(Err(PoolError::Stopped))
    }
}

/// What a queued job is told when its turn has come.
enum Turn {
    Run,
    Reject(Rejected),
}

type Run = Box<dyn FnOnce(Turn, &Shared) + Send>;

struct Queued {
    deadline: Option<Instant>,
    cancelled: Cancelled,
    run: Run,
}

/// What a pool is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSnapshot {
    /// Its threads.
    pub threads: usize,
    /// Threads that work.
    pub busy: usize,
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that may wait.
    pub capacity: usize,
    /// How long the oldest has waited.
    pub oldest: Option<Duration>,
    /// Jobs done.
    pub done: u64,
    /// Jobs turned away.
    pub rejected: u64,
    /// Jobs whose caller had left.
    pub cancelled: u64,
    /// Jobs that panicked.
    pub panicked: u64,
}

struct Shared {
    queue: Mutex<Queue<Queued>>,
    work: Condvar,
    stopping: AtomicBool,
    busy: AtomicUsize,
    done: AtomicU64,
    rejected: AtomicU64,
    cancelled: AtomicU64,
    panicked: AtomicU64,
    metrics: PoolMetrics,
}

/// A bounded pool of threads. Clones are the same pool; with the last one its threads end.
#[derive(Clone)]
pub struct WorkerPool {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    settings: PoolSettings,
    start: Once,
}

impl std::fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WorkerPool").field(&self.snapshot()).finish()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
        // Under the lock: a thread between its look at the flag and its sleep would miss the call.
        drop(self.shared.lock());
        self.shared.work.notify_all();
    }
}

impl WorkerPool {
    /// A pool. Its threads are started with the first job.
    pub fn new(settings: PoolSettings) -> Self {
        let shared = Shared {
            queue: Mutex::new(Queue::new(settings.queue, settings.max_age)),
            work: Condvar::new(),
            stopping: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            metrics: PoolMetrics::new(),
        };
        let settings = PoolSettings { threads: settings.threads.max(1), ..settings };
        Self { handle: Arc::new(Handle { shared: Arc::new(shared), settings, start: Once::new() }) }
    }

    /// Its settings.
    pub fn settings(&self) -> &PoolSettings {
        &self.handle.settings
    }

    /// Queues a job, or says at once why not. Of work that takes long, the job looks from time to time
    /// whether it is [`Cancelled`].
    pub fn submit<T: Send + 'static>(
        &self,
        priority: Priority,
        deadline: Option<Instant>,
        work: impl FnOnce(&Cancelled) -> T + Send + 'static,
    ) -> Result<Job<T>, PoolError> {
        let shared = &self.handle.shared;
        let (sender, result) = oneshot::channel();
        let cancelled = Cancelled(Arc::new(AtomicBool::new(false)));
        let watch = cancelled.clone();
        let run = Box::new(move |turn: Turn, shared: &Shared| {
            let result = match turn {
                Turn::Run => shared.count(|| work(&watch)),
                Turn::Reject(why) => Err(why.into()),
            };
            // Whoever waited may have left.
            let _ = sender.send(result);
        });
        self.start();
        let mut queue = shared.lock();
        let queued = Queued { deadline, cancelled: cancelled.clone(), run };
        if let Err(why) = queue.push(priority, queued, Instant::now()) {
            drop(queue);
            shared.reject(why);
            // Nobody gets the job: its drop cancels nothing.
            return Err(why.into());
        }
        shared.metrics.depth.set(queue.len() as f64);
        drop(queue);
        shared.work.notify_one();
        Ok(Job { result, cancelled })
    }

    /// What it is doing.
    pub fn snapshot(&self) -> PoolSnapshot {
        let (shared, settings) = (&self.handle.shared, &self.handle.settings);
        let queue = shared.lock();
        let now = Instant::now();
        let ages = [Priority::Interactive, Priority::Batch].map(|priority| queue.oldest(priority, now));
        PoolSnapshot {
            threads: settings.threads,
            busy: shared.busy.load(Relaxed),
            queued: queue.len(),
            capacity: settings.queue,
            oldest: ages.into_iter().flatten().max(),
            done: shared.done.load(Relaxed),
            rejected: shared.rejected.load(Relaxed),
            cancelled: shared.cancelled.load(Relaxed),
            panicked: shared.panicked.load(Relaxed),
        }
    }

    fn start(&self) {
        self.handle.start.call_once(|| {
            for index in 0..self.handle.settings.threads {
                let shared = self.handle.shared.clone();
                let named = std::thread::Builder::new().name(format!("chimera-pool-{index}"));
                // A machine that gives no thread leaves the queue to the others.
                let _ = named.spawn(move || shared.work());
            }
        });
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue<Queued>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reject(&self, why: Rejected) {
        self.rejected.fetch_add(1, Relaxed);
        self.metrics.rejected(why);
    }

    /// The life of one thread.
    fn work(&self) {
        while let Some((job, waited, stale)) = self.next() {
            if job.cancelled.get() {
                self.cancelled.fetch_add(1, Relaxed);
                self.metrics.cancelled.increment(1);
                continue;
            }
            let late = job.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if stale || late {
                let why = if stale { Rejected::Stale } else { Rejected::Late };
                self.reject(why);
                (job.run)(Turn::Reject(why), self);
                continue;
            }
            self.metrics.wait.record(waited.as_secs_f64());
            (job.run)(Turn::Run, self);
        }
    }

    /// Does a piece of work and counts it, before anybody hears of its result.
    fn count<T>(&self, work: impl FnOnce() -> T) -> Result<T, PoolError> {
        self.metrics.busy.set(self.busy.fetch_add(1, Relaxed) as f64 + 1.0);
        // The work is over after a panic, and nothing of it is used.
        let outcome = catch_unwind(AssertUnwindSafe(work));
        self.metrics.busy.set(self.busy.fetch_sub(1, Relaxed) as f64 - 1.0);
        if outcome.is_err() {
            self.metrics.panics.increment(1);
            self.panicked.fetch_add(1, Relaxed);
        } else {
            self.done.fetch_add(1, Relaxed);
        }
        outcome.map_err(|_| PoolError::Panicked)
    }

    /// Waits for the next job; `None` when the pool is gone.
    fn next(&self) -> Option<(Queued, Duration, bool)> {
        let mut queue = self.lock();
        loop {
            if self.stopping.load(Relaxed) {
                // What still waits is dropped with the pool, and its callers are told.
                while queue.pop(Instant::now()).is_some() {}
                return None;
            }
            if let Some(next) = queue.pop(Instant::now()) {
                self.metrics.depth.set(queue.len() as f64);
                return Some(next);
            }
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests;
