//! The messages of an OpenAI chat request, written.

use crate::translate::{
    field::{Field, Side},
    pick::Picked,
    text::Text,
    vocabulary::{Call, Media, MediaKind, Message, Part, PartKind, Request, Role, Source, ToolResult},
    write::Writer,
};

/// Writes the system's words and the conversation.
pub(crate) fn conversation(
    request: &Request<'_>,
    side: &mut Side<'_>,
    writer: &mut Writer<'_>,
) -> Picked<()> {
    writer.key("messages").array();
    if !request.system.is_empty() {
        writer.item().object().word("role", "system").key("content");
        content(&request.system, 0, side, writer)?;
        writer.end_object();
    }
    for message in &request.messages {
        match message.role {
            Role::Assistant => assistant(message, side, writer)?,
            Role::User | Role::System => said(message, side, writer)?,
        }
    }
    writer.end_array();
    Ok(())
}

/// A turn of the user's: the results of tools are messages of their own and come first.
fn said(message: &Message<'_>, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    let mut rest = Vec::new();
    for part in &message.parts {
        match &part.kind {
            PartKind::Result(result) => {
                if part.cache.is_some() {
                    side.drop(Field::Cache);
                }
                tool_result(result, message.at, side, writer)?;
            }
            _ => rest.push(part.clone()),
        }
    }
    if rest.is_empty() && !message.parts.is_empty() {
        return Ok(());
    }
    let role = if message.role == Role::System { "system" } else { "user" };
    writer.item().object().word("role", role).key("content");
    content(&rest, message.at, side, writer)?;
    writer.end_object();
    Ok(())
}

/// Content: a string where it is one text, else parts.
fn content(parts: &[Part<'_>], at: usize, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    if parts.iter().any(|part| part.cache.is_some()) {
        side.drop(Field::Cache);
    }
    if let [Part { kind: PartKind::Text(text, _), .. }] = parts {
        writer.text(text);
        return Ok(());
    }
    writer.array();
    for part in parts {
        match &part.kind {
            PartKind::Text(text, _) => {
                writer.item().object().word("type", "text").key("text").text(text).end_object();
            }
            PartKind::Media(media) => self::media(media, at, side, writer.item())?,
            _ => return side.refuse_message(at, "this part cannot stand in a turn of the user's"),
        }
    }
    writer.end_array();
    Ok(())
}

fn media(media: &Media<'_>, at: usize, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    writer.object();
    match (media.kind, &media.source) {
        (MediaKind::Image, Source::Url { url, .. }) => {
            writer.word("type", "image_url").key("image_url").object().key("url").text(url).end_object();
        }
        (MediaKind::Image, Source::Inline { mime, data }) => {
            writer.word("type", "image_url").key("image_url").object();
            writer.word("url", &format!("data:{mime};base64,{}", data.plain())).end_object();
        }
        (MediaKind::Audio, Source::Inline { mime, data }) => {
            let format = match &**mime {
                "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
                "audio/mp3" | "audio/mpeg" => "mp3",
                _ => return side.refuse_message(at, "this model's provider takes sound as wav or mp3"),
            };
            writer.word("type", "input_audio").key("input_audio").object();
            writer.key("data").text(data).word("format", format).end_object();
        }
        (MediaKind::Document, Source::Inline { mime, data }) if mime == "application/pdf" => {
            writer.word("type", "file").key("file").object();
            writer.key("filename").text(media.name.as_ref().unwrap_or(&Text::from("document.pdf")));
            writer.word("file_data", &format!("data:{mime};base64,{}", data.plain())).end_object();
        }
        _ => return side.refuse_message(at, "this model's provider does not take this kind of file"),
    }
    writer.end_object();
    Ok(())
}

/// What the model said: text as content, calls apart. Thoughts mean nothing to OpenAI.
fn assistant(message: &Message<'_>, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    let (mut texts, mut calls, mut refusal) = (Vec::new(), Vec::new(), None);
    for part in &message.parts {
        if part.cache.is_some() {
            side.drop(Field::Cache);
        }
        match &part.kind {
            PartKind::Text(text, signature) => {
                if signature.is_some() {
                    side.drop(Field::Thoughts);
                }
                if !text.is_empty() {
                    texts.push(Part::from(part.kind.clone()));
                }
            }
            PartKind::Call(call) => {
                if call.signature.is_some() {
                    side.drop(Field::Thoughts);
                }
                calls.push(call);
            }
            PartKind::Refusal(text) => refusal = Some(text),
            PartKind::Thinking(..) | PartKind::Redacted(_) => side.drop(Field::Thoughts),
            _ => return side.refuse_message(message.at, "this part cannot stand in a turn of the model's"),
        }
    }
    writer.item().object().word("role", "assistant");
    if !texts.is_empty() {
        writer.key("content");
        content(&texts, message.at, side, writer)?;
    } else if calls.is_empty() && refusal.is_none() {
        writer.word("content", "");
    }
    if let Some(refusal) = refusal {
        writer.key("refusal").text(refusal);
    }
    if !calls.is_empty() {
        writer.key("tool_calls").array();
        for call in calls {
            self::call(call, writer.item());
        }
        writer.end_array();
    }
    writer.end_object();
    Ok(())
}

fn call(call: &Call<'_>, writer: &mut Writer<'_>) {
    writer.object().key("id").text(&call.id).word("type", "function");
    writer.key("function").object().key("name").text(&call.name);
    writer.word("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments }).end_object();
    writer.end_object();
}

fn tool_result(
    result: &ToolResult<'_>,
    at: usize,
    side: &mut Side<'_>,
    writer: &mut Writer<'_>,
) -> Picked<()> {
    let is_text = |part: &Part<'_>| matches!(part.kind, PartKind::Text(..));
    if !result.parts.iter().all(is_text) {
        return side.refuse_message(at, "this model's provider takes only text as a tool's result");
    }
    writer.item().object().word("role", "tool").key("tool_call_id").text(&result.id).key("content");
    if result.is_error {
        // There is no mark for a failed tool; the words must say it.
        let text: String = result.parts.iter().map(text_of).collect();
        let error = serde_json::json!({ "error": text }).to_string();
        writer.string(&error);
    } else if result.parts.is_empty() {
        writer.string("");
    } else {
        content(&result.parts, at, side, writer)?;
    }
    writer.end_object();
    Ok(())
}

fn text_of(part: &Part<'_>) -> String {
    match &part.kind {
        PartKind::Text(text, _) => text.plain().into_owned(),
        _ => String::new(),
    }
}
