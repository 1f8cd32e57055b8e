//! A tier behind deadlines and guards: whatever it does, a caller waits for no longer than it said.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{
    error::{SettingsError, TierError},
    guard::{Guard, GuardSettings, GuardState, Pass, Turn},
    latency::Latency,
    memory::Put,
    metrics::{RemoteMetrics, TierMetrics},
    purge::Purge,
    sketch::Dice,
    stats::{OperationLatency, Stats, TierBreakers, TierSnapshot},
    tier::{Changes, Hit, Lease, Tier},
};

/// How long the operations of a remote tier may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardedSettings {
    /// A look-up, any wait for a connection included. Default 25 ms.
    pub get: Duration,
    /// A look-up that takes so long counts against the tier, though it succeeds. Default 15 ms.
    pub slow: Duration,
    /// A write. Nobody waits for it but the queue. Default 500 ms.
    pub write: Duration,
    /// A purge, which looks at every key. Default 60 s.
    pub purge: Duration,
    /// When the tier is left alone. Look-ups and writes are judged apart: a tier that is full can still
    /// be read.
    pub guard: GuardSettings,
}

impl Default for GuardedSettings {
    fn default() -> Self {
        Self {
            get: Duration::from_millis(25),
            slow: Duration::from_millis(15),
            write: Duration::from_millis(500),
            purge: Duration::from_secs(60),
            guard: GuardSettings::default(),
        }
    }
}

impl GuardedSettings {
    /// Checks the ranges; the error names the field.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let wrong = |field, want| Err(SettingsError { field, want });
        if self.get.is_zero() {
            return wrong("get", "above zero");
        }
        if self.slow.is_zero() || self.slow > self.get {
            return wrong("slow", "above zero and at most get");
        }
        if self.write.is_zero() {
            return wrong("write", "above zero");
        }
        if self.guard.threshold == 0 {
            return wrong("guard.threshold", "above zero");
        }
        Ok(())
    }
}

/// A tier that is left alone while it is slow or fails, and never waited for beyond a deadline.
///
/// An operation that is not let through fails with [`TierError::LeftAlone`] at once.
pub struct Guarded<T> {
    tier: T,
    settings: GuardedSettings,
    reads: Guard,
    writes: Guard,
    dice: Dice,
    stats: Stats,
    errors: AtomicU64,
    get: Latency,
    put: Latency,
    metrics: TierMetrics,
    remote: RemoteMetrics,
    name: &'static str,
}

impl<T> Guarded<T> {
    /// Puts a tier behind guards. `name` is what metrics call it.
    pub fn new(name: &'static str, tier: T, settings: GuardedSettings) -> Result<Self, SettingsError> {
        settings.validate()?;
        Ok(Self {
            tier,
            settings,
            reads: Guard::new(settings.guard),
            writes: Guard::new(settings.guard),
            dice: Dice::new(),
            stats: Stats::new(),
            errors: AtomicU64::new(0),
            get: Latency::default(),
            put: Latency::default(),
            metrics: TierMetrics::new(name),
            remote: RemoteMetrics::new(name),
            name,
        })
    }

    /// The tier itself.
    pub fn inner(&self) -> &T {
        &self.tier
    }

    /// What the guard before look-ups does.
    pub fn reads(&self) -> GuardState {
        self.reads.state()
    }

    /// What the guard before writes does.
    pub fn writes(&self) -> GuardState {
        self.writes.state()
    }

    /// Does one operation under a deadline and tells its guard how it went. It stays where it is: that of a
    /// look-up in Redis has kilobytes, and would be copied at every call.
    async fn guarded<R>(
        &self,
        what: &'static str,
        guard: &Guard,
        limits: (Duration, Duration),
        operation: Pin<&mut impl Future<Output = Result<R, TierError>>>,
    ) -> (Result<R, TierError>, Duration) {
        let began = tokio::time::Instant::now();
        let Some(pass) = guard.admit(began.into_std()) else {
            return (Err(TierError::LeftAlone), Duration::ZERO);
        };
        let (deadline, slow) = limits;
        let result = match until(began, deadline) {
            Some(until) => tokio::time::timeout_at(until, operation).await,
            None => Ok(operation.await),
        };
        let result = result.unwrap_or(Err(TierError::Timeout));
        let took = began.elapsed();
        let turn = match &result {
            Ok(_) if took < slow => pass.good(),
            Ok(_) => self.bad(pass, "slow", began + took),
            Err(error) => self.bad(pass, error.why(), began + took),
        };
        self.tell(what, turn);
        (result, took)
    }

    fn bad(&self, pass: Pass<'_>, why: &'static str, now: tokio::time::Instant) -> Option<Turn> {
        pass.bad(why, now.into_std(), self.dice.draw())
    }

    /// One line per change of state.
    fn tell(&self, what: &'static str, turn: Option<Turn>) {
        match turn {
            None => {}
            Some(Turn::Off(why)) => {
                tracing::warn!(tier = self.name, what, why, "a cache tier is left alone for a while");
            }
            Some(Turn::On) => tracing::info!(tier = self.name, what, "a cache tier is used again"),
        }
    }

    async fn written(
        &self,
        write: Pin<&mut impl Future<Output = Result<Put, TierError>>>,
    ) -> Result<Put, TierError> {
        let (result, took) = self.guarded("writes", &self.writes, self.write_limits(), write).await;
        if matches!(result, Ok(Put::Refused)) {
            self.stats.refused.fetch_add(1, Relaxed);
        }
        if !matches!(result, Err(TierError::LeftAlone)) {
            self.put.record(took);
            self.metrics.put(took);
        }
        result
    }

