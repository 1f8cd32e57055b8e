//! The breaker against a plain model of its rules.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use chimera_circuit_breaker::{Breaker, Outcome, Permit, Settings, State};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Acquire,
    /// How one of those held ends, and whether it was slow.
    End(usize, Outcome, bool),
    Drop(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        Just(Outcome::Success),
        Just(Outcome::Failure),
        Just(Outcome::Throttled),
        Just(Outcome::Cancelled)
    ];
    prop_oneof![
        4 => Just(Step::Acquire),
        4 => (any::<usize>(), outcome, any::<bool>()).prop_map(|(i, outcome, slow)| Step::End(i, outcome, slow)),
        1 => any::<usize>().prop_map(Step::Drop),
        1 => (0_u64..9_000).prop_map(Step::Wait),
    ]
}

/// The rules in their plainest form: a list of outcomes with times, a period number, a set of probes.
struct Model {
    settings: Settings,
    state: State,
    period: u64,
    /// When, whether it failed, whether it was slow.
    outcomes: VecDeque<(u64, bool, bool)>,
    run: u32,
    probes: u32,
    successes: u32,
}

impl Model {
    fn end(&mut self, (period, probe): (u64, bool), outcome: Outcome, slow: bool, tick: u64) {
        if period != self.period {
            return;
        }
        if probe {
            self.probes -= 1;
            match outcome {
                Outcome::Cancelled => {}
                Outcome::Success => {
                    self.successes += 1;
                    if self.successes == self.settings.successes_to_close {
                        self.enter(State::Closed);
                    }
                }
                Outcome::Failure | Outcome::Throttled => self.enter(State::Open),
            }
        } else if outcome != Outcome::Cancelled {
            let failure = outcome == Outcome::Failure;
            self.outcomes.push_back((tick, failure, slow));
            self.outcomes.retain(|(at, ..)| tick - at < 10);
            self.run = if failure { self.run + 1 } else { 0 };
            let calls = self.outcomes.len();
            let share = |bad: fn(&&(u64, bool, bool)) -> bool| {
                self.outcomes.iter().filter(bad).count() as f64 / calls as f64
            };
            let rates = share(|(_, failure, _)| *failure) >= self.settings.failure_rate
                || share(|(_, _, slow)| *slow) >= self.settings.slow_call_rate;
            let rates = rates && calls >= self.settings.minimum_calls as usize;
            let in_a_row = failure && self.run >= self.settings.consecutive_failures;
            if (failure || slow) && (in_a_row || rates) {
                self.enter(State::Open);
            }
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.period += 1;
        (self.probes, self.successes) = (0, 0);
        if state == State::Closed {
            self.outcomes.clear();
            self.run = 0;
        }
    }
}

proptest! {
    #[test]
    fn behaves_like_the_model(steps in prop::collection::vec(step(), 1..200)) {
        let start = Instant::now();
        let settings = Settings {
            minimum_calls: 5, consecutive_failures: 3, probes: 2, successes_to_close: 2,
            slow_call: Some(Duration::from_secs(1)), slow_call_rate: 0.7,
            // No probe is given up within a run of the test.
            open_base: Duration::from_secs(1), open_max: Duration::from_secs(100_000),
            ..Settings::default()
        };
        let breaker = Breaker::new(settings.clone(), start);
        let mut model = Model {
            settings, state: State::Closed, period: 0, outcomes: VecDeque::new(), run: 0, probes: 0, successes: 0,
        };
        let mut now = start;
        let mut held: Vec<(Permit, (u64, bool))> = Vec::new();
        for step in steps {
            let tick = (now - start).as_secs();
            match step {
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Acquire => {
                    let open_until = breaker.snapshot(now).next_probe;
                    if model.state == State::Open && open_until == Some(Duration::ZERO) {
                        model.enter(State::HalfOpen);
                    }
                    let admits = match model.state {
                        State::Closed => true,
                        State::Open => false,
                        State::HalfOpen => model.probes < model.settings.probes,
                    };
                    let permit = breaker.try_acquire(now);
                    prop_assert_eq!(permit.is_ok(), admits);
                    if let Ok(permit) = permit {
                        let probe = model.state == State::HalfOpen;
                        prop_assert_eq!(permit.is_probe(), probe);
                        model.probes += u32::from(probe);
                        held.push((permit, (model.period, probe)));
                    }
                }
                Step::End(index, outcome, slow) if !held.is_empty() => {
                    let (permit, ticket) = held.swap_remove(index % held.len());
                    permit.record(outcome, Duration::from_secs(u64::from(slow)), now);
                    model.end(ticket, outcome, slow, tick);
                }
                Step::Drop(index) if !held.is_empty() => {
                    let (permit, ticket) = held.swap_remove(index % held.len());
                    drop(permit);
                    model.end(ticket, Outcome::Cancelled, false, tick);
                }
                Step::End(..) | Step::Drop(_) => {}
            }
            prop_assert_eq!(breaker.state(now), model.state);
        }
    }
}
