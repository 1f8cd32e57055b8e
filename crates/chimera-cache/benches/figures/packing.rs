//! What compression saves of a value, and what it costs: above which size it pays.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use zstd::bulk::{Compressor, Decompressor};

/// Prose and code, as answers of models are.
const TEXT: &str = include_str!("../../../../docs/operating.md");

const TIMES: usize = 400;
const ROUNDS: usize = 9;

/// Microseconds of one, of the quickest of some rounds.
fn cost(mut one: impl FnMut()) -> f64 {
    let round = |_| {
        let began = Instant::now();
        (0..TIMES).for_each(|_| one());
        began.elapsed()
    };
    (0..ROUNDS).map(round).min().unwrap_or(Duration::MAX).as_secs_f64() * 1e6 / TIMES as f64
}

/// With contexts that are kept, as the tier does.
pub(crate) fn by_size() {
    println!(
        "\ncompression of text, zstd at level 1\n| bytes | of them saved | to pack | to unpack | to check without | with |"
    );
    println!("|---|---|---|---|---|---|");
    let (mut packer, mut unpacker) = (Compressor::new(1).unwrap(), Decompressor::new().unwrap());
    for size in [1 << 10, 2 << 10, 4 << 10, 8 << 10] {
        let value = TEXT.as_bytes().get(1000..1000 + size).unwrap();
        let packed = packer.compress(value).unwrap();
        let check = |bytes: &[u8]| _ = black_box(blake3::keyed_hash(&[7; 32], bytes));
        println!(
            "| {size} | {:.0} % | {:.1} µs | {:.1} µs | {:.1} µs | {:.1} µs |",
            100.0 - 100.0 * packed.len() as f64 / size as f64,
            cost(|| drop(black_box(packer.compress(value).unwrap()))),
            cost(|| drop(black_box(unpacker.decompress(&packed, size).unwrap()))),
            cost(|| check(value)),
            cost(|| check(&packed)),
        );
    }
}

/// As the tiers do: BLAKE3 takes whole chunks side by side where there are two, four or eight of them.
pub(crate) fn checks() {
    println!("\na keyed BLAKE3\n| bytes | as they are | filled up |\n|---|---|---|");
    let mut filled = Vec::new();
    for size in [1500, 2000, 2500, 3000, 4000, 6000, 8000] {
        let content = TEXT.as_bytes().get(1000..1000 + size).unwrap();
        let check = |bytes: &[u8]| _ = black_box(blake3::keyed_hash(&[7; 32], bytes));
        let plain = cost(|| check(content));
        let with = cost(|| {
            filled.clear();
            filled.extend_from_slice(content);
            filled.resize(size.next_power_of_two(), 0);
            check(&filled);
        });
        println!("| {size} | {plain:.2} µs | {with:.2} µs |");
    }
}
