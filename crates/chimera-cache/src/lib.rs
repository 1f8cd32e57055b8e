//! A tiered cache with one computation per key.
//!
//! Two parts that work apart or together: a [`MemoryTier`] that holds values by weight in bytes and by
//! time, and [`Flights`], which let any number of callers follow one computation of a key.
//!
//! ```
//! use std::{sync::Arc, time::{Duration, Instant}};
//! use chimera_cache::{MemorySettings, MemoryTier, Put};
//!
//! let weight = |key: &String, value: &Arc<str>| key.len() + value.len();
//! let cache = MemoryTier::new(MemorySettings::new("l1", 1 << 20, 64 << 10), weight)?;
//! let now = Instant::now();
//! let put = cache.put("answer".to_owned(), Arc::from("42"), Duration::from_secs(60), now);
//! assert_eq!(put, Put::Stored);
//! let hit = cache.get(&"answer".to_owned(), now + Duration::from_secs(5)).expect("it is fresh");
//! assert_eq!((&*hit.value, hit.age), ("42", Duration::from_secs(5)));
//! # Ok::<(), chimera_cache::SettingsError>(())
//! ```
//!
//! # How it works
//! The memory tier is quick_cache (S3-FIFO) with a lifetime kept beside each value. Its shards are
//! chosen so large that the largest entry fits, because a shard refuses what does not. A flight has no
//! task of its own: whoever of its followers is polled drives it, with one waker that wakes them all.
//! So a follower that leaves hands over without a word, and a slow one holds nobody up.
//!
//! # Guarantees
//! - **Freshness**: an expired value is never returned.
//! - **Cancellation**: a flight goes on while anybody follows it; when the last follower is dropped,
//!   the computation is dropped at once.
//! - **Memory**: the tier's weight stays below its capacity; a flight's log is bounded.
//! - **Errors**: none of the memory tier's operations fails. A panic in a computation reaches the
//!   follower that drove it; the others end, and say that they were interrupted.
//!
//! # What it does not do
//! There is no second tier yet, no stale-while-revalidate and no early refresh.

mod error;
mod flight;
mod latency;
mod memory;
mod metrics;
mod settings;
mod stats;
mod tier;

pub use error::{SettingsError, TierError};
pub use flight::{Flights, Role, Source, Subscription};
pub use memory::{MemoryTier, Put};
pub use metrics::METRICS;
pub use settings::{FlightSettings, MemorySettings};
pub use stats::{Evictions, HitRate, OperationLatency, TierSnapshot};
pub use tier::{Hit, Tier};
