//! What the crate promises, from outside.
#![allow(missing_docs)]

#[path = "../../examples/support/hidden_rules.rs"]
mod hidden_rules;

mod budgets;
mod events;
mod failures;
mod order;
mod report;
mod resume;
mod strategies;
mod support;
