//! The jobs of a gateway: whose they are, how they stand, and which is next.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use chimera_optimizer::{Ended, Findings, Handle, Job};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::OptimizerSettings;
use crate::failure::{Code, Failure};

/// What is told of a job that a fault of ours has ended.
pub(super) const PANICKED: &str = "the job was ended by a panic";

/// How a job stands.
#[derive(Clone)]
pub(super) enum Standing {
    Waiting,
    Running,
    /// It is over, and this is what it found.
    Over(Arc<Findings>),
    /// It is over, and found nothing.
    Failed(String),
    /// It was cancelled before it found anything.
    Cancelled,
    /// Nothing answered before it found anything.
    Paused(String),
    /// Its journal could not be used; what is in it stays.
    Stopped(String),
    /// It was over in an earlier process, which left this.
    Told(Arc<Told>),
}

impl Standing {
    /// Whether it is over here, and the next process takes it up again.
    fn goes_on(&self) -> bool {
        match self {
            Self::Paused(_) | Self::Stopped(_) => true,
            Self::Over(found) => matches!(found.ended, Ended::Paused(_)),
            _ => false,
        }
    }

    /// How a job stands that would go on, and is not to.
    fn cancelled(self) -> Self {
        match self {
            Self::Over(found) => {
                let mut found = Arc::unwrap_or_clone(found);
                found.ended = Ended::Cancelled;
                Self::Over(Arc::new(found))
            }
            _ => Self::Cancelled,
        }
    }
}

/// What is kept on disk of a job that is over.
#[derive(Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) tenant: String,
    pub(super) name: String,
    pub(super) created: u64,
    pub(super) status: String,
    pub(super) progress: Value,
    pub(super) result: Value,
    pub(super) error: Value,
    /// The report, as a page.
    pub(super) report: Option<String>,
}

/// One job.
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) tenant: Arc<str>,
    pub(super) name: String,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The form that it was made of, to make it again after a restart.
    pub(super) form: Bytes,
    /// A hold on the job; none of one that was over in an earlier process.
    pub(super) handle: Option<Handle>,
    standing: Mutex<Standing>,
    /// The job itself, until it is begun.
    job: Mutex<Option<Job>>,
}

