//! A lock-free circuit breaker with permits, sliding windows and bounded probes.
//!
//! A caller asks for a [`Permit`] before an operation and records on it how the operation ended. When
//! too many end badly the breaker opens and refuses for a while, then lets a few probes through to
//! see whether things are well again.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use chimera_circuit_breaker::{Breaker, Outcome, Settings, State};
//!
//! let now = Instant::now();
//! let breaker = Breaker::new(Settings { consecutive_failures: 2, ..Settings::default() }, now);
//! for _ in 0..2 {
//!     let permit = breaker.try_acquire(now).expect("a closed breaker admits");
//!     permit.record(Outcome::Failure, Duration::from_millis(5), now);
//! }
//! assert_eq!(breaker.state(now), State::Open);
//! assert!(breaker.try_acquire(now).is_err());
//! ```
//!
//! # How it works
//! Outcomes are counted in ten buckets of a sliding time window per thread, each one atomic word that resets
//! itself when its time comes round. Admission reads one atomic word; the decision to open is made
//! when an outcome is recorded. The breaker opens on a share of failures, on a share of slow calls, or
//! on failures in a row. The open period doubles with each failed probe, with jitter, and starts over
//! after the breaker has closed. Each period has a generation: a permit of an older one changes
//! nothing.
//!
//! The core takes `now`; it reads no clock, spawns nothing and never blocks.
//!
//! # Guarantees
//! - **Cancellation**: a permit that is dropped is neutral, and its probe is free again.
//! - **Probes**: at most `probes` are in flight while half-open, and half-open never lasts for ever:
//!   probes that are neither recorded nor dropped are given up after `open_max`.
//! - **Memory**: fixed; nothing is allocated after construction.
//! - **Errors**: [`Rejected`] says for how long to stay away.
//!
//! # What it does not do
//! It does not run the operation, retry it or time it out, and it knows nothing of what the operation
//! is.

mod breaker;
mod error;
mod holders;
mod metrics;
mod permit;
mod settings;
mod state;
mod sync;
mod window;
#[cfg(test)]
mod window_tests;
mod word;

pub use breaker::{Breaker, Forced, Snapshot, Transition, Why};
pub use error::{Rejected, SettingsError};
pub use holders::{Hold, Holders};
pub use metrics::{BreakerMetrics, METRICS};
pub use permit::{Outcome, Permit};
pub use settings::Settings;
pub use state::State;
