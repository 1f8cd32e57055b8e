//! Get a value, or compute it once.

use std::{
    error::Error,
    future::{Future, poll_fn},
    hash::Hash,
    pin::Pin,
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_core::Stream;

use crate::{
    flight::Source,
    found::{Found, Place},
    item::{Freshness, Item, Lifetime, millis},
    lease::Leased,
    settings::WritePolicy,
    tiered::TieredCache,
};

/// Why a computation failed, for each of its callers.
pub type LoadError = Arc<dyn Error + Send + Sync>;

pub(crate) type Outcome<V> = Result<Found<V>, LoadError>;

/// What a computation brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded<V> {
    value: V,
    lifetime: Option<Lifetime>,
    is_negative: bool,
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self { value, lifetime: None, is_negative: false }
    }
}

impl<V> Loaded<V> {
    /// A value with a lifetime of its own.
    pub fn for_lifetime(value: V, lifetime: Lifetime) -> Self {
        Self { value, lifetime: Some(lifetime), is_negative: false }
    }

    /// A value that says "there is no such thing", kept for `ttl`.
    pub fn negative(value: V, ttl: Duration) -> Self {
        Self { value, lifetime: Some(Lifetime::fresh(ttl)), is_negative: true }
    }
}

impl<K, V> TieredCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The value of a key, computed if need be: once, however many ask at the same time.
    ///
    /// A stale value is returned at once where its lifetime allows, and renewed by a task of its own; or
    /// it is returned in place of an error. Errors reach all that wait and are not kept. When the caller
    /// goes away, the computation goes on for the others; when all have, it is dropped.
    pub async fn get_or_load<F, E>(
        &self,
        key: &K,
        lifetime: Lifetime,
        load: impl FnOnce() -> F + Send + 'static,
    ) -> Result<Found<V>, LoadError>
    where
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let found = match self.near(key, now()) {
            Some(found) => Some(found),
            None => self.far_once(key).await,
        };
        match found {
            Some(found) if found.freshness == Freshness::Fresh => Ok(found),
            Some(found) if found.freshness != Freshness::IfError => {
                self.served(found.freshness);
                self.renew(key.clone(), lifetime, load);
                Ok(found)
            }
            stale => {
                let began = now();
                let outcome = self.fly(key.clone(), lifetime, load).await;
                match stale.filter(|_| outcome.is_err()).and_then(|stale| stale.outlives(now() - began)) {
                    Some(stale) => {
                        self.served(stale.freshness);
                        Ok(stale)
                    }
                    None => outcome,
                }
            }
        }
    }

    /// Looks in the far tier, once for all that ask at the same time.
    pub async fn far_once(&self, key: &K) -> Option<Found<V>> {
        if !self.has_far() {
            return None;
        }
        let (cache, wanted) = (self.clone(), key.clone());
        let mut follow = self.0.looks.join(key.clone(), || {
            let look = async move { cache.far(&wanted, now()).await };
            Box::pin(Once(Some(Box::pin(look)))) as Source<Option<Found<V>>>
        });
        poll_fn(|cx| Pin::new(&mut follow).poll_next(cx)).await.flatten()
    }

    /// Renews a value in a task that belongs to the cache, unless too many are.
    fn renew<F, E>(&self, key: K, lifetime: Lifetime, load: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        // One that many ask for is being renewed already: it takes no place from the others.
        if self.0.flights.contains(&key) {
            return;
        }
        let Ok(permit) = self.0.renewing.clone().try_acquire_owned() else { return };
        let cache = self.clone();
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            if let Err(error) = cache.fly(key, lifetime, load).await {
                tracing::debug!(%error, "a stale value could not be renewed");
            }
            drop(permit);
        });
    }

    /// Follows the computation of a key, beginning it if there is none.
    async fn fly<F, E>(
        &self,
        key: K,
        lifetime: Lifetime,
        load: impl FnOnce() -> F + Send + 'static,
    ) -> Outcome<V>
    where
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let (cache, wanted) = (self.clone(), key.clone());
        let mut follow = self.0.flights.join(key, || {
            let work = async move { cache.compute(wanted, lifetime, load).await };
            Box::pin(Once(Some(Box::pin(work)))) as Source<Outcome<V>>
        });
        match poll_fn(|cx| Pin::new(&mut follow).poll_next(cx)).await {
            Some(outcome) => outcome,
            None => Err(Arc::new(Interrupted)),
        }
    }

    async fn compute<F, E>(
        &self,
        key: K,
        lifetime: Lifetime,
        load: impl FnOnce() -> F + Send + 'static,
    ) -> Outcome<V>
    where
        F: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
        E: Error + Send + Sync + 'static,
    {
        let lease = match self.lease(&key).await {
            Leased::Computed(found) => return Ok(*found),
            Leased::Mine(lease) => Some(lease),
            Leased::None => None,
        };
        let ticket = self.ticket(&key);
        let began = now();
        let loaded = load().await;
        match loaded {
            Err(error) => Err(Arc::new(error) as LoadError),
            Ok(loaded) => {
                let at = now();
                let lifetime = loaded.lifetime.unwrap_or(lifetime).spread(self.0.dice.draw());
                let mut item = Item::new(loaded.value.clone(), lifetime, at - began);
                if loaded.is_negative {
                    item = item.negative();
                }
                // Whoever waits for the lease looks into the far tier: the value must be there first.
                if lease.is_some() || self.0.settings.writes == WritePolicy::Through {
                    self.put_through(key.clone(), item, Some(ticket), at).await;
                } else {
                    self.put(key.clone(), item, Some(ticket), at);
                }
                Ok(Found {
                    value: loaded.value,
                    age: Duration::ZERO,
                    ttl: lifetime.ttl,
                    freshness: Freshness::Fresh,
                    place: Place::Computed,
                    is_negative: loaded.is_negative,
                    if_error: millis(lifetime.if_error),
                })
            }
        }
    }
}

/// Tokio's clock, so that tests can pause it.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The computation was ended by a panic, which another caller saw.
#[derive(Debug, thiserror::Error)]
#[error("the computation was interrupted")]
struct Interrupted;

/// A stream of the one value that a future brings.
struct Once<F>(Option<Pin<Box<F>>>);

impl<F: Future> Stream for Once<F> {
    type Item = F::Output;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Some(future) = self.0.as_mut() else { return Poll::Ready(None) };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled.map(Some)
    }
}
