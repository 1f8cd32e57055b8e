//! The breaker under every interleaving of a few threads, as far as loom tries them: three preemptions
//! each.
//!
//! The crate's own files are compiled here a second time, over loom's atomics: `sync` is the one module
//! that differs. So the check needs no feature and no flag, and what is checked is what is shipped.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use loom::thread;

#[path = "../../src/breaker.rs"]
mod breaker;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/permit.rs"]
mod permit;
#[path = "../../src/settings.rs"]
mod settings;
#[path = "../../src/state.rs"]
mod state;
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

    /// All threads count in the same place: the worst case, and the fewest interleavings.
    pub(crate) const STRIPES: usize = 1;
}
#[path = "../../src/window.rs"]
#[allow(clippy::modulo_one, reason = "there is one stripe here")]
mod window;
#[path = "../../src/word.rs"]
mod word;

use breaker::Breaker;
use permit::{Outcome, Permit};
use settings::Settings;
use state::State;
use sync::{AtomicUsize, Ordering::SeqCst};

const MS: Duration = Duration::from_millis(1);

fn settings(probes: u32, successes_to_close: u32) -> Settings {
    Settings { consecutive_failures: 1, probes, successes_to_close, ..Settings::default() }
}

/// Tries all interleavings of at most three preemptions, which is where nearly all races show.
fn every_interleaving(check: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(check);
}

/// A breaker that has opened and may probe: its open time is long over.
fn due(settings: Settings) -> (Arc<Breaker>, Instant) {
    let start = Instant::now();
    let breaker = Breaker::new(settings, start);
    breaker.try_acquire(start).unwrap().record(Outcome::Failure, MS, start);
    // So long that probes given out at the opening would count as given up.
    (breaker, start + Duration::from_secs(3600))
}

/// Acquires twice, holding on to both; the first permit.
fn probe(breaker: &Arc<Breaker>, now: Instant, in_flight: &AtomicUsize, most: usize) -> Option<Permit> {
    let mut held = Vec::new();
    for _ in 0..2 {
        let Ok(permit) = breaker.try_acquire(now) else { break };
        assert!(permit.is_probe());
        assert!(in_flight.fetch_add(1, SeqCst) < most, "more probes than there may be");
        held.push(permit);
    }
    while held.len() > 1 {
        in_flight.fetch_sub(1, SeqCst);
        held.pop();
    }
    held.pop().inspect(|_| {
        in_flight.fetch_sub(1, SeqCst);
    })
}

#[test]
fn never_more_probes_than_there_may_be_and_dropped_ones_are_free_again() {
    for most in [1, 2] {
        every_interleaving(move || {
            let (breaker, now) = due(settings(most, 255));
            let in_flight = Arc::new(AtomicUsize::new(0));
            let other = {
                let (breaker, in_flight) = (breaker.clone(), in_flight.clone());
                thread::spawn(move || drop(probe(&breaker, now, &in_flight, most as usize)))
            };
            drop(probe(&breaker, now, &in_flight, most as usize));
            other.join().unwrap();
            assert_eq!(breaker.snapshot(now).probes_in_flight, 0);
            assert_eq!(breaker.state(now), State::HalfOpen);
            assert!(breaker.try_acquire(now).unwrap().is_probe());
        });
    }
}

/// However two probes end, the breaker is in a state that it leaves again.
#[test]
fn it_is_never_stuck_half_open() {
    let ends = [Some(Outcome::Success), Some(Outcome::Failure), Some(Outcome::Throttled), None];
    for (one, two) in ends.into_iter().flat_map(|one| ends.map(|two| (one, two))) {
        every_interleaving(move || {
            let (breaker, now) = due(settings(2, 2));
            let end = move |breaker: &Arc<Breaker>, outcome: Option<Outcome>| match outcome {
                Some(outcome) => {
                    breaker.try_acquire(now).into_iter().for_each(|p| p.record(outcome, MS, now))
                }
                None => breaker.try_acquire(now).into_iter().for_each(drop),
            };
            let beside = breaker.clone();
            let other = thread::spawn(move || end(&beside, two));
            end(&breaker, one);
            other.join().unwrap();
            let seen = breaker.snapshot(now);
            assert_eq!(seen.probes_in_flight, 0, "{seen:?}");
            let bad = |end: Option<Outcome>| matches!(end, Some(Outcome::Failure | Outcome::Throttled));
            if !bad(one) && !bad(two) {
                assert_ne!(seen.state, State::Open);
            } else if bad(one) && bad(two) {
                assert_eq!(seen.state, State::Open);
            }
            // It admits: at once, or when its time is up.
            let later = now + Duration::from_secs(120);
            drop(breaker.try_acquire(later).unwrap());
            breaker.try_acquire(later).unwrap().record(Outcome::Success, MS, later);
            breaker.try_acquire(later).unwrap().record(Outcome::Success, MS, later);
            assert_eq!(breaker.state(later), State::Closed);
        });
    }
}

/// A period that begins finds no failure of an earlier one.
#[test]
fn closing_forgets_the_failures_before_it() {
    every_interleaving(|| {
        let start = Instant::now();
        let settings =
            Settings { consecutive_failures: 2, probes: 1, successes_to_close: 1, ..Settings::default() };
        let breaker = Breaker::new(settings, start);
        for _ in 0..2 {
            breaker.try_acquire(start).unwrap().record(Outcome::Failure, MS, start);
        }
        let now = start + Duration::from_secs(120);
        let probe = breaker.try_acquire(now).unwrap();
        let beside = breaker.clone();
        let other = thread::spawn(move || {
            if let Ok(permit) = beside.try_acquire(now) {
                permit.record(Outcome::Failure, MS, now);
            }
        });
        probe.record(Outcome::Success, MS, now);
        other.join().unwrap();
        assert_eq!(breaker.state(now), State::Closed, "one failure is not two");
    });
}

/// A permit of an earlier period changes nothing, whenever it ends.
#[test]
fn a_late_record_neither_reopens_nor_shortens() {
    every_interleaving(|| {
        let start = Instant::now();
        let breaker = Breaker::new(settings(1, 1), start);
        let late = breaker.try_acquire(start).unwrap();
        breaker.try_acquire(start).unwrap().record(Outcome::Failure, MS, start);
        let now = start + Duration::from_secs(3600);
        let probe = breaker.try_acquire(now).unwrap();
        let other = thread::spawn(move || late.record(Outcome::Failure, MS, start));
        probe.record(Outcome::Failure, MS, now);
        other.join().unwrap();
        let seen = breaker.snapshot(now);
        assert_eq!(seen.state, State::Open);
        // Twice the base of 5 s, of that between half and all.
        assert!(seen.next_probe >= Some(Duration::from_secs(5)), "{seen:?}");
    });
}

/// Two failures at once open it once, for as long as one would.
#[test]
fn failures_at_once_open_it_once() {
    every_interleaving(|| {
        let start = Instant::now();
        let heard = Arc::new(AtomicUsize::new(0));
        let ears = heard.clone();
        let breaker = Breaker::with_listener(settings(1, 1), start, move |_| {
            ears.fetch_add(1, SeqCst);
        });
        let (one, two) = (breaker.try_acquire(start).unwrap(), breaker.try_acquire(start).unwrap());
        let other = thread::spawn(move || one.record(Outcome::Failure, MS, start));
        two.record(Outcome::Failure, MS, start);
        other.join().unwrap();
        assert_eq!(heard.load(SeqCst), 1);
        let wait = breaker.snapshot(start).next_probe.unwrap();
        assert!((2500..=5000).contains(&wait.as_millis()), "{wait:?}");
    });
}
