//! The atomics that the breaker is made of, in one place: the model check compiles the same code over
//! ones whose every interleaving it tries (`tests/interleavings`).

pub(crate) use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Threads that can count without waiting for each other; more share.
pub(crate) const STRIPES: usize = 8;
