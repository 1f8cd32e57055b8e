//! The connections of one provider: bounded, kept while idle, waited for in bounded number.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    connect::SharedConnect,
    connection::{Lease, Opened, open},
    error::{ConnectError, SendError, Stage},
    http1::Http1,
    http2::Http2,
    metrics::PoolMetrics,
    settings::ProviderSettings,
};

/// Idle connections, youngest last. Boxed, because they move between here and their users all the
/// time and are large.
#[allow(clippy::vec_box)]
type Stack = Mutex<Vec<Box<Http1>>>;

/// The connection pool of one provider.
///
/// Idle connections are kept in one stack per worker, youngest on top, so that a connection goes on
/// living on the thread whose event loop knows it; a worker without one takes from its neighbours
/// before it opens another at the bound.
pub(crate) struct ConnectionPool {
    settings: ProviderSettings,
    connector: SharedConnect,
    idle: Box<[Stack]>,
    shared: Mutex<Vec<Http2>>,
    open: Arc<Semaphore>,
    /// Told when a connection came back, or has room again, while somebody waited for the bound.
    returned: Arc<Notify>,
    waiting: AtomicUsize,
    pub(crate) metrics: PoolMetrics,
}

/// Counts a waiter while it lives.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What a wait at the bound ended with.
enum Waited {
    Idle(Lease),
    Permit(OwnedSemaphorePermit),
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConnectionPool {
    pub(crate) fn new(settings: ProviderSettings, connector: SharedConnect, workers: usize) -> Self {
        let open = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
        Self {
            metrics: PoolMetrics::new(&settings.name),
            idle: (0..workers.max(1)).map(|_| Mutex::new(Vec::new())).collect(),
            shared: Mutex::new(Vec::new()),
            open,
            returned: Arc::default(),
            waiting: AtomicUsize::new(0),
            settings,
            connector,
        }
    }

    /// An idle connection, or a place on a shared one, without waiting.
    pub(crate) fn take_idle(&self, worker: usize, now: Instant) -> Option<Lease> {
        for step in 0..self.idle.len() {
            let Some(stack) = self.idle.get((worker + step) % self.idle.len()) else { continue };
            while let Some(mut connection) = { lock(stack).pop() } {
                if now.duration_since(connection.idle_since) < self.settings.idle_timeout
                    && connection.is_usable()
                {
                    self.metrics.reused.increment(1);
                    return Some(Lease::Http1(connection));
                }
                self.metrics.stale.increment(1);
            }
        }
        let mut shared = lock(&self.shared);
        if shared.is_empty() {
            return None;
        }
        shared.retain(|connection| !connection.is_closed());
        let least = shared.iter().filter(|connection| connection.has_room()).min_by_key(|c| c.streams())?;
        Some(Lease::Http2(least.open_stream()))
    }

    /// A connection where none was idle, and whether it has served before: a new one, or at the bound
    /// whichever comes first of one that is given back and leave to open another. Waits for the bound without a limit
    /// of its own (the caller has a deadline); a connection attempt takes at most the connect timeout.
    /// Dropping the future abandons the attempt. `stage` follows what is being waited for.
    pub(crate) async fn checkout(
        &self,
        worker: usize,
        stage: &mut Stage,
    ) -> Result<(Lease, bool), SendError> {
        let permit = match self.open.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => match self.wait(worker).await? {
                Waited::Idle(lease) => return Ok((lease, true)),
                Waited::Permit(permit) => permit,
            },
        };
        *stage = Stage::Connect;
        Ok((self.connect(permit).await?, false))
    }

