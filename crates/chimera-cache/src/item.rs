//! A value with its times: until when it is fresh, and for how long after that it will do.

use std::time::Duration;

/// For how long a value is good, and for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// It is fresh for so long.
    pub ttl: Duration,
    /// For so long after that it is served at once, while one computation renews it.
    pub while_revalidate: Duration,
    /// For so long after `ttl` it is served when the computation fails.
    pub if_error: Duration,
}

impl Lifetime {
    /// Fresh for `ttl`, and never served after.
    pub const fn fresh(ttl: Duration) -> Self {
        Self { ttl, while_revalidate: Duration::ZERO, if_error: Duration::ZERO }
    }

    /// Served stale for so long while it is renewed.
    pub const fn stale_while_revalidate(mut self, bound: Duration) -> Self {
        self.while_revalidate = bound;
        self
    }

    /// Served stale for so long when it cannot be renewed.
    pub const fn stale_if_error(mut self, bound: Duration) -> Self {
        self.if_error = bound;
        self
    }

    /// From birth to when it is of no use to anybody.
    pub fn whole(&self) -> Duration {
        self.ttl.saturating_add(self.while_revalidate.max(self.if_error))
    }

    /// The same with a `ttl` up to a tenth shorter, so that what was stored together does not expire together, and
    /// nothing is fresh for longer than was asked for. `at` is uniform in 0..1.
    pub fn spread(mut self, at: f64) -> Self {
        self.ttl -= (self.ttl / 10).mul_f64(at.clamp(0.0, 1.0));
        self
    }
}

/// A value as tiers hold it. Its times are milliseconds in 32 bits, 49 days at most: an entry of the
/// memory tier is copied out on every hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<V> {
    /// The value.
    pub value: V,
    pub(crate) times: Times,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Times {
    pub(crate) ttl: u32,
    pub(crate) while_revalidate: u32,
    pub(crate) if_error: u32,
    /// What it took to compute, 12 days at most, above two marks. With words of their own, an entry of the memory
    /// tier would lie in more cache lines.
    cost_and_marks: u32,
}

/// It says that there is no such thing.
const NEGATIVE: u32 = 1;
/// A lower tier has it, or was asked to take it.
const BELOW: u32 = 2;
const MARKS: u32 = 2;

pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn duration(millis: u32) -> Duration {
    Duration::from_millis(u64::from(millis))
}

/// How good a value is, by its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Within its time.
    Fresh,
    /// Within its time, and this caller has been drawn to renew it before it ends.
    RenewEarly,
    /// Past its time: serve it, and renew it.
    WhileRevalidate,
    /// Past its time: renew it, and serve it only if that fails.
    IfError,
    /// Of no use.
    Expired,
}

/// In the last of so many parts of its time a value may be renewed early.
const EARLY_PART: u64 = 10;

impl<V> Item<V> {
    /// A value that took `cost` to compute.
    pub fn new(value: V, lifetime: Lifetime, cost: Duration) -> Self {
        let Lifetime { ttl, while_revalidate, if_error } = lifetime;
        Self { value, times: Times::new([ttl, while_revalidate, if_error, cost].map(millis)) }
    }

    /// Marks it as one that says "there is no such thing".
    pub fn negative(mut self) -> Self {
        self.times.mark_negative();
        self
    }

    /// Whether it says "there is no such thing".
    pub fn is_negative(&self) -> bool {
        self.times.is_negative()
    }

    /// What it took to compute.
    pub fn cost(&self) -> Duration {
        duration(self.times.cost())
    }

    /// For how long it is good.
    pub fn lifetime(&self) -> Lifetime {
        Lifetime {
            ttl: duration(self.times.ttl),
            while_revalidate: duration(self.times.while_revalidate),
            if_error: duration(self.times.if_error),
        }
    }

    /// How good it is at an age. `draw` gives a number uniform in (0, 1]; it is asked only near the end.
    ///
    /// Early renewal is XFetch (Vattani, Chierichetti and Lowenstein, 2015): each look-up near the end
    /// renews with a chance that grows towards it, and the sooner the longer the computation takes. So
    /// one of many callers renews a busy key before it expires, with no word between them.
    pub fn freshness(&self, age: Duration, draw: impl FnOnce() -> f64) -> Freshness {
        self.times.freshness(u64::try_from(age.as_millis()).unwrap_or(u64::MAX), draw)
    }
}

impl Times {
    /// Times in milliseconds, without a mark.
    pub(crate) fn new([ttl, while_revalidate, if_error, cost]: [u32; 4]) -> Self {
        Self { ttl, while_revalidate, if_error, cost_and_marks: cost.min(u32::MAX >> MARKS) << MARKS }
    }

    #[inline]
    pub(crate) fn cost(&self) -> u32 {
        self.cost_and_marks >> MARKS
    }

