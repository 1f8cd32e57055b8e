//! What stands before a tier that others can make slow: it is left alone while it does not answer in
//! time, and asked now and then whether it does again.
//!
//! A full circuit breaker has windows, rates and many permits. Here an operation that is refused costs a
//! miss, so a score that rises by two with every bad operation and falls by one with every good one is
//! enough: five bad ones in a row close the tier, and so does a third of bad ones that lasts. While it is
//! off, one operation at a time is let through when the pause is over; the pause doubles up to a bound
//! that keeps recovery quick, with jitter.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// When a tier is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardSettings {
    /// Score at which the tier is left alone; a bad operation counts two. Default 10.
    pub threshold: u32,
    /// The first pause. Default 250 ms.
    pub pause: Duration,
    /// The longest pause. Default 1 s.
    pub longest_pause: Duration,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self { threshold: 10, pause: Duration::from_millis(250), longest_pause: Duration::from_secs(1) }
    }
}

/// What a guard does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardState {
    /// It lets everything through.
    On,
    /// It lets nothing through.
    Off,
    /// It waits for the one operation that it let through to see.
    Probing,
}

impl GuardState {
    pub(crate) const ALL: [Self; 3] = [Self::On, Self::Off, Self::Probing];

    /// As the field calls the state of a circuit breaker.
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "closed",
            Self::Off => "open",
            Self::Probing => "half_open",
        }
    }
}

/// Why operations were bad, for people.
pub(crate) type Why = &'static str;

pub(crate) struct Guard {
    settings: GuardSettings,
    /// The state as a number, so that a look costs one load.
    state: AtomicU8,
    /// Operations that were not let through.
    refused: AtomicU64,
    course: Mutex<Course>,
}

struct Course {
    score: u32,
    pauses: u32,
    until: Option<Instant>,
    why: Option<Why>,
}

const ON: u8 = 0;
const OFF: u8 = 1;
const PROBING: u8 = 2;

/// The right to one operation. Dropped without a verdict it counts for nothing: the caller left.
pub(crate) struct Pass<'a> {
    guard: &'a Guard,
    is_probe: bool,
    settled: bool,
}

/// A change that is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Off(Why),
    On,
}

impl Guard {
    pub(crate) fn new(settings: GuardSettings) -> Self {
        let course = Course { score: 0, pauses: 0, until: None, why: None };
        Self { settings, state: AtomicU8::new(ON), refused: AtomicU64::new(0), course: Mutex::new(course) }
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks to do an operation.
    pub(crate) fn admit(&self, now: Instant) -> Option<Pass<'_>> {
        if self.state.load(Relaxed) == ON {
            return Some(Pass { guard: self, is_probe: false, settled: false });
        }
        let course = self.course();
        let due = course.until.is_none_or(|until| until <= now);
        match self.state.load(Relaxed) {
            ON => Some(Pass { guard: self, is_probe: false, settled: false }),
            OFF if due => {
                self.state.store(PROBING, Relaxed);
                Some(Pass { guard: self, is_probe: true, settled: false })
            }
            _ => {
                self.refused.fetch_add(1, Relaxed);
                None
            }
        }
    }

    pub(crate) fn state(&self) -> GuardState {
        match self.state.load(Relaxed) {
            ON => GuardState::On,
            OFF => GuardState::Off,
            _ => GuardState::Probing,
        }
    }

    /// Operations that were not let through.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Why it is off, if it is.
    pub(crate) fn why(&self) -> Option<Why> {
        if self.state() == GuardState::On { None } else { self.course().why }
    }

    fn good(&self, is_probe: bool) -> Option<Turn> {
        let mut course = self.course();
        if is_probe {
            *course = Course { score: 0, pauses: 0, until: None, why: None };
            self.state.store(ON, Relaxed);
            return Some(Turn::On);
        }
        course.score = course.score.saturating_sub(1);
        None
    }

    fn bad(&self, is_probe: bool, why: Why, now: Instant, draw: f64) -> Option<Turn> {
        let mut course = self.course();
        let was = self.state.load(Relaxed);
        if !is_probe {
            if was != ON {
                return None;
            }
            course.score += 2;
            if course.score < self.settings.threshold {
                return None;
            }
        }
        let pause = self.settings.pause.saturating_mul(1 << course.pauses.min(16));
        let pause = pause.min(self.settings.longest_pause).mul_f64(0.5 + 0.5 * draw.clamp(0.0, 1.0));
        course.pauses += 1;
        course.until = now.checked_add(pause);
        course.why = Some(why);
        self.state.store(OFF, Relaxed);
        (was == ON).then_some(Turn::Off(why))
    }
}

