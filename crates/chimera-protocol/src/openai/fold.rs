//! A stream of chunks as the answer that it means.

use serde_json::{Map, Value, json};

use super::GROWING;
use crate::dialect::{FoldError, append};

/// Members whose text grows within a call or within what is said aloud.
const INNER: [&str; 4] = ["arguments", "input", "data", "transcript"];

/// Adds a chunk to what came before it.
pub(super) fn chunk(
    chunk: Value,
    answer: &mut Map<String, Value>,
    choices: &mut Vec<Value>,
) -> Result<(), FoldError> {
    let Value::Object(chunk) = chunk else { return Err(FoldError::NotJson) };
    for (name, value) in chunk {
        match (name.as_str(), value) {
            ("error", value) if !value.is_null() => return Err(FoldError::Error),
            ("choices", Value::Array(deltas)) => {
                for delta in deltas {
                    fold_choice(delta, choices)?;
                }
            }
            ("object", _) => {}
            (_, value) if answer.contains_key(&name) && value.is_null() => {}
            (_, value) => {
                answer.insert(name, value);
            }
        }
    }
    Ok(())
}

fn fold_choice(delta: Value, choices: &mut Vec<Value>) -> Result<(), FoldError> {
    let index = delta.get("index").and_then(Value::as_u64).unwrap_or(0);
    let known = choices.iter().position(|choice| choice.get("index").and_then(Value::as_u64) == Some(index));
    let at = known.unwrap_or_else(|| {
        let message = json!({ "role": "assistant", "content": null });
        choices.push(json!({ "index": index, "message": message, "finish_reason": null }));
        choices.len() - 1
    });
    let (Some(Value::Object(choice)), Value::Object(delta)) = (choices.get_mut(at), delta) else {
        return Ok(());
    };
    for (name, value) in delta {
        match name.as_str() {
            "delta" => {
                let message = choice.entry("message").or_insert_with(|| json!({}));
                fold_delta(value, message)?;
            }
            "logprobs" => fold_logprobs(value, choice.entry("logprobs").or_insert(Value::Null)),
            _ if value.is_null() && choice.contains_key(&name) => {}
            _ => {
                choice.insert(name, value);
            }
        }
    }
    Ok(())
}

/// Log probabilities come token by token, in lists.
fn fold_logprobs(more: Value, so_far: &mut Value) {
    match (so_far, more) {
        (Value::Object(so_far), Value::Object(more)) => {
            for (name, value) in more {
                match (so_far.get_mut(&name), value) {
                    (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
                    (Some(known), value) if known.is_null() => *known = value,
                    (Some(_), _) => {}
                    (None, value) => {
                        so_far.insert(name, value);
                    }
                }
            }
        }
        (so_far, more) if so_far.is_null() => *so_far = more,
        _ => {}
    }
}

fn fold_delta(delta: Value, message: &mut Value) -> Result<(), FoldError> {
    let (Value::Object(delta), Value::Object(message)) = (delta, message) else { return Ok(()) };
    for (name, value) in delta {
        match value {
            Value::Array(calls) if name == "tool_calls" => {
                let list = message.entry(name).or_insert_with(|| json!([]));
                calls.into_iter().try_for_each(|call| fold_tool_call(call, list))?;
            }
            // Blocks of thought and citations come one by one, each whole.
            Value::Array(blocks) if name == "thinking_blocks" || name == "annotations" => {
                match message.entry(name).or_insert_with(|| json!([])) {
                    Value::Array(list) => list.extend(blocks),
                    other => *other = Value::Array(blocks),
                }
            }
            Value::Array(details) if name == "reasoning_details" => {
                match message.entry(name).or_insert_with(|| json!([])) {
                    Value::Array(list) => details.into_iter().for_each(|detail| fold_detail(detail, list)),
                    other => *other = Value::Array(details),
                }
            }
            Value::Object(more) if name == "function_call" || name == "audio" => {
                match message.entry(name).or_insert_with(|| json!({})) {
                    Value::Object(known) => fold_object(more, known)?,
                    other => *other = Value::Object(more),
                }
            }
            value if GROWING.contains(&name.as_str()) => {
                append(message.entry(name).or_insert(Value::Null), &value);
            }
            value if value.is_null() && message.contains_key(&name) => {}
            value => {
                message.insert(name, value);
            }
        }
    }
    Ok(())
}

/// Calls come in order: one that leaves a gap is not an answer that can be told whole.
fn fold_tool_call(call: Value, list: &mut Value) -> Result<(), FoldError> {
    let gap = FoldError::Shape("a tool call");
    let (Value::Object(mut call), Value::Array(list)) = (call, list) else { return Err(gap) };
    let index = call.shift_remove("index").and_then(|index| index.as_u64()).unwrap_or(0) as usize;
    if index == list.len() {
        list.push(json!({}));
    }
    let Some(Value::Object(known)) = list.get_mut(index) else { return Err(gap) };
    for (name, value) in call {
        match (known.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(more)) => fold_object(more, inner)?,
            (Some(_), Value::Null) => {}
            (_, value) => {
                known.insert(name, value);
            }
        }
    }
    Ok(())
}

/// An object in pieces: arguments of a call, or what is said aloud.
fn fold_object(more: Map<String, Value>, known: &mut Map<String, Value>) -> Result<(), FoldError> {
    for (name, value) in more {
        match known.get_mut(&name) {
            Some(text) if INNER.contains(&name.as_str()) => {
                let is_open = |text: &str| text.len().is_multiple_of(4) && !text.ends_with('=');
                if name == "data" && !text.as_str().is_some_and(is_open) {
                    return Err(FoldError::Shape("pieces of base64 that can be joined"));
                }
                append(text, &value);
            }
            Some(_) if value.is_null() => {}
            _ => {
                known.insert(name, value);
            }
        }
    }
    Ok(())
}

/// A thought goes on while its place and its kind are the same.
fn fold_detail(detail: Value, list: &mut Vec<Value>) {
    let same = |known: &Value| ["index", "type"].iter().all(|name| known.get(name) == detail.get(name));
    match (list.last_mut().filter(|known| same(known)), detail) {
        (Some(Value::Object(known)), Value::Object(more)) => {
            for (name, value) in more {
                match known.get_mut(&name) {
                    Some(text) if name == "text" || name == "summary" => append(text, &value),
                    Some(_) if value.is_null() => {}
                    _ => {
                        known.insert(name, value);
                    }
                }
            }
        }
        (_, detail) => list.push(detail),
    }
}
