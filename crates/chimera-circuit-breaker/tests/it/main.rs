//! The rules of the breaker, one named case each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod model;
mod rules;
mod threads;
