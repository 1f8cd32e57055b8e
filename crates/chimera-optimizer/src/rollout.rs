//! A roll-out: a candidate put to work on an example, and judged.

use serde::{Deserialize, Serialize};

use crate::{program::Trace, spend::Spend};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Rollout {
    /// From zero to one.
    pub score: f64,
    /// What came out.
    pub output: String,
    /// What the evaluator said.
    pub feedback: String,
    /// What each stage was given and answered.
    pub traces: Vec<Trace>,
    /// What it cost, judging included.
    pub spend: Spend,
    /// Whether it failed: the call was refused, or failed as often as it was tried. The score is zero.
    pub failed: bool,
}
