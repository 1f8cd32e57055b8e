//! What a tenant may use: requests and tokens per minute, and requests at once.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicI64, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::{Duration, Instant},
};

use chimera_protocol::Usage;

use crate::auth::Tenant;

/// The limits of a tenant; `None` is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per minute.
    pub requests_per_minute: Option<u64>,
    /// Input and output tokens per minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests in flight at once.
    pub concurrency: Option<usize>,
}

/// Which limit refused a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Requests,
    Tokens,
    Concurrency,
}

impl Limit {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests per minute",
            Self::Tokens => "tokens per minute",
            Self::Concurrency => "concurrent requests",
        }
    }
}

/// A refusal and when to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) limit: Limit,
    pub(crate) retry_after: Duration,
}

/// What is left of one limit, for the caller's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) limit: u64,
    pub(crate) remaining: u64,
    pub(crate) reset: Duration,
}

/// A bucket that holds a minute's worth and refills evenly. How many tokens a call takes is known after the fact, so the
/// level may go below zero; it then has to rise above zero again before the next request.
struct Bucket {
    per_minute: u64,
    /// Thousandths of a unit.
    level: AtomicI64,
    /// Microseconds after `epoch` up to which it was refilled.
    refilled: AtomicU64,
    epoch: Instant,
}

impl Bucket {
    fn new(per_minute: u64, now: Instant) -> Self {
        let full = milli(per_minute);
        Self { per_minute, level: AtomicI64::new(full), refilled: AtomicU64::new(0), epoch: now }
    }

    fn refill(&self, now: Instant) -> i64 {
        let at = u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX);
        let last = self.refilled.load(Acquire);
        let per_minute = u128::from(self.per_minute.max(1));
        let gain = u128::from(at.saturating_sub(last)) * per_minute / MICROS;
        // The clock moves by no more than the gain is worth: who looks often loses nothing by rounding.
        let until = u64::try_from(u128::from(last) + (gain * MICROS).div_ceil(per_minute)).unwrap_or(at);
        // Only the thread that moves the clock adds what the time was worth.
        if gain > 0 && self.refilled.compare_exchange(last, until, AcqRel, Relaxed).is_ok() {
            let gain = i64::try_from(gain).unwrap_or(i64::MAX);
            let full = milli(self.per_minute);
            let _ =
                self.level.fetch_update(AcqRel, Relaxed, |level| Some(level.saturating_add(gain).min(full)));
        }
        self.level.load(Acquire)
    }

    /// Takes `units` if the level is at least that; otherwise says how long it takes to be.
    fn take(&self, units: u64, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        let want = milli(units);
        self.level
            .fetch_update(AcqRel, Acquire, |level| (level >= want.max(1)).then(|| level.saturating_sub(want)))
            .map(|_| ())
            .map_err(|level| self.time_to(want.max(1).saturating_sub(level)))
    }

    /// Takes `units` if anything is left, however much that is; otherwise says how long it takes until something is.
    fn overdraw(&self, units: u64, now: Instant) -> Result<(), Duration> {
        self.refill(now);
        self.level
            .fetch_update(AcqRel, Acquire, |level| (level > 0).then(|| level.saturating_sub(milli(units))))
            .map(|_| ())
            .map_err(|level| self.time_to(1_i64.saturating_sub(level)))
    }

    fn credit(&self, units: u64) {
        let full = milli(self.per_minute);
        let more = |level: i64| Some(level.saturating_add(milli(units)).min(full));
        let _ = self.level.fetch_update(AcqRel, Relaxed, more);
    }

    fn debit(&self, units: u64) {
        let _ = self.level.fetch_update(AcqRel, Relaxed, |level| Some(level.saturating_sub(milli(units))));
    }

    fn time_to(&self, missing: i64) -> Duration {
        let missing = u64::try_from(missing).unwrap_or(0);
        let millis = u128::from(missing) * 60 / u128::from(self.per_minute.max(1));
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1))
    }

    fn left(&self, now: Instant) -> Left {
        let level = self.refill(now);
        let remaining = u64::try_from(level / 1000).unwrap_or(0);
        Left {
            limit: self.per_minute,
            remaining,
            reset: self.time_to(milli(self.per_minute).saturating_sub(level)),
        }
    }
}

