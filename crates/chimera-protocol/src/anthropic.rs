//! Anthropic's messages.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::{
    dialect::{
        Choices, Dialect, ErrorParts, FoldError, Observed, Operation, UnfoldOptions, append, event, pieces,
    },
    needle::{self, contains},
    spelling::Spellings,
    sse,
    usage::{Reported, Usage},
};

pub(crate) struct Anthropic;

impl Dialect for Anthropic {
    fn error_body(&self, parts: &ErrorParts<'_>) -> Vec<u8> {
        error(parts).to_string().into_bytes()
    }

    fn error_event(&self, parts: &ErrorParts<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        // Without the name clients do not look at it.
        event(Some("error"), &error(parts), &mut out);
        out
    }

    fn observe(&self, name: Option<&[u8]>, data: &[u8]) -> Observed {
        match &*name.map_or_else(|| Cow::Owned(kind_in(data)), Cow::Borrowed) {
            b"content_block_delta" | b"content_block_stop" | b"message_delta" => Observed::Content,
            b"content_block_start" if contains(data, &needle::TOOL_USE) => Observed::Content,
            b"message_stop" => Observed::End,
            b"error" => Observed::Error,
            _ => Observed::Lifecycle,
        }
    }

    /// It ends with its last event or not at all.
    fn note_choices(&self, _: &[u8], _: &mut Choices) {}

    fn terminal(&self) -> Option<&'static [u8]> {
        None
    }

    fn promised(&self, operation: Operation) -> &'static [&'static str] {
        match operation {
            Operation::CountTokens => &["input_tokens"],
            _ => &["content"],
        }
    }

    /// Anthropic counts cached input apart from fresh.
    fn usage_of(&self, reported: &Reported) -> Usage {
        let cached = reported.cache_read_input_tokens;
        let written = reported.cache_creation_input_tokens;
        let all = |fresh: u64| fresh.saturating_add(cached.unwrap_or(0)).saturating_add(written.unwrap_or(0));
        Usage {
            input_tokens: reported.input_tokens.map(all),
            output_tokens: reported.output_tokens,
            cached_input_tokens: cached,
            cache_write_tokens: written,
            reasoning_tokens: None,
        }
    }

    fn fold(&self, stream: &[u8]) -> Result<Vec<u8>, FoldError> {
        let mut message: Option<Map<String, Value>> = None;
        let mut blocks: Vec<Block> = Vec::new();
        let mut spellings = Spellings::default();
        for event in sse::events(stream) {
            if event.data().is_empty() {
                continue;
            }
            let mut data = spellings.read(event.data())?;
            match data.get("type").and_then(Value::as_str).unwrap_or_default() {
                "message_start" => message = data.get_mut("message").and_then(take_object),
                "content_block_start" => {
                    let value = data.get_mut("content_block").map(Value::take).unwrap_or_default();
                    blocks.push(Block { value, input: String::new() });
                }
                "content_block_delta" => {
                    let at = data.get("index").and_then(Value::as_u64).unwrap_or(0) as usize;
                    if let (Some(block), Some(delta)) = (blocks.get_mut(at), data.get("delta")) {
                        block.add(delta);
                    }
                }
                "message_delta" => {
                    let message = message.as_mut().ok_or(FoldError::Shape("a message_start"))?;
                    fold_message_delta(data, message);
                }
                "message_stop" => {
                    let mut message = message.ok_or(FoldError::Shape("a message_start"))?;
                    let content: Result<Vec<_>, _> =
                        blocks.into_iter().map(|block| block.finish(&mut spellings)).collect();
                    message.insert("content".into(), content?.into());
                    return Ok(spellings.text(&Value::Object(message)).into_bytes());
                }
                "error" => return Err(FoldError::Error),
                _ => {}
            }
        }
        Err(FoldError::Truncated)
    }

    fn unfold(&self, answer: &[u8], _: UnfoldOptions) -> Result<Vec<u8>, FoldError> {
        let mut spellings = Spellings::default();
        let mut message = take_object(&mut spellings.read(answer)?).ok_or(FoldError::NotJson)?;
        let Some(Value::Array(blocks)) = message.insert("content".into(), json!([])) else {
            return Err(FoldError::Shape("content"));
        };
        let null = |message: &mut Map<String, Value>, name: &str| message.insert(name.into(), Value::Null);
        let stop_reason = null(&mut message, "stop_reason").unwrap_or_default();
        let stop_sequence = null(&mut message, "stop_sequence").unwrap_or_default();
        let usage = message.get("usage").cloned();
        let mut out = Vec::new();
        let mut named = |data: Value| named(&spellings, &mut out, &data);
        named(json!({ "type": "message_start", "message": message }));
        for (index, block) in blocks.into_iter().enumerate() {
            unfold_block(index, block, &spellings, &mut named);
        }
        let mut delta = json!({
            "type": "message_delta", "delta": { "stop_reason": stop_reason, "stop_sequence": stop_sequence },
        });
        if let (Some(usage), Some(delta)) = (usage, delta.as_object_mut()) {
            delta.insert("usage".into(), usage);
        }
        named(delta);
        named(json!({ "type": "message_stop" }));
        Ok(out)
    }
}