impl Entry {
    pub(super) fn new(id: String, tenant: Arc<str>, name: String, form: Bytes, job: Job) -> Self {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            id,
            tenant,
            name,
            created,
            form,
            handle: Some(job.handle()),
            standing: Mutex::new(Standing::Waiting),
            job: Mutex::new(Some(job)),
        }
    }

    /// A job that was over in an earlier process.
    pub(super) fn over(id: String, told: Told) -> Self {
        Self {
            id,
            tenant: told.tenant.as_str().into(),
            name: told.name.clone(),
            created: told.created,
            form: Bytes::new(),
            handle: None,
            standing: Mutex::new(Standing::Told(Arc::new(told))),
            job: Mutex::new(None),
        }
    }

    /// What a later process is to tell of it, once it is over.
    pub(super) fn told(&self) -> Told {
        let (result, error) = self.outcome();
        let report = match self.standing() {
            Standing::Over(found) => Some(found.html()),
            _ => None,
        };
        Told {
            tenant: self.tenant.to_string(),
            name: self.name.clone(),
            created: self.created,
            status: self.status().into_owned(),
            progress: self.progress(),
            result,
            error,
            report,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    pub(super) fn is_over(&self) -> bool {
        !matches!(*lock(&self.standing), Standing::Waiting | Standing::Running)
    }

    /// Begins it, unless it was cancelled.
    pub(super) fn begin(&self) -> Option<Job> {
        let mut standing = lock(&self.standing);
        let job = lock(&self.job).take()?;
        *standing = Standing::Running;
        Some(job)
    }

    /// Ends it. Says whether the next process takes it up again: not what was cancelled meanwhile.
    pub(super) fn end(&self, ended: Standing) -> bool {
        let mut standing = lock(&self.standing);
        let is_cancelled = self.handle.as_ref().is_some_and(Handle::is_cancelled);
        *standing = if is_cancelled && ended.goes_on() { ended.cancelled() } else { ended };
        standing.goes_on()
    }

    /// Ends it if it was begun, for the loop that worked on it is gone. Says whether it still waits.
    fn fall(&self) -> bool {
        let mut standing = lock(&self.standing);
        if matches!(*standing, Standing::Running) {
            *standing = Standing::Failed(PANICKED.to_owned());
        }
        matches!(*standing, Standing::Waiting)
    }

    /// Cancels it, at once if nothing works on it and something would: one that waits, or that the next process
    /// takes up. Says how such a one stood.
    pub(super) fn cancel(&self) -> Option<Standing> {
        if let Some(handle) = &self.handle {
            handle.cancel();
        }
        let mut standing = lock(&self.standing);
        if !matches!(*standing, Standing::Waiting) && !standing.goes_on() {
            return None;
        }
        lock(&self.job).take();
        let cancelled = standing.clone().cancelled();
        Some(std::mem::replace(&mut *standing, cancelled))
    }

    /// One word for how it stands.
    pub(super) fn status(&self) -> Cow<'static, str> {
        Cow::Borrowed(match &*lock(&self.standing) {
            Standing::Waiting => "waiting",
            Standing::Running => "running",
            Standing::Over(found) => found.ended.word(),
            Standing::Failed(_) | Standing::Stopped(_) => "failed",
            Standing::Cancelled => "cancelled",
            Standing::Paused(_) => "paused",
            Standing::Told(told) => return Cow::Owned(told.status.clone()),
        })
    }

    fn progress(&self) -> Value {
        if let Standing::Told(told) = self.standing() {
            return told.progress.clone();
        }
        let progress = self.handle.as_ref().map(|handle| handle.progress().borrow().clone());
        serde_json::to_value(progress).unwrap_or_default()
    }

    /// What is told of it in a list.
    pub(super) fn brief(&self) -> Value {
        json!({
            "id": self.id,
            "object": "optimization",
            "name": self.name,
            "created": self.created,
            "status": self.status(),
            "progress": self.progress(),
        })
    }

    /// What is told of it alone.
    pub(super) fn whole(&self) -> Value {
        let mut told = self.brief();
        let (result, error) = self.outcome();
        if let Some(members) = told.as_object_mut() {
            members.insert("result".into(), result);
            members.insert("error".into(), error);
        }
        told
    }

    /// What it found, and why it ended where it did not end well.
    fn outcome(&self) -> (Value, Value) {
        match self.standing() {
            Standing::Over(found) => {
                let reason = match &found.ended {
                    Ended::Paused(reason) => Value::from(reason.as_str()),
                    _ => Value::Null,
                };
                (serde_json::to_value(&*found).unwrap_or_default(), reason)
            }
            Standing::Failed(why) | Standing::Stopped(why) | Standing::Paused(why) => {
                (Value::Null, Value::from(why))
            }
            Standing::Told(told) => (told.result.clone(), told.error.clone()),
            _ => (Value::Null, Value::Null),
        }
    }
}

/// All jobs.
#[derive(Default)]
pub(crate) struct Jobs {
    table: Mutex<Table>,
    /// Wakes the loop that does the work.
    pub(super) more: Notify,
    /// Whether there is such a loop.
    pub(super) worked_on: AtomicBool,
    /// The worker whose connections it uses.
    pub(super) worker: AtomicUsize,
}

#[derive(Default)]
struct Table {
    by_id: BTreeMap<String, Arc<Entry>>,
    /// In the order in which they came.
    order: VecDeque<String>,
    queue: VecDeque<Arc<Entry>>,
}

impl Jobs {
    /// Whether there is somebody who does the work.
    pub(crate) fn are_worked_on(&self) -> bool {
        self.worked_on.load(Relaxed)
    }

