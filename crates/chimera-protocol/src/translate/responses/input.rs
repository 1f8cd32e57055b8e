//! The input of a responses request, read: a string, or items that are messages, calls, results and
//! thoughts, each by itself.

use crate::{
    json::Value,
    translate::{
        carrier, media, openai,
        pick::{self, Picked},
        refuse::{Dropped, Refused},
        text::Text,
        vocabulary::{
            Call, Media, MediaKind, Message, Part, PartKind, Request, Role, Signature, Source, ToolResult,
        },
    },
};

/// Reads the input. System messages at the beginning stand before the conversation.
pub(crate) fn read<'a>(value: Value<'a>, request: &mut Request<'a>, dropped: &mut Dropped) -> Picked<()> {
    if let Some(text) = Text::of(value) {
        let parts = vec![PartKind::Text(text, None).into()];
        request.messages.push(Message { role: Role::User, parts, at: 0 });
        return Ok(());
    }
    // The proof of a call comes before it.
    let mut waiting = None;
    pick::elements(value, |at, item| {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or_else(|| "message".into());
        let (role, parts) = match &*kind {
            "message" => message(item, dropped)?,
            "function_call" => {
                let mut call = call(item, dropped)?;
                call.signature = waiting.take();
                (Role::Assistant, vec![PartKind::Call(call).into()])
            }
            "function_call_output" => (Role::User, vec![PartKind::Result(result(item)?).into()]),
            "reasoning" => match thoughts(item)? {
                Thoughts::OfCall(signature) => {
                    waiting = Some(signature);
                    return Ok(());
                }
                Thoughts::OfText(signature) => {
                    sign_text(request, signature, at);
                    return Ok(());
                }
                Thoughts::Own(part) => (Role::Assistant, vec![part.into()]),
            },
            _ => return Err(Refused::unknown().inside("type")),
        };
        match (role, request.messages.last_mut()) {
            (Role::System, None) => request.system.extend(parts),
            // What the model said came as several items and is one turn.
            (Role::Assistant, Some(last)) if last.role == Role::Assistant => last.parts.extend(parts),
            _ => request.messages.push(Message { role, parts, at }),
        }
        Ok(())
    })
}

/// Gives a proof to the text that the model said last.
fn sign_text<'a>(request: &mut Request<'a>, signature: Signature<'a>, at: usize) {
    let last = request.messages.last_mut().filter(|last| last.role == Role::Assistant);
    match last {
        Some(last) => match last.parts.last_mut().map(|part| &mut part.kind) {
            Some(PartKind::Text(_, place)) => *place = Some(signature),
            _ => last.parts.push(PartKind::Text("".into(), Some(signature)).into()),
        },
        None => {
            let parts = vec![PartKind::Text("".into(), Some(signature)).into()];
            request.messages.push(Message { role: Role::Assistant, parts, at });
        }
    }
}

fn message<'a>(item: Value<'a>, dropped: &mut Dropped) -> Picked<(Role, Vec<Part<'a>>)> {
    pick::only(item, &["type", "role", "content", "id", "status", "phase"])?;
    let role = pick::required(item, "role")?;
    let role = match &*pick::word(role).map_err(|refused| refused.inside("role"))? {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => return Err(Refused::here("there is no such role").inside("role")),
    };
    let content = pick::required(item, "content")?;
    let cites = |part: Value<'_>| part.get("annotations").is_some_and(|all| all.elements().next().is_some());
    if content.elements().any(cites) {
        dropped.add("input.content.annotations");
    }
    Ok((role, parts(content).map_err(|refused| refused.inside("content"))?))
}

