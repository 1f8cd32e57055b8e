//! The simulated provider, asked in-process and over pipes and sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod dialects;
mod faults;
mod support;
