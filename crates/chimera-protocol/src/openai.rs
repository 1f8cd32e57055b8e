//! OpenAI's chat completions and embeddings.

use serde_json::{Map, Value, json};

use crate::{
    dialect::{Choices, Dialect, ErrorParts, FoldError, Observed, Operation, UnfoldOptions, event, pieces},
    json::{Document, Kind},
    needle::{self, contains, value_of},
    spelling::Spellings,
    sse,
    usage::{Reported, Usage},
};

mod fold;

pub(crate) struct OpenAi;

/// Members of a delta whose text grows; others are replaced. In the order in which they are told.
const GROWING: [&str; 4] = ["reasoning_content", "reasoning", "content", "refusal"];

impl Dialect for OpenAi {
    fn error_body(&self, parts: &ErrorParts<'_>) -> Vec<u8> {
        error(parts).to_string().into_bytes()
    }

    fn error_event(&self, parts: &ErrorParts<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        event(None, &error(parts), &mut out);
        out
    }

    fn observe(&self, _: Option<&[u8]>, data: &[u8]) -> Observed {
        match data {
            b"[DONE]" => return Observed::End,
            b"" => return Observed::Lifecycle,
            _ => {}
        }
        if data.starts_with(b"{\"error\"") || (contains(data, &needle::ERROR) && is_error(data)) {
            return Observed::Error;
        }
        if is_usage_only(data) {
            return Observed::Usage;
        }
        // The usual first chunk: a role and no word yet.
        if contains(data, &needle::ROLE) && !says_something(data) {
            return Observed::Lifecycle;
        }
        Observed::Content
    }

    fn note_choices(&self, data: &[u8], choices: &mut Choices) {
        if is_usage_only(data) {
            return choices.end();
        }
        if !is_of_the_first(data) {
            return each_choice(data, choices);
        }
        choices.begins(0);
        if value_of(data, &needle::FINISH_REASON).is_some_and(|value| value.starts_with(b"\"")) {
            choices.ends(0);
        }
    }

    fn terminal(&self) -> Option<&'static [u8]> {
        Some(b"data: [DONE]\n\n")
    }

    fn promised(&self, operation: Operation) -> &'static [&'static str] {
        match operation {
            Operation::Chat => &["choices"],
            Operation::Embed => &["data"],
            Operation::CountTokens => &["input_tokens"],
        }
    }

    fn usage_of(&self, reported: &Reported) -> Usage {
        let (input, output) = (&reported.prompt_tokens_details, &reported.completion_tokens_details);
        Usage {
            input_tokens: reported.prompt_tokens,
            output_tokens: reported.completion_tokens,
            cached_input_tokens: input.cached_tokens,
            cache_write_tokens: None,
            reasoning_tokens: output.reasoning_tokens,
        }
    }

    fn fold(&self, stream: &[u8]) -> Result<Vec<u8>, FoldError> {
        let mut answer = Map::new();
        let mut choices: Vec<Value> = Vec::new();
        let mut seen = Choices::default();
        let mut spellings = Spellings::default();
        for event in sse::events(stream) {
            match event.data() {
                b"" => {}
                b"[DONE]" => {
                    seen.end();
                    break;
                }
                data => {
                    self.note_choices(data, &mut seen);
                    fold::chunk(spellings.read(data)?, &mut answer, &mut choices)?;
                }
            }
        }
        if !seen.have_ended() {
            return Err(FoldError::Truncated);
        }
        choices.sort_by_key(|choice| choice.get("index").and_then(Value::as_u64));
        answer.insert("object".into(), "chat.completion".into());
        // The usual order: who, what, and then the bill.
        let usage = answer.shift_remove("usage");
        answer.insert("choices".into(), choices.into());
        if let Some(usage) = usage.filter(|usage| !usage.is_null()) {
            answer.insert("usage".into(), usage);
        }
        Ok(spellings.text(&Value::Object(answer)).into_bytes())
    }

    fn unfold(&self, answer: &[u8], options: UnfoldOptions) -> Result<Vec<u8>, FoldError> {
        let mut spellings = Spellings::default();
        let Value::Object(mut answer) = spellings.read(answer)? else { return Err(FoldError::NotJson) };
        let Some(Value::Array(choices)) = answer.shift_remove("choices") else {
            return Err(FoldError::Shape("choices"));
        };
        let usage = answer.shift_remove("usage");
        answer.insert("object".into(), "chat.completion.chunk".into());
        let mut out = Vec::new();
        let mut chunk = |choices: Value, usage: Option<&Value>| {
            let mut chunk = answer.clone();
            chunk.insert("choices".into(), choices);
            if let Some(usage) = usage {
                chunk.insert("usage".into(), usage.clone());
            }
            spellings.event(None, &Value::Object(chunk), &mut out);
        };
        for choice in choices {
            unfold_choice(choice, &mut |choice| chunk(json!([choice]), None))?;
        }
        if let Some(usage) = usage.filter(|_| options.include_usage) {
            chunk(json!([]), Some(&usage));
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        Ok(out)
    }
}

