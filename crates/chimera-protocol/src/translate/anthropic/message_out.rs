//! The messages of an Anthropic request, written.

use std::borrow::Cow;

use crate::{
    json::{Document, Kind},
    translate::{
        base64, carrier,
        field::{Field, Side},
        pick::Picked,
        text::Text,
        vocabulary::{
            Call, Detail, Media, MediaKind, Message, Part, PartKind, Request, Role, Source, ToolResult,
            Vendor,
        },
        write::Writer,
    },
};

/// Writes the system's words and the conversation. Turns of the same side that follow each other are one.
pub(crate) fn conversation(
    request: &Request<'_>,
    side: &mut Side<'_>,
    writer: &mut Writer<'_>,
) -> Picked<()> {
    match request.system.as_slice() {
        [] => {}
        [Part { kind: PartKind::Text(text, _), cache: None }] => _ = writer.key("system").text(text),
        parts => {
            writer.key("system").array();
            for part in parts {
                self::part(part, 0, side, writer)?;
            }
            writer.end_array();
        }
    }
    writer.key("messages").array();
    let mut rest = request.messages.as_slice();
    while let Some(first) = rest.first() {
        let role = speaker(first.role);
        let same = rest.iter().take_while(|message| speaker(message.role) == role).count();
        let (turn, after) = rest.split_at(same);
        rest = after;
        self::turn(role, turn, side, writer)?;
    }
    writer.end_array();
    Ok(())
}

/// Anthropic knows two speakers: an instruction on the way is said by the user, and marked.
fn speaker(role: Role) -> &'static str {
    if role == Role::Assistant { "assistant" } else { "user" }
}

fn turn(role: &str, turn: &[Message<'_>], side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    writer.item().object().word("role", role).key("content");
    if let [Message { role: Role::User | Role::Assistant, parts, .. }] = turn
        && let [Part { kind: PartKind::Text(text, None), cache: None }] = parts.as_slice()
    {
        writer.text(text).end_object();
        return Ok(());
    }
    writer.array();
    for message in turn {
        for part in &message.parts {
            match (&part.kind, message.role) {
                (PartKind::Text(text, _), Role::System) => {
                    let marked = format!("<system>\n{}\n</system>", text.plain());
                    let kind = PartKind::Text(marked.into(), None);
                    self::part(&Part { kind, cache: part.cache }, message.at, side, writer)?;
                }
                _ => self::part(part, message.at, side, writer)?,
            }
        }
    }
    writer.end_array().end_object();
    Ok(())
}

fn part(part: &Part<'_>, at: usize, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    match &part.kind {
        // Anthropic refuses empty text; it says nothing either.
        PartKind::Text(text, signature) => {
            if signature.is_some() {
                side.drop(Field::Thoughts);
            }
            if text.is_empty() {
                return Ok(());
            }
            writer.item().object().word("type", "text").key("text").text(text);
        }
        PartKind::Refusal(text) => {
            writer.item().object().word("type", "text").key("text").text(text);
        }
        PartKind::Thinking(text, Some(signature)) if signature.vendor == Vendor::Anthropic => {
            carrier::write_anthropic_block(writer.item(), None, text, &signature.text);
            return Ok(());
        }
        PartKind::Thinking(..) => {
            side.drop(Field::Thoughts);
            return Ok(());
        }
        PartKind::Redacted(data) => {
            writer.item().object().word("type", "redacted_thinking").key("data").text(data);
        }
        PartKind::Media(media) => self::media(media, at, side, writer.item())?,
        PartKind::Call(call) => self::call(call, at, side, writer.item())?,
        PartKind::Result(result) => tool_result(result, at, side, writer.item())?,
    }
    writer.maybe_raw("cache_control", part.cache).end_object();
    Ok(())
}

fn media(media: &Media<'_>, at: usize, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    match media.detail {
        None => {}
        // It is what this provider does.
        Some(Detail::High) => side.drop(Field::Detail),
        Some(Detail::Low) => {
            return side.refuse_message(at, "this model's provider cannot look at a low resolution");
        }
    }
    let kind = match media.kind {
        MediaKind::Image => "image",
        MediaKind::Document => "document",
        _ => return side.refuse_message(at, "this model's provider takes neither sound nor film"),
    };
    writer.object().word("type", kind).key("source").object();
    match &media.source {
        Source::Inline { mime, data } if mime == "text/plain" => {
            let text = base64::decode(&data.plain()).and_then(|bytes| String::from_utf8(bytes).ok());
            let Some(text) = text else { return side.refuse_message(at, "this file is not base64 of text") };
            writer.word("type", "text").word("media_type", mime).word("data", &text);
        }
        Source::Inline { mime, data } => {
            if kind == "document" && mime != "application/pdf" {
                return side.refuse_message(at, "this model's provider takes files as PDF or plain text");
            }
            writer.word("type", "base64").word("media_type", mime).key("data").text(data);
        }
        Source::Url { url, .. } => _ = writer.word("type", "url").key("url").text(url),
        Source::File => {
            return side.refuse_message(at, "a file that was given to another provider cannot be sent");
        }
    }
    writer.end_object();
    if let Some(name) = media.name.as_ref().filter(|_| kind == "document") {
        writer.key("title").text(name);
    }
    Ok(())
}

fn call(call: &Call<'_>, at: usize, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    if call.signature.is_some() {
        side.drop(Field::Thoughts);
    }
    writer.object().word("type", "tool_use").key("id").text(&id_of(&call.id));
    writer.key("name").text(&call.name).key("input");
    writer.raw(arguments_of(call, at, side)?);
    Ok(())
}

/// The arguments as the object that they must be.
pub(crate) fn arguments_of<'c>(call: &'c Call<'_>, at: usize, side: &Side<'_>) -> Picked<&'c str> {
    let arguments = call.arguments.trim();
    if arguments.is_empty() {
        return Ok("{}");
    }
    match Document::parse(arguments.as_bytes()) {
        Ok(document) if document.root().kind() == Kind::Object => Ok(arguments),
        _ => side.refuse_message(at, "the arguments of a tool call are not a JSON object"),
    }
}

/// An id in the letters that Anthropic takes; the same for a call and for its result.
fn id_of<'a>(id: &Text<'a>) -> Text<'a> {
    let plain = id.plain();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if plain.chars().all(fits) && !plain.is_empty() {
        return id.clone();
    }
    let mut out = String::from("id_");
    for c in plain.chars() {
        if fits(c) {
            out.push(c);
        } else {
            out.push_str(&format!("_{:x}_", u32::from(c)));
        }
    }
    Text::Plain(Cow::Owned(out))
}

fn tool_result(
    result: &ToolResult<'_>,
    at: usize,
    side: &mut Side<'_>,
    writer: &mut Writer<'_>,
) -> Picked<()> {
    writer.object().word("type", "tool_result").key("tool_use_id").text(&id_of(&result.id));
    match result.parts.as_slice() {
        [] => {}
        [Part { kind: PartKind::Text(text, _), cache: None }] => _ = writer.key("content").text(text),
        parts => {
            writer.key("content").array();
            for part in parts {
                self::part(part, at, side, writer)?;
            }
            writer.end_array();
        }
    }
    if result.is_error {
        writer.key("is_error").bool(true);
    }
    Ok(())
}
