//! What the crate promises, from outside.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../../examples/support/hidden_rules.rs"]
mod hidden_rules;

mod budgets;
mod events;
mod failures;
mod order;
mod report;
mod resume;
mod spend;
mod strategies;
mod support;