fn error(parts: &ErrorParts<'_>) -> Value {
    let kind = match parts.status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    json!({ "error": { "message": parts.message, "type": kind, "param": parts.param, "code": parts.code } })
}

/// An error object that does not come first in its chunk; the word may also stand in a text.
fn is_error(data: &[u8]) -> bool {
    serde_json::from_slice::<Value>(data).is_ok_and(|value| value.get("error").is_some_and(|e| !e.is_null()))
}

/// The chunk with which a stream that was asked for usage ends: no choices, and the bill.
pub(crate) fn is_usage_only(data: &[u8]) -> bool {
    if !contains(data, &needle::USAGE) {
        return false;
    }
    let Some(choices) = value_of(data, &needle::CHOICES) else { return false };
    let empty = choices.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"]"));
    empty
        && serde_json::from_slice::<Value>(data).is_ok_and(|value| {
            let no_choices = value.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
            no_choices && value.get("usage").is_some_and(Value::is_object)
        })
}

/// Whether a chunk is of the first choice alone: every index in it, that of a tool call too, is 0.
fn is_of_the_first(data: &[u8]) -> bool {
    needle::INDEX.find_iter(data).all(|at| {
        let value = data.get(at + needle::INDEX.needle().len()..).unwrap_or_default().trim_ascii_start();
        let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii_start();
        value.strip_prefix(b"0").is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_digit))
    })
}

/// Notes the choices of a chunk one by one.
fn each_choice(data: &[u8], choices: &mut Choices) {
    let Ok(chunk) = Document::parse(data) else { return };
    for choice in chunk.root().get("choices").into_iter().flat_map(|choices| choices.elements()) {
        let index = choice.get("index").and_then(|index| index.raw().parse().ok()).unwrap_or(0);
        choices.begins(index);
        if choice.get("finish_reason").is_some_and(|reason| reason.kind() == Kind::String) {
            choices.ends(index);
        }
    }
}

/// Whether a chunk with a role carries anything of the answer besides.
fn says_something(data: &[u8]) -> bool {
    // Some providers repeat the role in every chunk; a word that is plain to see needs no parsing.
    let content = value_of(data, &needle::CONTENT).and_then(|value| value.strip_prefix(b"\""));
    if content.is_some_and(|text| !text.starts_with(b"\"")) {
        return true;
    }
    let Ok(chunk) = serde_json::from_slice::<Value>(data) else { return true };
    let Some(choices) = chunk.get("choices").and_then(Value::as_array) else { return true };
    choices.iter().any(|choice| {
        let finished = choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
        let delta = choice.get("delta").and_then(Value::as_object);
        let says = delta.is_none_or(|delta| {
            delta.iter().any(|(name, value)| {
                let empty = match value {
                    Value::Null => true,
                    Value::String(text) => text.is_empty(),
                    Value::Array(items) => items.is_empty(),
                    _ => false,
                };
                name != "role" && !empty
            })
        });
        finished || says
    })
}

/// The chunks of one choice: role, text in pieces, tool calls with their arguments, the end.
fn unfold_choice(choice: Value, chunk: &mut dyn FnMut(Value)) -> Result<(), FoldError> {
    let Value::Object(mut choice) = choice else { return Err(FoldError::Shape("a choice")) };
    let Some(Value::Object(mut message)) = choice.shift_remove("message") else {
        return Err(FoldError::Shape("a message"));
    };
    let index = choice.get("index").cloned().unwrap_or_else(|| 0.into());
    let finish = choice.shift_remove("finish_reason").unwrap_or(Value::Null);
    let logprobs = choice.shift_remove("logprobs");
    let calls = message.shift_remove("tool_calls");
    let cites = message.get("annotations").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let cited = if cites { message.shift_remove("annotations") } else { None };
    let mut texts = Vec::new();
    for name in GROWING {
        if let Some(Value::String(_)) = message.get(name)
            && let Some(Value::String(text)) = message.shift_remove(name)
        {
            texts.push((name, text));
        }
    }
    // What is left of the message (role, null content, unknown members) opens the stream.
    let mut emit = |delta: Value, finish: Value| {
        chunk(json!({ "index": index, "delta": delta, "finish_reason": finish }));
    };
    for (name, _) in &texts {
        // The first piece is empty, so that a text which is empty comes back as one, not as null.
        message.insert((*name).to_owned(), "".into());
    }
    emit(Value::Object(message), Value::Null);
    for (name, text) in &texts {
        for piece in pieces(text) {
            emit(json!({ *name: piece }), Value::Null);
        }
    }
    if let Some(cited) = cited {
        emit(json!({ "annotations": cited }), Value::Null);
    }
    if let Some(Value::Array(calls)) = calls {
        for (at, call) in calls.into_iter().enumerate() {
            unfold_tool_call(at, call, &mut emit);
        }
    }
    choice.insert("index".into(), index.clone());
    if let Some(logprobs) = logprobs {
        choice.insert("logprobs".into(), logprobs);
    }
    choice.insert("delta".into(), json!({}));
    choice.insert("finish_reason".into(), finish);
    chunk(Value::Object(choice));
    Ok(())
}