fn parts(content: Value<'_>) -> Picked<Vec<Part<'_>>> {
    if let Some(text) = Text::of(content) {
        return Ok(vec![PartKind::Text(text, None).into()]);
    }
    let mut parts = Vec::new();
    pick::elements(content, |_, value| {
        parts.push(part(value)?.into());
        Ok(())
    })?;
    Ok(parts)
}

fn part(value: Value<'_>) -> Picked<PartKind<'_>> {
    let kind = pick::required(value, "type")?;
    match &*pick::word(kind).map_err(|refused| refused.inside("type"))? {
        "input_text" | "output_text" | "text" => {
            pick::only(value, &["type", "text", "annotations", "logprobs"])?;
            Ok(PartKind::Text(pick::text_in(value, "text")?, None))
        }
        "refusal" => Ok(PartKind::Refusal(pick::text_in(value, "refusal")?)),
        "input_image" => {
            pick::only(value, &["type", "image_url", "detail", "file_id"])?;
            let detail = openai::detail_of(pick::maybe_text(value, "detail")?)?;
            let source = match pick::maybe_text(value, "image_url")? {
                Some(url) => media::from_url(url),
                None => Source::File,
            };
            Ok(PartKind::Media(Media { kind: MediaKind::Image, source, name: None, detail }))
        }
        "input_file" => {
            pick::only(value, &["type", "filename", "file_data", "file_url", "file_id"])?;
            let data = pick::maybe_text(value, "file_data")?.or(pick::maybe_text(value, "file_url")?);
            let source = data.map_or(Source::File, media::from_url);
            let kind = match &source {
                Source::Inline { mime, .. } => media::kind_of(mime),
                _ => MediaKind::Document,
            };
            let name = pick::maybe_text(value, "filename")?;
            Ok(PartKind::Media(Media { kind, source, name, detail: None }))
        }
        _ => Err(Refused::unknown().inside("type")),
    }
}

fn call<'a>(item: Value<'a>, dropped: &mut Dropped) -> Picked<Call<'a>> {
    pick::only(item, &["type", "id", "call_id", "name", "arguments", "status", "namespace"])?;
    if item.get("namespace").is_some_and(|namespace| !namespace.is_null()) {
        dropped.add("input.namespace");
    }
    Ok(Call {
        id: pick::text_in(item, "call_id")?,
        name: pick::text_in(item, "name")?,
        arguments: pick::text_in(item, "arguments")?.into_plain(),
        signature: None,
    })
}

fn result(item: Value<'_>) -> Picked<ToolResult<'_>> {
    pick::only(item, &["type", "id", "call_id", "output", "status"])?;
    let output = pick::required(item, "output")?;
    Ok(ToolResult {
        id: pick::text_in(item, "call_id")?,
        name: None,
        parts: parts(output).map_err(|refused| refused.inside("output"))?,
        is_error: false,
    })
}

/// What a reasoning item holds.
enum Thoughts<'a> {
    Own(PartKind<'a>),
    OfCall(Signature<'a>),
    OfText(Signature<'a>),
}

fn thoughts(item: Value<'_>) -> Picked<Thoughts<'_>> {
    pick::only(item, &["type", "id", "summary", "content", "encrypted_content", "status"])?;
    let mut text = String::new();
    for part in item.get("summary").into_iter().flat_map(Value::elements) {
        text.push_str(&pick::text_in(part, "text").map_err(|refused| refused.inside("summary"))?.plain());
    }
    let Some(proof) = pick::maybe_text(item, "encrypted_content")? else {
        return Ok(Thoughts::Own(PartKind::Thinking(text.into(), None)));
    };
    Ok(match carrier::unwrap_from_responses(&proof) {
        Some(carrier::Carried::Thinking(signature)) => {
            Thoughts::Own(PartKind::Thinking(text.into(), Some(signature)))
        }
        Some(carrier::Carried::Redacted(data)) => Thoughts::Own(PartKind::Redacted(data)),
        Some(carrier::Carried::Call(signature)) => Thoughts::OfCall(signature),
        Some(carrier::Carried::Text(signature)) => Thoughts::OfText(signature),
        // OpenAI's own, which no other provider can read.
        None => Thoughts::Own(PartKind::Thinking(text.into(), None)),
    })
}
