//! The pipeline as an API of its own: one text or one conversation in, its output and a report out.

use bytes::Bytes;
use chimera_protocol::json::{Document, JsonError, Kind, Value as Member};
use chimera_transform::{Pipeline, Priority};
use http::{HeaderValue, Response, header};
use serde::de::DeserializeOwned;

use super::{
    Transforms,
    item::Item,
    spec::{PipelineSpec, SpecError},
    telling::Runner,
    through::on_pool,
};
use crate::{body::Body, books::Books, context::Context, failure::Failure, metrics::RequestOutcome, respond};

/// What is counted where a request names no model.
pub(super) const MODEL: &str = "gpt-4o";

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
        let document = Document::parse(&body).map_err(not_json)?;
        let root = object(&document)?;
        let item = Item::read(root, None)?;
        let runner = runner(root, &state.settings.transforms, &["text", "messages", "prompt"])?;
        let mut output = Vec::with_capacity(body.len() + body.len() / 4);
        runner.run(&item, None, &mut output)?;
        Ok::<_, Failure>(output)
    };
    let output = on_pool(shared, Priority::Interactive, deadline, work).await??;
    let mut response = Response::new(Body::whole(output));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, respond::JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let total = books.ended(RequestOutcome::Success);
    respond::timing(headers, &[("total", total)]);
    Ok(response)
}

pub(super) fn not_json(error: JsonError) -> Failure {
    Failure::invalid(format!("the body is not valid JSON: {error}"))
}

/// The body of a request.
pub(super) fn object<'d>(document: &'d Document<'d>) -> Result<Member<'d>, Failure> {
    match document.root().kind() {
        Kind::Object => Ok(document.root()),
        _ => Err(Failure::invalid("the body must be an object")),
    }
}

/// The pipeline of a request, by its name or by its steps; beside it, only members for the content may stand.
pub(super) fn runner(root: Member<'_>, transforms: &Transforms, content: &[&str]) -> Result<Runner, Failure> {
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
    for (key, _) in root.members() {
        let name = key.as_str().unwrap_or_default();
        if !SETTINGS.contains(&&*name) && !content.contains(&&*name) {
            let known = SETTINGS.iter().chain(content).copied().collect::<Vec<_>>().join(", ");
            return Err(Failure::invalid(format!("there is no such member; there are {known}"))
                .param(name.into_owned()));
        }
    }
    Ok(Runner {
        pipeline: pipeline(root, transforms)?,
        model: text_of(root, "model")?.unwrap_or_else(|| MODEL.to_owned()),
    })
}

fn text_of(root: Member<'_>, name: &'static str) -> Result<Option<String>, Failure> {
    let Some(member) = root.get(name) else { return Ok(None) };
    let text = member.as_str().ok_or_else(|| Failure::invalid("it must be a string").param(name))?;
    Ok(Some(text.into_owned()))
}

pub(super) fn flag(root: Member<'_>, name: &'static str) -> Result<bool, Failure> {
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
