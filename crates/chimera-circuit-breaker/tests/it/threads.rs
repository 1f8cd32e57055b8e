use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use chimera_circuit_breaker::{Breaker, Outcome, Settings};

/// However many threads ask, half-open never has more probes in flight than it may.
#[test]
fn probes_in_flight_are_bounded_under_contention() {
    let now = Instant::now();
    let settings =
        Settings { probes: 3, successes_to_close: 255, consecutive_failures: 1, ..Settings::default() };
    let breaker = Breaker::new(settings, now);
    breaker.try_acquire(now).unwrap().record(Outcome::Failure, Duration::ZERO, now);
    let now = now + breaker.try_acquire(now).unwrap_err().retry_after;
    let (in_flight, most, admitted) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let Ok(permit) = breaker.try_acquire(now) else { continue };
                    most.fetch_max(in_flight.fetch_add(1, SeqCst) + 1, SeqCst);
                    admitted.fetch_add(1, SeqCst);
                    std::hint::spin_loop();
                    in_flight.fetch_sub(1, SeqCst);
                    drop(permit);
                }
            });
        }
    });
    assert!(admitted.load(SeqCst) > 0);
    assert!(most.load(SeqCst) <= 3, "{most:?}");
    assert_eq!(breaker.snapshot(now).probes_in_flight, 0);
}
