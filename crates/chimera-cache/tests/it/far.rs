//! A far tier that does what it is told, and a cache over it.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use chimera_cache::{
    Change, Changes, Guarded, GuardedSettings, Hit, Item, Lease, Lifetime, MemorySettings, NoLabels, Purge,
    Put, SharedTier, Tier, TierError, TierSnapshot, TieredCache, TieredSettings,
};

pub(crate) type Value = Arc<str>;
pub(crate) type Cache = TieredCache<String, Value>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What the far tier does with an operation.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    Good,
    /// Writes fail, and leases.
    IsFull,
    Fails,
    /// As a codec of the user's may.
    Panics,
    Hangs,
    Slow,
}

/// A value, when it was made, and for how long it is good.
type Held = (Item<Value>, Instant, Duration);

struct Far {
    mood: Mutex<Mood>,
    values: Mutex<HashMap<String, Held>>,
    changes: Mutex<Option<Changes<String>>>,
    gets: AtomicU32,
}

#[derive(Clone)]
pub(crate) struct FarTier(Arc<Far>);

impl FarTier {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Far {
            mood: Mutex::new(Mood::Good),
            values: Mutex::default(),
            changes: Mutex::default(),
            gets: AtomicU32::new(0),
        }))
    }

    pub(crate) fn mood(&self, mood: Mood) {
        *self.0.mood.lock().unwrap() = mood;
    }

    pub(crate) fn tell(&self, change: Change<String>) {
        (self.0.changes.lock().unwrap().clone().unwrap())(change);
    }

    pub(crate) fn gets(&self) -> u32 {
        self.0.gets.load(SeqCst)
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.values.lock().unwrap().contains_key(key)
    }

    async fn write(&self) -> Result<(), TierError> {
        let is_full = *self.0.mood.lock().unwrap() == Mood::IsFull;
        if is_full { Err(TierError::Full) } else { self.answer().await }
    }

    async fn answer(&self) -> Result<(), TierError> {
        let mood = *self.0.mood.lock().unwrap();
        match mood {
            Mood::Good | Mood::IsFull => Ok(()),
            Mood::Fails => Err(TierError::Full),
            Mood::Panics => panic!("on purpose"),
            Mood::Hangs => pending().await,
            Mood::Slow => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(())
            }
        }
    }
}

impl Tier<String, Item<Value>> for FarTier {
    fn name(&self) -> &'static str {
        "far"
    }
    async fn get(&self, key: &String, now: Instant) -> Result<Option<Hit<Item<Value>>>, TierError> {
        self.0.gets.fetch_add(1, SeqCst);
        self.answer().await?;
        let values = self.0.values.lock().unwrap();
        Ok(values.get(key).map(|(item, at, remaining)| {
            let age = now.saturating_duration_since(*at);
            Hit { value: item.clone(), age, remaining: remaining.saturating_sub(age) }
        }))
    }
    async fn store(&self, key: String, entry: Hit<Item<Value>>, now: Instant) -> Result<Put, TierError> {
        self.write().await?;
        self.0.values.lock().unwrap().insert(key, (entry.value, now - entry.age, entry.remaining));
        Ok(Put::Stored)
    }
    async fn add(&self, key: String, entry: Hit<Item<Value>>, now: Instant) -> Result<Put, TierError> {
        if self.has(&key) { Ok(Put::Refused) } else { self.store(key, entry, now).await }
    }
    async fn remove(&self, key: &String) -> Result<bool, TierError> {
        self.answer().await?;
        Ok(self.0.values.lock().unwrap().remove(key).is_some())
    }
    async fn purge(&self, _: &Purge) -> Result<u64, TierError> {
        self.answer().await?;
        Ok(self.0.values.lock().unwrap().drain().count() as u64)
    }
    async fn lease(&self, _: &String, _: Duration) -> Result<Lease, TierError> {
        self.write().await?;
        Ok(Lease::Unknown)
    }
    fn watch(&self, changes: Changes<String>) {
        *self.0.changes.lock().unwrap() = Some(changes);
    }
    fn snapshot(&self, now: Instant) -> TierSnapshot {
        let near = MemorySettings::new("far", 1 << 20, 1 << 10);
        let empty: chimera_cache::MemoryTier<String, Value> =
            chimera_cache::MemoryTier::new(near, |_, _| 0).unwrap();
        empty.snapshot(now)
    }
}

pub(crate) fn settings() -> TieredSettings {
    TieredSettings::new(MemorySettings::new("near", 1 << 20, 1 << 16))
}

pub(crate) fn cache(settings: TieredSettings) -> (Cache, FarTier) {
    let far = FarTier::new();
    let guarded = Guarded::new("far", far.clone(), GuardedSettings::default()).unwrap();
    let weigh = |key: &String, item: &Item<Value>| key.len() + item.value.len();
    (TieredCache::with_far(settings, NoLabels, weigh, SharedTier::new(guarded)).unwrap(), far)
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

pub(crate) fn item(text: &str, lifetime: Lifetime) -> Item<Value> {
    Item::new(text.into(), lifetime, Duration::ZERO)
}

pub(crate) fn put(cache: &Cache, key: &str, text: &str) {
    cache.put(key.to_owned(), item(text, Lifetime::fresh(600 * SECOND)), None, now());
}

pub(crate) fn near(cache: &Cache, key: &str) -> Option<Value> {
    cache.peek(&key.to_owned(), now()).map(|found| found.value)
}

pub(crate) async fn far(cache: &Cache, key: &str) -> Option<Value> {
    cache.far(&key.to_owned(), now()).await.map(|found| found.value)
}
