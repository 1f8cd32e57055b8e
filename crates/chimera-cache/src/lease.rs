//! One computation of a key among all processes that share the far tier.

use std::{
    hash::Hash,
    time::{Duration, Instant},
};

use crate::{
    found::Found,
    item::Freshness,
    load::now,
    tier::{Lease, Tier},
    tiered::TieredCache,
};

/// The pauses between looks for what another process computes.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Who computes a key, among all processes that share the far tier.
pub enum Leased<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// This caller, while it keeps this.
    Mine(HeldLease<K, V>),
    /// Another process has: this is its value.
    Computed(Box<Found<V>>),
    /// Nobody says: there are no leases, the far tier is away, or the holder took too long. Compute it.
    None,
}

/// A lease that is held. Dropped, it is given back, after the writes of its key that are queued: whoever
/// waits for it finds the value. It ends by itself if its process does.
pub struct HeldLease<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    cache: TieredCache<K, V>,
    key: K,
    token: u64,
}

impl<K, V> Drop for HeldLease<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn drop(&mut self) {
        if let Some(far) = &self.cache.0.far {
            far.writer.release(self.key.clone(), self.token);
        }
    }
}

impl<K, V> TieredCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Asks for the lease of a key, or waits for what its holder computes, for as long as a lease lasts.
    /// Never a reason to fail: when the far tier is away or the holder takes too long, everybody computes
    /// for themselves.
    pub async fn lease(&self, key: &K) -> Leased<K, V> {
        self.ask_for_lease(key, None).await
    }

    /// The same for a key whose value is there and is to be renewed: only a value that was computed since
    /// this was called is one.
    pub async fn lease_anew(&self, key: &K) -> Leased<K, V> {
        self.ask_for_lease(key, Some(now())).await
    }

    /// Whether processes compute one at a time.
    pub fn has_leases(&self) -> bool {
        self.0.settings.lease.is_some() && self.0.far.is_some()
    }

    async fn ask_for_lease(&self, key: &K, since: Option<Instant>) -> Leased<K, V> {
        let (Some(ttl), Some(far)) = (self.0.settings.lease, &self.0.far) else { return Leased::None };
        // What is computed while changes are not told is not for others: they would wait for it in vain.
        if self.0.known.is_lost() {
            return Leased::None;
        }
        let until = now() + ttl;
        let mut pause = FIRST_PAUSE;
        loop {
            let granted = match far.tier.lease(key, ttl).await {
                Ok(Lease::Granted(token)) => Some(HeldLease { cache: self.clone(), key: key.clone(), token }),
                Ok(Lease::Taken) => None,
                Ok(Lease::Unknown) | Err(_) => return Leased::None,
            };
            // The holder before may have stored the value and given the lease back since this caller
            // looked.
            let found = self.far(key, now()).await.filter(|found| {
                found.freshness == Freshness::Fresh && since.is_none_or(|since| found.age < now() - since)
            });
            match (found, granted) {
                (Some(found), _) => return Leased::Computed(Box::new(found)),
                (None, Some(lease)) => return Leased::Mine(lease),
                (None, None) if now() >= until => return Leased::None,
                (None, None) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}
