//! Google's generateContent and embedContent.

use std::time::Duration;

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

pub(crate) struct Gemini;

impl Dialect for Gemini {
    fn error_body(&self, parts: &ErrorParts<'_>) -> Vec<u8> {
        error(parts).to_string().into_bytes()
    }

    fn error_event(&self, parts: &ErrorParts<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        event(None, &error(parts), &mut out);
        out
    }

    fn observe(&self, _: Option<&[u8]>, data: &[u8]) -> Observed {
        let start = data.trim_ascii_start();
        let first = start.strip_prefix(b"{").unwrap_or(start).trim_ascii_start();
        if first.starts_with(b"\"error\"") {
            Observed::Error
        } else if contains(data, &needle::CANDIDATES) || contains(data, &needle::BLOCK_REASON) {
            Observed::Content
        } else {
            Observed::Lifecycle
        }
    }

    fn note_choices(&self, data: &[u8], choices: &mut Choices) {
        if may_end_after(data) {
            choices.end();
        }
    }

    fn terminal(&self) -> Option<&'static [u8]> {
        None
    }

    fn promised(&self, operation: Operation) -> &'static [&'static str] {
        match operation {
            Operation::Chat => &["candidates", "promptFeedback"],
            Operation::Embed => &["embedding", "embeddings"],
            Operation::CountTokens => &["totalTokens"],
        }
    }

    /// Gemini counts reasoning apart from the answer.
    fn usage_of(&self, reported: &Reported) -> Usage {
        let reasoning = reported.thoughts_token_count;
        Usage {
            input_tokens: reported.prompt_token_count,
            output_tokens: match (reported.candidates_token_count, reasoning) {
                (None, None) => None,
                (output, reasoning) => Some(output.unwrap_or(0).saturating_add(reasoning.unwrap_or(0))),
            },
            cached_input_tokens: reported.cached_content_token_count,
            cache_write_tokens: None,
            reasoning_tokens: reasoning,
        }
    }

    fn fold(&self, stream: &[u8]) -> Result<Vec<u8>, FoldError> {
        let mut answer = Map::new();
        let mut candidates: Vec<Value> = Vec::new();
        let mut ended = false;
        let mut spellings = Spellings::default();
        for event in sse::events(stream) {
            if event.data().is_empty() {
                continue;
            }
            ended |= may_end_after(event.data());
            let Value::Object(chunk) = spellings.read(event.data())? else { return Err(FoldError::NotJson) };
            for (name, value) in chunk {
                match (name.as_str(), value) {
                    ("error", _) => return Err(FoldError::Error),
                    ("candidates", Value::Array(more)) => {
                        more.into_iter().for_each(|candidate| fold_candidate(candidate, &mut candidates));
                        // Keeps its place among the members.
                        answer.entry("candidates").or_insert(Value::Null);
                    }
                    (_, value) => {
                        answer.insert(name, value);
                    }
                }
            }
        }
        if !ended {
            return Err(FoldError::Truncated);
        }
        if let Some(place) = answer.get_mut("candidates") {
            *place = candidates.into();
        }
        Ok(spellings.text(&Value::Object(answer)).into_bytes())
    }

    fn unfold(&self, answer: &[u8], _: UnfoldOptions) -> Result<Vec<u8>, FoldError> {
        let mut spellings = Spellings::default();
        let Value::Object(mut answer) = spellings.read(answer)? else { return Err(FoldError::NotJson) };
        let mut chunks: Vec<Value> = Vec::new();
        let Some(place) = answer.get_mut("candidates") else {
            // A blocked prompt has no candidates.
            let mut out = Vec::new();
            spellings.event(None, &Value::Object(answer), &mut out);
            return Ok(out);
        };
        let Value::Array(candidates) = place.take() else { return Err(FoldError::Shape("candidates")) };
        let mut last = Vec::new();
        // Every chunk says whose it is, as Google's do.
        let names = ["modelVersion", "responseId"];
        let whose: Map<String, Value> =
            names.iter().filter_map(|name| Some(((*name).to_owned(), answer.get(*name)?.clone()))).collect();
        for mut candidate in candidates {
            let index = candidate.get("index").cloned();
            let content = candidate.get_mut("content").and_then(Value::as_object_mut);
            let role = content.as_ref().and_then(|content| content.get("role").cloned());
            let parts = content.and_then(|content| content.insert("parts".into(), json!([])));
            let Some(Value::Array(parts)) = parts else {
                last.push(candidate);
                continue;
            };
            let mut small = Vec::new();
            parts.into_iter().for_each(|part| split_part(part, &mut small));
            let said = |part: &Value| part.get("text").is_some() && part.get("thought").is_none();
            let text = small.iter().rposition(said);
            let end = small.pop();
            // Sources are named with the last of the text that they are of.
            let mut cited = match (text, candidate.as_object_mut()) {
                (Some(at), Some(members)) if at < small.len() => members.shift_remove("citationMetadata"),
                _ => None,
            };
            for (at, part) in small.into_iter().enumerate() {
                let mut content = json!({ "parts": [part] });
                let mut chunk = json!({});
                if let (Some(content), Some(role)) = (content.as_object_mut(), &role) {
                    content.insert("role".into(), role.clone());
                }
                if let Some(chunk) = chunk.as_object_mut() {
                    chunk.insert("content".into(), content);
                    if let Some(cited) = cited.take_if(|_| text == Some(at)) {
                        chunk.insert("citationMetadata".into(), cited);
                    }
                    chunk.extend(index.clone().map(|index| ("index".to_owned(), index)));
                }
                let mut chunk = Map::from_iter([("candidates".to_owned(), json!([chunk]))]);
                chunk.extend(whose.clone());
                chunks.push(Value::Object(chunk));
            }
            if let Some(content) = candidate.get_mut("content").and_then(Value::as_object_mut) {
                content.insert("parts".into(), end.into_iter().collect());
            }
            last.push(candidate);
        }
        if let Some(place) = answer.get_mut("candidates") {
            *place = last.into();
        }
        chunks.push(Value::Object(answer));
        let mut out = Vec::new();
        chunks.iter().for_each(|chunk| spellings.event(None, chunk, &mut out));
        Ok(out)
    }
}

