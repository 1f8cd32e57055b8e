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
}

impl<V> Found<V> {
    /// Until it is no longer fresh; zero when it is not.
    pub fn fresh_for(&self) -> Duration {
        self.ttl.saturating_sub(self.age)
    }

    /// Since it is no longer fresh; zero while it is.
    pub fn stale_for(&self) -> Duration {
        self.age.saturating_sub(self.ttl)
    }
}
