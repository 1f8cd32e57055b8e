//! Answers held against a JSON Schema.
//!
//! The schema is the settings', or else the one that the request itself asks for. A text that is not JSON
//! for a trivial slip is put right; one that does not fit is refused with the JSON path of the first thing
//! that does not, or, where the settings say so, is asked for once more. A stream's text is held back and
//! let go when all of it fits: half an answer cannot be called back.

mod repair;

use std::sync::Arc;

use chimera_json_schema::Schema as Validator;
pub use chimera_json_schema::SchemaError;
use chimera_protocol::json::{Document, Value as Member};
use serde_json::Value;

use crate::{
    changes::Changes,
    metrics::SchemaMetrics,
    prompt::Prompt,
    seed::Seed,
    transform::{StepError, Stepped, Transform},
    way_back::{Channel, Form, Undo},
};

/// What answers are held against.
#[derive(Debug, Clone, PartialEq)]
pub struct SchemaSettings {
    /// The schema. Default: the one that a request asks for, if it does.
    pub schema: Option<Value>,
    /// Whether trivial slips are put right. Default yes.
    pub repair: bool,
    /// Whether an answer that does not fit is one that may be asked for again. Default no.
    pub retry: bool,
}

impl Default for SchemaSettings {
    fn default() -> Self {
        Self { schema: None, repair: true, retry: false }
    }
}

/// The step that holds answers against a schema.
#[derive(Debug)]
pub struct Schema {
    settings: SchemaSettings,
    validator: Option<Validator>,
    metrics: Arc<SchemaMetrics>,
}

impl Schema {
    /// The step, its schema read.
    pub fn new(settings: SchemaSettings) -> Result<Self, SchemaError> {
        let validator = settings.schema.as_ref().map(Validator::new).transpose()?;
        Ok(Self { settings, validator, metrics: Arc::new(SchemaMetrics::new()) })
    }
}

/// The places where requests name a schema, in all dialects.
const PLACES: [&[&str]; 6] = [
    &["response_format", "json_schema", "schema"],
    &["text", "format", "schema"],
    &["output_config", "format", "schema"],
    &["output_format", "schema"],
    &["generationConfig", "responseJsonSchema"],
    &["generationConfig", "responseSchema"],
];

/// The schema that a request asks for, with its place.
fn asked<'d>(prompt: &Prompt<'d>) -> Option<(String, Member<'d>)> {
    PLACES.iter().find_map(|place| {
        let (first, rest) = place.split_first()?;
        let found = rest.iter().try_fold(prompt.member(first)?, |value, name| value.get(name))?;
        Some((place.join("."), found))
    })
}

impl Transform for Schema {
    fn name(&self) -> &str {
        "schema"
    }

    fn version(&self) -> String {
        format!("1 {:?}", self.settings)
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        let validator = match &self.validator {
            Some(validator) => validator.clone(),
            None => {
                let Some((place, schema)) = asked(prompt) else { return Ok(None) };
                let wrong = |why: String| StepError::refused(format!("{place}: {why}"));
                let schema = serde_json::from_str(schema.raw());
                let schema = schema.map_err(|_| wrong("it cannot be read".into()))?;
                // The place in the schema is the request's own; what is wrong there is ours to say.
                Validator::new(&schema).map_err(|error| wrong(error.to_string()))?
            }
        };
        changes.note("schemas", 1);
        let SchemaSettings { repair, retry, .. } = self.settings;
        Ok(Some(Box::new(Judge { validator, repair, retry, metrics: self.metrics.clone() })))
    }
}

/// Holds the answer to one request against its schema.
#[derive(Clone)]
struct Judge {
    validator: Validator,
    repair: bool,
    retry: bool,
    metrics: Arc<SchemaMetrics>,
}

impl Judge {
    /// What becomes of a text; `None` when it fits as it is.
    fn judge(&self, text: &str) -> Result<Option<String>, StepError> {
        // No text is no answer: a refusal, or the call of a tool.
        if text.trim().is_empty() {
            return Ok(None);
        }
        let unfit = |path: &str, why: &str| {
            self.metrics.unfit.increment(1);
            let why = format!("the answer does not fit its schema at {path}: {why}");
            if self.retry { StepError::correctable(why) } else { StepError::refused(why) }
        };
        let (value, changed) = match parsed(text) {
            Some(value) => (value, None),
            None => {
                let repaired = self.repair.then(|| repair::repaired(text)).flatten();
                let value =
                    repaired.as_deref().and_then(parsed).ok_or_else(|| unfit("$", "it is not JSON"))?;
                (value, repaired)
            }
        };
        self.validator.check(&value).map_err(|misfit| unfit(&misfit.path, &misfit.why))?;
        match &changed {
            Some(_) => self.metrics.repaired.increment(1),
            None => self.metrics.fit.increment(1),
        }
        Ok(changed)
    }
}

/// A text as JSON, read as strictly as everything else: no member twice, no lone surrogate.
fn parsed(text: &str) -> Option<Value> {
    Document::parse(text.as_bytes()).ok()?;
    serde_json::from_str(text).ok()
}

impl Undo for Judge {
    fn concerns(&self, _: &str) -> bool {
        true
    }

    fn whole(&self, text: &str, form: Form) -> Result<Option<String>, StepError> {
        if form == Form::Answer { self.judge(text) } else { Ok(None) }
    }

    fn channel(&self, form: Form) -> Box<dyn Channel> {
        match form {
            Form::Answer => Box::new(Judging { judge: self.clone(), text: String::new() }),
            _ => Box::new(Passing),
        }
    }

    fn may_ask_again(&self) -> bool {
        self.retry
    }
}

/// The text of a stream, held until all of it is there.
struct Judging {
    judge: Judge,
    text: String,
}

/// The longest text of a stream that is held.
const LONGEST: usize = 8 << 20;

impl Channel for Judging {
    fn push(&mut self, chunk: &str, _: &mut String) -> Result<(), StepError> {
        if self.text.len() + chunk.len() > LONGEST {
            return Err(StepError::refused("the answer is too long to be held against its schema"));
        }
        self.text.push_str(chunk);
        Ok(())
    }

    fn end(&mut self, out: &mut String) -> Result<(), StepError> {
        let text = std::mem::take(&mut self.text);
        out.push_str(self.judge.judge(&text)?.as_deref().unwrap_or(&text));
        Ok(())
    }
}

/// A text that is no answer.
struct Passing;

impl Channel for Passing {
    fn push(&mut self, chunk: &str, out: &mut String) -> Result<(), StepError> {
        out.push_str(chunk);
        Ok(())
    }

    fn end(&mut self, _: &mut String) -> Result<(), StepError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
