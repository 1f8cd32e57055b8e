//! OpenAI's responses.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::{
    dialect::{Choices, Dialect, ErrorParts, FoldError, Observed, Operation, UnfoldOptions, event, pieces},
    openai,
    spelling::Spellings,
    sse,
    usage::{Reported, Usage},
};

pub(crate) struct Responses;

impl Dialect for Responses {
    fn error_body(&self, parts: &ErrorParts<'_>) -> Vec<u8> {
        openai::OpenAi.error_body(parts)
    }

    fn error_event(&self, parts: &ErrorParts<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let data = json!({
            "type": "error", "code": parts.code, "message": parts.message, "param": parts.param,
        });
        event(Some("error"), &data, &mut out);
        out
    }

    fn observe(&self, name: Option<&[u8]>, data: &[u8]) -> Observed {
        match &*name.map_or_else(|| Cow::Owned(kind_in(data).into_bytes()), Cow::Borrowed) {
            b"response.completed" | b"response.incomplete" => Observed::End,
            b"response.failed" | b"error" => Observed::Error,
            kind if kind.ends_with(b".delta") || kind.ends_with(b".done") => Observed::Content,
            _ => Observed::Lifecycle,
        }
    }

    /// It ends with its last event or not at all.
    fn note_choices(&self, _: &[u8], _: &mut Choices) {}

    fn terminal(&self) -> Option<&'static [u8]> {
        None
    }

    fn promised(&self, _: Operation) -> &'static [&'static str] {
        &["output"]
    }

    fn usage_of(&self, reported: &Reported) -> Usage {
        let (input, output) = (&reported.input_tokens_details, &reported.output_tokens_details);
        Usage {
            input_tokens: reported.input_tokens,
            output_tokens: reported.output_tokens,
            cached_input_tokens: input.cached_tokens,
            cache_write_tokens: None,
            reasoning_tokens: output.reasoning_tokens,
        }
    }

    /// The last event holds the whole answer.
    fn fold(&self, stream: &[u8]) -> Result<Vec<u8>, FoldError> {
        for event in sse::events(stream) {
            match self.observe(event.event, event.data()) {
                Observed::Error => return Err(FoldError::Error),
                Observed::End => {
                    let mut spellings = Spellings::default();
                    let mut data = spellings.read(event.data())?;
                    let response = data.get_mut("response").map(Value::take);
                    let response = response.ok_or(FoldError::Shape("a response"))?;
                    return Ok(spellings.text(&response).into_bytes());
                }
                _ => {}
            }
        }
        Err(FoldError::Truncated)
    }

    fn unfold(&self, answer: &[u8], _: UnfoldOptions) -> Result<Vec<u8>, FoldError> {
        let mut spellings = Spellings::default();
        let whole = spellings.read(answer)?;
        let items = whole.get("output").and_then(Value::as_array).ok_or(FoldError::Shape("output"))?;
        let mut begun = whole.clone();
        if let Some(begun) = begun.as_object_mut() {
            begun.insert("output".into(), json!([]));
            begun.insert("status".into(), "in_progress".into());
            begun.insert("usage".into(), Value::Null);
        }
        let mut told = Told { spellings, ..Told::default() };
        told.event("response.created", json!({ "response": begun }));
        told.event("response.in_progress", json!({ "response": begun }));
        for (at, item) in items.iter().enumerate() {
            told.item(at, item);
        }
        let complete = whole.get("status").and_then(Value::as_str) == Some("completed");
        let last = if complete { "response.completed" } else { "response.incomplete" };
        told.event(last, json!({ "response": whole }));
        Ok(told.out)
    }
}

