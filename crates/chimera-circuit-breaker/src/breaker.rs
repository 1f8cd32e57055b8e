//! The breaker: one atomic word of state, a window of outcomes, and the rules between them.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::Rejected,
    permit::{Outcome, Permit, Ticket},
    settings::Settings,
    state::State,
    sync::{
        AtomicU8, AtomicU32, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    window::{BUCKETS, Counts, Window},
    word::{CLOSED, HALF_OPEN, MOST_OPENINGS, OPEN, Word},
};

/// A state that an operator holds a breaker in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forced {
    /// Refuse everything.
    Open,
    /// Admit everything; outcomes are counted but decide nothing.
    Closed,
}

/// Why a breaker last opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Too many failures in a row.
    Consecutive,
    /// Too large a share of failures.
    FailureRate,
    /// Too large a share of slow calls.
    SlowRate,
    /// A probe failed.
    Probe,
}

impl Why {
    /// The reason in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "too many failures in a row",
            Self::FailureRate => "too large a share of failures",
            Self::SlowRate => "too large a share of slow calls",
            Self::Probe => "a probe failed",
        }
    }

    fn code(self) -> u8 {
        self as u8 + 1
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::Consecutive, Self::FailureRate, Self::SlowRate, Self::Probe]
            .into_iter()
            .find(|why| why.code() == code)
    }
}

/// A change of state, as listeners see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why it opened, if it did.
    pub why: Option<Why>,
}

/// A breaker at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Its state.
    pub state: State,
    /// What an operator holds it in.
    pub forced: Option<Forced>,
    /// How long it has been in its state.
    pub since: Duration,
    /// Why it last opened; `None` if it never did.
    pub why: Option<Why>,
    /// Calls in the window.
    pub calls: u64,
    /// Failures among them.
    pub failures: u64,
    /// Slow ones among them.
    pub slow: u64,
    /// Probes in flight.
    pub probes_in_flight: u32,
    /// When the next probe may go, while open.
    pub next_probe: Option<Duration>,
}

type Listener = dyn Fn(Transition) + Send + Sync;

/// A circuit breaker. Shared behind an [`Arc`]; see the crate's page.
// Aligned so that the count of its holders, which they write, is not on a line with what all read.
#[repr(align(128))]
pub struct Breaker {
    settings: Settings,
    epoch: Instant,
    word: AtomicU64,
    /// Nanoseconds after `epoch`: when the state was entered, and when an open breaker may probe. Both
    /// are written before the state is swapped, so that whoever sees the state sees them, and both only
    /// rise, so that whoever lost the swap takes nothing away from the winner's.
    since: AtomicU64,
    until: AtomicU64,
    /// Failures in a row.
    run: AtomicU32,
    why: AtomicU8,
    forced: AtomicU8,
    window: Window,
    listener: Option<Box<Listener>>,
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker").field("state", &self.load().state()).finish_non_exhaustive()
    }
}

impl Breaker {
    /// A closed breaker. Settings should have been validated; ones that were not make a breaker that
    /// never opens or never closes, not one that panics.
    pub fn new(settings: Settings, now: Instant) -> Arc<Self> {
        Self::build(settings, now, None)
    }

    /// The same with a listener, called after each change of state by whoever caused it. It must not
    /// block.
    pub fn with_listener(
        settings: Settings,
        now: Instant,
        listener: impl Fn(Transition) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::build(settings, now, Some(Box::new(listener)))
    }

    fn build(settings: Settings, now: Instant, listener: Option<Box<Listener>>) -> Arc<Self> {
        Arc::new(Self {
            settings,
            epoch: now,
            word: AtomicU64::new(Word::new(CLOSED, 0, 0).0),
            since: AtomicU64::new(0),
            until: AtomicU64::new(0),
            run: AtomicU32::new(0),
            why: AtomicU8::new(0),
            forced: AtomicU8::new(0),
            window: Window::default(),
            listener,
        })
    }

    /// Leave to try once, or for how long to stay away. The permit may travel: it shares the breaker. Threads that
    /// admit all the time do so through [`Holders`](crate::Holders).
    pub fn try_acquire(self: &Arc<Self>, now: Instant) -> Result<Permit, Rejected> {
        let ticket = self.admit(now)?;
        Ok(Permit::new(self.clone(), ticket))
    }

