//! Steps in their order, run over a request, with a report of what each did.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use chimera_protocol::json::{Document, JsonError};

use crate::{
    changes::Changes,
    metrics::StepMetrics,
    prompt::Prompt,
    seed::Seed,
    transform::{OnFailure, Place, StepError, StepErrorKind, Stepped, Transform},
    way_back::WayBack,
};

/// A step with its settings in a pipeline.
#[derive(Clone)]
pub struct Step {
    transform: Arc<dyn Transform>,
    on_failure: OnFailure,
    place: Option<Place>,
}

impl Step {
    /// A step that refuses the request when it fails, and works where it says itself.
    pub fn new(transform: impl Transform) -> Self {
        Self { transform: Arc::new(transform), on_failure: OnFailure::Closed, place: None }
    }

    /// What happens when it fails.
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure, ..self }
    }

    /// Where it works.
    pub fn place(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }
}

/// Steps under one name.
#[derive(Clone)]
pub struct Pipeline {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    steps: Vec<(Step, StepMetrics)>,
    version: String,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.name()).field("steps", &self.described()).finish()
    }
}

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
        matches!(self, Self::Step { error, .. } if error.kind == StepErrorKind::Refused)
    }
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Its name.
    pub step: String,
    /// Whether it changed anything.
    pub changed: bool,
    /// What it found or changed, by name.
    pub notes: BTreeMap<String, u64>,
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
    pub report: Vec<StepReport>,
    /// What is to be done with the answer.
    pub way_back: WayBack,
}

impl Pipeline {
    /// A pipeline of steps in their order.
    pub fn new(name: impl Into<String>, steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Vec<_> = steps
            .into_iter()
            .map(|step| {
                let metrics = StepMetrics::new(step.transform.name());
                (step, metrics)
            })
            .collect();
        let name = name.into();
        let mut hasher = blake3::Hasher::new();
        for (step, _) in &steps {
            for part in [step.transform.name(), &step.transform.version()] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
            }
            hasher.update(&[u8::from(step.on_failure == OnFailure::Open)]);
        }
        let version = format!("{}-{}", name, hasher.finalize().to_hex().get(..16).unwrap_or_default());
        Self { inner: Arc::new(Inner { name, steps, version }) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Names its steps and all of their settings: two pipelines of one version do the same.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// Its steps, as `x-chimera-transforms` names them.
    pub fn described(&self) -> String {
        let names: Vec<_> = self.inner.steps.iter().map(|(step, _)| step.transform.name()).collect();
        names.join(", ")
    }

    /// Where a request of so many bytes is to be worked on, given the size from which the pool is worth
    /// the way to it.
    pub fn wants_pool(&self, bytes: usize, threshold: usize) -> bool {
        self.inner.steps.iter().any(|(step, _)| match step.place.unwrap_or(step.transform.place()) {
            Place::Inline => false,
            Place::BySize => bytes > threshold,
            Place::Pool => true,
        })
    }

    /// Runs over the body of a request, in any dialect.
    pub fn run_body(&self, body: &[u8], seed: &Seed) -> Result<Done, Stopped> {
        let document = Document::parse(body).map_err(Stopped::NotJson)?;
        self.run(Prompt::of_request(&document), seed)
    }

    /// Runs over a plain text.
    pub fn run_text(&self, text: &str, seed: &Seed) -> Result<Done, Stopped> {
        self.run(Prompt::of_text(text), seed)
    }

    /// Runs over a prompt.
    pub fn run(&self, mut prompt: Prompt<'_>, seed: &Seed) -> Result<Done, Stopped> {
        let mut report = Vec::with_capacity(self.inner.steps.len());
        let mut way_back = WayBack::default();
        for (step, metrics) in &self.inner.steps {
            let began = Instant::now();
            let mut changes = Changes::default();
            let outcome = attempt(&*step.transform, &prompt, &mut changes, seed);
            let mut said = StepReport {
                step: step.transform.name().to_owned(),
                changed: false,
                notes: BTreeMap::new(),
                elapsed: Duration::ZERO,
                failed: None,
            };
            match outcome {
                Ok(undo) => {
                    said.changed = !changes.is_empty();
                    said.notes = std::mem::take(&mut changes.notes);
                    prompt.apply(changes);
                    undo.into_iter().for_each(|undo| way_back.push(undo));
                }
                Err(error) if step.on_failure == OnFailure::Open && error.kind == StepErrorKind::Failed => {
                    said.failed = Some(error.message);
                }
                Err(error) => {
                    metrics.failed.increment(1);
                    return Err(Stopped::Step { step: said.step, error });
                }
            }
            said.elapsed = began.elapsed();
            metrics.took.record(said.elapsed.as_secs_f64());
            if said.failed.is_some() {
                metrics.failed.increment(1);
            }
            report.push(said);
        }
        Ok(Done { text: prompt.write(), report, way_back })
    }
}

/// Runs one step; a panic in it is a failure of it.
fn attempt(transform: &dyn Transform, prompt: &Prompt<'_>, changes: &mut Changes, seed: &Seed) -> Stepped {
    // What a step that panicked wanted changed is thrown away, so nothing sees it half-done.
    let outcome = catch_unwind(AssertUnwindSafe(|| transform.request(prompt, changes, seed)));
    outcome.unwrap_or_else(|_| Err(StepError::failed("the step panicked")))
}

/// The text that comes out, changed or not.
impl Done {
    /// The output for this input.
    pub fn output<'a>(&'a self, input: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(self.text.as_deref().unwrap_or(input))
    }
}

#[cfg(test)]
mod tests;
