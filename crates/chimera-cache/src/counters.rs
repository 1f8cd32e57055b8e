//! Look-ups, counted per thread: threads that look up all the time do not wait for each other's counters.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Threads beyond so many share counters.
const STRIPES: usize = 16;

/// One in so many look-ups is timed.
const TIMED: u64 = 64;

/// Look-ups of some threads, on cache lines of their own. A look-up is counted when it begins: what is counted
/// between a hit and its use keeps the line of the value's count of holders for longer, and other threads from it.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Stripe {
    lookups: AtomicU64,
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

    /// Hits and misses so far. A look-up under way is a hit until it is known to be none.
    pub(crate) fn totals(&self) -> (u64, u64) {
        self.0.iter().fold((0, 0), |(hits, misses), stripe| {
            let missed = stripe.misses.load(Relaxed);
            (hits + stripe.lookups.load(Relaxed).saturating_sub(missed), misses + missed)
        })
    }
}

impl Stripe {
    /// Counts a look-up that begins. True if it is to be timed.
    #[inline]
    pub(crate) fn begin(&self) -> bool {
        self.lookups.fetch_add(1, Relaxed).is_multiple_of(TIMED)
    }

    /// What began has found nothing.
    #[inline]
    pub(crate) fn missed(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    /// Counts a look-up that is over.
    pub(crate) fn count(&self, is_hit: bool) {
        self.begin();
        if !is_hit {
            self.missed();
        }
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
            let timed = lookups.stripe().begin();
            if n % 3 == 0 {
                lookups.stripe().missed();
            }
            timed
        });
        assert_eq!(timed.count(), 100);
    }
}
