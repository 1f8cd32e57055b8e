//! The contents of a Gemini request, written.

use std::collections::HashMap;

use super::message_in::is_object;
use crate::{
    json::{Document, Kind},
    translate::{
        field::{Field, Side},
        pick::Picked,
        text::Text,
        vocabulary::{
            Call, Detail, Media, Message, Part, PartKind, Request, Role, Source, ToolResult, Vendor,
        },
        write::Writer,
    },
};

/// The names of the tools by the ids of their calls: Gemini wants to hear them again with a result.
type Names<'r> = HashMap<String, &'r Text<'r>>;

/// Writes the system's words and the conversation. Turns of the same side that follow each other are
/// one, so that the results of parallel calls come together.
pub(crate) fn conversation(
    request: &Request<'_>,
    side: &mut Side<'_>,
    writer: &mut Writer<'_>,
) -> Picked<()> {
    let mut names = Names::new();
    if !request.system.is_empty() {
        writer.key("systemInstruction").object().key("parts").array();
        for part in &request.system {
            self::part(part, 0, &names, side, writer)?;
        }
        writer.end_array().end_object();
    }
    writer.key("contents").array();
    let mut rest = request.messages.as_slice();
    while let Some(first) = rest.first() {
        let role = speaker(first.role);
        let same = rest.iter().take_while(|message| speaker(message.role) == role).count();
        let (turn, after) = rest.split_at(same);
        rest = after;
        writer.item().object().word("role", role).key("parts").array();
        for message in turn {
            for part in &message.parts {
                if let PartKind::Call(call) = &part.kind {
                    names.insert(call.id.plain().into_owned(), &call.name);
                }
                in_turn(part, message, &names, side, writer)?;
            }
        }
        writer.end_array().end_object();
    }
    writer.end_array();
    Ok(())
}

fn speaker(role: Role) -> &'static str {
    if role == Role::Assistant { "model" } else { "user" }
}

/// An instruction on the way is said by the user, and marked.
fn in_turn(
    part: &Part<'_>,
    message: &Message<'_>,
    names: &Names<'_>,
    side: &mut Side<'_>,
    writer: &mut Writer<'_>,
) -> Picked<()> {
    if let (PartKind::Text(text, _), Role::System) = (&part.kind, message.role) {
        let marked = format!("<system>\n{}\n</system>", text.plain());
        let kind = PartKind::Text(marked.into(), None);
        return self::part(&Part { kind, cache: part.cache }, message.at, names, side, writer);
    }
    self::part(part, message.at, names, side, writer)
}

fn part(
    part: &Part<'_>,
    at: usize,
    names: &Names<'_>,
    side: &mut Side<'_>,
    writer: &mut Writer<'_>,
) -> Picked<()> {
    if part.cache.is_some() {
        side.drop(Field::Cache);
    }
    match &part.kind {
        PartKind::Text(text, signature) => {
            writer.item().object().key("text").text(text);
            if let Some(signature) = signature.as_ref().filter(|s| s.vendor == Vendor::Gemini) {
                writer.key("thoughtSignature").text(&signature.text);
            }
        }
        PartKind::Refusal(text) => _ = writer.item().object().key("text").text(text),
        PartKind::Thinking(text, Some(signature)) if signature.vendor == Vendor::Gemini => {
            writer.item().object().key("text").text(text).key("thought").bool(true);
            writer.key("thoughtSignature").text(&signature.text);
        }
        PartKind::Thinking(..) | PartKind::Redacted(_) => {
            side.drop(Field::Thoughts);
            return Ok(());
        }
        PartKind::Media(media) => self::media(media, at, side, writer.item())?,
        PartKind::Call(call) => self::call(call, at, side, writer.item())?,
        PartKind::Result(result) => self::result(result, at, names, side, writer.item())?,
    }
    writer.end_object();
    Ok(())
}

fn media(media: &Media<'_>, at: usize, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    match media.detail {
        None => {}
        // It is what this provider does.
        Some(Detail::High) => side.drop(Field::Detail),
        Some(Detail::Low) => {
            return side
                .refuse_message(at, "this model's provider cannot look at one image at a low resolution");
        }
    }
    if media.name.is_some() {
        side.drop(Field::FileName);
    }
    writer.object();
    match &media.source {
        Source::Inline { mime, data } => {
            writer.key("inlineData").object().word("mimeType", mime).key("data").text(data).end_object();
        }
        Source::Url { url, mime } => {
            writer.key("fileData").object();
            if let Some(mime) = mime {
                writer.word("mimeType", mime);
            }
            writer.key("fileUri").text(url).end_object();
        }
        Source::File => {
            return side.refuse_message(at, "a file that was given to another provider cannot be sent");
        }
    }
    Ok(())
}

fn call(call: &Call<'_>, at: usize, side: &Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    let arguments = call.arguments.trim();
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    if !Document::parse(arguments.as_bytes()).is_ok_and(|d| d.root().kind() == Kind::Object) {
        return side.refuse_message(at, "the arguments of a tool call are not a JSON object");
    }
    writer.object().key("functionCall").object().key("id").text(&call.id);
    writer.key("name").text(&call.name).key("args").raw(arguments).end_object();
    if let Some(signature) = call.signature.as_ref().filter(|s| s.vendor == Vendor::Gemini) {
        writer.key("thoughtSignature").text(&signature.text);
    }
    Ok(())
}

fn result(
    result: &ToolResult<'_>,
    at: usize,
    names: &Names<'_>,
    side: &Side<'_>,
    writer: &mut Writer<'_>,
) -> Picked<()> {
    let Some(name) = result.name.as_ref().or_else(|| names.get(&*result.id.plain()).copied()) else {
        return side.refuse_message(at, "there is no tool call that this result answers");
    };
    let mut text = String::new();
    for part in &result.parts {
        match &part.kind {
            PartKind::Text(more, _) => more.append_to(&mut text),
            _ => return side.refuse_message(at, "this model's provider takes only text as a tool's result"),
        }
    }
    writer.object().key("functionResponse").object().key("id").text(&result.id).key("name").text(name);
    writer.key("response");
    if result.is_error {
        writer.object().word("error", &text).end_object();
    } else if is_object(&text) {
        writer.raw(&text);
    } else {
        writer.object().word("output", &text).end_object();
    }
    writer.end_object();
    Ok(())
}
