//! Sleeping, and being awake without a break.

use std::cell::Cell;

use tokio::time::{Duration, Instant};

thread_local! {
    /// Whether this process polls instead of sleeping.
    static AWAKE: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the thread from going to sleep while `work` is under way.
///
/// A server that writes to a sleeping peer pays for waking it, on a virtual machine as much as for the
/// write itself; and the slower of two servers finds its peers asleep more often. With peers that never
/// sleep, the CPU time of a server is what the server itself needs.
pub(crate) async fn awake<F: Future>(work: F) -> F::Output {
    AWAKE.set(true);
    let spin = async {
        loop {
            tokio::task::yield_now().await;
        }
    };
    let output = tokio::select! {
        output = work => output,
        () = spin => unreachable!("a loop without an end"),
    };
    AWAKE.set(false);
    output
}

/// Sleeps to within a tenth of a millisecond. Tokio's timer ticks in whole ones, which would swallow
/// the very differences that added latency consists of.
pub(crate) async fn sleep_until(due: Instant) {
    if AWAKE.get() {
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        return;
    }
    let left = due.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        let slept = tokio::task::spawn_blocking(move || std::thread::sleep(left)).await;
        debug_assert!(slept.is_ok(), "sleeping cannot fail");
    }
}

/// [`sleep_until`] some time from now.
pub(crate) async fn sleep(delay: Duration) {
    if !delay.is_zero() {
        sleep_until(Instant::now() + delay).await;
    }
}