/// Whether the stream may end after this event: there is none that says so.
fn may_end_after(data: &[u8]) -> bool {
    contains(data, &needle::GEMINI_FINISH_REASON) || contains(data, &needle::BLOCK_REASON)
}

fn error(parts: &ErrorParts<'_>) -> Value {
    let status = match parts.status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        504 => "DEADLINE_EXCEEDED",
        502 | 503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    let metadata: Map<String, Value> =
        parts.param.iter().map(|param| ("param".to_owned(), (*param).into())).collect();
    let mut details = vec![json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": parts.code, "domain": "chimera", "metadata": metadata,
    })];
    details.extend(parts.retry_after.map(retry_info));
    json!({ "error": {
        "code": parts.status, "message": parts.message, "status": status, "details": details,
    }})
}

/// Where Google's SDKs look for a wait: they read no `retry-after`.
fn retry_info(wait: Duration) -> Value {
    let delay = format!("{}.{:03}s", wait.as_secs(), wait.subsec_millis());
    json!({ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay })
}

/// A part that is text and nothing else but, perhaps, a thought.
fn is_plain_text(part: &Value) -> bool {
    part.as_object().is_some_and(|part| {
        part.get("text").is_some_and(Value::is_string)
            && part.keys().all(|name| name == "text" || name == "thought")
    })
}

/// Adds a part to those that came before; text goes on where it stopped.
fn fold_part(part: Value, parts: &mut Vec<Value>) {
    if let Some(last) = parts.last_mut()
        && is_plain_text(last)
        && is_plain_text(&part)
        && last.get("thought") == part.get("thought")
        && let (Some(text), Some(more)) = (last.get_mut("text"), part.get("text"))
    {
        append(text, more);
        return;
    }
    parts.push(part);
}

/// Each chunk names the sources of its own text.
fn fold_citations(more: Value, so_far: &mut Value) {
    let list = "citationSources";
    match (so_far.get_mut(list), more.get(list)) {
        (Some(Value::Array(known)), Some(Value::Array(more))) => known.extend(more.iter().cloned()),
        _ => *so_far = more,
    }
}

