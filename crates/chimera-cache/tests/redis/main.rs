//! The tier in Redis against a real one, with a proxy that fails on purpose.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

mod coherence;
mod faults;
mod masters;
mod moves;
mod proxy;
mod server;
mod tls;
mod topologies;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chimera_cache::{
    Guarded, GuardedSettings, Item, Lifetime, MemorySettings, RedisSettings, RedisTier, SharedTier,
    TextCodec, TierSnapshot, TieredCache, TieredSettings,
};

type Value = Arc<[u8]>;
type Cache = TieredCache<String, Value>;
type Tier = RedisTier<String, Value>;

const SECRET: [u8; 32] = [9; 32];
const MINUTE: Duration = Duration::from_secs(60);

fn redis(url: &str) -> RedisSettings {
    let mut settings = RedisSettings::new(url, SECRET).unwrap();
    settings.prefix = "t:".to_owned();
    settings.proof = Duration::from_millis(100);
    settings
}

/// Deadlines that a busy machine keeps, in the proportions of the defaults.
fn guarded() -> GuardedSettings {
    GuardedSettings {
        get: Duration::from_millis(250),
        slow: Duration::from_millis(150),
        ..GuardedSettings::default()
    }
}

fn tiered(capacity: u64) -> TieredSettings {
    TieredSettings::new(MemorySettings::new("l1", capacity, capacity / 8))
}

fn cache_with(settings: TieredSettings, guarded: GuardedSettings, redis: RedisSettings) -> Cache {
    let tier = Tier::start("l2", redis, TextCodec::new()).unwrap();
    let tier = SharedTier::new(Guarded::new("l2", tier, guarded).unwrap());
    let weigh = |key: &String, item: &Item<Value>| key.len() + item.value.len();
    TieredCache::with_far(settings, TextCodec::new(), weigh, tier).unwrap()
}

fn cache(url: &str) -> Cache {
    cache_with(tiered(1 << 20), guarded(), redis(url))
}

async fn connected(url: &str) -> Cache {
    let cache = cache(url);
    ready(&cache).await;
    cache
}

/// Redis is used, and the near tier was emptied for the last time when changes began to be told.
async fn ready(cache: &Cache) {
    until("Redis is used", || far(cache).up).await;
    tracked(cache).await;
}

async fn tracked(cache: &Cache) {
    until("changes are told", || {
        cache.snapshot(Instant::now()).coherence == chimera_cache::Coherence::Tracked
    })
    .await;
}

fn far(cache: &Cache) -> TierSnapshot {
    cache.snapshot(Instant::now()).far.unwrap()
}

fn item(text: &str) -> Item<Value> {
    Item::new(text.as_bytes().into(), Lifetime::fresh(MINUTE), Duration::ZERO)
}

fn put(cache: &Cache, key: &str, text: &str) {
    cache.put(key.to_owned(), item(text), None, Instant::now());
}

async fn get_far(cache: &Cache, key: &str) -> Option<String> {
    let found = cache.far(&key.to_owned(), Instant::now()).await?;
    Some(String::from_utf8_lossy(&found.value).into_owned())
}

fn get_near(cache: &Cache, key: &str) -> Option<String> {
    let found = cache.peek(&key.to_owned(), Instant::now())?;
    Some(String::from_utf8_lossy(&found.value).into_owned())
}

/// Asks until a value that another process wrote has gone up. What is told of its being written may come
/// behind the first answer, and takes it down again.
async fn goes_up(cache: &Cache, key: &str, text: &str) {
    let began = Instant::now();
    while get_near(cache, key).as_deref() != Some(text) {
        assert!(began.elapsed() < Duration::from_secs(20), "{key} does not go up");
        assert_eq!(get_far(cache, key).await.as_deref(), Some(text));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The name of a key in Redis.
fn name(key: &str) -> Vec<u8> {
    [b"t:3:e:", key.as_bytes()].concat()
}

/// Waits for what other processes do in their own time; how long is no part of any claim.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
