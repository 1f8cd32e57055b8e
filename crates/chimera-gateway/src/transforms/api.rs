//! The pipeline as an API of its own: one text or one conversation in, its output and a report out.

use bytes::Bytes;
use chimera_protocol::json::{Document, Kind, Value as Member};
use chimera_transform::{Pipeline, Priority, Seed, StepReport, tokens};
use http::{HeaderValue, Response, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    Transforms,
    spec::{PipelineSpec, SpecError},
    through::{on_pool, refused},
};
use crate::{body::Body, books::Books, context::Context, failure::Failure, metrics::RequestOutcome, respond};

/// What is counted where a request names no model.
pub(super) const MODEL: &str = "gpt-4o";

/// Something to transform.
pub(super) enum Item {
    Text(String),
    /// Messages of a chat request, and the template that goes before them, as they are spelled.
    Chat {
        messages: Option<String>,
        prompt: Option<String>,
    },
}

impl Item {
    /// The bytes of its texts, roughly.
    pub(super) fn len(&self) -> usize {
        let length = |member: &Option<String>| member.as_ref().map_or(0, String::len);
        match self {
            Self::Text(text) => text.len(),
            Self::Chat { messages, prompt } => length(messages) + length(prompt),
        }
    }
}

/// A request of the API, read.
pub(super) struct Asked {
    pub(super) pipeline: Pipeline,
    pub(super) model: String,
    /// Whether results are wanted line by line.
    pub(super) stream: bool,
    /// One, or those of a batch with why some are none.
    pub(super) items: Vec<Result<Item, Failure>>,
}