    fn write_limits(&self) -> (Duration, Duration) {
        // A write that succeeds in time is good, however slow: nobody waits for it.
        (self.settings.write, Duration::MAX)
    }

    /// What is not as it should be, if anything: look-ups matter more.
    fn why(&self) -> Option<&'static str> {
        self.reads.why().or_else(|| self.writes.why())
    }
}

/// When the timer for a deadline is to be due, so that the caller has its answer by then: timers fire up to a
/// millisecond late, and who is woken waits for its turn. `None` where that is beyond all time.
fn until(began: tokio::time::Instant, deadline: Duration) -> Option<tokio::time::Instant> {
    let early = if deadline > 5 * EARLY { deadline - EARLY } else { deadline };
    began.checked_add(early)
}

/// How much earlier than a deadline its timer is due.
const EARLY: Duration = Duration::from_millis(2);

impl<K, V, T> Tier<K, V> for Guarded<T>
where
    K: Send + Sync,
    V: Send,
    T: Tier<K, V>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    async fn get(&self, key: &K, now: Instant) -> Result<Option<Hit<V>>, TierError> {
        let limits = (self.settings.get, self.settings.slow);
        let look = pin!(self.tier.get(key, now));
        let (result, took) = self.guarded("reads", &self.reads, limits, look).await;
        match &result {
            Ok(value) => self.stats.lookups.stripe().count(value.is_some()),
            Err(_) => _ = self.errors.fetch_add(1, Relaxed),
        }
        if !matches!(result, Err(TierError::LeftAlone)) {
            self.get.record(took);
            self.metrics.got(took);
        }
        result
    }

    async fn store(&self, key: K, entry: Hit<V>, now: Instant) -> Result<Put, TierError> {
        self.written(pin!(self.tier.store(key, entry, now))).await
    }

    async fn add(&self, key: K, entry: Hit<V>, now: Instant) -> Result<Put, TierError> {
        self.written(pin!(self.tier.add(key, entry, now))).await
    }

    async fn remove(&self, key: &K) -> Result<bool, TierError> {
        // Not refused by the guard: whoever asks for it needs it done.
        let done = tokio::time::timeout(self.settings.write, self.tier.remove(key)).await;
        let done = done.unwrap_or(Err(TierError::Timeout));
        self.stats.invalidated.fetch_add(u64::from(matches!(done, Ok(true))), Relaxed);
        done
    }

    async fn purge(&self, purge: &Purge) -> Result<u64, TierError> {
        let done = tokio::time::timeout(self.settings.purge, self.tier.purge(purge)).await;
        let done = done.unwrap_or(Err(TierError::Timeout));
        self.stats.invalidated.fetch_add(*done.as_ref().unwrap_or(&0), Relaxed);
        done
    }

    fn watch(&self, changes: Changes<K>) {
        self.tier.watch(changes);
    }

    async fn lease(&self, key: &K, ttl: Duration) -> Result<Lease, TierError> {
        // A caller waits for it as for a look-up, but it is a write: a tier that is full grants none, and can be read.
        let limits = (self.settings.get, self.settings.slow);
        self.guarded("writes", &self.writes, limits, pin!(self.tier.lease(key, ttl))).await.0
    }

    async fn release(&self, key: &K, token: u64) -> Result<(), TierError> {
        let release = pin!(self.tier.release(key, token));
        self.guarded("writes", &self.writes, self.write_limits(), release).await.0
    }

    async fn sync(&self) -> Result<(), TierError> {
        tokio::time::timeout(self.settings.write, self.tier.sync()).await.unwrap_or(Err(TierError::Timeout))
    }

    fn snapshot(&self, now: Instant) -> TierSnapshot {
        self.stats.sample(now);
        let (hits, misses) = self.stats.totals();
        let inner = self.tier.snapshot(now);
        let is_on = self.reads.state() == GuardState::On;
        TierSnapshot {
            tier: self.name,
            up: inner.up && is_on,
            why_down: if inner.up { self.why() } else { inner.why_down.or_else(|| self.why()) },
            hits,
            misses,
            hit_rate: self.stats.hit_rate(now),
            evictions: self.stats.evictions(),
            breakers: Some(TierBreakers { reads: self.reads(), writes: self.writes() }),
            get: OperationLatency::of(&self.get),
            put: OperationLatency::of(&self.put),
            ..inner
        }
    }

    fn publish(&self, now: Instant) {
        let seen = Tier::<K, V>::snapshot(self, now);
        self.metrics.publish((seen.hits, seen.misses), seen.evictions);
        self.remote.publish(seen.up, self.errors.load(Relaxed), self.reads.refused() + self.writes.refused());
        self.remote.publish_breakers([self.reads(), self.writes()]);
        self.tier.publish(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_operation_is_not_copied_to_be_guarded() {
        let guarded = Guarded::new("guarded", (), GuardedSettings::default()).unwrap();
        let operation = pin!(async {
            let held = [1_u8; 8192];
            tokio::task::yield_now().await;
            Ok::<_, TierError>(std::hint::black_box(held).len())
        });
        let limits = (Duration::from_secs(5), Duration::from_secs(5));
        let future = guarded.guarded("reads", &guarded.reads, limits, operation);
        assert!(size_of_val(&future) < 1024, "{}", size_of_val(&future));
        assert_eq!(future.await.0.unwrap(), 8192);
    }

    #[tokio::test(start_paused = true)]
    async fn timers_that_fire_late_keep_the_deadline() {
        let (began, ms) = (tokio::time::Instant::now(), Duration::from_millis);
        assert_eq!(until(began, ms(25)), Some(began + ms(23)));
        assert_eq!(until(began, ms(10)), Some(began + ms(10)));
        assert_eq!(until(began, Duration::MAX), None);
    }
}
