//! Writes that nobody waits for: a bounded queue before the far tier, which drops and counts.

use std::{
    future::{Future, poll_fn},
    hash::{BuildHasher, Hash},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Instant,
};

use foldhash::fast::RandomState;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    error::TierError,
    memory::Put,
    tier::{Hit, SharedTier, Tier},
    tiered::{Known, Standing, Ticket},
};

/// How many writes are under way at once. Those of one key are in one lane, so they keep their order.
const LANES: usize = 4;

enum Job<K, V> {
    Store {
        key: K,
        entry: Hit<V>,
        at: Instant,
        weight: usize,
        ticket: Ticket,
    },
    Remove {
        key: K,
        done: Option<oneshot::Sender<()>>,
    },
    /// Gives a lease back, once what was computed under it is written.
    Release {
        key: K,
        token: u64,
    },
    /// Everything before it is done.
    Barrier(oneshot::Sender<()>),
}

/// What became of writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteTotals {
    /// The far tier has them.
    pub stored: u64,
    /// The far tier did not want them: too large, mostly.
    pub refused: u64,
    /// The far tier could not take them.
    pub failed: u64,
    /// There was no room in the queue, or what they were about was changed or purged while they waited.
    pub dropped: u64,
    /// They wait at the moment.
    pub queued: u64,
}

#[derive(Default)]
struct Books {
    stored: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    queued: AtomicUsize,
    bytes: AtomicUsize,
}

pub(crate) struct Writer<K, V> {
    hasher: RandomState,
    lanes: Vec<mpsc::Sender<Job<K, V>>>,
    books: Arc<Books>,
    most_bytes: usize,
    weigh: fn(&K, &V) -> usize,
    /// Dropped with the writer, and the tasks with it.
    _tasks: JoinSet<()>,
}

