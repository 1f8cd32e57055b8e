//! A whole Gemini answer, written.

use bytes::BytesMut;

use super::finish;
use crate::{
    FoldError,
    json::{Document, Kind},
    translate::{
        AnswerContext, carrier,
        citation::Citation,
        text::Text,
        vocabulary::{Choice, Completion, Part, PartKind, Signature, TokenLogprob, Vendor},
        write::Writer,
    },
};

/// Writes an answer.
pub(crate) fn write(
    completion: &Completion<'_>,
    context: &AnswerContext<'_>,
    out: &mut BytesMut,
) -> Result<(), FoldError> {
    let mut writer = Writer::new(out);
    writer.object().key("candidates").array();
    for choice in &completion.choices {
        self::choice(choice, writer.item())?;
    }
    writer.end_array();
    if let Some(usage) = &completion.usage {
        writer.key("usageMetadata");
        finish::usage(usage, &mut writer);
    }
    writer.key("modelVersion").text(completion.model.as_ref().unwrap_or(&context.model.into()));
    writer.key("responseId").text(completion.id.as_ref().unwrap_or(&context.id.into())).end_object();
    Ok(())
}

fn choice(choice: &Choice<'_>, writer: &mut Writer<'_>) -> Result<(), FoldError> {
    writer.object().key("content").object().key("parts").array();
    for part in &choice.parts {
        self::part(part, writer)?;
    }
    writer.end_array().word("role", "model").end_object();
    writer.word("finishReason", finish::word(&choice.finish)).key("index").number(choice.index);
    if !choice.citations.is_empty() {
        sources(&choice.citations, writer.key("citationMetadata"));
    }
    if !choice.logprobs.is_empty() {
        writer.key("logprobsResult");
        logprobs(&choice.logprobs, writer);
    }
    writer.end_object();
    Ok(())
}

fn part(part: &Part<'_>, writer: &mut Writer<'_>) -> Result<(), FoldError> {
    match &part.kind {
        PartKind::Text(text, signature) => self::text(text, false, signature.as_ref(), writer.item()),
        PartKind::Refusal(text) => self::text(text, false, None, writer.item()),
        PartKind::Thinking(text, signature) => self::text(text, true, signature.as_ref(), writer.item()),
        PartKind::Redacted(data) => redacted(data, writer.item()),
        PartKind::Call(call) => {
            function_call(&call.id, &call.name, &call.arguments, call.signature.as_ref(), writer.item())?;
        }
        PartKind::Media(_) | PartKind::Result(_) => {}
    }
    Ok(())
}

/// Writes text or a thought with its proof.
pub(crate) fn text(
    text: &Text<'_>,
    thought: bool,
    signature: Option<&Signature<'_>>,
    writer: &mut Writer<'_>,
) {
    writer.object().key("text").text(text);
    if thought {
        writer.key("thought").bool(true);
    }
    match signature {
        None => {}
        Some(signature) if signature.vendor == Vendor::Gemini => {
            writer.key("thoughtSignature").text(&signature.text);
        }
        Some(signature) => _ = writer.word("thoughtSignature", &carrier::wrap_for_gemini(&signature.text)),
    }
    writer.end_object();
}

/// Writes thoughts that only their provider can read, in their carrier.
pub(crate) fn redacted(data: &Text<'_>, writer: &mut Writer<'_>) {
    writer.object().word("text", "").key("thought").bool(true);
    writer.word("thoughtSignature", &carrier::wrap_redacted(data)).end_object();
}

/// Writes a call.
pub(crate) fn function_call(
    id: &Text<'_>,
    name: &Text<'_>,
    arguments: &str,
    signature: Option<&Signature<'_>>,
    writer: &mut Writer<'_>,
) -> Result<(), FoldError> {
    let arguments = arguments.trim();
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    if !Document::parse(arguments.as_bytes()).is_ok_and(|document| document.root().kind() == Kind::Object) {
        return Err(FoldError::Shape("arguments that are a JSON object"));
    }
    writer.object().key("functionCall").object().key("id").text(id).key("name").text(name);
    writer.key("args").raw(arguments).end_object();
    if let Some(signature) = signature.filter(|signature| signature.vendor == Vendor::Gemini) {
        writer.key("thoughtSignature").text(&signature.text);
    }
    writer.end_object();
    Ok(())
}

/// Writes the pages that an answer refers to.
pub(crate) fn sources(citations: &[Citation<'_>], writer: &mut Writer<'_>) {
    writer.object().key("citationSources").array();
    citations.iter().for_each(|citation| citation.gemini(writer.item()));
    writer.end_array().end_object();
}

/// Writes log probabilities.
pub(crate) fn logprobs(tokens: &[TokenLogprob<'_>], writer: &mut Writer<'_>) {
    let pair = |token: &Text<'_>, logprob: &str, writer: &mut Writer<'_>| {
        writer.object().key("token").text(token).key("logProbability").raw(logprob).end_object();
    };
    writer.object().key("topCandidates").array();
    for token in tokens {
        writer.item().object().key("candidates").array();
        for (token, logprob) in &token.top {
            pair(token, logprob, writer.item());
        }
        writer.end_array().end_object();
    }
    writer.end_array().key("chosenCandidates").array();
    for token in tokens {
        pair(&token.token, token.logprob, writer.item());
    }
    writer.end_array().end_object();
}
