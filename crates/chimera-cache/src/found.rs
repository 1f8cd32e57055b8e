//! What a look-up brings.

use std::time::Duration;

use crate::item::Freshness;

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the near tier.
    Near,
    /// In the far tier.
    Far,
    /// Nowhere: it was computed.
    Computed,
}

/// A value found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<V> {
    /// The value.
    pub value: V,
    /// Since it was computed.
    pub age: Duration,
    /// How long it is fresh from when it was computed.
    pub ttl: Duration,
    /// How good it is. Never [`Freshness::Expired`].
    pub freshness: Freshness,
    /// Where it was.
    pub place: Place,
    /// Whether it says "there is no such thing".
    pub is_negative: bool,
    /// For how many milliseconds past its time it stands in for a computation that failed.
    pub(crate) if_error: u32,
}

impl<V> Found<V> {
    /// Until it is no longer fresh; zero when it is not.
    pub fn fresh_for(&self) -> Duration {
        self.ttl.saturating_sub(self.age)
    }

    /// What it is once a computation that took so long has failed; `None` where it may not stand in any more.
    pub fn outlives(mut self, computation: Duration) -> Option<Self> {
        self.age += computation;
        let bound = Duration::from_millis(self.if_error.into());
        (self.stale_for() < bound).then_some(self)
    }

    /// Since it is no longer fresh; zero while it is.
    pub fn stale_for(&self) -> Duration {
        self.age.saturating_sub(self.ttl)
    }
}
