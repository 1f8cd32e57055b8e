//! What a tier is.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{error::TierError, memory::Put, purge::Purge, stats::TierSnapshot};

/// A value found, and how old it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit<V> {
    /// The value.
    pub value: V,
    /// Since it was stored.
    pub age: Duration,
    /// Until it expires.
    pub remaining: Duration,
}

/// What somebody else did to what a tier holds, told to the tiers above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<K> {
    /// The entry of this key was written, or is gone: nobody says whether it expired.
    Key(K),
    /// The entry of this key was forgotten on purpose.
    Removed(K),
    /// These were purged.
    Purged(Purge),
    /// Changes may have been missed, and none is told until [`Restored`](Self::Restored).
    Lost,
    /// Changes are told again, those from now on.
    Restored,
    /// Changes were missed; those from now on are told.
    Missed,
}

/// Where a tier tells changes.
pub type Changes<K> = Arc<dyn Fn(Change<K>) + Send + Sync>;

/// Who may compute a key, among all processes that share a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// This caller, until the lease ends or is given back with this token.
    Granted(u64),
    /// Somebody else.
    Taken,
    /// The tier knows no leases.
    Unknown,
}

/// One level of a cache.
///
/// A caller asks the nearest tier first and treats an error as a miss. An implementor never returns an
/// expired value, nor one that was stored under another key; it keeps its own statistics; its futures
/// may be dropped at any point and then leave nothing behind but, at most, a completed write.
pub trait Tier<K: Sync, V: Send>: Send + Sync {
    /// The tier's name, as metrics and pages show it.
    fn name(&self) -> &'static str;

    /// The value of a key, if there is a fresh one.
    fn get(&self, key: &K, now: Instant) -> impl Future<Output = Result<Option<Hit<V>>, TierError>> + Send;

    /// Stores a value that is `age` old and expires after `remaining`: what a later [`get`](Self::get)
    /// finds. One that is refused takes the one before it away all the same.
    fn store(
        &self,
        key: K,
        entry: Hit<V>,
        now: Instant,
    ) -> impl Future<Output = Result<Put, TierError>> + Send;

    /// The same, unless there is a value of this key already. Asked of tiers that tell changes, when the key was changed
    /// and nobody knows whether by its end.
    fn add(
        &self,
        key: K,
        entry: Hit<V>,
        now: Instant,
    ) -> impl Future<Output = Result<Put, TierError>> + Send {
        self.store(key, entry, now)
    }

    /// Stores a new value for `ttl`.
    fn put(
        &self,
        key: K,
        value: V,
        ttl: Duration,
        now: Instant,
    ) -> impl Future<Output = Result<Put, TierError>> + Send {
        self.store(key, Hit { value, age: Duration::ZERO, remaining: ttl }, now)
    }

    /// Forgets a key, and tells others so; true if it was there.
    fn remove(&self, key: &K) -> impl Future<Output = Result<bool, TierError>> + Send;

    /// Forgets what is selected, and says how many there were.
    fn purge(&self, purge: &Purge) -> impl Future<Output = Result<u64, TierError>> + Send;

    /// Tells changes by others from now on. A tier that nobody else writes to has none to tell.
    fn watch(&self, changes: Changes<K>) {
        drop(changes);
    }

    /// Asks to be the one who computes a key, for at most `ttl`.
    fn lease(&self, key: &K, ttl: Duration) -> impl Future<Output = Result<Lease, TierError>> + Send {
        let _ = (key, ttl);
        async { Ok(Lease::Unknown) }
    }

    /// Gives a lease back, if it is still the one that was granted.
    fn release(&self, key: &K, token: u64) -> impl Future<Output = Result<(), TierError>> + Send {
        let _ = (key, token);
        async { Ok(()) }
    }

    /// Makes what was stored outlast this process, where that is the tier's to do.
    fn sync(&self) -> impl Future<Output = Result<(), TierError>> + Send {
        async { Ok(()) }
    }

    /// All that can be seen of it.
    fn snapshot(&self, now: Instant) -> TierSnapshot;

    /// Brings the metrics up to date. Called about once a second.
    fn publish(&self, now: Instant) {
        let _ = now;
    }
}

type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, TierError>> + Send + 'a>>;

