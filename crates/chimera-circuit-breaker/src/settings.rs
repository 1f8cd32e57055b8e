//! The knobs of a breaker.

use std::time::Duration;

use crate::error::SettingsError;

/// When a breaker opens, for how long, and how it closes again.
///
/// The defaults lie between Resilience4j's (50 % of 100 calls, 60 s) and Envoy's outlier detection (5
/// in a row, 30 s): quick to see a dead provider, slow to condemn one that fails now and then.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The time over which outcomes are counted, in ten buckets. Default 10 s.
    pub window: Duration,
    /// Calls in the window before a share is judged. Default 20.
    pub minimum_calls: u32,
    /// The share of failures that opens the breaker, above 0 and at most 1. Default 0.5.
    pub failure_rate: f64,
    /// From which latency on a call is slow; `None` counts none. Default none.
    pub slow_call: Option<Duration>,
    /// The share of slow calls that opens the breaker, above 0 and at most 1. Default 1.
    pub slow_call_rate: f64,
    /// Failures in a row that open it whatever the share; 0 switches this off. Default 5.
    pub consecutive_failures: u32,
    /// How long it stays open at first. Default 5 s.
    pub open_base: Duration,
    /// The longest that it stays open. Default 60 s.
    pub open_max: Duration,
    /// Probes in flight at once while half-open. Default 3.
    pub probes: u32,
    /// Probes that must succeed before it closes. Default 2.
    pub successes_to_close: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(10),
            minimum_calls: 20,
            failure_rate: 0.5,
            slow_call: None,
            slow_call_rate: 1.0,
            consecutive_failures: 5,
            open_base: Duration::from_secs(5),
            open_max: Duration::from_secs(60),
            probes: 3,
            successes_to_close: 2,
        }
    }
}

impl Settings {
    /// Checks the ranges; the error names the field.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let share = |share: f64| share > 0.0 && share <= 1.0;
        let checks = [
            ("window", self.window >= Duration::from_millis(10), "at least 10 ms"),
            ("minimum_calls", self.minimum_calls >= 1, "at least 1"),
            ("failure_rate", share(self.failure_rate), "above 0 and at most 1"),
            ("slow_call_rate", share(self.slow_call_rate), "above 0 and at most 1"),
            ("open_base", !self.open_base.is_zero(), "above zero"),
            ("open_max", self.open_max >= self.open_base, "at least open_base"),
            ("probes", (1..=255).contains(&self.probes), "1 to 255"),
            ("successes_to_close", (1..=255).contains(&self.successes_to_close), "1 to 255"),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, want)) => Err(SettingsError { field, want }),
            None => Ok(()),
        }
    }
}
