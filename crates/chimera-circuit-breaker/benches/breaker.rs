//! The two operations of a request: a permit, and its record.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use chimera_circuit_breaker::{Breaker, Outcome, Settings};
use criterion::{Criterion, criterion_group, criterion_main};

fn breaker(c: &mut Criterion) {
    let now = Instant::now();
    let breaker = Breaker::new(Settings::default(), now);
    c.bench_function("permit", |b| b.iter(|| drop(black_box(&breaker).try_acquire(now).unwrap())));
    c.bench_function("permit and record", |b| {
        b.iter(|| {
            let permit = black_box(&breaker).try_acquire(now).unwrap();
            permit.record(Outcome::Success, Duration::from_millis(1), now);
        });
    });
}

criterion_group!(benches, breaker);
criterion_main!(benches);
