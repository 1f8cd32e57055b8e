//! How long to wait before the same deployment is asked again.
//!
//! A provider that says how long is taken at its word, if that is not longer than a caller may be kept
//! waiting. Where it says nothing, the wait is drawn from all of an interval that doubles (full jitter:
//! Brooker, "Exponential Backoff and Jitter"), so that those who were refused together do not come back
//! together.

use std::time::Duration;

use crate::{random::Random, settings::Failover};

/// The wait before further attempt number `attempt` (from 0), or `None` when it is longer than allowed.
pub(crate) fn pause(
    failover: &Failover,
    attempt: u32,
    asked: Option<Duration>,
    random: &Random,
) -> Option<Duration> {
    let draw = |most: Duration| {
        Duration::from_micros(random.below(u64::try_from(most.as_micros()).unwrap_or(u64::MAX)))
    };
    let wait = match asked {
        // A little later than asked, and never sooner.
        Some(asked) => asked.checked_add(draw(failover.backoff))?,
        None => draw(failover.backoff.saturating_mul(1 << attempt.min(16)).min(failover.max_pause)),
    };
    (asked.unwrap_or_default() <= failover.max_pause).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_doubles_with_full_jitter_up_to_the_cap() {
        let failover = Failover { backoff: 100 * MS, max_pause: 1000 * MS, ..Failover::default() };
        let random = Random::seeded(1);
        for (attempt, most) in [(0, 100), (1, 200), (2, 400), (3, 800), (4, 1000), (30, 1000)] {
            let waits: Vec<_> =
                (0..1000).map(|_| pause(&failover, attempt, None, &random).unwrap()).collect();
            assert!(waits.iter().all(|wait| *wait < most * MS));
            assert!(waits.iter().any(|wait| *wait < most * MS / 10), "{attempt}: from nothing");
            assert!(waits.iter().any(|wait| *wait > most * MS * 9 / 10), "{attempt}: to all");
        }
    }

    #[test]
    fn u10_what_the_provider_asked_for_is_waited_for_or_not_at_all() {
        let failover = Failover { backoff: 100 * MS, max_pause: 5000 * MS, ..Failover::default() };
        let random = Random::seeded(1);
        let wait = pause(&failover, 0, Some(2000 * MS), &random).unwrap();
        assert!((2000 * MS..2100 * MS).contains(&wait), "{wait:?}");
        assert_eq!(pause(&failover, 0, Some(5001 * MS), &random), None);
        assert_eq!(pause(&failover, 0, Some(Duration::MAX), &random), None);
    }
}