/// Microseconds in which a bucket of one a minute gains a thousandth.
const MICROS: u128 = 60_000;

fn milli(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(1000)
}

/// A tenant's limits and what it has used of them.
pub(crate) struct TenantLimits {
    settings: Limits,
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    usual_answer: AtomicU64,
    in_flight: AtomicUsize,
}

/// What an answer is taken for before there was one.
const FIRST_GUESS: u64 = 1000;

impl TenantLimits {
    pub(crate) fn new(settings: Limits, now: Instant) -> Self {
        Self {
            settings,
            requests: settings.requests_per_minute.map(|n| Bucket::new(n, now)),
            tokens: settings.tokens_per_minute.map(|n| Bucket::new(n, now)),
            usual_answer: AtomicU64::new(FIRST_GUESS),
            in_flight: AtomicUsize::new(0),
        }
    }

    pub(crate) fn is_unlimited(&self) -> bool {
        self.settings == Limits::default()
    }

    pub(crate) fn has_token_limit(&self) -> bool {
        self.tokens.is_some()
    }

    /// The largest answer of late, in tokens.
    pub(crate) fn usual_answer(&self) -> u64 {
        self.usual_answer.load(Relaxed)
    }

    /// Takes what a call may come to, unless there is nothing left.
    pub(crate) fn set_aside(&self, tokens: u64, now: Instant) -> Result<(), Exceeded> {
        let Some(bucket) = &self.tokens else { return Ok(()) };
        bucket.overdraw(tokens, now).map_err(|retry_after| Exceeded { limit: Limit::Tokens, retry_after })
    }

    pub(crate) fn give_back(&self, tokens: u64) {
        if let Some(bucket) = &self.tokens {
            bucket.credit(tokens);
        }
    }

    /// Puts what a call has used in place of what was set aside for it.
    pub(crate) fn settle(&self, set_aside: u64, usage: &Usage) {
        self.give_back(set_aside);
        let Some(bucket) = &self.tokens else { return };
        bucket.debit(usage.total());
        let answer = usage.output_tokens.unwrap_or(0);
        let _ = self
            .usual_answer
            .fetch_update(Relaxed, Relaxed, |usual| Some(answer.max(usual - usual.div_ceil(8))));
    }

    /// What is left: of requests, of tokens.
    pub(crate) fn left(&self, now: Instant) -> (Option<Left>, Option<Left>) {
        (self.requests.as_ref().map(|b| b.left(now)), self.tokens.as_ref().map(|b| b.left(now)))
    }
}

/// A place among a tenant's requests in flight; given back on drop.
pub(crate) struct Admission(Option<Arc<Tenant>>);

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(tenant) = &self.0 {
            tenant.limits.in_flight.fetch_sub(1, AcqRel);
        }
    }
}

