//! Every metric of this crate, its handles registered once per breaker.

use metrics::{Counter, Gauge, counter, gauge};

use crate::{breaker::Transition, state::State};

/// The metrics of one breaker, fed by its transitions.
#[derive(Clone)]
pub struct BreakerMetrics {
    states: [(State, Gauge); 3],
    transitions: [(State, Counter); 3],
}

const STATES: [State; 3] = [State::Closed, State::Open, State::HalfOpen];

impl BreakerMetrics {
    /// Handles for the breaker of one deployment; it begins closed.
    pub fn new(deployment: &str) -> Self {
        let metrics = Self {
            states: STATES.map(|state| {
                let gauge = gauge!(
                    "chimera_circuit_breaker_state",
                    "deployment" => deployment.to_owned(),
                    "state" => state.as_str()
                );
                (state, gauge)
            }),
            transitions: STATES.map(|to| {
                let counter = counter!(
                    "chimera_circuit_breaker_transitions_total",
                    "deployment" => deployment.to_owned(),
                    "to" => to.as_str()
                );
                (to, counter)
            }),
        };
        metrics.show(State::Closed);
        metrics
    }

    fn show(&self, now: State) {
        for (state, gauge) in &self.states {
            gauge.set(f64::from(u8::from(*state == now)));
        }
    }

    /// A listener for [`Breaker::with_listener`](crate::Breaker::with_listener).
    pub fn listener(self) -> impl Fn(Transition) + Send + Sync + 'static {
        move |transition| {
            self.show(transition.to);
            if let Some((_, counter)) = self.transitions.iter().find(|(to, _)| *to == transition.to) {
                counter.increment(1);
            }
        }
    }
}

/// The name, kind, labels and meaning of each metric, for the documentation.
pub const METRICS: &[(&str, &str, &str, &str)] = &[
    (
        "chimera_circuit_breaker_state",
        "gauge",
        "deployment, state",
        "1 for the state a breaker is in: closed, open, half_open; 0 for the others.",
    ),
    (
        "chimera_circuit_breaker_transitions_total",
        "counter",
        "deployment, to",
        "Changes of state, by the new state.",
    ),
];
