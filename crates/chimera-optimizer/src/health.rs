//! Whether calls are worth making: retries of single calls, and a pause when nothing answers.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::model::{CallError, CallErrorKind};

/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(60);

/// What a failed call does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Tries again after this long.
    Retry(Duration),
    /// Waits until somebody says that the other side is back.
    Wait,
    /// Is the one that finds out whether the other side is back.
    Probe,
    /// Is over.
    GiveUp,
}

/// What is known of the other side.
#[derive(Debug)]
pub(crate) struct Health {
    in_a_row: AtomicU32,
    paused: watch::Sender<Option<String>>,
    pause_after: u32,
    retries: u32,
    backoff: Duration,
}

impl Health {
    pub(crate) fn new(pause_after: u32, retries: u32, backoff: Duration) -> Self {
        Self { in_a_row: AtomicU32::new(0), paused: watch::Sender::new(None), pause_after, retries, backoff }
    }

    /// Waits while the job is paused.
    pub(crate) async fn open(&self) {
        let mut paused = self.paused.subscribe();
        // The sender lives in self, so this cannot fail.
        let _ = paused.wait_for(Option::is_none).await;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.borrow().is_some()
    }

    /// A call was answered. Says whether that ends a pause.
    pub(crate) fn answered(&self) -> bool {
        self.in_a_row.store(0, Relaxed);
        self.is_paused() && self.paused.send_replace(None).is_some()
    }

    /// A call failed, for the so many-th time.
    pub(crate) fn failed(&self, error: &CallError, tries: u32) -> Next {
        if error.kind == CallErrorKind::Refused {
            return Next::GiveUp;
        }
        if error.kind != CallErrorKind::Unreadable {
            let in_a_row = self.in_a_row.fetch_add(1, Relaxed) + 1;
            if self.is_paused() {
                return Next::Wait;
            }
            if error.kind == CallErrorKind::Unusable || in_a_row >= self.pause_after {
                self.paused.send_replace(Some(error.message.clone()));
                return Next::Probe;
            }
        }
        if tries > self.retries {
            return Next::GiveUp;
        }
        let doubled = self.backoff.saturating_mul(1 << tries.saturating_sub(1).min(10));
        Next::Retry(error.retry_after.unwrap_or(doubled).min(LONGEST))
    }
}

/// How long a pause has lasted, and how long it may.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pause {
    pub(crate) every: Duration,
    pub(crate) until: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_pause_and_an_answer_ends_it() {
        let health = Health::new(3, 1, Duration::from_secs(1));
        let down = CallError::transient("down");
        assert_eq!(health.failed(&down, 1), Next::Retry(Duration::from_secs(1)));
        assert_eq!(health.failed(&down, 2), Next::GiveUp);
        assert_eq!(health.failed(&CallError::refused("no"), 1), Next::GiveUp);
        assert_eq!(health.failed(&down, 1), Next::Probe);
        assert_eq!(health.failed(&down, 1), Next::Wait);
        assert!(health.answered());
        assert!(!health.answered());
        assert_eq!(health.failed(&CallError::unusable("key"), 1), Next::Probe);
    }

    #[test]
    fn an_answer_of_no_use_is_no_sign_of_death() {
        let health = Health::new(2, 3, Duration::from_secs(1));
        let odd = CallError::unreadable("odd");
        for tries in 1..4 {
            assert!(matches!(health.failed(&odd, tries), Next::Retry(_)));
        }
        assert_eq!(health.failed(&odd, 4), Next::GiveUp);
        assert!(!health.is_paused());
    }

    #[test]
    fn the_other_side_says_when() {
        let health = Health::new(9, 5, Duration::from_secs(1));
        let later = CallError { retry_after: Some(Duration::from_secs(7)), ..CallError::transient("busy") };
        assert_eq!(health.failed(&later, 1), Next::Retry(Duration::from_secs(7)));
        assert_eq!(health.failed(&CallError::transient("busy"), 4), Next::Retry(Duration::from_secs(8)));
    }
}
