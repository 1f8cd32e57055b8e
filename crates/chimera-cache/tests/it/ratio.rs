//! Hit ratios against plain quick_cache, on fixed traces: what is added for time and weight costs none.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chimera_cache::{
    Item, Labels, Lifetime, MemorySettings, MemoryTier, Place, SharedTier, TieredCache, TieredSettings,
};

use crate::traces::{scan_and_loop, zipf};

const HOUR: Duration = Duration::from_secs(3600);
const CAPACITY_ENTRIES: u64 = 4096;

struct Numbers;

impl Labels<u64, u64> for Numbers {
    fn write_key(&self, key: &u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.to_be_bytes());
    }
}

fn settings(entries: u64) -> MemorySettings {
    let overhead = entry_overhead();
    MemorySettings {
        expected_entry_bytes: overhead,
        ..MemorySettings::new("l1", entries * overhead, entries * overhead / 8)
    }
}

fn weigh(_: &u64, _: &Item<u64>) -> usize {
    0
}

/// What one entry of nothing weighs.
fn entry_overhead() -> u64 {
    let tier =
        MemoryTier::new(MemorySettings::new("l1", 1 << 20, 1 << 10), |_: &u64, _: &Item<u64>| 0).unwrap();
    let now = Instant::now();
    tier.put(1, Item::new(1, Lifetime::fresh(HOUR), Duration::ZERO), HOUR, now);
    tier.snapshot(now).bytes
}

fn ours(trace: &[u64]) -> f64 {
    let cache = TieredCache::new(TieredSettings::new(settings(CAPACITY_ENTRIES)), Numbers, weigh).unwrap();
    let now = Instant::now();
    let mut hits = 0;
    for key in trace {
        if cache.near(key, now).is_some() {
            hits += 1;
        } else {
            cache.put(*key, Item::new(*key, Lifetime::fresh(HOUR), Duration::ZERO), None, now);
        }
    }
    f64::from(hits) / trace.len() as f64
}

fn plain(trace: &[u64]) -> f64 {
    // As many shards as the one above has.
    let options = quick_cache::OptionsBuilder::new()
        .shards(4)
        .estimated_items_capacity(CAPACITY_ENTRIES as usize)
        .weight_capacity(CAPACITY_ENTRIES)
        .build()
        .unwrap();
    let cache: quick_cache::sync::Cache<u64, u64> = quick_cache::sync::Cache::with_options(
        options,
        Default::default(),
        Default::default(),
        Default::default(),
    );
    let mut hits = 0;
    for key in trace {
        if cache.get(key).is_some() {
            hits += 1;
        } else {
            cache.insert(*key, *key);
        }
    }
    f64::from(hits) / trace.len() as f64
}

#[test]
fn hit_ratios_are_those_of_plain_quick_cache() {
    let mut traces: HashMap<&str, Vec<u64>> = HashMap::new();
    traces.insert("zipf 0.7", zipf(80_000, 0.7, 400_000, 1));
    traces.insert("zipf 0.9", zipf(80_000, 0.9, 400_000, 2));
    traces.insert("zipf 1.1", zipf(80_000, 1.1, 400_000, 3));
    traces.insert("scan and loop", scan_and_loop(400_000));
    for (name, trace) in traces {
        let (ours, plain) = (ours(&trace), plain(&trace));
        println!("{name}: {:.2} % of {:.2} %", 100.0 * ours, 100.0 * plain);
        assert!(ours > plain - 0.01, "{name}: {ours} of {plain}");
    }
}

/// The project's mixed workload: prompts by zipf 1.0 over 10,000, and one in five that nobody asks again.
/// Those can never be hits, so the rate is that of the others.
fn mixed(length: usize) -> Vec<u64> {
    let prompts = zipf(10_000, 1.0, length, 42);
    prompts
        .into_iter()
        .enumerate()
        .map(|(at, key)| if at % 5 == 4 { (1 << 40) + at as u64 } else { key })
        .collect()
}

/// Hits near and far, and look-ups of what may be asked again.
async fn rates(cache: &TieredCache<u64, u64>, trace: &[u64]) -> (u64, u64, u64) {
    let now = Instant::now();
    let (mut near, mut far, mut asked) = (0, 0, 0);
    for key in trace {
        asked += u64::from(*key < 1 << 40);
        match cache.get(key, now).await {
            Some(found) if found.place == Place::Near => near += 1,
            Some(_) => far += 1,
            None => {
                let item = Item::new(*key, Lifetime::fresh(HOUR), Duration::ZERO);
                cache.put_through(*key, item, None, now).await;
            }
        }
    }
    (near, far, asked)
}

#[tokio::test]
async fn a_small_near_tier_with_a_far_one_hits_as_often_as_a_large_one() {
    let trace = mixed(200_000);
    let large = TieredCache::new(TieredSettings::new(settings(60_000)), Numbers, weigh).unwrap();
    let (hits, _, asked) = rates(&large, &trace).await;
    let rate = hits as f64 / asked as f64;
    println!("one tier: {:.2} % of what may be asked again", 100.0 * rate);
    assert!(rate >= 0.85, "{rate}");
    let far = MemoryTier::new(MemorySettings { name: "far", ..settings(60_000) }, weigh).unwrap();
    let small =
        TieredCache::with_far(TieredSettings::new(settings(1_000)), Numbers, weigh, SharedTier::new(far))
            .unwrap();
    let (near, far, _) = rates(&small, &trace).await;
    println!("two: {near} near and {far} far, of {hits}");
    assert!(near + far >= hits, "{near} + {far} of {hits}");
    assert!(near > far, "a tenth of what is asked for takes most of the hits");
}
