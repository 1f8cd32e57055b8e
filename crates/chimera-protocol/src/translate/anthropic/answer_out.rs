//! A whole Anthropic answer, written.

use bytes::BytesMut;

use super::finish;
use crate::{
    FoldError,
    json::{Document, Kind},
    translate::{
        AnswerContext, carrier,
        citation::Citation,
        text::Text,
        vocabulary::{Call, Completion, Finish, Part, PartKind, Signature, Vendor},
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
    writer.object();
    writer.key("id").text(completion.id.as_ref().unwrap_or(&context.id.into()));
    writer.word("type", "message").word("role", "assistant");
    writer.key("model").text(completion.model.as_ref().unwrap_or(&context.model.into()));
    writer.key("content").array();
    let choice = completion.choices.first();
    let parts = choice.map(|choice| choice.parts.as_slice()).unwrap_or_default();
    let is_text = |part: &Part<'_>| matches!(&part.kind, PartKind::Text(text, _) if !text.is_empty());
    let last_text = parts.iter().rposition(is_text);
    for (at, part) in parts.iter().enumerate() {
        let cited = choice.filter(|_| Some(at) == last_text).map(|choice| choice.citations.as_slice());
        self::part(part, cited.unwrap_or_default(), &mut writer)?;
    }
    writer.end_array();
    finish::write(choice.map_or(&Finish::Stop, |choice| &choice.finish), &mut writer);
    writer.key("usage");
    finish::usage(completion.usage.as_ref(), &mut writer);
    writer.end_object();
    Ok(())
}

fn part(part: &Part<'_>, cited: &[Citation<'_>], writer: &mut Writer<'_>) -> Result<(), FoldError> {
    match &part.kind {
        PartKind::Text(text, signature) => {
            if !text.is_empty() {
                writer.item().object().word("type", "text").key("text").text(text);
                if !cited.is_empty() {
                    writer.key("citations").array();
                    cited.iter().for_each(|citation| citation.anthropic(writer.item()));
                    writer.end_array();
                }
                writer.end_object();
            }
            if let Some(signature) = signature {
                carried(signature, true, writer);
            }
        }
        PartKind::Refusal(text) => {
            writer.item().object().word("type", "text").key("text").text(text).end_object();
        }
        PartKind::Thinking(text, signature) => thinking(text, signature.as_ref(), writer),
        PartKind::Redacted(data) => {
            writer.item().object().word("type", "redacted_thinking").key("data").text(data).end_object();
        }
        PartKind::Call(call) => self::call(call, writer)?,
        PartKind::Media(_) | PartKind::Result(_) => {}
    }
    Ok(())
}

fn thinking(text: &Text<'_>, signature: Option<&Signature<'_>>, writer: &mut Writer<'_>) {
    match signature {
        Some(signature) if signature.vendor == Vendor::Gemini => {
            if !text.is_empty() {
                carrier::write_anthropic_block(writer.item(), None, text, &"".into());
            }
            carried(signature, true, writer);
        }
        Some(signature) => carrier::write_anthropic_block(writer.item(), None, text, &signature.text),
        None => carrier::write_anthropic_block(writer.item(), None, text, &"".into()),
    }
}

/// Gemini's proof in its carrier.
fn carried(signature: &Signature<'_>, of_text: bool, writer: &mut Writer<'_>) {
    let wrapped = carrier::wrap_for_anthropic(&signature.text, of_text).into();
    carrier::write_anthropic_block(writer.item(), None, &"".into(), &wrapped);
}

fn call(call: &Call<'_>, writer: &mut Writer<'_>) -> Result<(), FoldError> {
    if let Some(signature) = &call.signature {
        carried(signature, false, writer);
    }
    let arguments = call.arguments.trim();
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    if !Document::parse(arguments.as_bytes()).is_ok_and(|document| document.root().kind() == Kind::Object) {
        return Err(FoldError::Shape("arguments that are a JSON object"));
    }
    writer.item().object().word("type", "tool_use").key("id").text(&call.id);
    writer.key("name").text(&call.name).key("input").raw(arguments).end_object();
    Ok(())
}
