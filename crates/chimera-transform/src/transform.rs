//! What a step is: the contract between a pipeline and whoever writes a step for it.

use std::fmt;

use crate::{changes::Changes, prompt::Prompt, seed::Seed, way_back::Undo};

/// Where a step does its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// Where the caller is: it never takes long enough to matter.
    Inline,
    /// Where the caller is for small inputs, on the worker pool for large ones.
    #[default]
    BySize,
    /// Always on the worker pool.
    Pool,
}

/// What happens to a request when a step fails on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The request is refused.
    #[default]
    Closed,
    /// The step is passed over, and the report says so. What a step refuses on purpose is refused all
    /// the same.
    Open,
}

/// Why a step ended without an answer. The message is for the caller and quotes nothing of the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// Whether the step means to refuse, or has failed.
    pub kind: StepErrorKind,
    /// Why, for people.
    pub message: String,
}

/// What a step's error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepErrorKind {
    /// The content is not let through, by policy. Never passed over.
    Refused,
    /// The answer is not what was asked for, and could be if it were asked for again with the message.
    Correctable,
    /// The step could not do its work.
    Failed,
}

/// What a step ends with: what is to be done with the answer, if anything.
pub type Stepped = Result<Option<Box<dyn Undo>>, StepError>;

impl StepError {
    /// The content is not let through.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { kind: StepErrorKind::Refused, message: message.into() }
    }

    /// The answer is not what was asked for, and may be asked for again.
    pub fn correctable(message: impl Into<String>) -> Self {
        Self { kind: StepErrorKind::Correctable, message: message.into() }
    }

    /// The step could not do its work.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { kind: StepErrorKind::Failed, message: message.into() }
    }
}

/// One step of a pipeline.
///
/// A pipeline calls [`request`](Self::request) once for each request, after the steps before it and with
/// their changes made. What it wants changed it puts into [`Changes`]; nothing is changed when it
/// returns an error or panics. For the way back it may hand out an [`Undo`], which belongs to that one
/// request; a pipeline asks them in reverse order.
///
/// Implementors are shared by all threads and keep nothing of a request: what one request needs on its
/// way back is in its `Undo`. They do no I/O and take time in proportion to the text at most.
///
/// ```
/// use chimera_transform::{Changes, Pipeline, Prompt, Seed, Step, Stepped, Transform};
///
/// struct Polite;
///
/// impl Transform for Polite {
///     fn name(&self) -> &str {
///         "polite"
///     }
///
///     fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
///         if let Some((last, part)) = prompt.parts().last() {
///             changes.replace(last, format!("{}, please", part.text()));
///         }
///         Ok(None)
///     }
/// }
///
/// let pipeline = Pipeline::new("polite", [Step::new(Polite)]);
/// let done = pipeline.run_text("Sing", &Seed::random())?;
/// assert_eq!(done.text.as_deref(), Some("Sing, please"));
/// # Ok::<(), chimera_transform::Stopped>(())
/// ```
pub trait Transform: Send + Sync + 'static {
    /// Its name, in reports, metrics and headers: from a closed set.
    fn name(&self) -> &str;

    /// Everything about it that may change an answer, its settings above all: part of the cache's key.
    fn version(&self) -> String {
        String::new()
    }

    /// Where it works.
    fn place(&self) -> Place {
        Place::BySize
    }

    /// Changes a request on its way in.
    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, seed: &Seed) -> Stepped;
}

impl fmt::Debug for dyn Transform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transform").field(&self.name()).finish()
    }
}