impl<K, V> Writer<K, V>
where
    K: Hash + Clone + Send + Sync + 'static,
    V: Send + 'static,
{
    /// Starts the lanes on the runtime of the caller.
    pub(crate) fn start(
        tier: &SharedTier<K, V>,
        (entries, most_bytes): (usize, usize),
        weigh: fn(&K, &V) -> usize,
        known: &Arc<Known>,
    ) -> Self {
        let books = Arc::new(Books::default());
        let mut tasks = JoinSet::new();
        let lanes = (0..LANES)
            .map(|_| {
                let (sender, jobs) = mpsc::channel(entries.div_ceil(LANES).max(1));
                tasks.spawn(work(tier.clone(), jobs, books.clone(), known.clone()));
                sender
            })
            .collect();
        Self { hasher: RandomState::default(), lanes, books, most_bytes, weigh, _tasks: tasks }
    }

    fn lane(&self, key: &K) -> Option<&mpsc::Sender<Job<K, V>>> {
        self.lanes.get(self.hasher.hash_one(key) as usize % LANES)
    }

    /// Queues a write; false if it was dropped. It is not done when its ticket does not hold any more.
    pub(crate) fn store(&self, key: K, entry: Hit<V>, ticket: Ticket, now: Instant) -> bool {
        let weight = (self.weigh)(&key, &entry.value);
        let fits = self.books.bytes.fetch_add(weight, Relaxed).saturating_add(weight) <= self.most_bytes;
        self.books.queued.fetch_add(1, Relaxed);
        let sent = fits
            && self.lane(&key).is_some_and(|lane| {
                lane.try_send(Job::Store { key, entry, at: now, weight, ticket }).is_ok()
            });
        if !sent {
            self.books.left(weight);
            self.books.dropped.fetch_add(1, Relaxed);
        }
        sent
    }

    /// Removes a key after the write of it that is under way, and waits until that is done: it must not be dropped.
    pub(crate) async fn remove(&self, key: K) {
        let (done, wait) = oneshot::channel();
        // A lane ends only with the writer.
        if let Some(lane) = self.lane(&key)
            && lane.send(Job::Remove { key, done: Some(done) }).await.is_ok()
        {
            let _ = wait.await;
        }
    }

    /// Removes a key after the writes of it that are queued, if there is room for that in the queue.
    pub(crate) fn forget(&self, key: K) {
        if let Some(lane) = self.lane(&key)
            && lane.try_send(Job::Remove { key, done: None }).is_err()
        {
            self.books.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Gives a lease back after the writes of its key that are queued. Without room for that in the queue
    /// the lease ends by itself.
    pub(crate) fn release(&self, key: K, token: u64) {
        if let Some(lane) = self.lane(&key) {
            let _ = lane.try_send(Job::Release { key, token });
        }
    }

    /// Waits until everything queued so far is done.
    pub(crate) async fn flush(&self) {
        for lane in &self.lanes {
            let (done, wait) = oneshot::channel();
            if lane.send(Job::Barrier(done)).await.is_ok() {
                let _ = wait.await;
            }
        }
    }

    pub(crate) fn totals(&self) -> WriteTotals {
        let books = &self.books;
        WriteTotals {
            stored: books.stored.load(Relaxed),
            refused: books.refused.load(Relaxed),
            failed: books.failed.load(Relaxed),
            dropped: books.dropped.load(Relaxed),
            queued: books.queued.load(Relaxed) as u64,
        }
    }
}

impl Books {
    fn left(&self, weight: usize) {
        self.queued.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(weight, Relaxed);
    }
}

/// Stores what is trusted, and takes it back where it was changed or purged meanwhile: whoever did that may have been
/// there before the write was. What was changed before is stored only where there is nothing: an entry that expired, or
/// was pushed out, leaves its place empty, and one that others wrote is newer.
pub(crate) async fn store_below<K, V>(
    tier: &SharedTier<K, V>,
    known: &Known,
    (key, entry): (K, Hit<V>),
    ticket: Ticket,
    now: Instant,
) -> Result<Put, TierError>
where
    K: Hash + Clone + Send + Sync + 'static,
    V: Send + 'static,
{
    let standing = known.standing(ticket);
    let put = match standing {
        Standing::Good => tier.store(key.clone(), entry, now).await?,
        Standing::Changed => tier.add(key.clone(), entry, now).await?,
        Standing::Void => Put::Refused,
    };
    if put == Put::Stored && known.standing(ticket) != standing {
        // What it took the place of is gone, and with it the sign that others were there.
        known.removed(&key);
        tier.remove(&key).await?;
        return Ok(Put::Refused);
    }
    Ok(put)
}

async fn work<K, V>(
    tier: SharedTier<K, V>,
    mut jobs: mpsc::Receiver<Job<K, V>>,
    books: Arc<Books>,
    known: Arc<Known>,
) where
    K: Hash + Clone + Send + Sync + 'static,
    V: Send + 'static,
{
    while let Some(job) = jobs.recv().await {
        // A codec that panics ends its job: the lane goes on.
        let mut done = pin!(one(&tier, job, &books, &known));
        let caught = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| done.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Ok),
            Err(_) => Poll::Ready(Err(())),
        });
        if caught.await.is_err() {
            tracing::error!("a write to the far tier panicked");
        }
    }
}

/// What a write takes of the queue, until it is dropped.
struct Place<'a> {
    books: &'a Books,
    weight: usize,
    counter: &'a AtomicU64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.counter.fetch_add(1, Relaxed);
        self.books.left(self.weight);
    }
}

async fn one<K, V>(tier: &SharedTier<K, V>, job: Job<K, V>, books: &Books, known: &Known)
where
    K: Hash + Clone + Send + Sync + 'static,
    V: Send + 'static,
{
    match job {
        Job::Store { key, mut entry, at, weight, ticket } => {
            // What does not come to its end has failed.
            let mut place = Place { books, weight, counter: &books.failed };
            if known.standing(ticket) == Standing::Void {
                place.counter = &books.dropped;
                return;
            }
            let waited = at.elapsed();
            entry.age += waited;
            entry.remaining = entry.remaining.saturating_sub(waited);
            match store_below(tier, known, (key, entry), ticket, at + waited).await {
                Ok(Put::Stored) => place.counter = &books.stored,
                Ok(Put::Refused) => place.counter = &books.refused,
                Err(_) => {}
            }
        }
        Job::Remove { key, done } => {
            if let Err(error) = tier.remove(&key).await {
                tracing::warn!(why = error.why(), "an entry could not be removed from the far tier");
            }
            if let Some(done) = done {
                let _ = done.send(());
            }
        }
        Job::Release { key, token } => {
            if let Err(error) = tier.release(&key, token).await {
                tracing::debug!(why = error.why(), "a lease was not given back and ends by itself");
            }
        }
        Job::Barrier(done) => drop(done.send(())),
    }
}
