use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chimera_circuit_breaker::{Breaker, Forced, Outcome, Settings, State, Transition, Why};

const QUICK: Duration = Duration::from_millis(1);

fn settings() -> Settings {
    Settings {
        minimum_calls: 4,
        consecutive_failures: 0,
        open_base: Duration::from_secs(4),
        open_max: Duration::from_secs(16),
        probes: 2,
        successes_to_close: 2,
        ..Settings::default()
    }
}

fn record(breaker: &Arc<Breaker>, outcomes: &[Outcome], now: Instant) {
    for outcome in outcomes {
        breaker.try_acquire(now).unwrap().record(*outcome, QUICK, now);
    }
}

/// An open breaker and the first moment at which it lets a probe through.
fn opened(settings: Settings) -> (Arc<Breaker>, Instant) {
    let now = Instant::now();
    let breaker = Breaker::new(settings, now);
    record(&breaker, &[Outcome::Failure; 4], now);
    assert_eq!(breaker.state(now), State::Open);
    let wait = breaker.try_acquire(now).unwrap_err().retry_after;
    (breaker, now + wait)
}

#[test]
fn opens_on_the_share_of_failures_after_the_minimum() {
    let now = Instant::now();
    let breaker = Breaker::new(settings(), now);
    record(&breaker, &[Outcome::Success, Outcome::Failure, Outcome::Success], now);
    assert_eq!(breaker.state(now), State::Closed);
    record(&breaker, &[Outcome::Failure], now);
    assert_eq!(breaker.state(now), State::Open);
    assert_eq!(breaker.snapshot(now).why, Some(Why::FailureRate));
}

#[test]
fn opens_on_failures_in_a_row_and_a_success_breaks_the_row() {
    let now = Instant::now();
    let settings = Settings { consecutive_failures: 3, minimum_calls: 1000, ..settings() };
    let breaker = Breaker::new(settings, now);
    record(
        &breaker,
        &[Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Failure, Outcome::Failure],
        now,
    );
    assert_eq!(breaker.state(now), State::Closed);
    record(&breaker, &[Outcome::Failure], now);
    assert_eq!(breaker.snapshot(now).why, Some(Why::Consecutive));
}

#[test]
fn opens_on_the_share_of_slow_calls() {
    let now = Instant::now();
    let slow = Duration::from_secs(2);
    let settings = Settings { slow_call: Some(slow), slow_call_rate: 0.5, ..settings() };
    let breaker = Breaker::new(settings, now);
    for latency in [QUICK, slow, QUICK, slow] {
        breaker.try_acquire(now).unwrap().record(Outcome::Success, latency, now);
    }
    assert_eq!(breaker.snapshot(now).why, Some(Why::SlowRate));
}

#[test]
fn old_failures_are_forgotten() {
    let now = Instant::now();
    let breaker = Breaker::new(settings(), now);
    record(&breaker, &[Outcome::Failure; 3], now);
    let later = now + Duration::from_secs(11);
    record(&breaker, &[Outcome::Failure], later);
    assert_eq!(breaker.state(later), State::Closed);
    assert_eq!(breaker.snapshot(later).calls, 1);
}

#[test]
fn throttling_is_no_failure_while_closed() {
    let now = Instant::now();
    let breaker = Breaker::new(settings(), now);
    record(&breaker, &[Outcome::Throttled; 50], now);
    assert_eq!(breaker.state(now), State::Closed);
}

#[test]
fn a_dropped_permit_counts_neither_way() {
    let now = Instant::now();
    let breaker = Breaker::new(settings(), now);
    for _ in 0..50 {
        drop(breaker.try_acquire(now).unwrap());
        breaker.try_acquire(now).unwrap().record(Outcome::Cancelled, QUICK, now);
    }
    assert_eq!(breaker.snapshot(now).calls, 0);
}

#[test]
fn half_open_admits_so_many_probes_and_closes_after_enough_successes() {
    let (breaker, now) = opened(settings());
    let one = breaker.try_acquire(now).unwrap();
    let two = breaker.try_acquire(now).unwrap();
    assert!(one.is_probe() && two.is_probe());
    assert_eq!(breaker.try_acquire(now).unwrap_err().state, State::HalfOpen);
    one.record(Outcome::Success, QUICK, now);
    assert_eq!(breaker.state(now), State::HalfOpen);
    two.record(Outcome::Success, QUICK, now);
    assert_eq!(breaker.state(now), State::Closed);
    assert_eq!(breaker.snapshot(now).calls, 0);
}

#[test]
fn a_dropped_probe_frees_its_place() {
    let (breaker, now) = opened(settings());
    for _ in 0..100 {
        let _one = breaker.try_acquire(now).unwrap();
        let _two = breaker.try_acquire(now).unwrap();
        assert!(breaker.try_acquire(now).is_err());
    }
    assert_eq!(breaker.snapshot(now).probes_in_flight, 0);
    assert_eq!(breaker.state(now), State::HalfOpen);
}

