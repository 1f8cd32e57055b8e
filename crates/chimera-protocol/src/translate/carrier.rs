//! How a provider's opaque proofs travel through a caller that speaks another dialect, and come back.
//!
//! | proof | to OpenAI callers | to Anthropic callers | to Gemini callers |
//! |---|---|---|---|
//! | Anthropic's signature of a thinking block | `thinking_blocks` of the message, Anthropic's own shape, beside `reasoning_content` | is theirs | `thoughtSignature` of the thought: base64 of `anthropic:` and the signature |
//! | Anthropic's redacted thinking | `thinking_blocks` | is theirs | a thought without text: base64 of `anthropic-redacted:` and the data |
//! | Gemini's signature of a call | `extra_content.google.thought_signature` of the call, as Google has it | a thinking block without text before the call, its signature beginning with `gemini:` | is theirs |
//! | Gemini's signature of text | the same, of the message | a thinking block without text after it, `gemini-text:` | is theirs |
//!
//! Callers of OpenAI's responses get each proof as the `encrypted_content` of a reasoning item beside what
//! it proves, with the same prefixes.
//!
//! Each is a place that the SDKs of that dialect send back unchanged. A proof of another provider than
//! the one that is asked means nothing to it and is left out.

use std::borrow::Cow;

use super::{
    base64,
    pick::{self, Picked},
    text::Text,
    vocabulary::{Part, PartKind, Signature, Vendor},
    write::Writer,
};
use crate::json::Value;

const GEMINI: &str = "gemini:";
const GEMINI_TEXT: &str = "gemini-text:";
const ANTHROPIC: &str = "anthropic:";
const REDACTED: &str = "anthropic-redacted:";

