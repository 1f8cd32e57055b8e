//! What must hold for any input, tried on many.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod answers;
mod corpora;
mod documents;
mod golden;
mod grammar;
mod interleavings;
mod streams;
mod translation;