/// Answers `POST /api/v1/transform`.
pub(crate) async fn one(
    context: &Context<'_>,
    body: Bytes,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    let shared = &context.gateway.shared;
    let deadline = (context.arrival.at + context.state.settings.timeouts.standard).into_std();
    let state = context.state.clone();
    // A step may unpack tables when it is made: nothing of this is for the event loop.
    let work = move || {
        let Asked { pipeline, model, items, .. } = read(&body, &state.settings.transforms, false)?;
        let item = items.into_iter().next().unwrap_or_else(|| Err(Failure::invalid("there is nothing")))?;
        run(&pipeline, &item, &model, &Seed::random())
    };
    let output = on_pool(shared, Priority::Interactive, deadline, work).await??;
    let mut response = Response::new(Body::whole(output.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, respond::JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let total = books.ended(RequestOutcome::Success);
    respond::timing(headers, &[("total", total)]);
    Ok(response)
}

/// Reads a request: the pipeline by name or by its steps, and what to transform.
pub(super) fn read(body: &[u8], transforms: &Transforms, batch: bool) -> Result<Asked, Failure> {
    let document = Document::parse(body)
        .map_err(|error| Failure::invalid(format!("the body is not valid JSON: {error}")))?;
    let root = document.root();
    if root.kind() != Kind::Object {
        return Err(Failure::invalid("the body must be an object"));
    }
    const SETTINGS: [&str; 10] = [
        "pipeline",
        "steps",
        "fail_open",
        "normalize",
        "redact",
        "budget",
        "compress",
        "guard",
        "schema",
        "model",
    ];
    let content: &[&str] = if batch { &["items", "stream"] } else { &["text", "messages", "prompt"] };
    for (key, _) in root.members() {
        let name = key.as_str().unwrap_or_default();
        if !SETTINGS.contains(&&*name) && !content.contains(&&*name) {
            let known = SETTINGS.iter().chain(content).copied().collect::<Vec<_>>().join(", ");
            return Err(Failure::invalid(format!("there is no such member; there are {known}"))
                .param(name.into_owned()));
        }
    }
    let items = if batch { items(root)? } else { vec![Ok(item(root, "")?)] };
    Ok(Asked {
        pipeline: pipeline(root, transforms)?,
        model: text_of(root, "model")?.unwrap_or_else(|| MODEL.to_owned()),
        stream: batch && flag(root, "stream")?,
        items,
    })
}

/// The most items of a batch.
const MOST: usize = 1000;

fn items(root: Member<'_>) -> Result<Vec<Result<Item, Failure>>, Failure> {
    let wrong = |why: &'static str| Failure::invalid(why).param("items");
    let items = root.get("items").ok_or_else(|| wrong("items is required"))?;
    if items.kind() != Kind::Array {
        return Err(wrong("items must be an array"));
    }
    match items.elements().take(MOST + 1).count() {
        0 => Err(wrong("items is empty")),
        count if count > MOST => Err(wrong("a batch has at most 1000 items").status(422)),
        _ => Ok(items
            .elements()
            .enumerate()
            .map(|(index, element)| item(element, &format!("items[{index}]")))
            .collect()),
    }
}

/// The item that a line of JSON is.
pub(super) fn line_item(line: &str, index: usize) -> Result<Item, Failure> {
    let document = Document::parse(line.as_bytes())
        .map_err(|error| Failure::invalid(format!("the line is not valid JSON: {error}")))?;
    item(document.root(), &format!("items[{index}]"))
}

/// A text, messages, or a template.
fn item(value: Member<'_>, place: &str) -> Result<Item, Failure> {
    let field = |name: &str| match (place.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (false, true) => place.to_owned(),
        (false, false) => format!("{place}.{name}"),
    };
    let wrong = |name: &str, why: &'static str| Failure::invalid(why).param(field(name));
    if value.kind() != Kind::Object {
        return Err(wrong("", "an item must be an object with text or messages"));
    }
    let (messages, prompt) = (value.get("messages"), value.get("prompt"));
    if let Some(text) = value.get("text") {
        if messages.is_some() || prompt.is_some() {
            return Err(wrong("text", "send text or messages, not both"));
        }
        let text = text.as_str().ok_or_else(|| wrong("text", "text must be a string"))?;
        return Ok(Item::Text(text.into_owned()));
    }
    match (messages, prompt) {
        (None, None) => return Err(wrong("text", "text, messages or prompt is required")),
        (Some(messages), _) if messages.kind() != Kind::Array => {
            return Err(wrong("messages", "messages must be an array"));
        }
        (Some(messages), _) if messages.elements().any(|message| message.kind() != Kind::Object) => {
            return Err(wrong("messages", "messages must be objects"));
        }
        (_, Some(prompt)) if prompt.kind() != Kind::Object => {
            return Err(wrong("prompt", "prompt must be an object"));
        }
        _ => {}
    }
    let spelled = |member: Option<Member<'_>>| member.map(|member| member.raw().to_owned());
    Ok(Item::Chat { messages: spelled(messages), prompt: spelled(prompt) })
}

fn text_of(root: Member<'_>, name: &'static str) -> Result<Option<String>, Failure> {
    let Some(member) = root.get(name) else { return Ok(None) };
    let text = member.as_str().ok_or_else(|| Failure::invalid("it must be a string").param(name))?;
    Ok(Some(text.into_owned()))
}

fn flag(root: Member<'_>, name: &'static str) -> Result<bool, Failure> {
    let Some(member) = root.get(name) else { return Ok(false) };
    member.as_bool().ok_or_else(|| Failure::invalid("it must be true or false").param(name))
}

fn pipeline(root: Member<'_>, transforms: &Transforms) -> Result<Pipeline, Failure> {
    let named = text_of(root, "pipeline")?;
    let inline = root.get("steps").is_some();
    match named {
        Some(_) if inline => Err(Failure::invalid("send pipeline or steps, not both").param("steps")),
        Some(name) => transforms
            .get(&name)
            .cloned()
            .ok_or_else(|| Failure::invalid("there is no such pipeline").param("pipeline")),
        None if inline => spec(root)?
            .build("inline")
            .map_err(|SpecError { key, why }| Failure::invalid(why).param(key).status(422)),
        None => Err(Failure::invalid("pipeline or steps is required").param("pipeline")),
    }
}

fn spec(root: Member<'_>) -> Result<PipelineSpec, Failure> {
    Ok(PipelineSpec {
        steps: setting(root, "steps")?,
        fail_open: setting(root, "fail_open")?,
        normalize: setting(root, "normalize")?,
        redact: setting(root, "redact")?,
        budget: setting(root, "budget")?,
        compress: setting(root, "compress")?,
        guard: setting(root, "guard")?,
        schema: setting(root, "schema")?,
        ..PipelineSpec::default()
    })
}

/// One setting. What the parser says of a value may quote it: only the member is named.
fn setting<T: DeserializeOwned + Default>(root: Member<'_>, name: &'static str) -> Result<T, Failure> {
    let Some(member) = root.get(name) else { return Ok(T::default()) };
    serde_json::from_str(member.raw())
        .map_err(|_| Failure::invalid("it is not a valid setting of a pipeline").param(name).status(422))
}

/// Runs a pipeline over one item: its output with the report, as the answer tells them.
pub(super) fn run(pipeline: &Pipeline, item: &Item, model: &str, seed: &Seed) -> Result<Value, Failure> {
    let (output, report, before, after) = match item {
        Item::Text(text) => {
            let done = pipeline.run_text(text, seed).map_err(|stopped| refused(&stopped))?;
            let before = tokens::count_text(text, model);
            let after = done.text.as_ref().map_or(before, |text| tokens::count_text(text, model));
            let text = done.output(text).into_owned();
            (("text", Value::from(text)), done.report, before, after)
        }
        Item::Chat { messages, prompt } => {
            let mut body = format!(r#"{{"model":{}"#, Value::from(model));
            for (name, member) in [("prompt", prompt), ("messages", messages)] {
                if let Some(member) = member {
                    body.push_str(&format!(r#","{name}":{member}"#));
                }
            }
            body.push('}');
            let done = pipeline.run_body(body.as_bytes(), seed).map_err(|stopped| refused(&stopped))?;
            let before = count(&body, model);
            let after = done.text.as_ref().map_or(before, |body| count(body, model));
            (("messages", messages_of(&done.output(&body))), done.report, before, after)
        }
    };
    Ok(json!({
        output.0: output.1,
        "pipeline": pipeline.name(),
        "tokens": { "before": before, "after": after, "exact": tokens::is_exact(model) },
        "report": report.iter().map(told).collect::<Vec<_>>(),
    }))
}

fn count(body: &str, model: &str) -> u64 {
    Document::parse(body.as_bytes()).map_or(0, |document| tokens::count(&document, model))
}

fn messages_of(body: &str) -> Value {
    let document = Document::parse(body.as_bytes()).ok();
    let raw = document.as_ref().and_then(|document| Some(document.root().get("messages")?.raw()));
    raw.and_then(|raw| serde_json::from_str::<Value>(raw).ok()).unwrap_or_default()
}

fn told(step: &StepReport) -> Value {
    let notes: Map<_, _> = step.notes.iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    let mut told = json!({
        "step": &*step.step, "changed": step.changed, "notes": notes,
        "elapsed_us": step.elapsed.as_nanos() as f64 / 1000.0,
    });
    if let (Some(failed), Some(members)) = (&step.failed, told.as_object_mut()) {
        members.insert("failed".to_owned(), Value::from(failed.as_str()));
    }
    told
}
