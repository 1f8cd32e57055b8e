//! What an evaluator is: it looks at one output and says how good it is, and in words why.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use crate::{dataset::Example, model::CallError, spend::Spend};

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The example.
    pub example: &'a Example,
    /// What came out.
    pub output: &'a str,
}

/// What an evaluator found.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// From zero to one; what is not is brought there.
    pub score: f64,
    /// In words, what was wrong: what a proposer learns from. May be empty.
    pub feedback: String,
    /// What judging cost.
    pub spend: Spend,
}

impl Judgement {
    /// A score with words. What is not a number from zero to one is brought there.
    pub fn new(score: f64, feedback: impl Into<String>) -> Self {
        Self { score: within(score), feedback: feedback.into(), spend: Spend::default() }
    }

    /// All right or all wrong.
    pub fn passed(right: bool, otherwise: impl FnOnce() -> String) -> Self {
        if right { Self::new(1.0, "") } else { Self::new(0.0, otherwise()) }
    }
}

/// A score from zero to one: nothing else has a form in a journal that comes back as it is.
pub(crate) fn within(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score.clamp(0.0, 1.0) }
}

/// Judges outputs.
///
/// Called once for each output that was paid for, as often at once as a job's concurrency allows. It judges
/// one case alone, and the same case always the same way, or a resumed job is not the job it was. An error
/// is an evaluator that could not judge (a judge model that is down); an output that is bad is a score of
/// zero. Dropping the future ends it.
pub trait Evaluator: Send + Sync + 'static {
    /// Judges one case.
    fn evaluate<'a>(
        &'a self,
        case: Case<'a>,
    ) -> impl Future<Output = Result<Judgement, CallError>> + Send + 'a;

    /// Everything about it that changes a judgement: a journal written under another version is not
    /// resumed.
    fn version(&self) -> String;
}

type Judging<'a> = Pin<Box<dyn Future<Output = Result<Judgement, CallError>> + Send + 'a>>;

trait AnyEvaluator: Send + Sync {
    fn evaluate_boxed<'a>(&'a self, case: Case<'a>) -> Judging<'a>;
    fn version_boxed(&self) -> String;
}

impl<E: Evaluator> AnyEvaluator for E {
    fn evaluate_boxed<'a>(&'a self, case: Case<'a>) -> Judging<'a> {
        Box::pin(self.evaluate(case))
    }

    fn version_boxed(&self) -> String {
        self.version()
    }
}

/// Any evaluator, shared.
#[derive(Clone)]
pub struct SharedEvaluator(Arc<dyn AnyEvaluator>);

impl SharedEvaluator {
    /// Shares an evaluator.
    pub fn new(evaluator: impl Evaluator) -> Self {
        Self(Arc::new(evaluator))
    }
}

impl Evaluator for SharedEvaluator {
    fn evaluate<'a>(
        &'a self,
        case: Case<'a>,
    ) -> impl Future<Output = Result<Judgement, CallError>> + Send + 'a {
        self.0.evaluate_boxed(case)
    }

    fn version(&self) -> String {
        self.0.version_boxed()
    }
}

impl fmt::Debug for SharedEvaluator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedEvaluator").field(&self.0.version_boxed()).finish()
    }
}
