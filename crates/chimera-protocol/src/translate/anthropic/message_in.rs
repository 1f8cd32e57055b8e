//! The messages of an Anthropic request, read.

use std::borrow::Cow;

use crate::{
    json::Value,
    translate::{
        carrier, media,
        pick::{self, Picked},
        refuse::{Dropped, Refused},
        text::Text,
        vocabulary::{
            Call, Media, MediaKind, Message, Part, PartKind, Request, Role, Signature, Source, ToolResult,
        },
    },
};

/// Reads the messages.
pub(crate) fn conversation<'a>(
    value: Value<'a>,
    request: &mut Request<'a>,
    dropped: &mut Dropped,
) -> Picked<()> {
    pick::elements(value, |at, message| {
        pick::only(message, &["role", "content"])?;
        let role = pick::required(message, "role")?;
        let role = match &*pick::word(role).map_err(|refused| refused.inside("role"))? {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(Refused::here("there is no such role").inside("role")),
        };
        let content = pick::required(message, "content")?;
        let parts = match Text::of(content) {
            Some(text) => vec![PartKind::Text(text, None).into()],
            None => parts(content, dropped).map_err(|refused| refused.inside("content"))?,
        };
        request.messages.push(Message { role, parts, at });
        Ok(())
    })
}

/// Reads content blocks. A block that only carries a signature of Gemini's is joined to what it proves.
pub(crate) fn parts<'a>(value: Value<'a>, dropped: &mut Dropped) -> Picked<Vec<Part<'a>>> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    // The proof of a call comes before it.
    let mut waiting = None;
    pick::elements(value, |_, block| {
        let mut part = Part { kind: block_kind(block, dropped)?, cache: cache_of(block) };
        match &mut part.kind {
            PartKind::Thinking(text, Some(signature)) if text.is_empty() => {
                match carrier::unwrap_from_anthropic(&signature.text) {
                    Some((signature, true)) => sign_text(&mut parts, signature),
                    Some((signature, false)) => waiting = Some(signature),
                    None => parts.push(part),
                }
                return Ok(());
            }
            PartKind::Call(call) => call.signature = waiting.take(),
            _ => {}
        }
        parts.push(part);
        Ok(())
    })?;
    Ok(parts)
}

/// Gives a proof to the text before it; one without text stands alone, as Gemini ends some answers.
fn sign_text<'a>(parts: &mut Vec<Part<'a>>, signature: Signature<'a>) {
    match parts.last_mut().map(|part| &mut part.kind) {
        Some(PartKind::Text(_, place)) if place.is_none() => *place = Some(signature),
        _ => parts.push(PartKind::Text("".into(), Some(signature)).into()),
    }
}

fn cache_of(block: Value<'_>) -> Option<&str> {
    block.get("cache_control").filter(|hint| !hint.is_null()).map(Value::raw)
}

fn block_kind<'a>(block: Value<'a>, dropped: &mut Dropped) -> Picked<PartKind<'a>> {
    let kind = pick::required(block, "type")?;
    match &*pick::word(kind).map_err(|refused| refused.inside("type"))? {
        "text" => {
            pick::only(block, &["type", "text", "cache_control", "citations"])?;
            if block.get("citations").is_some_and(|list| list.elements().next().is_some()) {
                dropped.add("messages.content.citations");
            }
            Ok(PartKind::Text(pick::text_in(block, "text")?, None))
        }
        "thinking" | "redacted_thinking" => carrier::anthropic_block(block),
        "image" => {
            pick::only(block, &["type", "source", "cache_control"])?;
            media(block, MediaKind::Image)
        }
        "document" => document(block),
        "tool_use" => {
            pick::only(block, &["type", "id", "name", "input", "cache_control", "caller"])?;
            let input = pick::required(block, "input")?;
            Ok(PartKind::Call(Call {
                id: pick::text_in(block, "id")?,
                name: pick::text_in(block, "name")?,
                arguments: pick::object(input).map_err(|refused| refused.inside("input"))?.into(),
                signature: None,
            }))
        }
        "tool_result" => tool_result(block, dropped),
        _ => Err(Refused::unknown().inside("type")),
    }
}

fn document(block: Value<'_>) -> Picked<PartKind<'_>> {
    pick::only(block, &["type", "source", "cache_control", "title", "context", "citations"])?;
    if block.get("context").is_some_and(|context| !context.is_null()) {
        return Err(Refused::unknown().inside("context"));
    }
    let cited = block.get("citations").and_then(|citations| citations.get("enabled"));
    if cited.and_then(Value::as_bool) == Some(true) {
        return Err(Refused::unknown().inside("citations"));
    }
    media(block, MediaKind::Document)
}

fn media(block: Value<'_>, kind: MediaKind) -> Picked<PartKind<'_>> {
    let source =
        source(pick::required(block, "source")?, kind).map_err(|refused| refused.inside("source"))?;
    Ok(PartKind::Media(Media { kind, source, name: pick::maybe_text(block, "title")?, detail: None }))
}

fn source(value: Value<'_>, kind: MediaKind) -> Picked<Source<'_>> {
    let of = pick::required(value, "type")?;
    match &*pick::word(of).map_err(|refused| refused.inside("type"))? {
        "base64" => {
            let mime = pick::text_in(value, "media_type")?.into_plain();
            Ok(Source::Inline { mime, data: pick::text_in(value, "data")? })
        }
        "url" => {
            let url = pick::text_in(value, "url")?;
            let known = media::mime_of_url(&url.plain());
            let fallback = (kind == MediaKind::Document).then_some("application/pdf");
            Ok(Source::Url { mime: known.or(fallback).map(Cow::Borrowed), url })
        }
        "text" => {
            let data = pick::text_in(value, "data")?;
            let data = crate::translate::base64::encode(data.plain().as_bytes());
            Ok(Source::Inline { mime: Cow::Borrowed("text/plain"), data: data.into() })
        }
        "file" => Ok(Source::File),
        _ => Err(Refused::unknown().inside("type")),
    }
}

fn tool_result<'a>(block: Value<'a>, dropped: &mut Dropped) -> Picked<PartKind<'a>> {
    pick::only(block, &["type", "tool_use_id", "content", "is_error", "cache_control"])?;
    let content = block.get("content").filter(|content| !content.is_null());
    let parts = match content {
        None => Vec::new(),
        Some(content) => match Text::of(content) {
            Some(text) => vec![PartKind::Text(text, None).into()],
            None => parts(content, dropped).map_err(|refused| refused.inside("content"))?,
        },
    };
    let is_error = block.get("is_error").filter(|value| !value.is_null());
    let is_error = is_error.map(pick::boolean).transpose().map_err(|refused| refused.inside("is_error"))?;
    Ok(PartKind::Result(ToolResult {
        id: pick::text_in(block, "tool_use_id")?,
        name: None,
        parts,
        is_error: is_error.unwrap_or(false),
    }))
}
