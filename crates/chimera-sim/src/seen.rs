//! What the provider saw: the requests, and how its answers ended.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::sync::watch;

use crate::dialect::Dialect;

/// One request as it was received.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    /// The header fields, as sent.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The dialect that the path belongs to.
    pub dialect: Dialect,
}

/// How many answers began, and how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests whose head arrived.
    pub started: u64,
    /// Answers that ran to their end, faulty ends included.
    pub finished: u64,
    /// Answers that were dropped before their end, because the client left.
    pub cancelled: u64,
    /// Connections that are open now.
    pub connections: u64,
    /// Connections accepted so far.
    pub accepted: u64,
}

impl Counts {
    /// Answers that have begun and not yet ended.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.started.saturating_sub(self.finished).saturating_sub(self.cancelled)
    }
}

/// The bounded memory of requests, and the counters that tests wait on.
#[derive(Debug)]
pub(crate) struct Record {
    ring: Mutex<VecDeque<Seen>>,
    counts: watch::Sender<Counts>,
}

impl Record {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { ring: Mutex::new(VecDeque::new()), counts: watch::Sender::new(Counts::default()) })
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().iter().cloned().collect()
    }

    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    /// Keeps `seen`, and drops the oldest above `keep`.
    pub(crate) fn push(&self, seen: Seen, keep: usize) {
        if keep == 0 {
            return;
        }
        let mut ring = self.lock();
        while ring.len() >= keep {
            ring.pop_front();
        }
        ring.push_back(seen);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Seen>> {
        // A panic elsewhere cannot leave a queue half-written in a way that matters here.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}

/// One answer in the making; dropped before [`Flight::finish`], it counts as cancelled.
#[derive(Debug)]
pub(crate) struct Flight {
    record: Arc<Record>,
    finished: bool,
}

impl Flight {
    pub(crate) fn start(record: &Arc<Record>) -> Self {
        record.change(|counts| counts.started += 1);
        Self { record: Arc::clone(record), finished: false }
    }

    pub(crate) fn finish(mut self) {
        self.finished = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.record.change(|counts| {
            if self.finished {
                counts.finished += 1;
            } else {
                counts.cancelled += 1;
            }
        });
    }
}

/// One open connection, counted while it lives.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<Record>);

impl OpenConnection {
    pub(crate) fn new(record: &Arc<Record>) -> Self {
        record.change(|counts| {
            counts.connections += 1;
            counts.accepted += 1;
        });
        Self(Arc::clone(record))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.change(|counts| counts.connections = counts.connections.saturating_sub(1));
    }
}
