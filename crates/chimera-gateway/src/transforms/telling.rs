//! An item run through a pipeline, and what is told of it: written at once, where it was worked on.

use std::borrow::Cow;

use chimera_protocol::json::Document;
use chimera_transform::{Done, Notes, Pipeline, Report, Seed, StepReport, tokens};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::{item::Item, through::refused};
use crate::failure::{Code, Failure};

/// What came of an item.
#[derive(Serialize)]
struct Output<'o> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'o str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<&'o RawValue>,
    pipeline: &'o str,
    tokens: Tokens,
    #[serde(serialize_with = "steps")]
    report: &'o Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

#[derive(Serialize)]
struct Tokens {
    before: u64,
    after: u64,
    exact: bool,
}

#[derive(Serialize)]
struct Step<'r> {
    step: &'r str,
    changed: bool,
    #[serde(serialize_with = "counts")]
    notes: &'r Notes,
    elapsed_us: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<&'r str>,
}

fn steps<S: Serializer>(report: &Report, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(report.iter().map(|StepReport { step, changed, notes, elapsed, failed }| Step {
        step,
        changed: *changed,
        notes,
        elapsed_us: elapsed.as_nanos() as f64 / 1000.0,
        failed: failed.as_deref(),
    }))
}

fn counts<S: Serializer>(notes: &Notes, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(notes.iter())
}

/// Why nothing came of an item of a batch.
#[derive(Serialize)]
struct Fate<'f> {
    index: usize,
    error: Why<'f>,
}

#[derive(Serialize)]
struct Why<'f> {
    code: &'f str,
    message: &'f str,
    param: Cow<'f, str>,
}

/// A pipeline, and for whose tokens it is told what it did.
pub(super) struct Runner {
    pub(super) pipeline: Pipeline,
    pub(super) model: String,
}

impl Runner {
    /// Runs the pipeline over an item, and writes its output and report; nothing when it fails.
    pub(super) fn run(
        &self,
        item: &Item<'_>,
        index: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        match item {
            Item::Text(text) => {
                let done = self.pipeline.run_text(text, &Seed::random());
                let done = done.map_err(|stopped| refused(&stopped))?;
                let tokens = self.tokens(text, &done, |text| tokens::count_text(text, &self.model));
                let text = done.output(text);
                write(&Output { text: Some(&text), ..self.output(tokens, &done.report, index) }, out)
            }
            Item::Chat { messages, prompt } => {
                let body = self.body(*messages, *prompt);
                let done = self.pipeline.run_body(body.as_bytes(), &Seed::random());
                let done = done.map_err(|stopped| refused(&stopped))?;
                let tokens = self.tokens(&body, &done, |body| count(body, &self.model));
                let messages = messages_of(&done.output(&body))?;
                write(&Output { messages: Some(&messages), ..self.output(tokens, &done.report, index) }, out)
            }
        }
    }

    /// A chat request of OpenAI's that an item is part of.
    fn body(&self, messages: Option<&str>, prompt: Option<&str>) -> String {
        let mut body = format!(r#"{{"model":{}"#, serde_json::Value::from(self.model.as_str()));
        for (name, member) in [("prompt", prompt), ("messages", messages)] {
            if let Some(member) = member {
                body.push_str(&format!(r#","{name}":{member}"#));
            }
        }
        body.push('}');
        body
    }

    fn tokens(&self, input: &str, done: &Done, count: impl Fn(&str) -> u64) -> Tokens {
        let before = count(input);
        let after = done.text.as_deref().map_or(before, count);
        Tokens { before, after, exact: tokens::is_exact(&self.model) }
    }

    /// What is told besides the content.
    fn output<'o>(&'o self, tokens: Tokens, report: &'o Report, index: Option<usize>) -> Output<'o> {
        Output { text: None, messages: None, pipeline: self.pipeline.name(), tokens, report, index }
    }
}

fn write(output: &Output<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
    serde_json::to_writer(out, output).map_err(untold)
}

/// Writes why nothing came of an item of a batch, by its place.
pub(super) fn failed(index: usize, failure: &Failure, out: &mut Vec<u8>) {
    let own = failure.param.as_deref().filter(|param| param.starts_with("items["));
    let param = own.map_or_else(|| format!("items[{index}]").into(), Cow::Borrowed);
    let error = Why { code: failure.code.as_str(), message: &failure.message, param };
    // Memory takes whatever is written.
    let _ = serde_json::to_writer(out, &Fate { index, error });
}

fn untold(_: serde_json::Error) -> Failure {
    Failure::new(Code::Internal, "the output cannot be written")
}

fn count(body: &str, model: &str) -> u64 {
    Document::parse(body.as_bytes()).map_or(0, |document| tokens::count(&document, model))
}

/// The messages of a request as they are spelled, on one line.
fn messages_of(body: &str) -> Result<Box<RawValue>, Failure> {
    let document = Document::parse(body.as_bytes()).ok();
    let messages = document.as_ref().and_then(|document| document.root().get("messages"));
    // No string of JSON holds a line end: these stand between values.
    let raw = messages.map_or("null".to_owned(), |messages| messages.raw().replace(['\n', '\r'], " "));
    RawValue::from_string(raw).map_err(untold)
}
