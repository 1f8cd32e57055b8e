//! What a tier is.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use crate::{error::TierError, memory::Put, stats::TierSnapshot};

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

/// One level of a cache.
///
/// A caller asks the nearest tier first and treats an error as a miss. An implementor never returns an
/// expired value, nor one that was stored under another key; it keeps its own statistics; its futures
/// may be dropped at any point and then leave nothing behind but, at most, a completed write.
pub trait Tier<K, V>: Send + Sync {
    /// The tier's name, as metrics and pages show it.
    fn name(&self) -> &'static str;
    /// The value of a key, if there is a fresh one.
    fn get(&self, key: &K, now: Instant) -> impl Future<Output = Result<Option<Hit<V>>, TierError>> + Send;
    /// Stores a value for `ttl`.
    fn put(
        &self,
        key: K,
        value: V,
        ttl: Duration,
        now: Instant,
    ) -> impl Future<Output = Result<Put, TierError>> + Send;
    /// Forgets a key; true if it was there.
    fn remove(&self, key: &K) -> impl Future<Output = Result<bool, TierError>> + Send;
    /// All that can be seen of it.
    fn snapshot(&self, now: Instant) -> TierSnapshot;
}
