//! A thread that sleeps until each intended start and then says so.
//!
//! Tokio's timers tick in milliseconds, which is far too coarse for thousands of requests a second. A thread
//! that sleeps by the kernel's clock is late by some tens of microseconds. It never waits for an answer: the
//! times it hands over are the schedule's, however late they are taken, so that nothing is left out of the
//! latencies that follow from them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::schedule::Schedule;

/// Starts that may lie ready before the pacer waits for the worker.
const READY: usize = 8192;

/// The longest sleep, after which it is looked whether the run is over.
const NAP: Duration = Duration::from_millis(100);

/// An intended start, and the row of the trace.
pub(crate) type Due = (Instant, usize);

/// Starts the thread. It ends with the schedule, with the receiver, or when `stop` is set.
pub(crate) fn start(mut schedule: Schedule, begin: Instant, stop: Arc<AtomicBool>) -> mpsc::Receiver<Due> {
    let (sender, receiver) = mpsc::channel(READY);
    thread::spawn(move || {
        while let Some((after, row)) = schedule.next() {
            let due = begin + after;
            if !sleep_until(due, &stop) || sender.blocking_send((due, row)).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Whether to go on.
fn sleep_until(due: Instant, stop: &AtomicBool) -> bool {
    loop {
        if stop.load(Relaxed) {
            return false;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(NAP));
    }
}
