//! A hit in the second tier against a bare GET of the same client library, on the same Redis in one run. It
//! needs a `redis-server` in the path.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

#[path = "support/server.rs"]
mod server;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use chimera_cache::{
    Guarded, GuardedSettings, Item, Lifetime, MemorySettings, RedisSettings, RedisTier, SharedTier,
    TextCodec, TieredCache, TieredSettings,
};
use criterion::{Criterion, criterion_group, criterion_main};
use fred::{
    bytes::Bytes,
    interfaces::{ClientLike, KeysInterface},
    types::{Builder, RespVersion, config::Config},
};
use server::{Server, Value, value};

async fn ours(url: &str) -> TieredCache<String, Value> {
    let redis = RedisSettings::new(url, [1; 32]).unwrap();
    let tier = RedisTier::start("bench", redis, TextCodec::new()).unwrap();
    let far = SharedTier::new(Guarded::new("bench", tier, GuardedSettings::default()).unwrap());
    let settings = TieredSettings::new(MemorySettings::new("bench", 1 << 20, 1 << 16));
    let weigh = |key: &String, item: &Item<Value>| key.len() + item.value.len();
    let cache = TieredCache::with_far(settings, TextCodec::new(), weigh, far).unwrap();
    let item = Item::new(value(), Lifetime::fresh(Duration::from_secs(3600)), Duration::ZERO);
    // It connects in the background, and is told once that others may have changed things.
    let key = "k".to_owned();
    while cache.far(&key, Instant::now()).await.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cache.put(key.clone(), item.clone(), None, Instant::now());
        cache.flush().await;
    }
    cache
}

async fn bare(url: &str) -> fred::clients::Client {
    let mut config = Config::from_url(url).unwrap();
    config.version = RespVersion::RESP3;
    let client = Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    client.set::<(), _, _>("bare", &*value(), None, None, false).await.unwrap();
    client
}

fn hit(c: &mut Criterion) {
    let Some(server) = Server::start() else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    let url = format!("redis://127.0.0.1:{}", server.1);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (ours, bare) = runtime.block_on(async { (ours(&url).await, bare(&url).await) });
    let mut group = c.benchmark_group("hit in Redis");
    let key = "k".to_owned();
    group.bench_function("second tier", |b| {
        b.iter(|| runtime.block_on(async { black_box(ours.far(&key, Instant::now()).await) }));
    });
    group.bench_function("bare fred GET", |b| {
        b.iter(|| runtime.block_on(async { black_box(bare.get::<Bytes, _>("bare").await.unwrap()) }));
    });
    group.finish();
    // A miss is cheaper than a hit, and would flatter.
    let seen = ours.snapshot(Instant::now()).far.unwrap();
    let share = seen.hits as f64 / (seen.hits + seen.misses) as f64;
    assert!(share > 0.99 && seen.up, "{seen:?}");
}

criterion_group!(benches, hit);
criterion_main!(benches);