/// [`Tier`] with its futures in boxes, so that its type can be forgotten.
trait Erased<K, V>: Send + Sync {
    fn name(&self) -> &'static str;
    fn get<'a>(&'a self, key: &'a K, now: Instant) -> Pending<'a, Option<Hit<V>>>;
    fn store(&self, key: K, entry: Hit<V>, now: Instant) -> Pending<'_, Put>;
    fn add(&self, key: K, entry: Hit<V>, now: Instant) -> Pending<'_, Put>;
    fn remove<'a>(&'a self, key: &'a K) -> Pending<'a, bool>;
    fn purge<'a>(&'a self, purge: &'a Purge) -> Pending<'a, u64>;
    fn watch(&self, changes: Changes<K>);
    fn lease<'a>(&'a self, key: &'a K, ttl: Duration) -> Pending<'a, Lease>;
    fn release<'a>(&'a self, key: &'a K, token: u64) -> Pending<'a, ()>;
    fn sync(&self) -> Pending<'_, ()>;
    fn snapshot(&self, now: Instant) -> TierSnapshot;
    fn publish(&self, now: Instant);
}

/// A future that is made in its box. Made before it, that of a look-up in Redis would be copied there: seven kilobytes,
/// nearly all of which are room for later.
fn boxed<'a, T, F>(make: impl FnOnce() -> F) -> Pending<'a, T>
where
    F: Future<Output = Result<T, TierError>> + Send + 'a,
{
    let place = Box::<F>::new_uninit();
    let future: Box<F> = Box::write(place, make());
    Box::into_pin(future)
}

impl<K: Send + Sync + 'static, V: Send + 'static, T: Tier<K, V>> Erased<K, V> for T {
    fn name(&self) -> &'static str {
        Tier::name(self)
    }
    fn get<'a>(&'a self, key: &'a K, now: Instant) -> Pending<'a, Option<Hit<V>>> {
        boxed(|| Tier::get(self, key, now))
    }
    fn store(&self, key: K, entry: Hit<V>, now: Instant) -> Pending<'_, Put> {
        boxed(|| Tier::store(self, key, entry, now))
    }
    fn add(&self, key: K, entry: Hit<V>, now: Instant) -> Pending<'_, Put> {
        boxed(|| Tier::add(self, key, entry, now))
    }
    fn remove<'a>(&'a self, key: &'a K) -> Pending<'a, bool> {
        boxed(|| Tier::remove(self, key))
    }
    fn purge<'a>(&'a self, purge: &'a Purge) -> Pending<'a, u64> {
        boxed(|| Tier::purge(self, purge))
    }
    fn watch(&self, changes: Changes<K>) {
        Tier::watch(self, changes);
    }
    fn lease<'a>(&'a self, key: &'a K, ttl: Duration) -> Pending<'a, Lease> {
        boxed(|| Tier::lease(self, key, ttl))
    }
    fn release<'a>(&'a self, key: &'a K, token: u64) -> Pending<'a, ()> {
        boxed(|| Tier::release(self, key, token))
    }
    fn sync(&self) -> Pending<'_, ()> {
        boxed(|| Tier::sync(self))
    }
    fn snapshot(&self, now: Instant) -> TierSnapshot {
        Tier::snapshot(self, now)
    }
    fn publish(&self, now: Instant) {
        Tier::publish(self, now);
    }
}

/// A tier of any kind. Clones share it.
pub struct SharedTier<K, V>(Arc<dyn Erased<K, V>>);

impl<K, V> Clone for SharedTier<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Send + Sync + 'static, V: Send + 'static> SharedTier<K, V> {
    /// Forgets a tier's type.
    pub fn new(tier: impl Tier<K, V> + 'static) -> Self {
        Self(Arc::new(tier))
    }
}

impl<K: Send + Sync + 'static, V: Send + 'static> Tier<K, V> for SharedTier<K, V> {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    async fn get(&self, key: &K, now: Instant) -> Result<Option<Hit<V>>, TierError> {
        self.0.get(key, now).await
    }
    async fn store(&self, key: K, entry: Hit<V>, now: Instant) -> Result<Put, TierError> {
        self.0.store(key, entry, now).await
    }
    async fn add(&self, key: K, entry: Hit<V>, now: Instant) -> Result<Put, TierError> {
        self.0.add(key, entry, now).await
    }
    async fn remove(&self, key: &K) -> Result<bool, TierError> {
        self.0.remove(key).await
    }
    async fn purge(&self, purge: &Purge) -> Result<u64, TierError> {
        self.0.purge(purge).await
    }
    fn watch(&self, changes: Changes<K>) {
        self.0.watch(changes);
    }
    async fn lease(&self, key: &K, ttl: Duration) -> Result<Lease, TierError> {
        self.0.lease(key, ttl).await
    }
    async fn release(&self, key: &K, token: u64) -> Result<(), TierError> {
        self.0.release(key, token).await
    }
    async fn sync(&self) -> Result<(), TierError> {
        self.0.sync().await
    }
    fn snapshot(&self, now: Instant) -> TierSnapshot {
        self.0.snapshot(now)
    }
    fn publish(&self, now: Instant) {
        self.0.publish(now);
    }
}
