//! The near tier through the public API against what it is made of and what else there is, in one run; and
//! threads against each other on the same keys.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{
    hint::black_box,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use chimera_cache::{Item, Labels, Lifetime, MemorySettings, TieredCache, TieredSettings};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

type Key = [u8; 32];
type Value = Arc<Vec<u8>>;

const KEYS: u32 = 10_000;

fn key(n: u32) -> Key {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&n.to_le_bytes());
    key
}

struct Plain;

impl Labels<Key, Value> for Plain {
    fn write_key(&self, key: &Key, out: &mut Vec<u8>) {
        out.extend_from_slice(key);
    }
}

fn tiered(value: &Value) -> TieredCache<Key, Value> {
    let now = Instant::now();
    let settings = TieredSettings::new(MemorySettings::new("bench", 256 << 20, 1 << 20));
    let weigh = |_: &Key, item: &Item<Value>| item.value.len();
    let cache = TieredCache::new(settings, Plain, weigh).unwrap();
    let lifetime = Lifetime::fresh(Duration::from_secs(3600));
    for n in 0..KEYS {
        cache.put(key(n), Item::new(value.clone(), lifetime, Duration::from_secs(1)), None, now);
    }
    cache
}

/// With the hash function that ours has, so that what is compared is the rest.
type Quick = quick_cache::sync::Cache<Key, Value, quick_cache::UnitWeighter, foldhash::fast::RandomState>;

fn quick(value: &Value) -> Quick {
    let (items, capacity) = (2 * KEYS as usize, u64::from(2 * KEYS));
    let cache = Quick::with(items, capacity, Default::default(), Default::default(), Default::default());
    (0..KEYS).for_each(|n| cache.insert(key(n), value.clone()));
    cache
}

fn moka(value: &Value) -> moka::sync::Cache<Key, Value> {
    let cache = moka::sync::Cache::new(2 * u64::from(KEYS));
    (0..KEYS).for_each(|n| cache.insert(key(n), value.clone()));
    cache.run_pending_tasks();
    cache
}

fn one_thread(c: &mut Criterion) {
    let value = Arc::new(vec![1; 2048]);
    let (ours, quick, moka) = (tiered(&value), quick(&value), moka(&value));
    // Later than the cache was made, as every look-up is.
    let now = Instant::now();
    let mut group = c.benchmark_group("get");
    let mut n = 0;
    let mut next = move || {
        n = (n + 7) % KEYS;
        key(n)
    };
    group.bench_function("tiered", |b| b.iter(|| black_box(ours.near(&next(), now).unwrap())));
    group.bench_function("quick_cache", |b| b.iter(|| black_box(quick.get(&next()).unwrap())));
    group.bench_function("moka", |b| b.iter(|| black_box(moka.get(&next()).unwrap())));
    group.finish();
}

/// How long `threads` threads take for `times` look-ups each.
fn together(threads: u32, times: u64, get: &(impl Fn(&Key) + Sync)) -> Duration {
    let began = Instant::now();
    thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut n = thread * 31;
                for _ in 0..times {
                    n = (n + 7) % KEYS;
                    get(&key(n));
                }
            });
        }
    });
    began.elapsed()
}

fn two_threads(c: &mut Criterion) {
    let value = Arc::new(vec![1; 2048]);
    let (ours, quick) = (tiered(&value), quick(&value));
    let now = Instant::now();
    let mut group = c.benchmark_group("get by two threads");
    group.throughput(Throughput::Elements(2));
    group.bench_function(BenchmarkId::from_parameter("tiered"), |b| {
        b.iter_custom(|times| together(2, times, &|key| drop(black_box(ours.near(key, now)))));
    });
    group.bench_function(BenchmarkId::from_parameter("quick_cache"), |b| {
        b.iter_custom(|times| together(2, times, &|key| drop(black_box(quick.get(key)))));
    });
    group.finish();
}

/// Rounds so short that some are not interrupted, in turn with the peer: the quickest of one thread, and the
/// median of two, of which a quick round may be one in which they did not meet.
fn quickest(_: &mut Criterion) {
    const LOOKUPS: u64 = 10_000;
    const ROUNDS: usize = 3000;
    let value = Arc::new(vec![1; 2048]);
    let (ours, quick) = (tiered(&value), quick(&value));
    let now = Instant::now();
    let each = |time: Duration| time.as_secs_f64() * 1e9 / LOOKUPS as f64;
    let round = |get: &dyn Fn(&Key)| {
        let (mut n, began) = (0, Instant::now());
        for _ in 0..LOOKUPS {
            n = (n + 7) % KEYS;
            get(&key(n));
        }
        began.elapsed()
    };
    let (near, plain) =
        (|key: &Key| drop(black_box(ours.near(key, now))), |key: &Key| drop(black_box(quick.get(key))));
    let one: Vec<_> = (0..ROUNDS).map(|_| (round(&near), round(&plain))).collect();
    let (a, b) = (one.iter().map(|round| round.0).min(), one.iter().map(|round| round.1).min());
    let (a, b) = (each(a.unwrap_or_default()), each(b.unwrap_or_default()));
    println!(
        "one thread, the quickest of {ROUNDS} rounds: {a:.1} ns, plain quick_cache {b:.1} ns: {:.2}",
        a / b
    );
    let two = (0..ROUNDS / 10).map(|_| (together(2, 10 * LOOKUPS, &near), together(2, 10 * LOOKUPS, &plain)));
    let (mut a, mut b): (Vec<_>, Vec<_>) = two.unzip();
    a.sort_unstable();
    b.sort_unstable();
    let middle = |of: &[Duration]| of.get(of.len() / 2).map_or(f64::NAN, |time| each(*time) / 10.0);
    let (a, b) = (middle(&a), middle(&b));
    println!(
        "two threads, the median of {} rounds: {a:.1} ns, plain quick_cache {b:.1} ns: {:.2} of its throughput",
        ROUNDS / 10,
        b / a
    );
}

criterion_group!(benches, quickest, one_thread, two_threads);
criterion_main!(benches);