impl Pass<'_> {
    /// It went well.
    pub(crate) fn good(mut self) -> Option<Turn> {
        self.settled = true;
        // While all is well this must not be a lock that every look-up takes.
        if !self.is_probe && self.guard.course.try_lock().is_ok_and(|course| course.score == 0) {
            return None;
        }
        self.guard.good(self.is_probe)
    }

    /// It failed, or took too long. `draw` is uniform in (0, 1].
    pub(crate) fn bad(mut self, why: Why, now: Instant, draw: f64) -> Option<Turn> {
        self.settled = true;
        self.guard.bad(self.is_probe, why, now, draw)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.settled {
            // The prober left: the next may probe.
            let mut course = self.guard.course();
            course.until = None;
            self.guard.state.store(OFF, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn guard() -> (Guard, Instant) {
        (Guard::new(GuardSettings::default()), Instant::now())
    }

    fn fail(guard: &Guard, now: Instant) -> Option<Turn> {
        guard.admit(now).and_then(|pass| pass.bad("slow", now, 1.0))
    }

    fn turned_off() -> (Guard, Instant) {
        let (guard, now) = guard();
        for _ in 0..5 {
            fail(&guard, now);
        }
        assert_eq!(guard.state(), GuardState::Off);
        (guard, now)
    }

    #[test]
    fn five_bad_ones_in_a_row_turn_it_off_and_say_so_once() {
        let (guard, now) = guard();
        let turns: Vec<_> = (0..6).map(|_| fail(&guard, now)).collect();
        assert_eq!(turns.iter().flatten().collect::<Vec<_>>(), [&Turn::Off("slow")]);
        assert_eq!(turns[4], Some(Turn::Off("slow")));
        assert_eq!((guard.why(), guard.refused()), (Some("slow"), 1));
    }

    #[test]
    fn r04_half_of_them_bad_turns_it_off_a_fifth_does_not() {
        let (half, now) = guard();
        let (fifth, _) = guard();
        for n in 0..200 {
            for (guard, is_bad) in [(&half, n % 2 == 0), (&fifth, n % 5 == 0)] {
                let Some(pass) = guard.admit(now) else { continue };
                if is_bad {
                    pass.bad("slow", now, 1.0)
                } else {
                    pass.good()
                };
            }
        }
        assert_eq!((half.state(), fifth.state()), (GuardState::Off, GuardState::On));
    }

    #[test]
    fn one_probe_at_a_time_and_a_good_one_turns_it_on() {
        let (guard, now) = turned_off();
        assert!(guard.admit(now + 249 * MS).is_none());
        let later = now + 250 * MS;
        let probe = guard.admit(later).unwrap();
        assert_eq!(guard.state(), GuardState::Probing);
        assert!(guard.admit(later).is_none());
        assert_eq!(probe.good(), Some(Turn::On));
        assert!(guard.admit(later).is_some());
        assert_eq!(guard.why(), None);
    }

    #[test]
    fn pauses_grow_to_a_second_and_no_further() {
        let (guard, mut now) = turned_off();
        for pause in [250, 500, 1000, 1000, 1000] {
            assert!(guard.admit(now + (pause - 1) * MS).is_none(), "{pause}");
            now += pause * MS;
            assert_eq!(fail(&guard, now), None);
        }
    }

    #[test]
    fn u14_a_probe_that_is_dropped_is_neutral_and_lets_another_probe() {
        let (guard, now) = turned_off();
        let later = now + 250 * MS;
        drop(guard.admit(later).unwrap());
        assert_eq!(guard.state(), GuardState::Off);
        assert!(guard.admit(later).is_some());
    }

    #[test]
    fn a_late_verdict_from_before_changes_nothing() {
        let (guard, now) = guard();
        let old = guard.admit(now).unwrap();
        for _ in 0..5 {
            fail(&guard, now);
        }
        assert_eq!(old.good(), None);
        assert_eq!(guard.state(), GuardState::Off);
    }
}
