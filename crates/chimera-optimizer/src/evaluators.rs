//! The evaluators that come with the crate.

mod command;
mod json;
mod judge;
mod text;
mod weighted;

pub use command::Command;
pub use json::{JsonFields, JsonSchema};
pub use judge::Judge;
pub use text::{Contains, Exact, Normalized, Numeric, Pattern, TokenF1};
pub use weighted::{ByClosure, Weighted, evaluator_fn};

/// The first characters of a text, for feedback.
fn short(text: &str) -> String {
    let mut short: String = text.chars().take(300).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
