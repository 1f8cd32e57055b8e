//! How many requests a deployment takes at once, found out by trying.
//!
//! A fixed bound is right for one kind of day. This one creeps up by one for each bound's worth of answers
//! that came as soon as ever, and falls by a tenth when answers take twice as long to begin as they did at
//! their best, or when the provider refuses or fails: additive increase, multiplicative decrease, as TCP
//! does it (Chiu and Jain, 1989), with the delay as a sign of a queue on the other side (Brakmo's Vegas).
//! Only a bound that is in use is raised: an idle deployment learns nothing.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Answers that take this many times their best time to begin are a sign of a queue over there.
const TOLERANCE: f64 = 2.0;
/// What is left of the bound after a bad sign.
const BACK_OFF: f64 = 0.9;
/// How fast the best time is forgotten, to a third in this long: providers change.
const FORGET: Duration = Duration::from_secs(600);
/// Signs closer together than this are one sign.
const ONE_SIGN: Duration = Duration::from_millis(100);

/// The bound of one deployment.
#[derive(Debug)]
pub(crate) struct Adaptive {
    floor: f64,
    ceiling: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: f64,
    /// The best time to first content, in seconds, drifting upwards.
    best: Option<f64>,
    /// When that was last looked at.
    seen: Instant,
    /// When the bound was last lowered.
    lowered: Option<Instant>,
}

impl Adaptive {
    /// It begins at the floor's side: a provider is approached, not tested to destruction.
    pub(crate) fn new(floor: usize, ceiling: usize) -> Self {
        let (floor, ceiling) = (floor.max(1), ceiling.max(floor.max(1)));
        let limit = (floor * 2).min(ceiling) as f64;
        let state = Mutex::new(State { limit, best: None, seen: Instant::now(), lowered: None });
        Self { floor: floor as f64, ceiling: ceiling as f64, state }
    }

    pub(crate) fn limit(&self) -> usize {
        self.lock().limit as usize
    }

    /// An answer began after `took`, while `in_flight` were under way; the bound from now on.
    pub(crate) fn began(&self, took: Duration, in_flight: usize, now: Instant) -> usize {
        let mut state = self.lock();
        let took = took.as_secs_f64();
        let past = now.saturating_duration_since(state.seen).as_secs_f64() / FORGET.as_secs_f64();
        let best = match state.best {
            Some(best) if took >= best => best + (took - best) * (1.0 - (-past).exp()),
            _ => took,
        };
        (state.best, state.seen) = (Some(best), now);
        // A millisecond more or less is no queue.
        if took > best * TOLERANCE + 0.001 {
            self.lower(&mut state, now);
        } else if in_flight as f64 * 2.0 >= state.limit {
            state.limit = (state.limit + 1.0 / state.limit).min(self.ceiling);
        }
        state.limit as usize
    }

    /// The provider refused or failed; the bound from now on.
    pub(crate) fn failed(&self, now: Instant) -> usize {
        let mut state = self.lock();
        self.lower(&mut state, now);
        state.limit as usize
    }

    fn lower(&self, state: &mut State, now: Instant) {
        if state.lowered.is_some_and(|last| now.saturating_duration_since(last) < ONE_SIGN) {
            return;
        }
        state.lowered = Some(now);
        state.limit = (state.limit * BACK_OFF).max(self.floor);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A provider that serves `capacity` at once in 100 ms each, and queues the rest.
    fn rounds(adaptive: &Adaptive, capacity: usize, rounds: usize, now: &mut Instant) -> usize {
        for _ in 0..rounds {
            let in_flight = adaptive.limit();
            let took = 100 * MS * u32::try_from(in_flight.div_ceil(capacity)).unwrap();
            *now += took;
            for _ in 0..in_flight {
                adaptive.began(took, in_flight, *now);
            }
        }
        adaptive.limit()
    }

    #[test]
    fn it_finds_the_capacity_and_follows_it() {
        let (adaptive, mut now) = (Adaptive::new(2, 1000), Instant::now());
        let found = rounds(&adaptive, 50, 400, &mut now);
        assert!((40..=150).contains(&found), "{found}");
        let less = rounds(&adaptive, 10, 400, &mut now);
        assert!(less < found && less >= 8, "{less}");
        let more = rounds(&adaptive, 200, 1000, &mut now);
        assert!(more > 120, "{more}");
    }

    #[test]
    fn it_stays_between_floor_and_ceiling() {
        let (adaptive, mut now) = (Adaptive::new(4, 20), Instant::now());
        assert_eq!(rounds(&adaptive, 1000, 500, &mut now), 20);
        for _ in 0..100 {
            now += ONE_SIGN;
            adaptive.failed(now);
        }
        assert_eq!(adaptive.limit(), 4);
    }

    #[test]
    fn failures_at_once_are_one_sign_and_an_idle_one_learns_nothing() {
        let (adaptive, now) = (Adaptive::new(10, 1000), Instant::now());
        for _ in 0..50 {
            adaptive.failed(now);
        }
        assert_eq!(adaptive.limit(), 18);
        for _ in 0..1000 {
            adaptive.began(MS, 1, now);
        }
        assert_eq!(adaptive.limit(), 18);
    }
}
