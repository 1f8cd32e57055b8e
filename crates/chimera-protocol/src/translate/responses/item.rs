//! The items of a response's output, and the response around them.

use crate::{
    translate::{citation::Citation, text::Text, vocabulary::Finish, write::Writer},
    usage::Usage,
};

/// Whether a response is complete, in OpenAI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    InProgress,
    Completed,
    /// Ended before its time, by this reason.
    Incomplete(&'static str),
}

impl Status {
    pub(crate) fn of(finish: &Finish<'_>) -> Self {
        match finish {
            Finish::Length => Self::Incomplete("max_output_tokens"),
            Finish::Filter => Self::Incomplete("content_filter"),
            _ => Self::Completed,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete(_) => "incomplete",
        }
    }
}

/// Who answers: what a response begins with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Identity {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created: u64,
}

/// Writes a response around its output, which is a list of items as JSON.
pub(crate) fn response(
    identity: &Identity,
    status: Status,
    output: &str,
    usage: Option<&Usage>,
    writer: &mut Writer<'_>,
) {
    writer.object().word("id", &identity.id).word("object", "response");
    writer.key("created_at").number(identity.created).word("status", status.word());
    writer.key("error").raw("null").key("incomplete_details");
    match status {
        Status::Incomplete(reason) => _ = writer.object().word("reason", reason).end_object(),
        _ => _ = writer.raw("null"),
    }
    writer.key("instructions").raw("null").word("model", &identity.model);
    writer.key("output").raw("[").raw(output).raw("]");
    writer.key("parallel_tool_calls").bool(true).key("previous_response_id").raw("null");
    writer.word("tool_choice", "auto").key("tools").raw("[]").key("store").bool(false);
    writer.key("usage");
    match usage {
        Some(usage) => self::usage(usage, writer),
        None => _ = writer.raw("null"),
    }
    writer.key("metadata").raw("{}").end_object();
}

fn usage(usage: &Usage, writer: &mut Writer<'_>) {
    let classes = usage.classes();
    let (input, output) = (classes.prompt(), classes.completion());
    writer.object().key("input_tokens").number(input);
    writer.key("input_tokens_details").object().key("cached_tokens").number(classes.cached).end_object();
    writer.key("output_tokens").number(output);
    writer.key("output_tokens_details").object().key("reasoning_tokens").number(classes.reasoning);
    writer.end_object().key("total_tokens").number(input.saturating_add(output)).end_object();
}

/// Writes a message with one part; `kind` is `output_text` or `refusal`.
pub(crate) fn message(
    id: &str,
    status: &str,
    kind: &str,
    said: Option<(&Text<'_>, &[Citation<'_>])>,
    writer: &mut Writer<'_>,
) {
    writer.object().word("type", "message").word("id", id).word("status", status);
    writer.word("role", "assistant").key("content").array();
    if let Some((text, cited)) = said {
        part(kind, text, cited, writer.item());
    }
    writer.end_array().end_object();
}

/// Writes a part of a message.
pub(crate) fn part(kind: &str, text: &Text<'_>, cited: &[Citation<'_>], writer: &mut Writer<'_>) {
    writer.object().word("type", kind);
    if kind == "refusal" {
        writer.key("refusal").text(text);
    } else {
        writer.key("text").text(text).key("annotations").array();
        cited.iter().for_each(|citation| citation.responses(writer.item()));
        writer.end_array();
    }
    writer.end_object();
}

/// Writes a call.
pub(crate) fn call(
    id: &str,
    status: &str,
    call_id: &Text<'_>,
    name: &Text<'_>,
    arguments: &str,
    writer: &mut Writer<'_>,
) {
    writer.object().word("type", "function_call").word("id", id).word("status", status);
    writer.key("call_id").text(call_id).key("name").text(name).word("arguments", arguments).end_object();
}

/// Writes thoughts, and the proof that they carry.
pub(crate) fn reasoning(id: &str, text: Option<&Text<'_>>, proof: Option<&str>, writer: &mut Writer<'_>) {
    writer.object().word("type", "reasoning").word("id", id).key("summary").array();
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        writer.item().object().word("type", "summary_text").key("text").text(text).end_object();
    }
    writer.end_array();
    if let Some(proof) = proof {
        writer.word("encrypted_content", proof);
    }
    writer.end_object();
}

/// The id of an item: its kind, its response and its place.
pub(crate) fn id(kind: &str, identity: &Identity, place: u64) -> String {
    format!("{kind}_{}_{place}", identity.id)
}
