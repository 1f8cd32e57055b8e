//! Get a value, or compute it once.

use std::{
    error::Error,
    future::{Future, poll_fn},
    hash::Hash,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_core::Stream;

use crate::{
    flight::Source,
    item::{Freshness, Item, Lifetime},
    settings::WritePolicy,
    tier::{Lease, Tier},
    tiered::{Found, Place, TieredCache},
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

/// The pauses between looks for what another process computes.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

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
                let counts = &self.0.counts;
                let early = found.freshness == Freshness::RenewEarly;
                let count = if early { &counts.early } else { &counts.stale };
                count.fetch_add(1, Relaxed);
                self.renew(key.clone(), lifetime, load);
                Ok(found)
            }
            stale => match (self.fly(key.clone(), lifetime, load).await, stale) {
                (Err(_), Some(stale)) => {
                    self.0.counts.stale_on_error.fetch_add(1, Relaxed);
                    Ok(stale)
                }
                (outcome, _) => outcome,
            },
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
            Leased::Mine(token) => Some(token),
            Leased::None => None,
        };
        let ticket = self.ticket(&key);
        let began = now();
        let loaded = load().await;
        let outcome = match loaded {
            Err(error) => Err(Arc::new(error) as LoadError),
            Ok(loaded) => {
                let at = now();
                let lifetime = loaded.lifetime.unwrap_or(lifetime).jittered(self.0.dice.draw());
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
                    fresh_for: lifetime.ttl,
                    freshness: Freshness::Fresh,
                    place: Place::Computed,
                    is_negative: loaded.is_negative,
                })
            }
        };
        if let (Some(token), Some(far)) = (lease, &self.0.far) {
            // A lease that cannot be given back ends by itself.
            let _ = far.tier.release(&key, token).await;
        }
        outcome
    }

    /// Asks for the lease of a key, or waits for what its holder computes. Never a reason to fail: when
    /// the far tier is away or the holder takes too long, everybody computes for themselves.
    async fn lease(&self, key: &K) -> Leased<V> {
        let (Some(ttl), Some(far)) = (self.0.settings.lease, &self.0.far) else { return Leased::None };
        let until = now() + ttl;
        let mut pause = FIRST_PAUSE;
        loop {
            let granted = match far.tier.lease(key, ttl).await {
                Ok(Lease::Granted(token)) => Some(token),
                Ok(Lease::Taken) => None,
                Ok(Lease::Unknown) | Err(_) => return Leased::None,
            };
            // The holder before may have stored the value and given the lease back since this caller
            // looked.
            let found = self.far(key, now()).await;
            match (found.filter(|found| found.freshness == Freshness::Fresh), granted) {
                (Some(found), granted) => {
                    if let Some(token) = granted {
                        let _ = far.tier.release(key, token).await;
                    }
                    return Leased::Computed(Box::new(found));
                }
                (None, Some(token)) => return Leased::Mine(token),
                (None, None) if now() >= until => return Leased::None,
                (None, None) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

enum Leased<V> {
    Mine(u64),
    Computed(Box<Found<V>>),
    None,
}

/// Tokio's clock, so that tests can pause it.
fn now() -> Instant {
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
