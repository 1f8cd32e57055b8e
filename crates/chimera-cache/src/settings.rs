//! The knobs of a memory tier and of flights.

use crate::error::SettingsError;

/// How large a memory tier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySettings {
    /// The tier's name: a metric label, so a constant.
    pub name: &'static str,
    /// Bytes held at most, the overhead of entries included.
    pub capacity_bytes: u64,
    /// The heaviest entry kept; at most half of the capacity.
    pub max_entry_bytes: u64,
    /// What an entry weighs about, for sizing the index and the ghost list. Default 4 KiB.
    pub expected_entry_bytes: u64,
}

impl MemorySettings {
    /// Settings with the default for the expected weight.
    pub const fn new(name: &'static str, capacity_bytes: u64, max_entry_bytes: u64) -> Self {
        Self { name, capacity_bytes, max_entry_bytes, expected_entry_bytes: 4096 }
    }

    /// Checks the ranges; the error names the field.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let wrong = |field, want| Err(SettingsError { field, want });
        if self.capacity_bytes == 0 {
            return wrong("capacity_bytes", "above zero");
        }
        if self.max_entry_bytes == 0
            || self.max_entry_bytes > self.capacity_bytes / 2 + self.capacity_bytes / 4
        {
            return wrong("max_entry_bytes", "above zero and at most three quarters of capacity_bytes");
        }
        if self.expected_entry_bytes == 0 {
            return wrong("expected_entry_bytes", "above zero");
        }
        Ok(())
    }
}

/// How much a flight remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightSettings {
    /// Bytes of items kept for followers that are behind or yet to come. A flight that has brought
    /// more takes no new followers, and a follower that falls behind by more is cut.
    pub max_log_bytes: usize,
}

impl Default for FlightSettings {
    fn default() -> Self {
        Self { max_log_bytes: 4 << 20 }
    }
}
