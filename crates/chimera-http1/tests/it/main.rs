//! Connections over pipes: what a client sends, and what it gets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod answers;
mod cancel;
mod requests;
mod support;
