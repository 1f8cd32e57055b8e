//! What compression saves of a value, and what it costs: above which size it pays.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
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

/// Microseconds to copy and to open a sealed value, as the tiers do.
fn opened(value: &[u8]) -> f64 {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    let front = Aad::from([1; 130]);
    let mut sealed = value.to_vec();
    let tag = key.seal_in_place_separate_tag(nonce(), front, &mut sealed).unwrap();
    cost(|| {
        let mut copy = sealed.clone();
        key.open_in_place_separate_tag(nonce(), front, tag, &mut copy, 0..).unwrap();
        black_box(copy);
    })
}

/// With contexts that are kept, as the tier does.
pub(crate) fn by_size() {
    println!(
        "\ncompression of text, zstd at level 1\n| bytes | of them saved | to pack | to unpack | to open without | with |"
    );
    println!("|---|---|---|---|---|---|");
    let (mut packer, mut unpacker) = (Compressor::new(1).unwrap(), Decompressor::new().unwrap());
    for size in [1 << 10, 2 << 10, 4 << 10, 8 << 10] {
        let value = TEXT.as_bytes().get(1000..1000 + size).unwrap();
        let packed = packer.compress(value).unwrap();
        println!(
            "| {size} | {:.0} % | {:.1} µs | {:.1} µs | {:.1} µs | {:.1} µs |",
            100.0 - 100.0 * packed.len() as f64 / size as f64,
            cost(|| drop(black_box(packer.compress(value).unwrap()))),
            cost(|| drop(black_box(unpacker.decompress(&packed, size).unwrap()))),
            opened(value),
            opened(&packed),
        );
    }
}
