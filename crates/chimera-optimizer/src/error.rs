//! What can be wrong before and during a job.

use crate::{dataset::DataError, journal::JournalError};

/// What is wrong with a task, an evaluator or a setting: the field and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct TaskError {
    /// The field at fault.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

impl TaskError {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }

    /// The same error, one level down.
    pub(crate) fn under(self, section: &str) -> Self {
        Self { field: format!("{section}.{}", self.field), why: self.why }
    }

    /// What is wrong with a line of data of a section.
    pub fn data(section: &str, error: &DataError) -> Self {
        Self::new(section, error.to_string())
    }
}

/// Why a job ended without a result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizeError {
    /// The journal could not be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// No candidate could be scored: the very first roll-outs did not fit the budget.
    #[error("the budget ended before the seed prompt was scored on the validation set")]
    BudgetTooSmall,
    /// The job was cancelled before the seed prompt was scored.
    #[error("cancelled before the seed prompt was scored")]
    CancelledAtStart,
    /// The model could not be reached before the seed prompt was scored.
    #[error("paused before the seed prompt was scored: {0}")]
    PausedAtStart(String),
}