    /// Whether there is room for a tenant's next job.
    pub(super) fn has_room(&self, tenant: &str, settings: &OptimizerSettings) -> Result<(), Failure> {
        if !self.are_worked_on() {
            return Err(Failure::new(Code::Overloaded, "this gateway runs no optimisation jobs"));
        }
        lock(&self.table).has_room(tenant, settings)
    }

    /// Takes a job in, if there is room.
    pub(super) fn add(&self, entry: Entry, settings: &OptimizerSettings) -> Result<Arc<Entry>, Failure> {
        let mut table = lock(&self.table);
        table.has_room(&entry.tenant, settings)?;
        let entry = Arc::new(entry);
        table.insert(&entry);
        table.forget(settings.kept);
        drop(table);
        self.more.notify_one();
        Ok(entry)
    }

    /// Ends the jobs whose loop fell under them, and lines up again those that it had not begun. Says which are
    /// known, whatever became of them.
    pub(super) fn fall(&self) -> BTreeSet<String> {
        let mut table = lock(&self.table);
        let of_order = table.order.iter().filter_map(|id| table.by_id.get(id));
        let waiting = of_order.filter(|entry| entry.fall()).cloned().collect();
        table.queue = waiting;
        table.by_id.keys().cloned().collect()
    }

    /// Takes in a job of an earlier process, whatever room there is.
    pub(super) fn restore(&self, entry: Entry) {
        lock(&self.table).insert(&Arc::new(entry));
        self.more.notify_one();
    }

    /// Takes in a job that was over in an earlier process.
    pub(super) fn recall(&self, entry: Entry) {
        let (entry, mut table) = (Arc::new(entry), lock(&self.table));
        table.order.push_back(entry.id.clone());
        table.by_id.insert(entry.id.clone(), entry);
    }

    /// The next job to begin.
    pub(super) fn next(&self) -> Option<Arc<Entry>> {
        lock(&self.table).queue.pop_front()
    }

    /// A tenant's job; that of another is not there.
    pub(super) fn get(&self, tenant: &str, id: &str) -> Option<Arc<Entry>> {
        lock(&self.table).by_id.get(id).filter(|entry| *entry.tenant == *tenant).cloned()
    }

    /// A tenant's jobs, the newest first.
    pub(super) fn of(&self, tenant: &str) -> Vec<Arc<Entry>> {
        let table = lock(&self.table);
        let entries = table.order.iter().rev().filter_map(|id| table.by_id.get(id));
        entries.filter(|entry| *entry.tenant == *tenant).cloned().collect()
    }
}

impl Table {
    fn has_room(&mut self, tenant: &str, settings: &OptimizerSettings) -> Result<(), Failure> {
        self.queue.retain(|entry| !entry.is_over());
        let full = |why| Err(Failure::new(Code::RateLimited, why));
        if self.queue.len() >= settings.waiting {
            return full("too many optimisation jobs wait already");
        }
        let own = self.by_id.values().filter(|other| *other.tenant == *tenant && !other.is_over());
        if own.count() >= settings.per_client {
            return full("you have as many optimisation jobs under way as you may");
        }
        Ok(())
    }

    fn insert(&mut self, entry: &Arc<Entry>) {
        self.by_id.insert(entry.id.clone(), entry.clone());
        self.order.push_back(entry.id.clone());
        self.queue.push_back(entry.clone());
    }

    /// Forgets the oldest jobs that are over, beyond those that are kept.
    fn forget(&mut self, kept: usize) {
        let over =
            |by_id: &BTreeMap<String, Arc<Entry>>, id: &String| by_id.get(id).is_none_or(|one| one.is_over());
        let mut surplus = self.order.iter().filter(|id| over(&self.by_id, id)).count().saturating_sub(kept);
        let by_id = &mut self.by_id;
        self.order.retain(|id| {
            let goes = surplus > 0 && over(by_id, id);
            if goes {
                surplus -= 1;
                by_id.remove(id);
            }
            !goes
        });
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
