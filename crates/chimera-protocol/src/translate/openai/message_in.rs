//! The messages of an OpenAI chat request, read.

use std::borrow::Cow;

use crate::{
    json::{Kind, Value},
    translate::{
        carrier, media,
        pick::{self, Picked},
        refuse::{Dropped, Refused},
        text::Text,
        vocabulary::{
            Call, Detail, Media, MediaKind, Message, Part, PartKind, Request, Role, Source, ToolResult,
        },
    },
};

/// Reads the messages. System messages at the beginning stand before the conversation.
pub(crate) fn conversation<'a>(
    value: Value<'a>,
    request: &mut Request<'a>,
    dropped: &mut Dropped,
) -> Picked<()> {
    pick::elements(value, |at, message| {
        let role = pick::required(message, "role")?;
        let role = pick::word(role).map_err(|refused| refused.inside("role"))?;
        let (role, parts) = match &*role {
            "system" | "developer" => (Role::System, said(message, dropped)?),
            "user" => (Role::User, said(message, dropped)?),
            "assistant" => (Role::Assistant, assistant(message, dropped)?),
            "tool" => (Role::User, vec![tool_result(message)?.into()]),
            "function" => {
                return Err(Refused::here("it is out of use; send a tool message").inside("role"));
            }
            _ => return Err(Refused::here("there is no such role").inside("role")),
        };
        match (role, request.messages.is_empty()) {
            (Role::System, true) => request.system.extend(parts),
            _ => request.messages.push(Message { role, parts, at }),
        }
        Ok(())
    })
}

/// What a user or an instruction says.
fn said<'a>(message: Value<'a>, dropped: &mut Dropped) -> Picked<Vec<Part<'a>>> {
    pick::only(message, &["role", "content", "name"])?;
    if message.get("name").is_some_and(|name| !name.is_null()) {
        dropped.add("messages.name");
    }
    let content = pick::required(message, "content")?;
    parts(content).map_err(|refused| refused.inside("content"))
}