/// Gemini's signature in an OpenAI message or call.
pub(crate) fn from_extra_content(value: Value<'_>) -> Option<Signature<'_>> {
    let text = value.get("extra_content")?.get("google")?.get("thought_signature")?;
    Some(Signature { vendor: Vendor::Gemini, text: Text::of(text)? })
}

/// The same, written.
pub(crate) fn write_extra_content(writer: &mut Writer<'_>, signature: &Text<'_>) {
    writer.key("extra_content").object().key("google").object().key("thought_signature").text(signature);
    writer.end_object().end_object();
}

/// Anthropic's thinking blocks in an OpenAI message, or its plain thoughts.
pub(crate) fn thinking_blocks<'a>(message: Value<'a>, thoughts: Option<Text<'a>>) -> Picked<Vec<Part<'a>>> {
    let mut parts = Vec::new();
    let blocks = message.get("thinking_blocks").filter(|blocks| !blocks.is_null());
    let Some(blocks) = blocks else {
        let thoughts = thoughts.filter(|thoughts| !thoughts.is_empty());
        parts.extend(thoughts.map(|text| Part::from(PartKind::Thinking(text, None))));
        return Ok(parts);
    };
    pick::elements(blocks, |_, block| {
        parts.push(anthropic_block(block)?.into());
        Ok(())
    })
    .map_err(|refused| refused.inside("thinking_blocks"))?;
    Ok(parts)
}

/// A thinking block in Anthropic's shape; its signature may be a wrapped one of Gemini's.
pub(crate) fn anthropic_block(block: Value<'_>) -> Picked<PartKind<'_>> {
    if pick::required(block, "type")?.is("redacted_thinking") {
        return Ok(PartKind::Redacted(pick::text_in(block, "data")?));
    }
    let signature = pick::maybe_text(block, "signature")?.filter(|signature| !signature.is_empty());
    let text = pick::maybe_text(block, "thinking")?.unwrap_or_else(|| "".into());
    Ok(PartKind::Thinking(text, signature.map(|text| Signature { vendor: Vendor::Anthropic, text })))
}

/// Writes a thinking block in Anthropic's shape.
pub(crate) fn write_anthropic_block(
    writer: &mut Writer<'_>,
    index: Option<u64>,
    text: &Text<'_>,
    signature: &Text<'_>,
) {
    writer.object();
    if let Some(index) = index {
        writer.key("index").number(index);
    }
    writer.word("type", "thinking").key("thinking").text(text).key("signature").text(signature).end_object();
}

/// Gemini's signature as that of an Anthropic thinking block.
pub(crate) fn wrap_for_anthropic(signature: &Text<'_>, of_text: bool) -> String {
    let prefix = if of_text { GEMINI_TEXT } else { GEMINI };
    format!("{prefix}{}", signature.plain())
}

/// What such a block carried: Gemini's signature, and whether it is one of text.
pub(crate) fn unwrap_from_anthropic(signature: &Text<'_>) -> Option<(Signature<'static>, bool)> {
    let plain = signature.plain();
    let carried = |text: &str| Signature { vendor: Vendor::Gemini, text: Text::from(text.to_owned()) };
    if let Some(text) = plain.strip_prefix(GEMINI_TEXT) {
        return Some((carried(text), true));
    }
    plain.strip_prefix(GEMINI).map(|text| (carried(text), false))
}

/// Anthropic's signature as a thought signature of Gemini's, which must be base64.
pub(crate) fn wrap_for_gemini(signature: &Text<'_>) -> String {
    base64::encode(format!("{ANTHROPIC}{}", signature.plain()).as_bytes())
}

/// Anthropic's redacted thinking, likewise.
pub(crate) fn wrap_redacted(data: &Text<'_>) -> String {
    base64::encode(format!("{REDACTED}{}", data.plain()).as_bytes())
}

/// What a thought of a Gemini caller's is: with a proof of Gemini's own, or one that was wrapped.
pub(crate) fn gemini_thought<'a>(text: Text<'a>, signature: Option<Text<'a>>) -> PartKind<'a> {
    let Some(signature) = signature else { return PartKind::Thinking(text, None) };
    let bytes = base64::decode(&signature.plain()).and_then(|bytes| String::from_utf8(bytes).ok());
    let carried = bytes.as_deref().unwrap_or_default();
    if let Some(data) = carried.strip_prefix(REDACTED) {
        return PartKind::Redacted(Text::Plain(Cow::Owned(data.to_owned())));
    }
    let signature = match carried.strip_prefix(ANTHROPIC) {
        Some(own) => Signature { vendor: Vendor::Anthropic, text: Text::from(own.to_owned()) },
        None => Signature { vendor: Vendor::Gemini, text: signature },
    };
    PartKind::Thinking(text, Some(signature))
}

/// What the encrypted content of a reasoning item carries.
pub(crate) enum Carried {
    Thinking(Signature<'static>),
    Redacted(Text<'static>),
    Call(Signature<'static>),
    Text(Signature<'static>),
}

/// A proof as the encrypted content of a reasoning item. One of Gemini's may be that of a call.
pub(crate) fn wrap_for_responses(signature: &Signature<'_>, of_call: bool) -> String {
    match (signature.vendor, of_call) {
        (Vendor::Anthropic, _) => format!("{ANTHROPIC}{}", signature.text.plain()),
        (Vendor::Gemini, of_call) => wrap_for_anthropic(&signature.text, !of_call),
    }
}

/// Thoughts that only their provider can read, likewise.
pub(crate) fn wrap_redacted_for_responses(data: &Text<'_>) -> String {
    format!("{REDACTED}{}", data.plain())
}

/// What such an item carries; `None` for what is OpenAI's own.
pub(crate) fn unwrap_from_responses(content: &Text<'_>) -> Option<Carried> {
    if let Some((signature, of_text)) = unwrap_from_anthropic(content) {
        return Some(if of_text { Carried::Text(signature) } else { Carried::Call(signature) });
    }
    let plain = content.plain();
    if let Some(data) = plain.strip_prefix(REDACTED) {
        return Some(Carried::Redacted(data.to_owned().into()));
    }
    let text = plain.strip_prefix(ANTHROPIC)?.to_owned().into();
    Some(Carried::Thinking(Signature { vendor: Vendor::Anthropic, text }))
}
