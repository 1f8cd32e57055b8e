//! Steps in their order, run over a request, with a report of what each did.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use chimera_protocol::{DialectId, json::Document};

use crate::{
    changes::Changes,
    metrics::StepMetrics,
    prompt::Prompt,
    report::{Done, Report, StepReport, Stopped},
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
    steps: Vec<Placed>,
    version: String,
}

/// A step in its pipeline.
struct Placed {
    step: Step,
    name: Arc<str>,
    metrics: StepMetrics,
}

impl Placed {
    fn new(step: Step) -> Self {
        let name = step.transform.name();
        Self { name: name.into(), metrics: StepMetrics::new(name), step }
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.name()).field("steps", &self.described()).finish()
    }
}

impl Pipeline {
    /// A pipeline of steps in their order.
    pub fn new(name: impl Into<String>, steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Vec<_> = steps.into_iter().map(Placed::new).collect();
        let name = name.into();
        let mut hasher = blake3::Hasher::new();
        for Placed { step, name, .. } in &steps {
            for part in [&**name, &step.transform.version()] {
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
        let names: Vec<_> = self.inner.steps.iter().map(|placed| &*placed.name).collect();
        names.join(", ")
    }

    /// Where a request of so many bytes is to be worked on, given the size from which the pool is worth
    /// the way to it.
    pub fn wants_pool(&self, bytes: usize, threshold: usize) -> bool {
        self.inner.steps.iter().any(|Placed { step, .. }| {
            match step.place.unwrap_or(step.transform.place()) {
                Place::Inline => false,
                Place::BySize => bytes > threshold,
                Place::Pool => true,
            }
        })
    }

    /// Runs over the body of a request, in any dialect; what is added to it is in OpenAI's.
    pub fn run_body(&self, body: &[u8], seed: &Seed) -> Result<Done, Stopped> {
        self.run_request(DialectId::OpenAi, body, seed)
    }

    /// The same in a dialect that is known.
    pub fn run_request(&self, dialect: DialectId, body: &[u8], seed: &Seed) -> Result<Done, Stopped> {
        let document = Document::parse(body).map_err(Stopped::NotJson)?;
        self.run(Prompt::of_request(&document).in_dialect(dialect), seed)
    }

    /// Runs over a plain text.
    pub fn run_text(&self, text: &str, seed: &Seed) -> Result<Done, Stopped> {
        self.run(Prompt::of_text(text), seed)
    }

    /// Runs over a prompt.
    pub fn run(&self, prompt: Prompt<'_>, seed: &Seed) -> Result<Done, Stopped> {
        let mut run = Run { seed, report: Report::default(), way_back: WayBack::default() };
        let text = run.steps(&self.inner.steps, prompt)?;
        Ok(Done { text, report: run.report, way_back: run.way_back })
    }
}

/// One request on its way through the steps.
struct Run<'s> {
    seed: &'s Seed,
    report: Report,
    way_back: WayBack,
}

impl Run<'_> {
    /// Runs steps over a prompt; what comes out, if it is another.
    fn steps(&mut self, steps: &[Placed], mut prompt: Prompt<'_>) -> Result<Option<String>, Stopped> {
        let mut steps = steps.iter();
        while let Some(placed) = steps.next() {
            let changes = self.step(placed, &prompt)?;
            if !changes.reshapes() {
                prompt.apply(changes);
                continue;
            }
            let (added, used_up) = (changes.added.clone(), changes.used_up.clone());
            prompt.apply(changes);
            // The steps that follow see the new turns as if they had come with the request.
            let written = prompt.reshaped(&added, &used_up).map_err(Stopped::NotJson)?;
            let document = Document::parse(written.as_bytes()).map_err(Stopped::NotJson)?;
            let reshaped = Prompt::of_request(&document).in_dialect(prompt.dialect());
            let rest = self.steps(steps.as_slice(), reshaped)?;
            return Ok(Some(rest.unwrap_or(written)));
        }
        Ok(prompt.write())
    }

    /// Runs one step, and reports what it did; what it wants changed comes out.
    fn step(&mut self, placed: &Placed, prompt: &Prompt<'_>) -> Result<Changes, Stopped> {
        let Placed { step, name, metrics } = placed;
        let began = Instant::now();
        let mut changes = Changes::default();
        let outcome = attempt(&*step.transform, prompt, &mut changes, self.seed);
        let failed = match outcome {
            Ok(undo) => {
                undo.into_iter().for_each(|undo| self.way_back.push(undo));
                None
            }
            Err(error) if step.on_failure == OnFailure::Open && error.kind == StepErrorKind::Failed => {
                changes = Changes::default();
                Some(error.message)
            }
            Err(error) => {
                metrics.failed.increment(1);
                return Err(Stopped::Step { step: name.to_string(), error });
            }
        };
        let elapsed = began.elapsed();
        metrics.took.record(elapsed.as_secs_f64());
        if failed.is_some() {
            metrics.failed.increment(1);
        }
        let (changed, notes) = (!changes.is_empty(), std::mem::take(&mut changes.notes));
        self.report.push(StepReport { step: name.clone(), changed, notes, elapsed, failed });
        Ok(changes)
    }
}

/// Runs one step; a panic in it is a failure of it.
fn attempt(transform: &dyn Transform, prompt: &Prompt<'_>, changes: &mut Changes, seed: &Seed) -> Stepped {
    // What a step that panicked wanted changed is thrown away, so nothing sees it half-done.
    let outcome = catch_unwind(AssertUnwindSafe(|| transform.request(prompt, changes, seed)));
    outcome.unwrap_or_else(|_| Err(StepError::failed("the step panicked")))
}

#[cfg(test)]
mod tests;