    /// The same for a permit that does not outlive the reference.
    pub fn try_acquire_ref(&self, now: Instant) -> Result<Permit<&Self>, Rejected> {
        let ticket = self.admit(now)?;
        Ok(Permit::new(self, ticket))
    }

    pub(crate) fn admit(&self, now: Instant) -> Result<Ticket, Rejected> {
        let word = self.load();
        match self.forced() {
            None if word.state() == State::Closed => Ok(word.ticket(false)),
            None => self.try_probe(now),
            Some(Forced::Closed) => Ok(word.ticket(false)),
            Some(Forced::Open) => Err(Rejected { state: State::Open, retry_after: self.settings.open_base }),
        }
    }

    fn try_probe(&self, now: Instant) -> Result<Ticket, Rejected> {
        let at = self.nanos(now);
        loop {
            let word = self.load();
            match word.state() {
                State::Closed => return Ok(word.ticket(false)),
                State::Open => {
                    let until = self.until.load(Acquire);
                    if at < until {
                        let retry_after = Duration::from_nanos(until - at);
                        return Err(Rejected { state: State::Open, retry_after });
                    }
                    self.change(word, word.next(HALF_OPEN, word.openings()), now, None);
                }
                State::HalfOpen if word.probes() < u64::from(self.settings.probes) => {
                    if self.swap(word, word.with_probe()) {
                        return Ok(word.ticket(true));
                    }
                }
                State::HalfOpen => {
                    let given_up = self.since.load(Acquire).saturating_add(nanos(self.settings.open_max));
                    if at < given_up {
                        let retry_after = Duration::from_nanos(given_up - at).min(self.settings.open_base);
                        return Err(Rejected { state: State::HalfOpen, retry_after });
                    }
                    // Probes that nobody ended: a new generation forgets them.
                    self.change(word, word.next(HALF_OPEN, word.openings()), now, None);
                }
            }
        }
    }

    /// Its state now. An open breaker whose time is up shows as open until somebody asks to be let in.
    pub fn state(&self, _now: Instant) -> State {
        match self.forced() {
            Some(Forced::Open) => State::Open,
            Some(Forced::Closed) => State::Closed,
            None => self.load().state(),
        }
    }

    /// Holds it open or closed, or lets it go: it then goes on closed, with nothing counted.
    pub fn force(&self, forced: Option<Forced>, now: Instant) {
        let code = match forced {
            None => 0,
            Some(Forced::Open) => 1,
            Some(Forced::Closed) => 2,
        };
        let before = self.state(now);
        self.forced.store(code, Release);
        if forced.is_none() {
            let word = self.load();
            self.close(word, now);
        }
        let after = self.state(now);
        if before != after {
            self.tell(Transition { from: before, to: after, why: None });
        }
    }

