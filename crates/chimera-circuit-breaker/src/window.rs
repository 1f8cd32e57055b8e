//! Outcomes of the last while, counted in buckets that reset themselves.

use std::sync::atomic::AtomicUsize;

use crate::sync::{AtomicU64, Ordering::Relaxed, STRIPES};

/// Buckets of a window.
pub(crate) const BUCKETS: u64 = 10;

/// Each bucket is one word: which turn of the ring it counts for, and three counters of 14 bits. A
/// counter that is full halves all three, so that shares stay true under any load.
const COUNT_BITS: u32 = 14;
const FULL: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_SHIFT: u32 = 3 * COUNT_BITS;
const EPOCH_MASK: u64 = (1 << (64 - EPOCH_SHIFT)) - 1;

/// What a window holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) failures: u64,
    pub(crate) slow: u64,
}

/// A ring of buckets, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe([AtomicU64; BUCKETS as usize]);

/// The rings of all threads. Each thread counts in one of them, so that threads which count all the time
/// do not wait for each other's cache lines; whoever decides sums them up, which is seldom.
#[derive(Debug, Default)]
pub(crate) struct Window([Stripe; STRIPES]);

thread_local! {
    /// Which stripe this thread counts in: threads take them in turn.
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % STRIPES
    };
}

/// Which stripe this thread counts in.
pub(crate) fn stripe() -> usize {
    STRIPE.with(|stripe| *stripe)
}

impl Window {
    /// Counts one call in the bucket of `tick`.
    pub(crate) fn record(&self, tick: u64, failure: bool, slow: bool) {
        let Some(stripe) = self.0.get(stripe()) else { return };
        let Some(bucket) = stripe.0.get((tick % BUCKETS) as usize) else { return };
        let epoch = tick & EPOCH_MASK;
        let mut word = bucket.load(Relaxed);
        loop {
            let mut counts = if word >> EPOCH_SHIFT == epoch { unpack(word) } else { Counts::default() };
            if counts.calls == FULL {
                counts =
                    Counts { calls: counts.calls / 2, failures: counts.failures / 2, slow: counts.slow / 2 };
            }
            counts.calls += 1;
            counts.failures += u64::from(failure);
            counts.slow += u64::from(slow);
            match bucket.compare_exchange_weak(word, pack(epoch, counts), Relaxed, Relaxed) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// The sum over the buckets that are still in the window that ends with `tick`.
    pub(crate) fn sum(&self, tick: u64) -> Counts {
        let mut sum = Counts::default();
        for bucket in self.buckets() {
            let word = bucket.load(Relaxed);
            let age = (tick & EPOCH_MASK).wrapping_sub(word >> EPOCH_SHIFT) & EPOCH_MASK;
            if age < BUCKETS {
                let counts = unpack(word);
                sum.calls += counts.calls;
                sum.failures += counts.failures;
                sum.slow += counts.slow;
            }
        }
        sum
    }

    pub(crate) fn clear(&self) {
        self.buckets().for_each(|bucket| bucket.store(0, Relaxed));
    }

    fn buckets(&self) -> impl Iterator<Item = &AtomicU64> {
        self.0.iter().flat_map(|stripe| &stripe.0)
    }
}

fn unpack(word: u64) -> Counts {
    Counts { calls: word & FULL, failures: word >> COUNT_BITS & FULL, slow: word >> (2 * COUNT_BITS) & FULL }
}

fn pack(epoch: u64, counts: Counts) -> u64 {
    epoch << EPOCH_SHIFT | counts.slow << (2 * COUNT_BITS) | counts.failures << COUNT_BITS | counts.calls
}
