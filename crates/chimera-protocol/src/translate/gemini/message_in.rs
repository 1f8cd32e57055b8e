//! The contents of a Gemini request, read.
//!
//! Calls may come without ids; they get ones that tell their place, and results are given to the
//! earliest call of that name that has none.

use std::borrow::Cow;

use super::request_in::{camel, get};
use crate::{
    json::{Document, Kind, Value},
    translate::{
        carrier, media,
        pick::{self, Picked},
        refuse::Refused,
        text::Text,
        vocabulary::{
            Call, Media, Message, Part, PartKind, Request, Role, Signature, Source, ToolResult, Vendor,
        },
    },
};

/// Calls that wait for their results.
#[derive(Default)]
struct Open<'a> {
    calls: Vec<(Text<'a>, String)>,
    made: usize,
}

impl<'a> Open<'a> {
    fn call(&mut self, id: Option<Text<'a>>, name: &Text<'a>) -> Text<'a> {
        let id = id.unwrap_or_else(|| Text::from(format!("call_{}", self.made)));
        self.made += 1;
        self.calls.push((id.clone(), name.plain().into_owned()));
        id
    }

    fn result(&mut self, id: Option<Text<'a>>, name: &Text<'a>) -> Picked<Text<'a>> {
        let name = name.plain();
        let at = self.calls.iter().position(|(known, of)| match &id {
            Some(id) => known.plain() == id.plain(),
            None => *of == name,
        });
        match (at, id) {
            (Some(at), _) => Ok(self.calls.remove(at).0),
            (None, Some(id)) => Ok(id),
            (None, None) => Err(Refused::here("there is no call that it answers").inside("name")),
        }
    }
}

/// The parts of a system instruction.
pub(crate) fn system(value: Value<'_>) -> Picked<Vec<Part<'_>>> {
    if let Some(text) = Text::of(value) {
        return Ok(vec![PartKind::Text(text, None).into()]);
    }
    let parts = pick::required(value, "parts")?;
    self::parts(parts, &mut Open::default()).map_err(|refused| refused.inside("parts"))
}

/// Reads the contents, which may be a single one.
pub(crate) fn conversation<'a>(value: Value<'a>, request: &mut Request<'a>) -> Picked<()> {
    let mut open = Open::default();
    if value.kind() == Kind::Object {
        request.messages.push(message(0, value, &mut open)?);
        return Ok(());
    }
    pick::elements(value, |at, content| {
        request.messages.push(message(at, content, &mut open)?);
        Ok(())
    })
}

fn message<'a>(at: usize, content: Value<'a>, open: &mut Open<'a>) -> Picked<Message<'a>> {
    pick::only(content, &["role", "parts"])?;
    let role = match content.get("role").and_then(Value::as_str).as_deref() {
        None | Some("user" | "function" | "tool") => Role::User,
        Some("model") => Role::Assistant,
        Some("system") => Role::System,
        Some(_) => return Err(Refused::here("there is no such role").inside("role")),
    };
    let parts = pick::required(content, "parts")?;
    let parts = self::parts(parts, open).map_err(|refused| refused.inside("parts"))?;
    Ok(Message { role, parts, at })
}