fn kind_in(data: &[u8]) -> String {
    let data = serde_json::from_slice::<Value>(data).unwrap_or_default();
    data.get("type").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The events so far.
#[derive(Default)]
struct Told {
    spellings: Spellings,
    out: Vec<u8>,
    sequence: u64,
}

impl Told {
    fn event(&mut self, name: &str, members: Value) {
        let mut data = json!({ "type": name, "sequence_number": self.sequence });
        self.sequence += 1;
        if let (Some(data), Value::Object(members)) = (data.as_object_mut(), members) {
            data.extend(members);
        }
        self.spellings.event(Some(name), &data, &mut self.out);
    }

    /// An item: added without its text, told in deltas, done.
    fn item(&mut self, at: usize, item: &Value) {
        let id = item.get("id").cloned().unwrap_or_default();
        let mut empty = item.clone();
        for name in ["content", "summary"] {
            if let Some(list) = empty.get_mut(name) {
                *list = json!([]);
            }
        }
        if let Some(arguments) = empty.get_mut("arguments") {
            *arguments = "".into();
        }
        self.event("response.output_item.added", json!({ "output_index": at, "item": empty }));
        for (index, part) in item.get("content").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let place = json!({ "item_id": id, "output_index": at, "content_index": index });
            self.part(&place, part);
        }
        if let Some(arguments) = item.get("arguments").and_then(Value::as_str) {
            let place = json!({ "item_id": id, "output_index": at });
            for piece in pieces(arguments) {
                self.at(&place, "response.function_call_arguments.delta", json!({ "delta": piece }));
            }
            self.at(&place, "response.function_call_arguments.done", json!({ "arguments": arguments }));
        }
        self.event("response.output_item.done", json!({ "output_index": at, "item": item }));
    }

    fn at(&mut self, place: &Value, name: &str, more: Value) {
        let mut members = place.clone();
        if let (Some(members), Value::Object(more)) = (members.as_object_mut(), more) {
            members.extend(more);
        }
        self.event(name, members);
    }

    fn part(&mut self, place: &Value, part: &Value) {
        let (stem, name) = match part.get("type").and_then(Value::as_str) {
            Some("output_text") => ("response.output_text", "text"),
            Some("refusal") => ("response.refusal", "refusal"),
            _ => return,
        };
        let text = part.get(name).and_then(Value::as_str).unwrap_or_default();
        let mut empty = part.clone();
        if let Some(text) = empty.get_mut(name) {
            *text = "".into();
        }
        self.at(place, "response.content_part.added", json!({ "part": empty }));
        for piece in pieces(text) {
            self.at(place, &format!("{stem}.delta"), json!({ "delta": piece }));
        }
        self.at(place, &format!("{stem}.done"), json!({ name: text }));
        self.at(place, "response.content_part.done", json!({ "part": part }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_undoes_unfolding() {
        let answer = json!({
            "id": "resp_1", "object": "response", "status": "completed", "model": "m",
            "output": [
                { "type": "reasoning", "id": "rs_1", "summary": [{ "type": "summary_text", "text": "hm" }] },
                { "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                  "content": [{ "type": "output_text", "text": "Grüße 😀 ".repeat(30), "annotations": [] }] },
                { "type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}" },
            ],
            "usage": { "input_tokens": 5, "input_tokens_details": { "cached_tokens": 2 },
                "output_tokens": 9, "output_tokens_details": { "reasoning_tokens": 4 }, "total_tokens": 14 },
        });
        let stream =
            Responses.unfold(answer.to_string().as_bytes(), UnfoldOptions { include_usage: true }).unwrap();
        let folded: Value = serde_json::from_slice(&Responses.fold(&stream).unwrap()).unwrap();
        assert_eq!(folded, answer);
        assert_eq!(Responses.fold(&stream[..stream.len() - 20]), Err(FoldError::Truncated));
        let mut watch = crate::StreamWatch::new(crate::DialectId::Responses);
        let events = sse::events(&stream);
        events.iter().for_each(|event| _ = watch.event(event.event, event.data()));
        assert!(watch.is_over() && watch.content_seen() && !watch.error_seen());
        let usage = watch.usage().unwrap();
        assert_eq!((usage.classes().cached, usage.classes().reasoning, usage.total()), (2, 4, 14));
    }

    #[test]
    fn events_are_told_apart_with_and_without_names() {
        let seen = |name: &str| {
            let named = Responses.observe(Some(name.as_bytes()), b"{}");
            let bare = Responses.observe(None, json!({ "type": name }).to_string().as_bytes());
            assert_eq!(named, bare);
            named
        };
        assert_eq!(seen("response.created"), Observed::Lifecycle);
        assert_eq!(seen("response.output_item.added"), Observed::Lifecycle);
        assert_eq!(seen("response.output_text.delta"), Observed::Content);
        assert_eq!(seen("response.incomplete"), Observed::End);
        assert_eq!(seen("response.failed"), Observed::Error);
        assert_eq!(seen("error"), Observed::Error);
    }
}