fn unfold_tool_call(at: usize, call: Value, emit: &mut dyn FnMut(Value, Value)) {
    let Value::Object(mut call) = call else { return };
    let arguments = call
        .get_mut("function")
        .and_then(Value::as_object_mut)
        .and_then(|function| function.insert("arguments".into(), "".into()))
        .and_then(|arguments| arguments.as_str().map(str::to_owned))
        .unwrap_or_default();
    let mut first = Map::new();
    first.insert("index".into(), at.into());
    first.append(&mut call);
    emit(json!({ "tool_calls": [first] }), Value::Null);
    for piece in pieces(&arguments) {
        emit(json!({ "tool_calls": [{ "index": at, "function": { "arguments": piece } }] }), Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_call_that_leaves_a_gap_is_not_folded() {
        let call = |index: u64| {
            let call = json!({ "index": index, "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" } });
            let chunk = json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [call] }, "finish_reason": "tool_calls" }] });
            OpenAi.fold(format!("data: {chunk}\n\ndata: [DONE]\n\n").as_bytes())
        };
        assert!(call(0).is_ok());
        for index in [1, 70, u64::MAX] {
            assert_eq!(call(index), Err(FoldError::Shape("a tool call")));
        }
    }

    fn round_trip(answer: Value) {
        let stream =
            OpenAi.unfold(answer.to_string().as_bytes(), UnfoldOptions { include_usage: true }).unwrap();
        let folded: Value = serde_json::from_slice(&OpenAi.fold(&stream).unwrap()).unwrap();
        assert_eq!(folded, answer, "{}", String::from_utf8_lossy(&stream));
    }

    fn answer(choices: Value) -> Value {
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "gpt-4o", "choices": choices,
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
        })
    }

    #[test]
    fn folding_undoes_unfolding() {
        let text = "Grüße 😀 ".repeat(40);
        round_trip(answer(json!([
            { "index": 0, "message": { "role": "assistant", "content": text, "refusal": null }, "logprobs": null, "finish_reason": "stop" }
        ])));
        let call = |id: &str, arguments: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": arguments } });
        round_trip(answer(json!([{
            "index": 0,
            "message": { "role": "assistant", "content": null, "tool_calls": [call("a", "{\"x\":\"ü\"}"), call("b", "")] },
            "finish_reason": "tool_calls",
        }])));
        round_trip(answer(json!([
            { "index": 0, "message": { "role": "assistant", "content": "" }, "finish_reason": "stop" },
            { "index": 1, "message": { "role": "assistant", "content": "b", "reasoning_content": "hm", "x": 1 },
              "finish_reason": "length", "logprobs": { "content": [{ "token": "b" }] } },
        ])));
    }

    #[test]
    fn a_real_stream_folds_to_the_answer_it_means() {
        let stream = concat!(
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n",
            ": keep-alive\n\n",
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}],\"usage\":null}\r\n\r\n",
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"lo\"},\"finish_reason\":null}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n",
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
            "data: [DONE]\n\n",
        );
        let folded: Value = serde_json::from_slice(&OpenAi.fold(stream.as_bytes()).unwrap()).unwrap();
        assert_eq!(
            folded,
            json!({
                "id": "c", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{ "index": 0, "message": { "role": "assistant", "content": "Hello" }, "finish_reason": "stop" }],
                "usage": { "prompt_tokens": 1, "completion_tokens": 2 },
            })
        );
        let half = stream.len() / 2;
        assert_eq!(OpenAi.fold(&stream.as_bytes()[..half]), Err(FoldError::Truncated));
        assert_eq!(OpenAi.fold(b"data: {\"error\":{}}\n\n"), Err(FoldError::Error));
    }

    #[test]
    fn events_are_told_apart() {
        let seen = |data: &str| OpenAi.observe(None, data.as_bytes());
        assert_eq!(seen("[DONE]"), Observed::End);
        assert_eq!(seen(""), Observed::Lifecycle);
        assert_eq!(seen(r#"{"error":{"message":"m"}}"#), Observed::Error);
        assert_eq!(seen(r#"{"id":"x","error":{"message":"m"}}"#), Observed::Error);
        assert_eq!(seen(r#"{"choices":[{"delta":{"content":"\"error\""}}],"x":"error"}"#), Observed::Content);
        assert_eq!(
            seen(r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#),
            Observed::Lifecycle
        );
        assert_eq!(seen(r#"{"choices":[{"delta":{"role":"assistant","content":"x"}}]}"#), Observed::Content);
        assert_eq!(seen(r#"{"choices":[ ],"usage":{"prompt_tokens":1}}"#), Observed::Usage);
        assert_eq!(seen(r#"{"choices":[],"usage":null}"#), Observed::Content);
        let ends = |finish: &str| {
            let mut choices = Choices::default();
            let chunk = format!(r#"{{"choices":[{{"delta":{{}},"finish_reason":{finish}}}]}}"#);
            OpenAi.note_choices(chunk.as_bytes(), &mut choices);
            choices.have_ended()
        };
        assert!(ends(r#" "stop""#) && !ends("null"));
    }
}
