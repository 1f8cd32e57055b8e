//! Whole runs against servers on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod faults;
mod honesty;
mod shapes;
mod support;
mod tls;
