//! The operations of a request: a hit, a miss, a write, a flight of one item.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use chimera_cache::{FlightSettings, Flights, MemorySettings, MemoryTier, Source};
use criterion::{Criterion, criterion_group, criterion_main};
use futures_core::Stream;

type Key = [u8; 32];

fn key(n: u32) -> Key {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&n.to_le_bytes());
    key
}

fn memory(c: &mut Criterion) {
    let settings = MemorySettings::new("bench", 256 << 20, 1 << 20);
    let tier = MemoryTier::new(settings, |_: &Key, v: &Arc<Vec<u8>>| v.len()).unwrap();
    let now = Instant::now();
    let value = Arc::new(vec![1; 2048]);
    for n in 0..10_000 {
        tier.put(key(n), value.clone(), Duration::from_secs(3600), now);
    }
    let mut n = 0;
    c.bench_function("l1 get hit", |b| {
        b.iter(|| {
            n = (n + 7) % 10_000;
            black_box(tier.get(&key(n), now).unwrap());
        });
    });
    c.bench_function("l1 get miss", |b| b.iter(|| black_box(tier.get(&key(u32::MAX), now))));
    c.bench_function("l1 put", |b| {
        b.iter(|| {
            n = (n + 7) % 10_000;
            tier.put(key(n), value.clone(), Duration::from_secs(3600), now)
        });
    });
    let mut n = 10_000;
    let mut put_new = || {
        n += 1;
        tier.put(key(n), Arc::new(vec![1; 2048]), Duration::from_secs(3600), now)
    };
    (0..200_000).for_each(|_| _ = put_new());
    c.bench_function("l1 put of a new value into a full tier", |b| b.iter(&mut put_new));
}

struct One(Option<u64>);

impl Stream for One {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u64>> {
        Poll::Ready(self.0.take())
    }
}

fn flight(c: &mut Criterion) {
    let flights: Flights<Key, u64> = Flights::new(FlightSettings::default(), |_| 8);
    let mut cx = Context::from_waker(Waker::noop());
    c.bench_function("flight of one item", |b| {
        b.iter(|| {
            let mut follow = flights.join(key(1), || Box::pin(One(Some(5))) as Source<u64>);
            let item = Pin::new(&mut follow).poll_next(&mut cx);
            black_box(item)
        });
    });
}

criterion_group!(benches, memory, flight);
criterion_main!(benches);