    #[inline]
    pub(crate) fn is_negative(&self) -> bool {
        self.cost_and_marks & NEGATIVE != 0
    }

    pub(crate) fn mark_negative(&mut self) {
        self.cost_and_marks |= NEGATIVE;
    }

    pub(crate) fn is_below(&self) -> bool {
        self.cost_and_marks & BELOW != 0
    }

    pub(crate) fn set_below(&mut self, is_below: bool) {
        self.cost_and_marks = self.cost_and_marks & !BELOW | if is_below { BELOW } else { 0 };
    }

    /// How good what has these times is at an age in milliseconds.
    #[inline]
    pub(crate) fn freshness(&self, age: u64, draw: impl FnOnce() -> f64) -> Freshness {
        let ttl = u64::from(self.ttl);
        let left = ttl.saturating_sub(age);
        if left > ttl / EARLY_PART || (left > 0 && self.cost() == 0) {
            return Freshness::Fresh;
        }
        if left > 0 {
            let ahead = -f64::from(self.cost()) * draw().max(f64::MIN_POSITIVE).ln();
            return if ahead >= left as f64 { Freshness::RenewEarly } else { Freshness::Fresh };
        }
        if age < ttl + u64::from(self.while_revalidate) {
            return Freshness::WhileRevalidate;
        }
        if age < ttl + u64::from(self.if_error) { Freshness::IfError } else { Freshness::Expired }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn item(cost: Duration) -> Item<u8> {
        let lifetime =
            Lifetime::fresh(100 * SECOND).stale_while_revalidate(20 * SECOND).stale_if_error(50 * SECOND);
        Item::new(1, lifetime, cost)
    }

    fn at(seconds: u32) -> Freshness {
        item(Duration::ZERO).freshness(seconds * SECOND, || unreachable!("nothing is drawn"))
    }

    #[test]
    fn each_time_has_its_use() {
        assert_eq!([at(0), at(99)], [Freshness::Fresh; 2]);
        assert_eq!([at(100), at(119)], [Freshness::WhileRevalidate; 2]);
        assert_eq!([at(120), at(149)], [Freshness::IfError; 2]);
        assert_eq!([at(150), at(u32::MAX)], [Freshness::Expired; 2]);
        assert_eq!(item(SECOND).lifetime().whole(), 150 * SECOND);
    }

    #[test]
    fn early_renewal_comes_only_near_the_end_and_sooner_for_what_is_dear() {
        // Outside the last tenth nobody draws, however dear.
        let dear = item(60 * SECOND);
        assert_eq!(dear.freshness(89 * SECOND, || unreachable!("too early to draw")), Freshness::Fresh);
        // Ten seconds before the end: a draw of 0.5 is 0.69 times the cost ahead.
        assert_eq!(dear.freshness(90 * SECOND, || 0.5), Freshness::RenewEarly);
        assert_eq!(item(10 * SECOND).freshness(90 * SECOND, || 0.5), Freshness::Fresh);
        assert_eq!(item(10 * SECOND).freshness(94 * SECOND, || 0.5), Freshness::RenewEarly);
        assert_eq!(dear.freshness(90 * SECOND, || 1.0), Freshness::Fresh);
        assert_eq!(dear.freshness(90 * SECOND, || 0.0), Freshness::RenewEarly);
    }

    #[test]
    fn what_is_spread_lives_a_tenth_shorter_at_most_and_never_longer() {
        let lifetime = Lifetime::fresh(100 * SECOND);
        assert_eq!(lifetime.spread(0.0).ttl, 100 * SECOND);
        assert_eq!(lifetime.spread(1.0).ttl, 90 * SECOND);
        assert_eq!(lifetime.spread(-3.0).ttl, 100 * SECOND);
        assert!(Lifetime::fresh(Duration::MAX).spread(1.0).ttl > Duration::MAX / 2);
    }

    #[test]
    fn times_that_do_not_fit_saturate() {
        let item = Item::new((), Lifetime::fresh(Duration::MAX), Duration::MAX);
        assert_eq!(item.lifetime().ttl, Duration::from_millis(u64::from(u32::MAX)));
        assert_eq!(item.cost(), Duration::from_millis(u64::from(u32::MAX >> 2)));
    }

    #[test]
    fn marks_leave_each_other_and_the_cost_alone() {
        let mut item = item(SECOND);
        item.times.set_below(true);
        assert!(item.times.is_below() && !item.is_negative());
        item = item.negative();
        assert!(item.times.is_below() && item.is_negative());
        item.times.set_below(false);
        assert!(!item.times.is_below() && item.is_negative());
        assert_eq!((item.cost(), item.lifetime().ttl), (SECOND, 100 * SECOND));
    }
}