/// Admits one request of a tenant, or says which limit stands in the way. Nothing is used up by a
/// refusal.
pub(crate) fn admit(tenant: &Arc<Tenant>, now: Instant) -> Result<Admission, Exceeded> {
    let limits = &tenant.limits;
    if limits.is_unlimited() {
        return Ok(Admission(None));
    }
    let most = limits.settings.concurrency.unwrap_or(usize::MAX);
    let entered = limits.in_flight.fetch_update(AcqRel, Acquire, |count| (count < most).then_some(count + 1));
    if entered.is_err() {
        return Err(Exceeded { limit: Limit::Concurrency, retry_after: Duration::from_secs(1) });
    }
    let admission = Admission(Some(tenant.clone()));
    if let Some(tokens) = &limits.tokens {
        tokens.take(0, now).map_err(|retry_after| Exceeded { limit: Limit::Tokens, retry_after })?;
    }
    if let Some(requests) = &limits.requests {
        requests.take(1, now).map_err(|retry_after| Exceeded { limit: Limit::Requests, retry_after })?;
    }
    Ok(admission)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(limits: Limits, now: Instant) -> Arc<Tenant> {
        Arc::new(Tenant { name: "t".into(), limits: TenantLimits::new(limits, now) })
    }

    fn of(tokens: u64) -> Usage {
        Usage { input_tokens: Some(tokens), ..Usage::default() }
    }

    #[test]
    fn c16_of_many_threads_one_passes_what_has_room_for_one() {
        let now = Instant::now();
        let limits = Limits { requests_per_minute: Some(1), tokens_per_minute: Some(1), ..Limits::default() };
        for what in ["requests", "tokens"] {
            let tenant = tenant(limits, now);
            let passed = std::thread::scope(|scope| {
                let one = || match what {
                    "requests" => admit(&tenant, now).is_ok(),
                    _ => tenant.limits.set_aside(100, now).is_ok(),
                };
                let asking: Vec<_> = (0..50).map(|_| scope.spawn(one)).collect();
                asking.into_iter().map(|one| usize::from(one.join().unwrap())).sum::<usize>()
            });
            assert_eq!(passed, 1, "{what}");
        }
    }

    #[test]
    fn requests_refill_evenly_and_refusals_say_when() {
        let now = Instant::now();
        let tenant = tenant(Limits { requests_per_minute: Some(60), ..Limits::default() }, now);
        for _ in 0..60 {
            assert!(admit(&tenant, now).is_ok());
        }
        let refused = admit(&tenant, now).err().unwrap();
        assert_eq!(refused.limit, Limit::Requests);
        assert!(refused.retry_after <= Duration::from_millis(1001), "{refused:?}");
        assert!(admit(&tenant, now + refused.retry_after).is_ok());
        assert!(admit(&tenant, now + refused.retry_after).is_err());
    }

    #[test]
    fn who_asks_all_the_time_gets_no_less() {
        let now = Instant::now();
        for per_minute in [1, 7, 50, 1000] {
            let tenant = tenant(Limits { requests_per_minute: Some(per_minute), ..Limits::default() }, now);
            let most = 5 * 60_000 / 11;
            let admitted =
                (0..most).filter(|n| admit(&tenant, now + Duration::from_millis(11) * *n).is_ok()).count();
            // A minute's worth at once, and five minutes' worth of refill.
            let least = 6 * per_minute as usize - 1;
            assert!((least..=least + 1).contains(&admitted), "{admitted} at {per_minute}");
        }
    }

    #[test]
    fn tokens_are_debited_afterwards_and_block_until_repaid() {
        let now = Instant::now();
        let tenant = tenant(Limits { tokens_per_minute: Some(600), ..Limits::default() }, now);
        assert!(admit(&tenant, now).is_ok());
        tenant.limits.settle(0, &of(1200));
        let refused = admit(&tenant, now).err().unwrap();
        assert_eq!(refused.limit, Limit::Tokens);
        assert!(admit(&tenant, now + Duration::from_secs(59)).is_err());
        assert!(admit(&tenant, now + Duration::from_secs(61)).is_ok());
    }

    #[test]
    fn concurrency_is_given_back_on_drop() {
        let now = Instant::now();
        let tenant = tenant(Limits { concurrency: Some(2), ..Limits::default() }, now);
        let one = admit(&tenant, now).ok().unwrap();
        let _two = admit(&tenant, now).ok().unwrap();
        assert_eq!(admit(&tenant, now).err().unwrap().limit, Limit::Concurrency);
        drop(one);
        assert!(admit(&tenant, now).is_ok());
    }

    #[test]
    fn absurd_token_counts_saturate() {
        let now = Instant::now();
        let tenant = tenant(Limits { tokens_per_minute: Some(10), ..Limits::default() }, now);
        tenant.limits.settle(0, &of(u64::MAX));
        tenant.limits.settle(0, &of(u64::MAX));
        assert!(admit(&tenant, now).is_err());
        tenant.limits.give_back(u64::MAX);
        tenant.limits.give_back(u64::MAX);
        assert!(admit(&tenant, now).is_ok());
        assert_eq!(
            tenant.limits.left(now).1.map(|left| left.remaining),
            Some(10),
            "no more than a minute's worth"
        );
    }
}
