//! A flaky operation behind a breaker: run it to see the breaker open, probe and close.
#![allow(clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use chimera_circuit_breaker::{Breaker, Outcome, Settings};

fn main() {
    // Time is an argument, so the example need not wait.
    let mut now = Instant::now();
    let settings = Settings { consecutive_failures: 3, ..Settings::default() };
    let breaker = Breaker::with_listener(settings, now, |t| println!("  {} -> {}", t.from, t.to));
    for second in 0..20 {
        let works = second > 8;
        match breaker.try_acquire(now) {
            Ok(permit) => {
                let outcome = if works { Outcome::Success } else { Outcome::Failure };
                println!("{second:>2} s: tried, {outcome:?}");
                permit.record(outcome, Duration::from_millis(20), now);
            }
            Err(rejected) => println!("{second:>2} s: {rejected}"),
        }
        now += Duration::from_secs(1);
    }
}