    async fn wait(&self, worker: usize) -> Result<Waited, SendError> {
        if self.waiting.fetch_add(1, Relaxed) >= self.settings.max_waiting {
            self.waiting.fetch_sub(1, Relaxed);
            return Err(SendError::Overloaded);
        }
        let _waiter = Waiter(&self.waiting);
        loop {
            // Registered before the look at the stacks, so that a return in between is not missed.
            let returned = self.returned.notified();
            if let Some(lease) = self.take_idle(worker, Instant::now()) {
                return Ok(Waited::Idle(lease));
            }
            tokio::select! {
                biased;
                permit = self.open.clone().acquire_owned() => {
                    return permit.map(Waited::Permit).map_err(|_| SendError::Overloaded);
                }
                () = returned => {}
            }
        }
    }

    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Lease, SendError> {
        let attempt = async {
            let tls = self.settings.tls.as_ref();
            let connected = self.connector.connect(&self.settings.target, tls).await?;
            open(connected, permit, &self.returned).await
        };
        let opened = tokio::time::timeout(self.settings.connect_timeout, attempt)
            .await
            .unwrap_or(Err(ConnectError::Timeout));
        self.metrics.connected(opened.as_ref().map(|_| ()));
        match opened.map_err(SendError::Connect)? {
            Opened::Http1(connection) => Ok(Lease::Http1(connection)),
            Opened::Http2(connection) => {
                let stream = connection.open_stream();
                lock(&self.shared).push(connection);
                // There is room on it for many.
                self.returned.notify_waiters();
                Ok(Lease::Http2(stream))
            }
        }
    }

    /// Takes back a connection whose answer has ended; one that is not clean is closed.
    pub(crate) fn give_back(&self, lease: Lease, worker: usize) {
        if let Lease::Http1(mut connection) = lease
            && connection.is_clean()
            && let Some(stack) = self.idle.get(worker % self.idle.len())
        {
            connection.idle_since = Instant::now();
            let mut stack = lock(stack);
            if stack.len() < self.settings.max_idle {
                stack.push(connection);
            }
        }
        if self.waiting.load(Relaxed) > 0 {
            self.returned.notify_one();
        }
    }

    /// Opens connections until this worker has as many idle ones as it is to have, or one that is shared.
    pub(crate) async fn warm(&self, worker: usize) {
        let least = self.settings.min_idle.min(self.settings.max_idle);
        let has = || self.idle.get(worker % self.idle.len()).map_or(0, |stack| lock(stack).len());
        while has() < least && lock(&self.shared).is_empty() {
            let Ok(permit) = self.open.clone().try_acquire_owned() else { return };
            let Ok(lease) = self.connect(permit).await else { return };
            self.give_back(lease, worker);
        }
    }

    /// Closes what has idled too long or was closed by the provider, and refreshes the gauges.
    pub(crate) fn maintain(&self, now: Instant) {
        let mut idle = 0;
        for stack in &self.idle {
            let mut connections = std::mem::take(&mut *lock(stack));
            connections.retain_mut(|connection| {
                now.duration_since(connection.idle_since) < self.settings.idle_timeout
                    && connection.is_usable()
            });
            idle += connections.len();
            let mut stack = lock(stack);
            // What came back meanwhile is younger and stays on top.
            connections.append(&mut stack);
            *stack = connections;
        }
        lock(&self.shared).retain(|connection| {
            let idle = connection.idle_since().map(|since| now.saturating_duration_since(since));
            !connection.is_closed() && idle.is_none_or(|idle| idle < self.settings.idle_timeout)
        });
        if self.waiting.load(Relaxed) > 0 {
            // Whoever looked meanwhile saw no idle connection.
            self.returned.notify_waiters();
        }
        let open = self.settings.max_connections.saturating_sub(self.open.available_permits());
        self.metrics.publish(open, idle, self.waiting.load(Relaxed));
    }

    /// Open and idle connections, and requests waiting.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let idle = self.idle.iter().map(|stack| lock(stack).len()).sum();
        let open = self.settings.max_connections.saturating_sub(self.open.available_permits());
        (open, idle, self.waiting.load(Relaxed))
    }

    pub(crate) fn settings(&self) -> &ProviderSettings {
        &self.settings
    }
}
