//! The tier in a file, so that one machine without a Redis keeps its cache over a restart.
//!
//! redb holds it (docs/adr/0014): one file, copy on write, whole after a crash. Values are packed as for the
//! tier in Redis, so that what was damaged on the disk is a miss. What is written becomes durable once a
//! second: a crash costs the last second's entries, a clean end nothing.

mod opened;
mod store;
mod tier;

pub use tier::{DiskError, DiskSettings, DiskTier};
