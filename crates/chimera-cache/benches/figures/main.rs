//! How often it hits beside others, what a hit in Redis costs beside a bare GET, and what memory its bytes are.
//! Prints tables of `docs/cache.md`.
//!
//! `cargo bench -p chimera-cache --features peers,redis --bench figures`, about half a minute; the second part
//! needs a `redis-server`. A number behind it is the megabytes of the third part, 1,024 if there is none; `far`
//! is the second part alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[path = "../support/server.rs"]
mod server;
#[path = "../../tests/it/traces.rs"]
mod traces;

mod far;
mod packing;
mod ratio;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use chimera_cache::{MemorySettings, MemoryTier, Put};

const HOUR: Duration = Duration::from_secs(3600);

/// Pages of this process that are in memory, in bytes.
fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Entries of 2 KB until the tier is full, each with memory of its own, under the system's allocator.
fn memory(megabytes: u64) {
    let capacity = megabytes << 20;
    let before = resident();
    let settings =
        MemorySettings { expected_entry_bytes: 2200, ..MemorySettings::new("memory", capacity, 1 << 20) };
    // An `Arc` counts its holders beside its bytes.
    let weigh = |_: &[u8; 32], value: &Arc<[u8]>| value.len() + 16;
    let tier = MemoryTier::new(settings, weigh).unwrap();
    let now = Instant::now();
    let mut number = 0_u64;
    while tier.snapshot(now).evictions.room < 10_000 {
        for _ in 0..10_000 {
            let mut key = [7; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            assert_eq!(tier.put(key, vec![1; 2048].into(), HOUR, now), Put::Stored);
            number += 1;
        }
    }
    let (used, seen) = (resident() - before, tier.snapshot(now));
    let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "\nentries of 2 KB in {megabytes} MB, full\n| entries | accounted | used | used of accounted |\n|---|---|---|---|"
    );
    println!(
        "| {} | {:.0} MB | {:.0} MB | {:.3} |",
        seen.entries,
        mb(seen.bytes),
        mb(used),
        used as f64 / seen.bytes as f64
    );
}

fn main() {
    if std::env::args().any(|argument| argument == "far") {
        packing::by_size();
        return far::beside_a_bare_get();
    }
    // First, while nothing else has made holes in the heap.
    memory(std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1024));
    ratio::beside_others();
    packing::by_size();
    far::beside_a_bare_get();
}