#[test]
fn a_failed_or_throttled_probe_opens_again_for_longer() {
    for outcome in [Outcome::Failure, Outcome::Throttled] {
        let (breaker, mut now) = opened(settings());
        let mut waits = Vec::new();
        for _ in 0..5 {
            breaker.try_acquire(now).unwrap().record(outcome, QUICK, now);
            assert_eq!(breaker.snapshot(now).why, Some(Why::Probe));
            let wait = breaker.try_acquire(now).unwrap_err().retry_after;
            waits.push(wait);
            now += wait;
        }
        // 4 s doubled to 8 and capped at 16, each with between half and all of it.
        assert!((4..=8).contains(&waits[0].as_secs()), "{waits:?}");
        assert!(waits[4] >= Duration::from_secs(8) && waits[4] <= Duration::from_secs(16), "{waits:?}");
    }
}

#[test]
fn the_open_period_starts_over_after_closing() {
    let (breaker, mut now) = opened(settings());
    for _ in 0..4 {
        breaker.try_acquire(now).unwrap().record(Outcome::Failure, QUICK, now);
        now += breaker.try_acquire(now).unwrap_err().retry_after;
    }
    record(&breaker, &[Outcome::Success, Outcome::Success], now);
    assert_eq!(breaker.state(now), State::Closed);
    record(&breaker, &[Outcome::Failure; 4], now);
    assert!(breaker.try_acquire(now).unwrap_err().retry_after <= Duration::from_secs(4));
}

#[test]
fn a_stale_permit_changes_nothing() {
    let now = Instant::now();
    let breaker = Breaker::new(settings(), now);
    let early: Vec<_> = (0..8).map(|_| breaker.try_acquire(now).unwrap()).collect();
    record(&breaker, &[Outcome::Failure; 4], now);
    let wait = breaker.try_acquire(now).unwrap_err().retry_after;
    let now = now + wait;
    let probe = breaker.try_acquire(now).unwrap();
    for permit in early {
        permit.record(Outcome::Failure, QUICK, now);
    }
    assert_eq!(breaker.state(now), State::HalfOpen);
    probe.record(Outcome::Success, QUICK, now);
    breaker.try_acquire(now).unwrap().record(Outcome::Success, QUICK, now);
    assert_eq!(breaker.state(now), State::Closed);
}

#[test]
fn half_open_never_lasts_for_ever() {
    let (breaker, now) = opened(settings());
    let lost = [breaker.try_acquire(now).unwrap(), breaker.try_acquire(now).unwrap()];
    lost.into_iter().for_each(std::mem::forget);
    assert!(breaker.try_acquire(now + Duration::from_secs(15)).is_err());
    let later = now + Duration::from_secs(16);
    assert!(breaker.try_acquire(later).unwrap().is_probe());
}

#[test]
fn operators_hold_it_open_or_closed() {
    let now = Instant::now();
    let breaker = Breaker::new(settings(), now);
    breaker.force(Some(Forced::Open), now);
    assert!(breaker.try_acquire(now).is_err());
    breaker.force(Some(Forced::Closed), now);
    record(&breaker, &[Outcome::Failure; 50], now);
    assert_eq!(breaker.state(now), State::Closed);
    breaker.force(None, now);
    assert_eq!((breaker.state(now), breaker.snapshot(now).calls), (State::Closed, 0));
}

#[test]
fn listeners_hear_of_every_change_once() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = heard.clone();
    let now = Instant::now();
    let listener = move |t: Transition| ears.lock().unwrap().push((t.from, t.to));
    let breaker = Breaker::with_listener(settings(), now, listener);
    record(&breaker, &[Outcome::Failure; 4], now);
    let now = now + breaker.try_acquire(now).unwrap_err().retry_after;
    record(&breaker, &[Outcome::Success, Outcome::Success], now);
    assert_eq!(
        *heard.lock().unwrap(),
        [(State::Closed, State::Open), (State::Open, State::HalfOpen), (State::HalfOpen, State::Closed),]
    );
}

#[test]
fn settings_out_of_range_are_named() {
    let bad = [
        (Settings { window: Duration::ZERO, ..settings() }, "window"),
        (Settings { failure_rate: 0.0, ..settings() }, "failure_rate"),
        (Settings { slow_call_rate: f64::NAN, ..settings() }, "slow_call_rate"),
        (Settings { open_max: Duration::from_secs(1), ..settings() }, "open_max"),
        (Settings { probes: 0, ..settings() }, "probes"),
        (Settings { minimum_calls: 0, ..settings() }, "minimum_calls"),
    ];
    for (settings, field) in bad {
        assert_eq!(settings.validate().unwrap_err().field, field);
    }
    assert!(Settings::default().validate().is_ok());
}
