//! Caching any async computation: many callers, one computation, then hits; and behind memory a Redis, where
//! `REDIS_URL` says so and the feature `redis` is on. Run it twice within a minute to see the second tier.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{convert::Infallible, sync::Arc, time::Duration};

use chimera_cache::{Item, Lifetime, Loaded, MemorySettings, TieredCache, TieredSettings};

type Answer = Arc<[u8]>;
type Cache = TieredCache<String, Answer>;

/// Anything that takes its time.
async fn square(n: u64) -> Result<Loaded<Answer>, Infallible> {
    println!("computing the square of {n}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(Answer::from((n * n).to_string().into_bytes()).into())
}

fn settings() -> TieredSettings {
    TieredSettings::new(MemorySettings::new("squares", 1 << 20, 1 << 16))
}

/// What a key and its value take on the heap.
const WEIGH: fn(&String, &Item<Answer>) -> usize = |key, item| key.len() + item.value.len();

#[cfg(feature = "redis")]
async fn cache() -> Cache {
    use chimera_cache::{Guarded, GuardedSettings, RedisSettings, RedisTier, SharedTier, TextCodec};
    let Ok(url) = std::env::var("REDIS_URL") else { return memory_only() };
    // In earnest, 32 bytes that only the processes know which share the values.
    let redis = RedisSettings::new(&url, *b"known to all who share the cache").unwrap();
    println!("behind memory there is {}", redis.address());
    let tier = RedisTier::start("redis", redis, TextCodec::new()).unwrap();
    let far = SharedTier::new(Guarded::new("redis", tier, GuardedSettings::default()).unwrap());
    let cache = TieredCache::with_far(settings(), TextCodec::new(), WEIGH, far).unwrap();
    // It works from the first moment; a moment later it works with Redis.
    tokio::time::sleep(Duration::from_millis(200)).await;
    cache
}

#[cfg(not(feature = "redis"))]
async fn cache() -> Cache {
    memory_only()
}

fn memory_only() -> Cache {
    TieredCache::new(settings(), chimera_cache::NoLabels, WEIGH).unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let cache = cache().await;
    // Fresh for a minute; for an hour more it is served while it is renewed, or when that fails.
    let hour = Duration::from_secs(3600);
    let lifetime = Lifetime::fresh(Duration::from_secs(60)).stale_while_revalidate(hour).stale_if_error(hour);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let cache = cache.clone();
        callers.spawn(async move {
            cache.get_or_load(&"square:12".to_owned(), lifetime, || square(12)).await.unwrap()
        });
    }
    while let Some(found) = callers.join_next().await {
        let found = found.unwrap();
        println!("a caller got {} ({:?})", String::from_utf8_lossy(&found.value), found.place);
    }
    let again = cache.get_or_load(&"square:12".to_owned(), lifetime, || square(12)).await.unwrap();
    println!("again: {} ({:?})", String::from_utf8_lossy(&again.value), again.place);
    cache.flush().await;
}
