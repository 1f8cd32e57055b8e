//! What can go wrong.

use std::time::Duration;

use crate::state::State;

/// A request that the breaker did not admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is {state}; try again in {} ms", retry_after.as_millis())]
#[non_exhaustive]
pub struct Rejected {
    /// The state it is in.
    pub state: State,
    /// When it may admit again.
    pub retry_after: Duration,
}

/// A setting outside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {want}")]
#[non_exhaustive]
pub struct SettingsError {
    /// The field at fault.
    pub field: &'static str,
    /// What it must be.
    pub want: &'static str,
}
