//! Reading request bodies the way a provider does: what is missing or of the wrong type is a 400.

use serde_json::Value;

/// A body that the provider refuses, with the reason it gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRequest(pub(crate) String);

impl BadRequest {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    pub(crate) fn missing(name: &str) -> Self {
        Self(format!("Missing or empty required parameter: '{name}'."))
    }
}

/// A required, non-empty string.
pub(crate) fn field(body: &Value, name: &str) -> Result<String, BadRequest> {
    body.get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| BadRequest::missing(name))
}

/// An optional positive integer; `null` is absent.
pub(crate) fn positive(body: &Value, name: &str) -> Result<Option<usize>, BadRequest> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .filter(|n| *n > 0)
            .and_then(|n| usize::try_from(n).ok())
            .map(Some)
            .ok_or_else(|| BadRequest::new(format!("'{name}' must be a positive integer."))),
    }
}

/// The text of one message: its content string, or the text parts of it, joined.
pub(crate) fn content_text(message: &Value) -> String {
    let content = message.get("content").or_else(|| message.get("parts"));
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<_> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

/// Bytes of text in `value`, at any depth that serde admits.
pub(crate) fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(fields) => fields.values().map(text_bytes).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