fn parts<'a>(value: Value<'a>, open: &mut Open<'a>) -> Picked<Vec<Part<'a>>> {
    let mut parts = Vec::new();
    if value.kind() == Kind::Object {
        parts.push(part(value, open)?.into());
        return Ok(parts);
    }
    pick::elements(value, |_, value| {
        let kind = part(value, open)?;
        let before = parts.last_mut().map(|part: &mut Part<'_>| &mut part.kind);
        match (kind, before) {
            // Thoughts come in pieces from a stream, their proof with the last: they are one.
            (PartKind::Thinking(more, signature), Some(PartKind::Thinking(text, place @ None))) => {
                *text = format!("{}{}", text.plain(), more.plain()).into();
                *place = signature;
            }
            (kind, _) => parts.push(kind.into()),
        }
        Ok(())
    })?;
    Ok(parts)
}

fn part<'a>(value: Value<'a>, open: &mut Open<'a>) -> Picked<PartKind<'a>> {
    let (mut kind, mut thought, mut signature) = (None, false, None);
    pick::members(value, |name, value| {
        let name = camel(name);
        match &*name {
            "thought" => thought = pick::boolean(value)?,
            "thoughtSignature" => signature = Some(pick::text(value)?),
            "text" | "inlineData" | "fileData" | "functionCall" | "functionResponse" => {
                if kind.replace((name.into_owned(), value)).is_some() {
                    return Err(Refused::here("a part is one thing only"));
                }
            }
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })?;
    let Some((name, value)) = kind else {
        // A signature may come without anything that it proves.
        let signed = Signature { vendor: Vendor::Gemini, text: signature.ok_or_else(Refused::unknown)? };
        return Ok(PartKind::Text("".into(), Some(signed)));
    };
    let read = match &*name {
        "text" if thought => {
            let text = pick::text(value).map_err(|refused| refused.inside("text"))?;
            return Ok(carrier::gemini_thought(text, signature));
        }
        "text" => pick::text(value).map(|text| PartKind::Text(text, signed(signature))),
        "inlineData" => inline(value),
        "fileData" => file(value),
        "functionCall" => call(value, signature, open),
        _ => result(value, open),
    };
    read.map_err(|refused| refused.inside(&name))
}

fn signed(signature: Option<Text<'_>>) -> Option<Signature<'_>> {
    signature.map(|text| Signature { vendor: Vendor::Gemini, text })
}

fn text_of<'a>(value: Value<'a>, name: &str) -> Picked<Option<Text<'a>>> {
    get(value, name).map(pick::text).transpose().map_err(|refused| refused.inside(name))
}

fn needed<'a>(value: Value<'a>, name: &str) -> Picked<Text<'a>> {
    text_of(value, name)?.ok_or_else(|| Refused::here("it is required").inside(name))
}

fn inline(value: Value<'_>) -> Picked<PartKind<'_>> {
    let mime = needed(value, "mimeType")?.into_plain();
    let kind = media::kind_of(&mime);
    let source = Source::Inline { mime, data: needed(value, "data")? };
    Ok(PartKind::Media(Media { kind, source, name: text_of(value, "displayName")?, detail: None }))
}

fn file(value: Value<'_>) -> Picked<PartKind<'_>> {
    let url = needed(value, "fileUri")?;
    let mime = text_of(value, "mimeType")?.map(Text::into_plain);
    let known = mime.clone().or_else(|| media::mime_of_url(&url.plain()).map(Cow::Borrowed));
    let kind = known.as_deref().map_or(media::kind_of(""), media::kind_of);
    let source = if url.plain().starts_with("gs://") || url.plain().contains("/v1beta/files/") {
        Source::File
    } else {
        Source::Url { url, mime: known }
    };
    Ok(PartKind::Media(Media { kind, source, name: text_of(value, "displayName")?, detail: None }))
}

fn call<'a>(value: Value<'a>, signature: Option<Text<'a>>, open: &mut Open<'a>) -> Picked<PartKind<'a>> {
    let name = needed(value, "name")?;
    let arguments = match get(value, "args") {
        Some(arguments) => pick::object(arguments).map_err(|refused| refused.inside("args"))?,
        None => "{}",
    };
    let id = open.call(text_of(value, "id")?, &name);
    Ok(PartKind::Call(Call { id, name, arguments: arguments.into(), signature: signed(signature) }))
}

fn result<'a>(value: Value<'a>, open: &mut Open<'a>) -> Picked<PartKind<'a>> {
    let name = needed(value, "name")?;
    let response =
        get(value, "response").ok_or_else(|| Refused::here("it is required").inside("response"))?;
    pick::object(response).map_err(|refused| refused.inside("response"))?;
    if let Some(parts) = get(value, "parts")
        && parts.elements().next().is_some()
    {
        return Err(Refused::unknown().inside("parts"));
    }
    let id = open.result(text_of(value, "id")?, &name)?;
    let (text, is_error) = said(response);
    let parts = vec![PartKind::Text(text, None).into()];
    Ok(PartKind::Result(ToolResult { id, name: Some(name), parts, is_error }))
}

/// What a function gave back: by Google's convention under `output` or `error`, else as it stands.
fn said(response: Value<'_>) -> (Text<'_>, bool) {
    let mut members = response.members();
    if let (Some((key, value)), None) = (members.next(), members.next()) {
        for (name, is_error) in [("output", false), ("result", false), ("error", true)] {
            match (key.is(name), Text::of(value)) {
                (true, Some(text)) => return (text, is_error),
                (true, None) => return (value.raw().into(), is_error),
                _ => {}
            }
        }
    }
    (response.raw().into(), false)
}

/// The object that a function's words are, as Gemini wants it.
pub(crate) fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{')
        && Document::parse(text.as_bytes()).is_ok_and(|document| document.root().kind() == Kind::Object)
}