fn error(parts: &ErrorParts<'_>) -> Value {
    let kind = match parts.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    };
    json!({
        "type": "error",
        "error": { "type": kind, "message": parts.message, "code": parts.code, "param": parts.param },
        "request_id": parts.request_id,
    })
}

/// The type of an event that came without a name.
fn kind_in(data: &[u8]) -> Vec<u8> {
    #[derive(serde::Deserialize)]
    struct Typed {
        r#type: String,
    }
    serde_json::from_slice::<Typed>(data).map(|typed| typed.r#type.into_bytes()).unwrap_or_default()
}

fn take_object(value: &mut Value) -> Option<Map<String, Value>> {
    match value.take() {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

/// A content block while it grows.
struct Block {
    value: Value,
    /// The JSON of a tool's input, as text, until it is whole.
    input: String,
}

impl Block {
    fn add(&mut self, delta: &Value) {
        let Some(block) = self.value.as_object_mut() else { return };
        let mut grow = |name: &str| {
            if let Some(more) = delta.get(name) {
                append(block.entry(name).or_insert_with(|| "".into()), more);
            }
        };
        match delta.get("type").and_then(Value::as_str).unwrap_or_default() {
            "text_delta" => grow("text"),
            "thinking_delta" => grow("thinking"),
            "signature_delta" => grow("signature"),
            "input_json_delta" => {
                self.input.push_str(delta.get("partial_json").and_then(Value::as_str).unwrap_or_default());
            }
            "citations_delta" => {
                if let (Value::Array(list), Some(citation)) =
                    (block.entry("citations").or_insert_with(|| json!([])), delta.get("citation"))
                {
                    list.push(citation.clone());
                }
            }
            _ => {}
        }
    }

    fn finish(mut self, spellings: &mut Spellings) -> Result<Value, FoldError> {
        if !self.input.is_empty()
            && let Some(block) = self.value.as_object_mut()
        {
            let input = spellings.read(self.input.as_bytes())?;
            block.insert("input".into(), input);
        }
        Ok(self.value)
    }
}

/// The end of a message: why it stopped, and what it cost; counts known from the start stay.
fn fold_message_delta(mut data: Value, message: &mut Map<String, Value>) {
    if let Some(delta) = data.get_mut("delta").and_then(take_object) {
        message.extend(delta);
    }
    let Some(usage) = data.get_mut("usage").and_then(take_object) else { return };
    let known = message.entry("usage").or_insert_with(|| json!({}));
    if let Some(known) = known.as_object_mut() {
        known.extend(usage.into_iter().filter(|(_, value)| !value.is_null()));
    }
}

fn named(spellings: &Spellings, out: &mut Vec<u8>, data: &Value) {
    spellings.event(Some(data.get("type").and_then(Value::as_str).unwrap_or_default()), data, out);
}

fn unfold_block(index: usize, mut block: Value, spellings: &Spellings, named: &mut dyn FnMut(Value)) {
    let mut deltas = Vec::new();
    if let Some(block) = block.as_object_mut() {
        let mut text = |name: &str, kind: &str| {
            if let Some(Value::String(text)) = block.get_mut(name).map(Value::take) {
                block.insert(name.into(), "".into());
                deltas.extend(pieces(&text).into_iter().map(|piece| json!({ "type": kind, name: piece })));
            }
        };
        text("text", "text_delta");
        text("thinking", "thinking_delta");
        text("signature", "signature_delta");
        if let Some(Value::Array(citations)) = block.get_mut("citations").map(Value::take) {
            block.insert("citations".into(), json!([]));
            deltas.extend(citations.into_iter().map(|c| json!({ "type": "citations_delta", "citation": c })));
        }
        let is_tool =
            block.get("type").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("tool_use"));
        if is_tool && let Some(input) = block.insert("input".into(), json!({})) {
            let input = spellings.text(&input);
            deltas.extend(
                pieces(&input).into_iter().map(|p| json!({ "type": "input_json_delta", "partial_json": p })),
            );
        }
    }
    named(json!({ "type": "content_block_start", "index": index, "content_block": block }));
    for delta in deltas {
        named(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
    }
    named(json!({ "type": "content_block_stop", "index": index }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_undoes_unfolding() {
        let answer = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude",
            "content": [
                { "type": "thinking", "thinking": "hm ".repeat(50), "signature": "c2ln" },
                { "type": "text", "text": "Grüße 😀 ".repeat(30) },
                { "type": "text", "text": "cited", "citations": [{ "type": "char_location", "cited_text": "x" }] },
                { "type": "tool_use", "id": "t1", "name": "f", "input": { "city": "Köln", "n": [1, 2] } },
                { "type": "tool_use", "id": "t2", "name": "g", "input": {} },
                { "type": "redacted_thinking", "data": "AAAA" },
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": { "input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 9 },
        });
        let stream =
            Anthropic.unfold(answer.to_string().as_bytes(), UnfoldOptions { include_usage: true }).unwrap();
        let folded: Value = serde_json::from_slice(&Anthropic.fold(&stream).unwrap()).unwrap();
        assert_eq!(folded, answer);
        let names: Vec<_> = sse::events(&stream)
            .iter()
            .map(|e| String::from_utf8_lossy(e.event.unwrap()).into_owned())
            .collect();
        assert_eq!(
            (names.first().unwrap().as_str(), names.last().unwrap().as_str()),
            ("message_start", "message_stop")
        );
        assert_eq!(Anthropic.fold(&stream[..stream.len() - 20]), Err(FoldError::Truncated));
    }

    #[test]
    fn pain_5_cached_tokens_are_counted_from_both_events() {
        let dialect = crate::DialectId::Anthropic.dialect();
        let mut usage = None;
        dialect.merge_usage(
            br#"{"type":"message_start","message":{"usage":{"input_tokens":5,"cache_read_input_tokens":10,"cache_creation_input_tokens":2,"output_tokens":1}}}"#,
            &mut usage,
        );
        dialect
            .merge_usage(br#"{"type":"message_delta","delta":{},"usage":{"output_tokens":40}}"#, &mut usage);
        let usage = usage.unwrap();
        assert_eq!((usage.input_tokens, usage.output_tokens), (Some(17), Some(40)));
        assert_eq!((usage.cached_input_tokens, usage.cache_write_tokens), (Some(10), Some(2)));
    }

    #[test]
    fn events_are_told_apart_with_and_without_names() {
        let seen = |name: &str, data: &str| {
            let named = Anthropic.observe(Some(name.as_bytes()), data.as_bytes());
            let bare = Anthropic
                .observe(None, format!(r#"{{"type":"{name}",{}"#, data.get(1..).unwrap()).as_bytes());
            assert_eq!(named, bare);
            named
        };
        assert_eq!(seen("message_start", r#"{"x":1}"#), Observed::Lifecycle);
        assert_eq!(seen("ping", r#"{"x":1}"#), Observed::Lifecycle);
        assert_eq!(seen("content_block_start", r#"{"content_block":{"type":"text"}}"#), Observed::Lifecycle);
        assert_eq!(
            seen("content_block_start", r#"{"content_block":{"type":"tool_use"}}"#),
            Observed::Content
        );
        assert_eq!(seen("content_block_delta", r#"{"x":1}"#), Observed::Content);
        assert_eq!(seen("message_stop", r#"{"x":1}"#), Observed::End);
        assert_eq!(seen("error", r#"{"error":{}}"#), Observed::Error);
    }
}
