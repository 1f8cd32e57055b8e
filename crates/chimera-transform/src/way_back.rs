//! The way of an answer: whole, or as chunks that may be cut anywhere.

use std::fmt;

use crate::transform::StepError;

/// How a text stands in its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As text.
    Text,
    /// As text, and what the model says to its caller: not its thoughts, nor what it asks of tools.
    Answer,
    /// As JSON inside a string: what is put into it must be escaped once more.
    Embedded,
}

/// What one step does to the answer of one request.
pub trait Undo: Send + Sync {
    /// Whether a text could be left as it is: asked first, and cheap.
    fn concerns(&self, text: &str) -> bool;

    /// A whole text; `None` when it stays as it is.
    fn whole(&self, text: &str, form: Form) -> Result<Option<String>, StepError>;

    /// The same for a text that comes in chunks: one channel for each text of a stream.
    fn channel(&self, form: Form) -> Box<dyn Channel>;

    /// Whether it may find an answer [`Correctable`](crate::StepErrorKind::Correctable): nothing of a
    /// stream can be told then before all of it is judged.
    fn may_ask_again(&self) -> bool {
        false
    }
}

/// One text of a stream on its way to the caller.
///
/// What is pushed and what comes out are the same text, changed, however it is cut. A channel holds back
/// no more than it needs in order to decide, and gives all of it out at the end. After an error nothing
/// more is asked of it.
pub trait Channel: Send {
    /// Takes a chunk, and writes what can be let go.
    fn push(&mut self, chunk: &str, out: &mut String) -> Result<(), StepError>;

    /// Writes the rest.
    fn end(&mut self, out: &mut String) -> Result<(), StepError>;
}

/// The way back through a pipeline for one request: its steps, last first.
#[derive(Default)]
pub struct WayBack {
    steps: Vec<Box<dyn Undo>>,
}

impl fmt::Debug for WayBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WayBack").field("steps", &self.steps.len()).finish()
    }
}

impl WayBack {
    /// Adds a step. They are asked in reverse order.
    pub(crate) fn push(&mut self, undo: Box<dyn Undo>) {
        self.steps.push(undo);
    }

    /// Whether answers pass unchanged.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether an answer may have to be asked for once more.
    pub fn may_ask_again(&self) -> bool {
        self.steps.iter().any(|step| step.may_ask_again())
    }

    /// Whether any step may have to do with a text.
    pub fn concerns(&self, text: &str) -> bool {
        self.steps.iter().any(|step| step.concerns(text))
    }

    /// A whole text; `None` when it stays as it is.
    pub fn whole(&self, text: &str, form: Form) -> Result<Option<String>, StepError> {
        let mut changed: Option<String> = None;
        for step in self.steps.iter().rev() {
            if let Some(text) = step.whole(changed.as_deref().unwrap_or(text), form)? {
                changed = Some(text);
            }
        }
        Ok(changed)
    }

    /// A text that comes in chunks.
    pub fn channel(&self, form: Form) -> Channels {
        Channels { steps: self.steps.iter().rev().map(|step| step.channel(form)).collect() }
    }
}

/// The channels of every step, one behind the other.
pub struct Channels {
    steps: Vec<Box<dyn Channel>>,
}

impl Channels {
    /// Takes a chunk and gives out what all steps let go.
    pub fn push(&mut self, chunk: &str) -> Result<String, StepError> {
        let mut text = chunk.to_owned();
        for step in &mut self.steps {
            let mut out = String::with_capacity(text.len());
            step.push(&text, &mut out)?;
            text = out;
        }
        Ok(text)
    }

    /// Gives out the rest.
    pub fn end(&mut self) -> Result<String, StepError> {
        let mut text = String::new();
        for step in &mut self.steps {
            let mut out = String::new();
            step.push(&text, &mut out)?;
            step.end(&mut out)?;
            text = out;
        }
        Ok(text)
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").field("steps", &self.steps.len()).finish()
    }
}
