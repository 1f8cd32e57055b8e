//! The same traces through this cache, plain quick_cache and moka, each with room for as many entries.

use std::time::{Duration, Instant};

use chimera_cache::{Item, Labels, Lifetime, MemorySettings, MemoryTier, TieredCache, TieredSettings};

use crate::{
    HOUR,
    traces::{scan_and_loop, zipf},
};

const ENTRIES: u64 = 4096;
const LOOKUPS: usize = 400_000;

struct Numbers;

impl Labels<u64, u64> for Numbers {
    fn write_key(&self, key: &u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.to_be_bytes());
    }
}

fn ratio(trace: &[u64], mut get: impl FnMut(u64) -> bool, mut put: impl FnMut(u64)) -> f64 {
    let mut hits = 0;
    for key in trace {
        if get(*key) {
            hits += 1;
        } else {
            put(*key);
        }
    }
    100.0 * f64::from(hits) / trace.len() as f64
}

fn item(key: u64) -> Item<u64> {
    Item::new(key, Lifetime::fresh(HOUR), Duration::ZERO)
}

fn ours(trace: &[u64]) -> f64 {
    let weigh = |_: &u64, _: &Item<u64>| 0;
    let now = Instant::now();
    let one = MemoryTier::new(MemorySettings::new("one", 1 << 20, 1 << 10), weigh).unwrap();
    one.put(1, item(1), HOUR, now);
    let each = one.snapshot(now).bytes;
    let near = MemorySettings {
        expected_entry_bytes: each,
        ..MemorySettings::new("ratio", ENTRIES * each, ENTRIES * each / 8)
    };
    let cache = TieredCache::new(TieredSettings::new(near), Numbers, weigh).unwrap();
    ratio(trace, |key| cache.near(&key, now).is_some(), |key| _ = cache.put(key, item(key), None, now))
}

fn quick(trace: &[u64]) -> f64 {
    let cache = quick_cache::sync::Cache::new(ENTRIES as usize);
    ratio(trace, |key| cache.get(&key).is_some(), |key| cache.insert(key, key))
}

/// It decides in the background; here it may do so after every entry.
fn moka(trace: &[u64]) -> f64 {
    let cache = moka::sync::Cache::new(ENTRIES);
    let put = |key| {
        cache.insert(key, key);
        cache.run_pending_tasks();
    };
    ratio(trace, |key| cache.get(&key).is_some(), put)
}

pub(crate) fn beside_others() {
    println!(
        "\n{LOOKUPS} look-ups, room for {ENTRIES}\n| trace | this cache | quick_cache | moka |\n|---|---|---|---|"
    );
    let traces = [
        ("zipf 0.7", zipf(80_000, 0.7, LOOKUPS, 1)),
        ("zipf 0.9", zipf(80_000, 0.9, LOOKUPS, 2)),
        ("zipf 1.1", zipf(80_000, 1.1, LOOKUPS, 3)),
        ("a busy set, a scan and a loop", scan_and_loop(LOOKUPS)),
    ];
    for (name, trace) in traces {
        println!("| {name} | {:.2} % | {:.2} % | {:.2} % |", ours(&trace), quick(&trace), moka(&trace));
    }
}
