//! A waker between a connection and the task that happens to drive it.
//!
//! A connection here is polled by the request that uses it, not by a task of its own. Its inner
//! halves (hyper's dispatcher, the body channel) wake each other all the time, and each such wake
//! would put the request's task back on the run queue although it is already running. The relay
//! notes such wakes and polls again on the spot; only a wake that comes from outside reaches the task.
//! It also remembers that nothing has woken it since: then there is nothing to poll for.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Nothing has happened since the last poll.
const QUIET: u8 = 0;
const POLLING: u8 = 1;
const WOKEN: u8 = 2;

/// Rounds of polling on the spot before the task yields, so that one busy connection cannot starve
/// its neighbours.
const ROUNDS: usize = 256;

struct Inner {
    state: AtomicU8,
    outer: Mutex<Option<Waker>>,
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A second wake finds the task woken already.
        if self.state.swap(WOKEN, SeqCst) == QUIET {
            let waker = self.outer.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// See the module's page.
pub(crate) struct Relay {
    inner: Arc<Inner>,
    waker: Waker,
}

impl Relay {
    pub(crate) fn new() -> Self {
        let inner = Arc::new(Inner { state: AtomicU8::new(WOKEN), outer: Mutex::new(None) });
        Self { waker: Waker::from(inner.clone()), inner }
    }

    /// Polls `step` until it is ready or nothing inside has woken it.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut step: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.remember(cx.waker());
        let mut inner_cx = Context::from_waker(&self.waker);
        for _ in 0..ROUNDS {
            self.inner.state.store(POLLING, SeqCst);
            let polled = step(&mut inner_cx);
            let quiet = self.inner.state.compare_exchange(POLLING, QUIET, SeqCst, SeqCst).is_ok();
            if polled.is_ready() {
                return polled;
            }
            if quiet {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether nothing has woken it since the last poll. If so, the task is woken when something does.
    pub(crate) fn is_quiet(&self, cx: &mut Context<'_>) -> bool {
        self.remember(cx.waker());
        self.inner.state.load(SeqCst) == QUIET
    }

    fn remember(&self, waker: &Waker) {
        let mut outer = self.inner.outer.lock().unwrap_or_else(PoisonError::into_inner);
        match outer.as_mut() {
            Some(known) => known.clone_from(waker),
            None => *outer = Some(waker.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_wake_from_inside_polls_again_without_the_task() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let relay = Relay::new();
        let mut rounds = 0;
        let polled = relay.poll(&mut Context::from_waker(&waker), |cx| {
            rounds += 1;
            if rounds < 3 {
                cx.waker().wake_by_ref();
                Poll::Pending
            } else {
                Poll::Ready(rounds)
            }
        });
        assert_eq!(polled, Poll::Ready(3));
        assert_eq!(count.0.load(SeqCst), 0);
    }

    #[test]
    fn a_wake_from_outside_reaches_the_latest_task() {
        let (old, new) = (Arc::new(Count(AtomicUsize::new(0))), Arc::new(Count(AtomicUsize::new(0))));
        let relay = Relay::new();
        let mut kept = None;
        for task in [&old, &new] {
            let waker = Waker::from(task.clone());
            let polled: Poll<()> = relay.poll(&mut Context::from_waker(&waker), |cx| {
                kept = Some(cx.waker().clone());
                Poll::Pending
            });
            assert!(polled.is_pending());
        }
        kept.unwrap().wake();
        assert_eq!(old.0.load(SeqCst), 0);
        assert_eq!(new.0.load(SeqCst), 1);
    }

    #[test]
    fn it_is_quiet_until_something_wakes_it() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let relay = Relay::new();
        assert!(!relay.is_quiet(&mut cx), "nothing was ever polled");
        let mut kept = None;
        let polled: Poll<()> = relay.poll(&mut cx, |cx| {
            kept = Some(cx.waker().clone());
            Poll::Pending
        });
        assert!(polled.is_pending() && relay.is_quiet(&mut cx));
        let kept = kept.unwrap();
        kept.wake_by_ref();
        kept.wake_by_ref();
        assert!(!relay.is_quiet(&mut cx));
        assert_eq!(count.0.load(SeqCst), 1, "the task is woken once");
        let polled = relay.poll(&mut cx, |cx| {
            cx.waker().wake_by_ref();
            Poll::Ready(())
        });
        assert!(polled.is_ready() && !relay.is_quiet(&mut cx), "a wake beside an answer is not forgotten");
    }

    #[test]
    fn an_endless_inner_wake_yields_to_the_task() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let polled: Poll<()> = Relay::new().poll(&mut Context::from_waker(&waker), |cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert!(polled.is_pending());
        assert_eq!(count.0.load(SeqCst), 1);
    }
}
