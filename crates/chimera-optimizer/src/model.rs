//! What a language model is to an optimizer: one text in, one text out, and what it cost.

use std::{fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use crate::spend::Spend;

/// What a model is asked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelRequest {
    /// The instruction, possibly empty.
    pub system: String,
    /// What it is applied to.
    pub user: String,
    /// Sampling temperature, where the caller wants one.
    pub temperature: Option<f64>,
    /// The longest answer wanted, in tokens.
    pub max_output_tokens: Option<u32>,
    /// A seed for models that take one. The same question with another seed is another question.
    pub seed: Option<u64>,
}

/// What a model answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelAnswer {
    /// Its text. It is data: nothing in it is ever run, or used as a path.
    pub text: String,
    /// What it cost.
    pub spend: Spend,
}

/// Why a call brought nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CallError {
    /// What may be done about it.
    pub kind: CallErrorKind,
    /// Why, for people.
    pub message: String,
    /// How long the other side wants to be left alone.
    pub retry_after: Option<Duration>,
    /// What was paid for all the same: earlier calls of several, or an answer that is of no use.
    pub spend: Spend,
}

/// What an error of a call means for the calls that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallErrorKind {
    /// The same call may succeed later.
    Transient,
    /// It was answered, with something of no use: the same call may succeed, and nobody is dead.
    Unreadable,
    /// This very call never succeeds: it is counted, and scored as nothing.
    Refused,
    /// No call succeeds until somebody does something: wrong credentials, an unknown model.
    Unusable,
}

impl CallError {
    /// The same call may succeed later.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::of(CallErrorKind::Transient, message.into())
    }

    /// It was answered, with something of no use.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self::of(CallErrorKind::Unreadable, message.into())
    }

    /// This very call never succeeds.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::of(CallErrorKind::Refused, message.into())
    }

    /// No call succeeds until somebody does something.
    pub fn unusable(message: impl Into<String>) -> Self {
        Self::of(CallErrorKind::Unusable, message.into())
    }

    /// The same error after so much more was spent. It counts against the budget of the job.
    #[must_use]
    pub fn after(mut self, spend: Spend) -> Self {
        self.spend += spend;
        self
    }

    fn of(kind: CallErrorKind, message: String) -> Self {
        Self { kind, message, retry_after: None, spend: Spend::default() }
    }
}

/// A language model.
///
/// An optimizer calls [`ask`](Self::ask) from one task, as often at once as its concurrency allows. A call
/// is ended by dropping its future: an implementor leaves nothing running behind it. It makes no retries of
/// its own for what is [`Transient`](CallErrorKind::Transient), unless it is better at them than its caller.
///
/// Anything that has an endpoint is one, and so is a closure by way of [`model_fn`].
pub trait LanguageModel: Send + Sync + 'static {
    /// Answers one request.
    fn ask(&self, request: ModelRequest) -> impl Future<Output = Result<ModelAnswer, CallError>> + Send;
}

/// A closure as a model.
///
/// ```
/// use chimera_optimizer::{LanguageModel, ModelAnswer, model_fn};
///
/// let loud = model_fn(|request| async move {
///     Ok(ModelAnswer { text: request.user.to_uppercase(), ..ModelAnswer::default() })
/// });
/// # let _ = |_: &dyn Fn()| loud.ask(Default::default());
/// ```
pub fn model_fn<F, A>(ask: F) -> impl LanguageModel
where
    F: Fn(ModelRequest) -> A + Send + Sync + 'static,
    A: Future<Output = Result<ModelAnswer, CallError>> + Send + 'static,
{
    Closure(ask)
}

struct Closure<F>(F);

impl<F, A> LanguageModel for Closure<F>
where
    F: Fn(ModelRequest) -> A + Send + Sync + 'static,
    A: Future<Output = Result<ModelAnswer, CallError>> + Send + 'static,
{
    fn ask(&self, request: ModelRequest) -> impl Future<Output = Result<ModelAnswer, CallError>> + Send {
        (self.0)(request)
    }
}

type Answering<'a> = Pin<Box<dyn Future<Output = Result<ModelAnswer, CallError>> + Send + 'a>>;

trait AnyModel: Send + Sync {
    fn ask_boxed(&self, request: ModelRequest) -> Answering<'_>;
}

impl<M: LanguageModel> AnyModel for M {
    fn ask_boxed(&self, request: ModelRequest) -> Answering<'_> {
        Box::pin(self.ask(request))
    }
}

/// Any model, shared.
#[derive(Clone)]
pub struct SharedModel(Arc<dyn AnyModel>);

impl SharedModel {
    /// Shares a model.
    pub fn new(model: impl LanguageModel) -> Self {
        Self(Arc::new(model))
    }
}

impl LanguageModel for SharedModel {
    fn ask(&self, request: ModelRequest) -> impl Future<Output = Result<ModelAnswer, CallError>> + Send {
        self.0.ask_boxed(request)
    }
}

impl fmt::Debug for SharedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedModel")
    }
}
