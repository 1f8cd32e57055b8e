//! How many further attempts a group may make.
//!
//! When a provider fails, each request that asks the next one doubles the load on what is left; when all
//! fail, on all of it, just when they need rest. A budget bounds that: every request pays in a part of a
//! retry, every retry takes one out, and a small floor lets quiet groups retry at all. What was never
//! sent costs nothing, and so do breakers that are open: moving on for those is no retry.
//! (Finagle's `RetryBudget`; Google's SRE book, "Handling Overload".)

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Instant,
};

/// A retry in the units of the balance: requests pay in hundredths.
const RETRY: u64 = 100;
/// The balance holds the floor of so many seconds.
const SECONDS: u64 = 10;

/// The balance of one group, in hundredths of a retry. Neither paying in nor taking out takes a lock.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    percent: u64,
    floor: u64,
    most: u64,
    balance: AtomicU64,
    epoch: Instant,
    /// Until when the floor was paid in, in milliseconds after `epoch`.
    paid: AtomicU64,
}

impl RetryBudget {
    /// `percent` of requests may be retried, and `floor` retries a second are free.
    pub(crate) fn new(percent: u32, floor: u32, now: Instant) -> Self {
        let (percent, floor) = (u64::from(percent), u64::from(floor));
        let most = (floor * SECONDS * RETRY).max(RETRY * SECONDS * u64::from(percent > 0));
        Self { percent, floor, most, balance: AtomicU64::new(most), epoch: now, paid: AtomicU64::new(0) }
    }

    /// A request pays in.
    pub(crate) fn deposit(&self) {
        self.add(self.percent);
    }

    /// Takes out a retry, if there is one.
    pub(crate) fn withdraw(&self, now: Instant) -> bool {
        self.pay_floor(now);
        self.balance.fetch_update(Relaxed, Relaxed, |balance| balance.checked_sub(RETRY)).is_ok()
    }

    /// The balance as a share of the most that it can be.
    pub(crate) fn ratio(&self, now: Instant) -> f64 {
        self.pay_floor(now);
        if self.most == 0 { 0.0 } else { self.balance.load(Relaxed) as f64 / self.most as f64 }
    }

    fn add(&self, units: u64) {
        let add = |balance: u64| (balance < self.most).then(|| (balance + units).min(self.most));
        // A full one stays as it is.
        let _ = self.balance.fetch_update(Relaxed, Relaxed, add);
    }

    fn pay_floor(&self, now: Instant) {
        let now = now.saturating_duration_since(self.epoch).as_millis() as u64;
        let paid = self.paid.fetch_max(now, Relaxed);
        let elapsed = now.saturating_sub(paid).min(SECONDS * 1000);
        // What is less than a unit is lost, in favour of the provider.
        self.add(elapsed * self.floor * RETRY / 1000);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How many of `wanted` retries are granted.
    fn granted(budget: &RetryBudget, wanted: usize, now: Instant) -> usize {
        (0..wanted).filter(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn o04_a_tenth_of_the_requests_and_a_floor() {
        let start = Instant::now();
        let budget = RetryBudget::new(10, 3, start);
        assert_eq!(granted(&budget, 100, start), 30, "ten seconds of the floor at the start");
        for _ in 0..200 {
            budget.deposit();
        }
        assert_eq!(granted(&budget, 100, start), 20);
        assert_eq!(granted(&budget, 100, start + Duration::from_secs(2)), 6);
        assert_eq!(granted(&budget, 100, start + Duration::from_secs(3600)), 30, "it does not pile up");
        assert!(budget.ratio(start + Duration::from_secs(3600)) < 0.01);
        assert!((budget.ratio(start + Duration::from_secs(7200)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn none_is_none_and_a_share_alone_is_enough() {
        let start = Instant::now();
        let none = RetryBudget::new(0, 0, start);
        none.deposit();
        assert_eq!(granted(&none, 10, start + Duration::from_secs(60)), 0);
        let share = RetryBudget::new(50, 0, start);
        assert_eq!(granted(&share, 100, start), 10);
        share.deposit();
        share.deposit();
        assert_eq!(granted(&share, 100, start + Duration::from_secs(60)), 1);
    }
}
