//! What a key may use in a minute, by configuration.
//!
//! The generic cell rate algorithm, one atomic word for each limit: the time at which everything used so
//! far would be paid for. Tokens are known only when an answer has told them, so they are paid for after
//! the fact: a key that overdrew rests until it has made up for it.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// How much may be used at once, as the time in which it is earned.
const BURST: Duration = Duration::from_secs(10);
const MINUTE_MICROS: u64 = 60_000_000;

/// The allowances of one key.
#[derive(Debug)]
pub(crate) struct Pace {
    requests: Option<Allowance>,
    tokens: Option<Allowance>,
}

impl Pace {
    /// `None` where nothing is limited.
    pub(crate) fn new(requests: Option<u64>, tokens: Option<u64>, now: Instant) -> Option<Self> {
        let allowance = |per_minute: Option<u64>| per_minute.map(|most| Allowance::new(most, now));
        (requests.is_some() || tokens.is_some())
            .then(|| Self { requests: allowance(requests), tokens: allowance(tokens) })
    }

    /// Takes leave for one request, or says when there will be some.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        if let Some(tokens) = &self.tokens {
            tokens.look(now)?;
        }
        self.requests.as_ref().map_or(Ok(()), |requests| requests.take(now))
    }

    /// Whether there is leave for one request, without taking it.
    pub(crate) fn look(&self, now: Instant) -> Result<(), Duration> {
        if let Some(tokens) = &self.tokens {
            tokens.look(now)?;
        }
        self.requests.as_ref().map_or(Ok(()), |requests| requests.look_for_one(now))
    }

    /// What is left of the requests and of the tokens.
    pub(crate) fn left(&self, now: Instant) -> [Option<Left>; 2] {
        [&self.requests, &self.tokens]
            .map(|allowance| allowance.as_ref().map(|allowance| allowance.left(now)))
    }

    pub(crate) fn debit(&self, tokens: u64, now: Instant) {
        if let Some(allowance) = &self.tokens {
            allowance.debit(tokens, now);
        }
    }
}

/// What is left of an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    /// What may be used at once, now.
    pub now: u64,
    /// What may be used at once after a pause.
    pub most: u64,
    /// What may be used in a minute.
    pub per_minute: u64,
}

#[derive(Debug)]
struct Allowance {
    epoch: Instant,
    per_minute: u64,
    /// Microseconds after `epoch`.
    paid_at: AtomicU64,
}

impl Allowance {
    fn new(per_minute: u64, now: Instant) -> Self {
        Self { epoch: now, per_minute: per_minute.max(1), paid_at: AtomicU64::new(0) }
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }

    fn cost(&self, units: u64) -> u64 {
        units.saturating_mul(MINUTE_MICROS) / self.per_minute
    }

    /// What is used at once may be no less than one unit.
    fn burst(&self) -> u64 {
        (BURST.as_micros() as u64).max(self.cost(1))
    }

    fn excess(&self, paid_at: u64, now: u64) -> Result<(), Duration> {
        match paid_at.saturating_sub(now.saturating_add(self.burst())) {
            0 => Ok(()),
            excess => Err(Duration::from_micros(excess)),
        }
    }

    fn left(&self, now: Instant) -> Left {
        let owed = self.paid_at.load(Relaxed).saturating_sub(self.micros(now));
        let units = |micros: u64| micros.saturating_mul(self.per_minute) / MINUTE_MICROS;
        Left {
            now: units(self.burst().saturating_sub(owed)),
            most: units(self.burst()),
            per_minute: self.per_minute,
        }
    }

    /// Whether anything is left.
    fn look(&self, now: Instant) -> Result<(), Duration> {
        self.excess(self.paid_at.load(Relaxed).saturating_add(1), self.micros(now))
    }

    /// When all would be paid for, with one more.
    fn with_one(&self, paid_at: u64, now: u64) -> u64 {
        paid_at.max(now).saturating_add(self.cost(1))
    }

    fn look_for_one(&self, now: Instant) -> Result<(), Duration> {
        let now = self.micros(now);
        self.excess(self.with_one(self.paid_at.load(Relaxed), now), now)
    }

    fn take(&self, now: Instant) -> Result<(), Duration> {
        let now = self.micros(now);
        let mut wait = Duration::ZERO;
        let take = |paid_at: u64| {
            let next = self.with_one(paid_at, now);
            match self.excess(next, now) {
                Ok(()) => Some(next),
                Err(excess) => {
                    wait = excess;
                    None
                }
            }
        };
        match self.paid_at.fetch_update(Relaxed, Relaxed, take) {
            Ok(_) => Ok(()),
            Err(_) => Err(wait),
        }
    }

    fn debit(&self, units: u64, now: Instant) {
        let now = self.micros(now);
        let pay = |paid_at: u64| Some(paid_at.max(now).saturating_add(self.cost(units)));
        // It always pays.
        let _ = self.paid_at.fetch_update(Relaxed, Relaxed, pay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_are_let_through_at_their_rate() {
        let start = Instant::now();
        let pace = Pace::new(Some(60), None, start).unwrap();
        let at_once = (0..100).filter(|_| pace.take(start).is_ok()).count();
        assert_eq!(at_once, 10, "ten seconds of one a second");
        assert_eq!(pace.take(start), Err(SECOND));
        assert!(pace.take(start + SECOND).is_ok());
        assert!(pace.take(start + SECOND).is_err());
        // One that is slower than the burst is still let through one by one.
        let slow = Pace::new(Some(1), None, start).unwrap();
        assert!(slow.take(start).is_ok());
        assert_eq!(slow.take(start), Err(60 * SECOND));
    }

    #[test]
    fn what_is_left_falls_with_use_and_comes_back() {
        let start = Instant::now();
        let pace = Pace::new(Some(60), Some(6000), start).unwrap();
        let left = |now| pace.left(now).map(|left| left.unwrap().now);
        assert_eq!(left(start), [10, 1000]);
        for _ in 0..4 {
            pace.take(start).unwrap();
        }
        pace.debit(5000, start);
        assert_eq!(left(start), [6, 0]);
        assert_eq!(left(start + 60 * SECOND), [10, 1000]);
        let most = Left { now: 10, most: 10, per_minute: 60 };
        assert_eq!(Pace::new(Some(60), None, start).unwrap().left(start), [Some(most), None]);
    }

    #[test]
    fn tokens_are_paid_for_after_the_fact() {
        let start = Instant::now();
        let pace = Pace::new(None, Some(60_000), start).unwrap();
        assert!(pace.take(start).is_ok());
        pace.debit(70_000, start);
        let wait = pace.take(start).unwrap_err();
        assert!(wait >= 60 * SECOND && wait < 61 * SECOND, "{wait:?}");
        assert!(pace.take(start + 61 * SECOND).is_ok());
        pace.debit(u64::MAX, start);
        assert!(pace.take(start + 1_000_000 * SECOND).is_err());
    }

    #[test]
    fn nothing_limited_is_nothing_kept() {
        assert!(Pace::new(None, None, Instant::now()).is_none());
    }
}
