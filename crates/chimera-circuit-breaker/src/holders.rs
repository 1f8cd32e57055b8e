//! Permits that travel, for threads that admit all the time.

use std::{ops::Deref, sync::Arc, time::Instant};

use crate::{breaker::Breaker, error::Rejected, permit::Permit, sync::STRIPES, window::stripe};

/// A breaker with a count of holders for each of a few threads.
///
/// A permit that travels keeps its breaker alive, and so counts as a holder of it. Behind one [`Arc`] all threads
/// write that count, and wait for each other's cache line. Here each thread counts in a place of its own.
///
/// ```
/// use std::time::{Duration, Instant};
/// use chimera_circuit_breaker::{Breaker, Holders, Outcome, Settings};
///
/// let now = Instant::now();
/// let holders = Holders::new(Breaker::new(Settings::default(), now));
/// let permit = holders.try_acquire(now).expect("a closed breaker admits");
/// let elsewhere = std::thread::spawn(move || permit.record(Outcome::Success, Duration::ZERO, now));
/// elsewhere.join().expect("it does not panic");
/// assert_eq!(holders.snapshot(now).calls, 1);
/// ```
#[derive(Debug)]
pub struct Holders([Hold; STRIPES]);

/// A share of a breaker.
#[derive(Debug, Clone)]
pub struct Hold(Arc<Stripe>);

/// A count of holders, on a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Stripe(Arc<Breaker>);

impl Holders {
    /// The breaker may be shared with others.
    pub fn new(breaker: Arc<Breaker>) -> Self {
        Self(std::array::from_fn(|_| Hold(Arc::new(Stripe(breaker.clone())))))
    }

    /// Leave to try once, or for how long to stay away. The permit may travel.
    pub fn try_acquire(&self, now: Instant) -> Result<Permit<Hold>, Rejected> {
        let ticket = self.admit(now)?;
        let [first, ..] = &self.0;
        Ok(Permit::new(self.0.get(stripe()).unwrap_or(first).clone(), ticket))
    }

    /// The breaker itself.
    pub fn breaker(&self) -> &Arc<Breaker> {
        let [first, ..] = &self.0;
        &first.0.0
    }
}

impl Deref for Holders {
    type Target = Breaker;

    fn deref(&self) -> &Breaker {
        self.breaker()
    }
}

impl Deref for Hold {
    type Target = Breaker;

    fn deref(&self) -> &Breaker {
        &self.0.0
    }
}
