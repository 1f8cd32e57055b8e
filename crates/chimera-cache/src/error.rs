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
    /// The tier is not reachable, or answered with an error.
    #[error("the tier is not available")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// It did not answer in time.
    #[error("the tier did not answer in time")]
    Timeout,
    /// It has no room and makes none.
    #[error("the tier is full")]
    Full,
    /// It refuses this client's credentials.
    #[error("the tier refuses the credentials")]
    Denied,
    /// It is left alone because it did not answer well.
    #[error("the tier is left alone for a while")]
    LeftAlone,
}

impl TierError {
    /// The kind of error, for a metric or a page.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::Denied => "denied",
            Self::LeftAlone => "left_alone",
        }
    }
}
