//! The memory tier: quick_cache, weighed in bytes, with a lifetime beside each value.

use std::{
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use quick_cache::{Lifecycle, OptionsBuilder, Weighter, sync::Cache};

use crate::{
    error::{SettingsError, TierError},
    latency::Latency,
    metrics::{SizeMetrics, TierMetrics},
    purge::Purge,
    settings::MemorySettings,
    stats::{OperationLatency, Stats, TierSnapshot},
    tier::{Hit, Tier},
};

/// What became of a value that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in the tier, for as long as there is room for it.
    Stored,
    /// It is heavier than the heaviest entry allowed, or its lifetime is zero.
    Refused,
}

/// Copied out on every hit, so its times are nanoseconds in one word each, not instants in two.
#[derive(Clone)]
struct Stored<V> {
    value: V,
    at: u64,
    expires: u64,
    weight: u32,
}

impl<V> Stored<V> {
    fn at_time(self, now: u64) -> Hit<V> {
        Hit {
            age: Duration::from_nanos(now.saturating_sub(self.at)),
            remaining: Duration::from_nanos(self.expires.saturating_sub(now)),
            value: self.value,
        }
    }
}

/// Counts nanoseconds from 146 years before it was made, so that what was stored before that has a time too.
struct Clock(Instant);

impl Clock {
    const START: u64 = 1 << 62;

    #[inline]
    fn nanos(&self, now: Instant) -> u64 {
        match now.checked_duration_since(self.0) {
            Some(since) => Self::START.saturating_add(nanos(since)),
            None => self.nanos_before(now),
        }
    }

    #[cold]
    fn nanos_before(&self, now: Instant) -> u64 {
        Self::START.saturating_sub(nanos(self.0.saturating_duration_since(now)))
    }
}

/// As many as there are, up to 584 years of them.
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(duration.subsec_nanos()))
}

/// Weights are taken when a value is stored, or grows: the cache asks again while it evicts.
#[derive(Clone, Copy)]
struct StoredWeight;

impl<K, V> Weighter<K, Stored<V>> for StoredWeight {
    fn weight(&self, _: &K, stored: &Stored<V>) -> u64 {
        stored.weight.into()
    }
}

/// Counts what gives way to an insertion. The value that it replaces is no eviction.
#[derive(Clone, Copy)]
struct CountEvicted;

type Entries<K, V> = Vec<(K, Stored<V>)>;

/// One insertion: its key, how many others gave way, and those of them that were used more than once, if
/// anybody wants them.
struct Insertion<K, V> {
    key: Option<K>,
    evicted: u64,
    used: Option<Vec<(K, V)>>,
}

impl<K, V> Default for Insertion<K, V> {
    fn default() -> Self {
        Self { key: None, evicted: 0, used: None }
    }
}

impl<K: Eq, V> Lifecycle<K, V> for CountEvicted {
    type RequestState = Insertion<K, V>;

    fn on_evict(&self, insertion: &mut Insertion<K, V>, key: K, _: V) {
        insertion.evicted += u64::from(insertion.key.as_ref() != Some(&key));
    }

    fn on_evict_hot(&self, insertion: &mut Insertion<K, V>, key: K, value: V) {
        if insertion.key.as_ref() == Some(&key) {
            return;
        }
        insertion.evicted += 1;
        if let Some(used) = &mut insertion.used {
            used.push((key, value));
        }
    }
}

/// Keys are hashed fast, with a seed of the process. Whoever could aim at collisions would lengthen the
/// look-ups of a table whose size is bounded, no more. The hash picks the shard, so all of its bits must be
/// good: foldhash's fast form put most of a thousand numbers in a row into a few shards with one seed in a hundred,
/// and those pushed each other out of a tier with room for all.
type Map<K, V> = Cache<K, Stored<V>, StoredWeight, foldhash::quality::RandomState, CountEvicted>;