/// Content: a string, or parts.
fn parts(content: Value<'_>) -> Picked<Vec<Part<'_>>> {
    if let Some(text) = Text::of(content) {
        return Ok(vec![PartKind::Text(text, None).into()]);
    }
    let mut parts = Vec::new();
    pick::elements(content, |_, value| {
        let cache = value.get("cache_control").map(Value::raw);
        parts.push(Part { kind: part(value)?, cache });
        Ok(())
    })?;
    Ok(parts)
}

fn part(value: Value<'_>) -> Picked<PartKind<'_>> {
    let kind = pick::required(value, "type")?;
    let kind = pick::word(kind).map_err(|refused| refused.inside("type"))?;
    let inner = |name: &str| {
        pick::only(value, &["type", name, "cache_control"])?;
        pick::required(value, name)
    };
    match &*kind {
        "text" => Ok(PartKind::Text(pick::text(inner("text")?).map_err(|r| r.inside("text"))?, None)),
        "refusal" => Ok(PartKind::Refusal(pick::text(inner("refusal")?).map_err(|r| r.inside("refusal"))?)),
        "image_url" => image(inner("image_url")?).map_err(|r| r.inside("image_url")),
        "input_audio" => audio(inner("input_audio")?).map_err(|r| r.inside("input_audio")),
        "file" => file(inner("file")?).map_err(|r| r.inside("file")),
        _ => Err(Refused::unknown().inside("type")),
    }
}

fn image(value: Value<'_>) -> Picked<PartKind<'_>> {
    pick::only(value, &["url", "detail"])?;
    let detail = pick::maybe_text(value, "detail")?;
    Ok(PartKind::Media(Media {
        kind: MediaKind::Image,
        source: media::from_url(pick::text_in(value, "url")?),
        name: None,
        detail: detail_of(detail).map_err(|refused| refused.inside("detail"))?,
    }))
}

/// The resolution that was asked for.
pub(crate) fn detail_of(detail: Option<Text<'_>>) -> Picked<Option<Detail>> {
    match detail.as_ref().map(Text::plain).as_deref() {
        None | Some("auto") => Ok(None),
        Some("low") => Ok(Some(Detail::Low)),
        Some("high") => Ok(Some(Detail::High)),
        Some(_) => Err(Refused::here("it must be auto, low or high")),
    }
}

fn audio(value: Value<'_>) -> Picked<PartKind<'_>> {
    pick::only(value, &["data", "format"])?;
    let format = pick::text_in(value, "format")?;
    let mime = match &*format.plain() {
        "wav" => Cow::Borrowed("audio/wav"),
        "mp3" => Cow::Borrowed("audio/mp3"),
        _ => return Err(Refused::here("it must be wav or mp3").inside("format")),
    };
    let source = Source::Inline { mime, data: pick::text_in(value, "data")? };
    Ok(PartKind::Media(Media { kind: MediaKind::Audio, source, name: None, detail: None }))
}

fn file(value: Value<'_>) -> Picked<PartKind<'_>> {
    pick::only(value, &["file_data", "file_id", "filename"])?;
    let name = pick::maybe_text(value, "filename")?;
    let source = match pick::maybe_text(value, "file_id")? {
        Some(_) => Source::File,
        None => match media::from_url(pick::text_in(value, "file_data")?) {
            inline @ Source::Inline { .. } => inline,
            _ => return Err(Refused::here("it must be a base64 data URL").inside("file_data")),
        },
    };
    let kind = match &source {
        Source::Inline { mime, .. } => media::kind_of(mime),
        _ => MediaKind::Document,
    };
    Ok(PartKind::Media(Media { kind, source, name, detail: None }))
}

/// What the model said before: thoughts, text, calls.
fn assistant<'a>(message: Value<'a>, dropped: &mut Dropped) -> Picked<Vec<Part<'a>>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    let mut calls: Vec<Part<'_>> = Vec::new();
    let mut thoughts = None;
    let mut signature = None;
    pick::members(message, |name, value| {
        match name {
            "role" => {}
            "content" => parts.extend(self::parts(value)?),
            "refusal" => parts.push(PartKind::Refusal(pick::text(value)?).into()),
            "tool_calls" => pick::elements(value, |_, call| {
                calls.push(PartKind::Call(self::call(call)?).into());
                Ok(())
            })?,
            "reasoning_content" | "reasoning" => thoughts = Text::of(value),
            "thinking_blocks" => {}
            "extra_content" => signature = carrier::from_extra_content(message),
            "name" | "annotations" => dropped.add(format!("messages.{name}")),
            "audio" if value.is_null() => {}
            "function_call" => return Err(Refused::here("it is out of use; send tool_calls")),
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })?;
    // A proof of text belongs to the last of it.
    if signature.is_some() {
        match parts.iter_mut().rev().find_map(|part| match &mut part.kind {
            PartKind::Text(_, place) => Some(place),
            _ => None,
        }) {
            Some(place) => *place = signature,
            None => parts.push(PartKind::Text("".into(), signature).into()),
        }
    }
    let mut all = carrier::thinking_blocks(message, thoughts)?;
    all.extend(parts);
    all.extend(calls);
    Ok(all)
}

fn call(value: Value<'_>) -> Picked<Call<'_>> {
    pick::only(value, &["id", "type", "function", "index", "extra_content"])?;
    if value.get("type").is_some_and(|kind| !kind.is("function")) {
        return Err(Refused::unknown().inside("type"));
    }
    let function = pick::required(value, "function")?;
    let inside = |refused: Refused| refused.inside("function");
    pick::only(function, &["name", "arguments"]).map_err(inside)?;
    let arguments = pick::text_in(function, "arguments").map_err(inside)?.into_plain();
    Ok(Call {
        id: pick::text_in(value, "id")?,
        name: pick::text_in(function, "name").map_err(inside)?,
        arguments,
        signature: carrier::from_extra_content(value),
    })
}

fn tool_result(message: Value<'_>) -> Picked<PartKind<'_>> {
    pick::only(message, &["role", "content", "tool_call_id", "name"])?;
    let content = pick::required(message, "content")?;
    let parts = match content.kind() {
        Kind::String | Kind::Array => parts(content),
        _ => Err(Refused::here("it must be a string or an array")),
    };
    Ok(PartKind::Result(ToolResult {
        id: pick::text_in(message, "tool_call_id")?,
        name: pick::maybe_text(message, "name")?,
        parts: parts.map_err(|refused| refused.inside("content"))?,
        is_error: false,
    }))
}
