//! What can go wrong.

use std::error::Error;

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

/// A tier that could not answer. The caller treats it as a miss: a cache is never the reason why a
/// request fails.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TierError {
    /// The tier is not reachable.
    #[error("the tier is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}
