//! The knobs of a memory tier, of flights, and of a cache of two tiers.

use std::time::Duration;

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
    /// The same for all flights together. Once they hold more, the longer ones take no new followers and
    /// drop what theirs have read; the first 64 KiB of each are not counted. Default 256 MiB.
    pub max_held_bytes: usize,
}

impl Default for FlightSettings {
    fn default() -> Self {
        Self { max_log_bytes: 4 << 20, max_held_bytes: 256 << 20 }
    }
}

/// When a value goes to the far tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WritePolicy {
    /// At once, through the queue: nobody waits.
    #[default]
    Behind,
    /// At once, and whoever computed it waits for the write, within the tier's deadline.
    Through,
    /// When the near tier pushes it out, if it was used more than once and is worth keeping.
    Demote,
}

/// How a cache of two tiers works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TieredSettings {
    /// The near tier.
    pub near: MemorySettings,
    /// When values go to the far tier.
    pub writes: WritePolicy,
    /// Writes that may wait. Default 1,024.
    pub queue_entries: usize,
    /// Bytes that may wait with them. Default 64 MiB.
    pub queue_bytes: usize,
    /// What expires sooner is not worth moving down. Default 60 s.
    pub demote_remaining: Duration,
    /// How long at most an entry stays in the near tier. Default: as long as it lives.
    pub near_cap: Option<Duration>,
    /// The same while changes by others are not told. Default 30 s.
    pub untracked_cap: Duration,
    /// How long one process may keep others from computing the same key. Default: not at all.
    pub lease: Option<Duration>,
    /// Stale values renewed at once; beyond that they are served and left as they are. Default 64.
    pub renewals: usize,
    /// What flights remember.
    pub flights: FlightSettings,
}

impl TieredSettings {
    /// Settings with the defaults for everything but the near tier.
    pub fn new(near: MemorySettings) -> Self {
        Self {
            near,
            writes: WritePolicy::default(),
            queue_entries: 1024,
            queue_bytes: 64 << 20,
            demote_remaining: Duration::from_secs(60),
            near_cap: None,
            untracked_cap: Duration::from_secs(30),
            lease: None,
            renewals: 64,
            flights: FlightSettings::default(),
        }
    }

    /// Checks the ranges; the error names the field.
    pub fn validate(&self) -> Result<(), SettingsError> {
        self.near.validate()?;
        let wrong = |field, want| Err(SettingsError { field, want });
        if self.queue_entries == 0 {
            return wrong("queue_entries", "above zero");
        }
        if self.queue_bytes == 0 {
            return wrong("queue_bytes", "above zero");
        }
        if self.untracked_cap.is_zero() {
            return wrong("untracked_cap", "above zero");
        }
        if self.lease.is_some_and(|lease| lease.is_zero()) {
            return wrong("lease", "above zero");
        }
        Ok(())
    }
}
