//! The memory tier, flights and two tiers as one, one named case per rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod changes;
mod far;
mod flights;
mod memory;
mod ratio;
mod tiered;
mod traces;
