//! What comes out of a pipeline: the request or why it was stopped, and what each step did.

use std::{borrow::Cow, ops::Deref, sync::Arc, time::Duration};

use chimera_protocol::json::JsonError;
use smallvec::SmallVec;

use crate::{
    notes::Notes,
    transform::{StepError, StepErrorKind},
    way_back::WayBack,
};

/// Why a request was stopped on its way in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Stopped {
    /// The body is not JSON.
    #[error("the body is not valid JSON: {0}")]
    NotJson(JsonError),
    /// A step refused it, or failed and is to refuse then.
    #[error("{step}: {error}")]
    Step {
        /// The step.
        step: String,
        /// Why.
        error: StepError,
    },
}

impl Stopped {
    /// Whether the content was refused on purpose.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Step { error, .. } if error.kind != StepErrorKind::Failed)
    }
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Its name.
    pub step: Arc<str>,
    /// Whether it changed anything.
    pub changed: bool,
    /// What it found or changed, by name.
    pub notes: Notes,
    /// How long it took.
    pub elapsed: Duration,
    /// Why it was passed over.
    pub failed: Option<String>,
}

/// A request that has passed a pipeline.
#[derive(Debug)]
pub struct Done {
    /// The body or the text; `None` when it stays as it was.
    pub text: Option<String>,
    /// What each step did, in their order.
    pub report: Report,
    /// What is to be done with the answer.
    pub way_back: WayBack,
}

/// The reports of all steps, in their order. Those of as many steps as come with the crate are kept in
/// place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report(SmallVec<[StepReport; 8]>);

impl Report {
    pub(crate) fn push(&mut self, step: StepReport) {
        self.0.push(step);
    }
}

impl Deref for Report {
    type Target = [StepReport];

    fn deref(&self) -> &[StepReport] {
        &self.0
    }
}

impl Done {
    /// The output for this input.
    pub fn output<'a>(&'a self, input: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(self.text.as_deref().unwrap_or(input))
    }
}
