//! Look-ups, counted per thread: threads that look up all the time do not wait for each other's counters.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Threads beyond so many share counters.
const STRIPES: usize = 16;

/// One in so many look-ups is timed.
const TIMED: u64 = 64;

/// Look-ups of some threads, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Stripe {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Hits and misses of all threads.
#[derive(Default)]
pub(crate) struct Lookups([Stripe; STRIPES]);

thread_local! {
    /// Which stripe this thread counts in: threads take them in turn.
    static STRIPE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % STRIPES
    };
}

impl Lookups {
    /// Where this thread counts.
    #[inline]
    pub(crate) fn stripe(&self) -> &Stripe {
        let stripe = STRIPE.with(|stripe| *stripe) % STRIPES;
        self.0.get(stripe).unwrap_or(&self.0[0])
    }

    /// Hits and misses so far.
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.0.iter().fold((0, 0), |(hits, misses), stripe| {
            (hits + stripe.hits.load(Relaxed), misses + stripe.misses.load(Relaxed))
        })
    }
}

impl Stripe {
    /// Whether the next look-up is to be timed.
    #[inline]
    pub(crate) fn is_timed(&self) -> bool {
        self.hits.load(Relaxed).wrapping_add(self.misses.load(Relaxed)).is_multiple_of(TIMED)
    }

    #[inline]
    pub(crate) fn count(&self, is_hit: bool) {
        if is_hit { &self.hits } else { &self.misses }.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn more_threads_than_stripes_lose_no_count() {
        let lookups = Lookups::default();
        thread::scope(|scope| {
            for thread in 0..3 * STRIPES {
                let lookups = &lookups;
                scope.spawn(move || (0..1000).for_each(|_| lookups.stripe().count(thread % 3 == 0)));
            }
        });
        assert_eq!(lookups.totals(), (1000 * STRIPES as u64, 2000 * STRIPES as u64));
    }

    #[test]
    fn one_in_sixty_four_is_timed() {
        let lookups = Lookups::default();
        let timed = (0..6400).filter(|n| {
            // This thread alone counts in these.
            let timed = lookups.stripe().is_timed();
            lookups.stripe().count(n % 3 == 0);
            timed
        });
        assert_eq!(timed.count(), 100);
    }
}