    /// All that can be seen of it.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let word = self.load();
        let at = self.nanos(now);
        let Counts { calls, failures, slow } = self.window.sum(self.tick(now));
        let until = self.until.load(Acquire);
        Snapshot {
            state: self.state(now),
            forced: self.forced(),
            since: Duration::from_nanos(at.saturating_sub(self.since.load(Acquire))),
            why: Why::of_code(self.why.load(Relaxed)),
            calls,
            failures,
            slow,
            probes_in_flight: u32::try_from(word.probes()).unwrap_or(0),
            next_probe: (word.state() == State::Open).then(|| Duration::from_nanos(until.saturating_sub(at))),
        }
    }

    pub(crate) fn record(&self, ticket: Ticket, outcome: Outcome, latency: Duration, now: Instant) {
        let Ticket { generation, probe } = ticket;
        if probe {
            return self.record_probe(generation, outcome, now);
        }
        let word = self.load();
        if word.generation() != generation {
            return;
        }
        let failure = outcome == Outcome::Failure;
        let slow = self.settings.slow_call.is_some_and(|slow| latency >= slow);
        self.window.record(self.tick(now), failure, slow);
        let run = if failure {
            self.run.fetch_add(1, Relaxed).saturating_add(1)
        } else {
            // A store on every success would bounce the cache line between cores for nothing.
            if self.run.load(Relaxed) != 0 {
                self.run.store(0, Relaxed);
            }
            0
        };
        if (failure || slow)
            && let Some(why) = self.too_bad(run, now)
        {
            self.open(word, why, now);
        }
    }

    fn too_bad(&self, run: u32, now: Instant) -> Option<Why> {
        let settings = &self.settings;
        if settings.consecutive_failures > 0 && run >= settings.consecutive_failures {
            return Some(Why::Consecutive);
        }
        let counts = self.window.sum(self.tick(now));
        if counts.calls < u64::from(settings.minimum_calls) {
            return None;
        }
        let calls = counts.calls as f64;
        if counts.failures as f64 / calls >= settings.failure_rate {
            Some(Why::FailureRate)
        } else if counts.slow as f64 / calls >= settings.slow_call_rate {
            Some(Why::SlowRate)
        } else {
            None
        }
    }

    fn record_probe(&self, generation: u64, outcome: Outcome, now: Instant) {
        loop {
            let word = self.load();
            if word.generation() != generation || word.state() != State::HalfOpen {
                return;
            }
            if outcome != Outcome::Success {
                if self.open(word, Why::Probe, now) {
                    return;
                }
                continue;
            }
            let succeeded = word.without_probe().with_success();
            let done = if succeeded.successes() >= u64::from(self.settings.successes_to_close) {
                self.close(word, now)
            } else {
                self.swap(word, succeeded)
            };
            if done {
                return;
            }
        }
    }

    pub(crate) fn release_probe(&self, generation: u64) {
        loop {
            let word = self.load();
            let stale = word.generation() != generation || word.state() != State::HalfOpen;
            if stale || word.probes() == 0 || self.swap(word, word.without_probe()) {
                return;
            }
        }
    }

    fn open(&self, word: Word, why: Why, now: Instant) -> bool {
        let period = self.period(word.openings(), word.generation());
        self.until.fetch_max(self.nanos(now).saturating_add(nanos(period)), AcqRel);
        self.change(word, word.next(OPEN, word.openings() + 1), now, Some(why))
    }

    fn close(&self, word: Word, now: Instant) -> bool {
        // Before the swap: a record of the new period must find nothing of the old one, and while a
        // breaker is half-open nobody looks at either.
        self.run.store(0, Relaxed);
        self.window.clear();
        self.change(word, word.next(CLOSED, 0), now, None)
    }

    /// `base × 2^openings`, capped, and of that between half and all: callers that were refused
    /// together do not come back together.
    fn period(&self, openings: u64, generation: u64) -> Duration {
        let factor = 1_u32 << openings.min(MOST_OPENINGS);
        let whole = self.settings.open_base.saturating_mul(factor).min(self.settings.open_max);
        let seed = generation ^ (std::ptr::from_ref(self) as u64);
        whole.mul_f64(0.5 + 0.5 * unit_interval(seed))
    }

    fn change(&self, from: Word, to: Word, now: Instant, why: Option<Why>) -> bool {
        self.since.fetch_max(self.nanos(now), AcqRel);
        if !self.swap(from, to) {
            return false;
        }
        if let Some(why) = why {
            self.why.store(why.code(), Relaxed);
        }
        if from.state() != to.state() && self.forced().is_none() {
            self.tell(Transition { from: from.state(), to: to.state(), why });
        }
        true
    }

    fn tell(&self, transition: Transition) {
        if let Some(listener) = &self.listener {
            listener(transition);
        }
    }

    fn load(&self) -> Word {
        Word(self.word.load(Acquire))
    }

    fn swap(&self, from: Word, to: Word) -> bool {
        self.word.compare_exchange(from.0, to.0, AcqRel, Acquire).is_ok()
    }

    fn forced(&self) -> Option<Forced> {
        match self.forced.load(Acquire) {
            1 => Some(Forced::Open),
            2 => Some(Forced::Closed),
            _ => None,
        }
    }

    fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    fn tick(&self, now: Instant) -> u64 {
        let bucket = (nanos(self.settings.window) / BUCKETS).max(1);
        // Ten ticks ahead, so that words of zero are never taken for buckets of the first turn.
        self.nanos(now) / bucket + BUCKETS
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A number in [0, 1) from a seed: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014). Jitter
/// needs spread, not secrecy.
fn unit_interval(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / (u64::MAX as f64 + 1.0)
}