fn fold_candidate(candidate: Value, candidates: &mut Vec<Value>) {
    let index = |candidate: &Value| candidate.get("index").and_then(Value::as_u64).unwrap_or(0);
    let Some(known) = candidates.iter_mut().find(|known| index(known) == index(&candidate)) else {
        candidates.push(candidate);
        return;
    };
    let (Some(known), Value::Object(more)) = (known.as_object_mut(), candidate) else { return };
    for (name, value) in more {
        if name == "citationMetadata" {
            fold_citations(value, known.entry(name).or_insert(Value::Null));
            continue;
        }
        if name != "content" {
            known.insert(name, value);
            continue;
        }
        let Value::Object(content) = value else { continue };
        let Some(target) = known.entry("content").or_insert_with(|| json!({})).as_object_mut() else {
            continue;
        };
        for (name, value) in content {
            match (target.get_mut(&name), value) {
                (Some(Value::Array(parts)), Value::Array(more)) if name == "parts" => {
                    more.into_iter().for_each(|part| fold_part(part, parts));
                }
                (_, value) => {
                    target.insert(name, value);
                }
            }
        }
    }
}

/// A text part as several; another part as it is.
fn split_part(part: Value, out: &mut Vec<Value>) {
    let text =
        part.get("text").and_then(Value::as_str).filter(|text| !text.is_empty() && is_plain_text(&part));
    let Some(text) = text else {
        out.push(part);
        return;
    };
    for piece in pieces(text) {
        let mut small = part.clone();
        if let Some(place) = small.get_mut("text") {
            *place = piece.into();
        }
        out.push(small);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_undoes_unfolding() {
        let answer = json!({
            "candidates": [{
                "content": { "role": "model", "parts": [
                    { "text": "think ".repeat(20), "thought": true },
                    { "text": "Grüße 😀 ".repeat(30) },
                    { "functionCall": { "name": "f", "args": { "x": 1 } }, "thoughtSignature": "AA==" },
                    { "functionCall": { "name": "g", "args": {} } },
                    { "text": "signed", "thoughtSignature": "BB==" },
                ] },
                "finishReason": "STOP", "index": 0, "safetyRatings": [{ "category": "X" }],
            }],
            "usageMetadata": { "promptTokenCount": 3, "candidatesTokenCount": 4, "thoughtsTokenCount": 2 },
            "modelVersion": "gemini-x", "responseId": "r",
        });
        let stream =
            Gemini.unfold(answer.to_string().as_bytes(), UnfoldOptions { include_usage: true }).unwrap();
        let folded: Value = serde_json::from_slice(&Gemini.fold(&stream).unwrap()).unwrap();
        assert_eq!(folded["candidates"][0]["content"], answer["candidates"][0]["content"]);
        assert_eq!(folded, answer);
        assert!(sse::events(&stream).len() > 5);
        let usage =
            crate::DialectId::Gemini.dialect().read_answer(Operation::Chat, answer.to_string().as_bytes());
        assert_eq!(usage.unwrap().unwrap().output_tokens, Some(6));
    }

    #[test]
    fn a_blocked_prompt_is_an_answer_too() {
        let answer = json!({ "promptFeedback": { "blockReason": "SAFETY" }, "modelVersion": "m" });
        let stream =
            Gemini.unfold(answer.to_string().as_bytes(), UnfoldOptions { include_usage: true }).unwrap();
        let folded: Value = serde_json::from_slice(&Gemini.fold(&stream).unwrap()).unwrap();
        assert_eq!(folded, answer);
    }

    #[test]
    fn events_are_told_apart_and_a_cut_stream_is_not_folded() {
        assert_eq!(Gemini.observe(None, br#"{ "error": {"code":503}}"#), Observed::Error);
        assert_eq!(Gemini.observe(None, br#"{"candidates":[{}]}"#), Observed::Content);
        assert_eq!(Gemini.observe(None, br#"{"usageMetadata":{}}"#), Observed::Lifecycle);
        let cut = b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n\n";
        assert_eq!(Gemini.fold(cut), Err(FoldError::Truncated));
    }
}