/// A cache in memory. Values are cloned out, so `V` is something cheap to clone: an [`Arc`](std::sync::Arc).
pub struct MemoryTier<K, V> {
    settings: MemorySettings,
    weigh: fn(&K, &V) -> usize,
    clock: Clock,
    map: Map<K, V>,
    stats: Stats,
    puts: AtomicU64,
    get: Latency,
    put: Latency,
    metrics: TierMetrics,
    sizes: SizeMetrics,
}

/// What quick_cache keeps for an entry besides key and value: a slot of its slab and one of its table.
const SLOT_OVERHEAD: usize = 40;
/// The part of a shard that one entry may fill at most. quick_cache silently refuses what is heavier
/// than its hot part.
const SHARD_SHARE: f64 = 0.9;
/// The part of a shard for what was asked for again; in the rest new entries wait for it. quick_cache leaves them
/// 3 %, and what pushes out the oldest of them finds its memory gone cold. A hundredth of 256 MiB stays in a
/// processor's own cache, and costs no hits, since those that had to go are remembered.
const USED_AGAIN: f64 = 0.99;
/// Shards at most. More would only help many more threads than a gateway has.
const MAX_SHARDS: u64 = 64;
/// One in so many writes is timed.
const SAMPLE: u64 = 64;

impl<K, V> MemoryTier<K, V>
where
    K: Hash + Eq + Clone,
    V: Clone,
{
    /// An empty tier. `weigh` says what a key and its value take on the heap; the overhead of the entry
    /// itself is added. It is asked once per value, and again by `reweigh`.
    pub fn new(settings: MemorySettings, weigh: fn(&K, &V) -> usize) -> Result<Self, SettingsError> {
        settings.validate()?;
        let fit = (settings.capacity_bytes as f64 * SHARD_SHARE / settings.max_entry_bytes as f64) as u64;
        // quick_cache rounds shards up to a power of two, so round down first.
        let shards = fit.clamp(1, MAX_SHARDS).ilog2();
        let items = (settings.capacity_bytes / settings.expected_entry_bytes).max(64);
        let options = OptionsBuilder::new()
            .shards(1 << shards)
            .estimated_items_capacity(usize::try_from(items).unwrap_or(usize::MAX))
            .weight_capacity(settings.capacity_bytes)
            .hot_allocation(USED_AGAIN)
            .build()
            .map_err(|_| SettingsError { field: "capacity_bytes", want: "a capacity that can be used" })?;
        Ok(Self {
            settings,
            weigh,
            clock: Clock(Instant::now()),
            map: Cache::with_options(options, StoredWeight, Default::default(), CountEvicted),
            stats: Stats::new(),
            puts: AtomicU64::new(0),
            get: Latency::default(),
            put: Latency::default(),
            metrics: TierMetrics::new(settings.name),
            sizes: SizeMetrics::new(settings.name),
        })
    }

    /// The fresh value of a key.
    #[inline]
    pub fn get(&self, key: &K, now: Instant) -> Option<Hit<V>> {
        let now = self.clock.nanos(now);
        Some(self.counted(key, now)?.at_time(now))
    }

    /// The fresh value of a key and its age in nanoseconds: what a judge of its freshness needs.
    #[inline(always)]
    pub(crate) fn get_aged(&self, key: &K, now: Instant) -> Option<(V, u64)> {
        let now = self.clock.nanos(now);
        let stored = self.counted(key, now)?;
        Some((stored.value, now.saturating_sub(stored.at)))
    }

    /// The fresh value of a key, without a trace in the statistics: for a second look.
    pub fn peek(&self, key: &K, now: Instant) -> Option<Hit<V>> {
        let now = self.clock.nanos(now);
        Some(self.look_up(key, now)?.at_time(now))
    }

    #[inline(always)]
    fn counted(&self, key: &K, now: u64) -> Option<Stored<V>> {
        let stripe = self.stats.lookups.stripe();
        let stored = if stripe.begin() { self.timed(key, now) } else { self.look_up(key, now) };
        if stored.is_none() {
            stripe.missed();
        }
        stored
    }

    #[cold]
    fn timed(&self, key: &K, now: u64) -> Option<Stored<V>> {
        let began = Instant::now();
        let stored = self.look_up(key, now);
        let latency = began.elapsed();
        self.get.record(latency);
        self.metrics.got(latency);
        stored
    }

    #[inline(always)]
    fn look_up(&self, key: &K, now: u64) -> Option<Stored<V>> {
        let stored = self.map.get(key)?;
        if stored.expires <= now {
            self.expire(key, now);
            return None;
        }
        Some(stored)
    }

    #[cold]
    fn expire(&self, key: &K, now: u64) {
        // Only if it is still the same one: a fresh value may have taken its place.
        if self.map.remove_if(key, |held| held.expires <= now).is_some() {
            self.stats.expired.fetch_add(1, Relaxed);
        }
    }

    /// What an entry weighs, if that is not more than the heaviest may.
    fn allowed_weight(&self, key: &K, value: &V) -> Option<u32> {
        let overhead = size_of::<K>() + size_of::<Stored<V>>() + SLOT_OVERHEAD;
        let weight = u32::try_from((self.weigh)(key, value).saturating_add(overhead)).ok()?;
        (u64::from(weight) <= self.settings.max_entry_bytes).then_some(weight)
    }

    /// Stores a value for `ttl`, in place of any other of its key, which goes even if this one is refused.
    pub fn put(&self, key: K, value: V, ttl: Duration, now: Instant) -> Put {
        self.insert(key, Hit { value, age: Duration::ZERO, remaining: ttl }, now, None).0
    }

    /// Stores a value that already has an age. What it pushed out and what had been used more than once
    /// is handed to `demote`, unless it has expired.
    pub(crate) fn store(
        &self,
        key: K,
        entry: Hit<V>,
        now: Instant,
        mut demote: impl FnMut(K, Hit<V>),
    ) -> Put {
        let (put, used) = self.insert(key, entry, now, Some(Vec::new()));
        let now = self.clock.nanos(now);
        for (key, stored) in used.unwrap_or_default() {
            let hit = stored.at_time(now);
            if !hit.remaining.is_zero() {
                demote(key, hit);
            }
        }
        put
    }

    fn insert(
        &self,
        key: K,
        entry: Hit<V>,
        now: Instant,
        used: Option<Entries<K, V>>,
    ) -> (Put, Option<Entries<K, V>>) {
        let sampled = self.puts.fetch_add(1, Relaxed).is_multiple_of(SAMPLE).then(Instant::now);
        let Hit { value, age, remaining } = entry;
        let weight = self.allowed_weight(&key, &value);
        let (Some(weight), false) = (weight, remaining.is_zero()) else {
            self.stats.refused.fetch_add(1, Relaxed);
            self.remove(&key);
            return (Put::Refused, None);
        };
        let now = self.clock.nanos(now);
        let (at, expires) = (now.saturating_sub(nanos(age)), now.saturating_add(nanos(remaining)));
        let stored = Stored { value, at, expires, weight };
        let mut insertion = Insertion { key: Some(key.clone()), evicted: 0, used };
        self.map.insert_with_lifecycle(key, stored, &mut insertion);
        if insertion.evicted > 0 {
            self.stats.room.fetch_add(insertion.evicted, Relaxed);
        }
        if let Some(began) = sampled {
            let latency = began.elapsed();
            self.put.record(latency);
            self.metrics.put(latency);
        }
        (Put::Stored, insertion.used)
    }

    /// Entries held, expired ones included.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is room for one more entry of the heaviest kind without pushing another out.
    pub(crate) fn has_room(&self) -> bool {
        self.map.weight().saturating_add(self.settings.max_entry_bytes) <= self.settings.capacity_bytes
    }

    /// Weighs the value of a key again, which has grown since it was stored. Others give way to it; if it
    /// has become heavier than the heaviest entry allowed, it goes itself.
    pub fn reweigh(&self, key: &K) {
        let Some(stored) = self.map.peek(key) else { return };
        let mut insertion = Insertion { key: Some(key.clone()), evicted: 0, used: None };
        if let Some(weight) = self.allowed_weight(key, &stored.value) {
            // It may be gone by now, which is as well.
            let grown = Stored { weight, ..stored };
            let _ = self.map.replace_with_lifecycle(key.clone(), grown, true, &mut insertion);
        } else {
            insertion.evicted = u64::from(self.map.remove(key).is_some());
        }
        self.stats.room.fetch_add(insertion.evicted, Relaxed);
    }

    /// Forgets a key; true if it was there.
    pub fn remove(&self, key: &K) -> bool {
        let removed = self.map.remove(key).is_some();
        if removed {
            self.stats.invalidated.fetch_add(1, Relaxed);
        }
        removed
    }

    /// Forgets the keys and values for which `keep` is false; says how many. Looks at every entry.
    pub fn retain(&self, keep: impl Fn(&K, &V) -> bool) -> u64 {
        let before = self.map.len();
        self.map.retain(|key, stored| keep(key, &stored.value));
        let gone = before.saturating_sub(self.map.len()) as u64;
        self.stats.invalidated.fetch_add(gone, Relaxed);
        gone
    }

    /// Forgets everything.
    pub fn clear(&self) {
        let entries = self.map.len() as u64;
        self.map.clear();
        self.stats.invalidated.fetch_add(entries, Relaxed);
    }

    /// All that can be seen of it.
    pub fn snapshot(&self, now: Instant) -> TierSnapshot {
        self.stats.sample(now);
        let (hits, misses) = self.stats.totals();
        TierSnapshot {
            tier: self.settings.name,
            up: true,
            why_down: None,
            entries: self.map.len() as u64,
            bytes: self.map.weight(),
            capacity_bytes: self.settings.capacity_bytes,
            hits,
            misses,
            hit_rate: self.stats.hit_rate(now),
            evictions: self.stats.evictions(),
            breakers: None,
            flawed: 0,
            get: OperationLatency::of(&self.get),
            put: OperationLatency::of(&self.put),
        }
    }

    /// Brings the metrics up to date and remembers the totals for the rates. Call it about once a
    /// second.
    pub fn publish(&self, now: Instant) {
        self.stats.sample(now);
        let entries = self.map.len() as u64;
        let capacity = self.settings.capacity_bytes;
        self.metrics.publish(self.stats.totals(), self.stats.evictions());
        self.sizes.publish(entries, self.map.weight(), capacity);
    }
}

impl<K, V> Tier<K, V> for MemoryTier<K, V>
where
    K: Hash + Eq + Clone + Send + Sync,
    V: Clone + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.settings.name
    }

    async fn get(&self, key: &K, now: Instant) -> Result<Option<Hit<V>>, TierError> {
        Ok(MemoryTier::get(self, key, now))
    }

    async fn store(&self, key: K, entry: Hit<V>, now: Instant) -> Result<Put, TierError> {
        Ok(self.insert(key, entry, now, None).0)
    }

    async fn remove(&self, key: &K) -> Result<bool, TierError> {
        Ok(MemoryTier::remove(self, key))
    }

    /// By itself it knows of no labels: whatever the purge, everything is forgotten.
    async fn purge(&self, _: &Purge) -> Result<u64, TierError> {
        let entries = self.map.len() as u64;
        self.clear();
        Ok(entries)
    }

    fn snapshot(&self, now: Instant) -> TierSnapshot {
        MemoryTier::snapshot(self, now)
    }

    fn publish(&self, now: Instant) {
        MemoryTier::publish(self, now);
    }
}
