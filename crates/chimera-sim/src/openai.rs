//! OpenAI's wire format: chat completions, embeddings, model lists.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    answer::{Ask, Call, Choice, Finish, Reply, Tool, Usage},
    body::{Role, Step},
    embedding,
    request::{BadRequest, content_text, field, positive, text_bytes},
    settings::{Pace, Settings},
};

/// Every answer was made in this second, so that equal requests get equal bytes.
pub(crate) const CREATED: u64 = 1_760_000_000;

pub(crate) fn read(body: &Value) -> Result<Ask, BadRequest> {
    let model = field(body, "model")?;
    let messages = body
        .get("messages")
        .and_then(Value::as_array)
        .filter(|messages| !messages.is_empty())
        .ok_or(BadRequest::missing("messages"))?;
    let role = |message: &Value, wanted: &str| message.get("role").and_then(Value::as_str) == Some(wanted);
    let prompt = messages.iter().rev().find(|message| role(message, "user"));
    let answered = messages.last().is_some_and(|message| role(message, "tool"));
    let flag = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
    Ok(Ask {
        model,
        prompt: prompt.map(content_text).unwrap_or_default(),
        input_bytes: messages.iter().map(text_bytes).sum(),
        tools: if answered { Vec::new() } else { tools(body) },
        format: format(body),
        max_tokens: positive(body, "max_completion_tokens")?.or(positive(body, "max_tokens")?),
        stream: flag(body.get("stream")),
        include_usage: flag(body.pointer("/stream_options/include_usage")),
        choices: positive(body, "n")?.unwrap_or(1),
        ..Ask::default()
    })
}

fn tools(body: &Value) -> Vec<Tool> {
    let choice = body.get("tool_choice");
    if choice.and_then(Value::as_str) == Some("none") {
        return Vec::new();
    }
    let forced = choice.and_then(|choice| choice.pointer("/function/name")?.as_str());
    let tools = body.get("tools").and_then(Value::as_array);
    tools
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            let function = tool.get("function")?;
            Some(Tool {
                name: function.get("name")?.as_str()?.to_owned(),
                schema: function.get("parameters").cloned().unwrap_or_default(),
            })
        })
        .filter(|tool| forced.is_none_or(|name| name == tool.name))
        .collect()
}

fn format(body: &Value) -> Option<Value> {
    let format = body.get("response_format")?;
    match format.get("type")?.as_str()? {
        "json_schema" => format.pointer("/json_schema/schema").cloned(),
        "json_object" => Some(json!({"type": "object", "properties": {"answer": {"type": "string"}}})),
        _ => None,
    }
}

pub(crate) fn unary(ask: &Ask, reply: &Reply) -> Value {
    let choices: Vec<_> = reply
        .choices
        .iter()
        .enumerate()
        .map(|(index, choice)| {
            json!({
                "index": index, "message": message(choice), "logprobs": null,
                "finish_reason": finish(choice.finish),
            })
        })
        .collect();
    let mut answer = json!({
        "id": format!("chatcmpl-{:016x}", reply.id), "object": "chat.completion",
        "created": CREATED, "model": ask.model, "choices": choices,
    });
    if let (Some(usage), Some(fields)) = (&reply.usage, answer.as_object_mut()) {
        fields.insert("usage".into(), usage_value(usage));
    }
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("service_tier".into(), "default".into());
        fields.insert("system_fingerprint".into(), "fp_sim".into());
    }
    answer
}

fn message(choice: &Choice) -> Value {
    if choice.calls.is_empty() {
        return json!({"role": "assistant", "content": choice.text(), "refusal": null, "annotations": []});
    }
    let calls: Vec<_> = choice
        .calls
        .iter()
        .map(|call| {
            json!({"id": call_id(call), "type": "function", "function": {
                "name": call.name, "arguments": call.arguments.to_string(),
            }})
        })
        .collect();
    json!({"role": "assistant", "content": null, "tool_calls": calls, "refusal": null, "annotations": []})
}

fn call_id(call: &Call) -> String {
    format!("call_{:016x}", call.id)
}

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Tools => "tool_calls",
    }
}

fn usage_value(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": usage.total,
        "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

pub(crate) fn stream(ask: &Ask, reply: &Reply, pace: &Pace, settings: &Settings) -> Vec<Step> {
    let chunks = Chunks { ask, reply };
    let mut steps = Vec::new();
    for (index, choice) in reply.choices.iter().enumerate() {
        let opening = json!({"role": "assistant", "content": opening(choice), "refusal": null});
        steps.push(chunks.delta(Role::Opening, index, opening, None));
    }
    for (index, choice) in reply.choices.iter().enumerate() {
        chunks.content(&mut steps, index, choice, pace, settings);
    }
    for (index, choice) in reply.choices.iter().enumerate() {
        steps.push(chunks.delta(Role::Closing, index, json!({}), Some(finish(choice.finish))));
    }
    if let (true, Some(usage)) = (ask.include_usage, &reply.usage) {
        let usage = Some(usage_value(usage));
        steps.push(chunks.chunk(Role::Closing, json!([]), usage));
    }
    steps.push(Step::now(Role::Terminal, "data: [DONE]\n\n"));
    steps
}

/// Text begins empty; an answer of calls has no text at all.
fn opening(choice: &Choice) -> Value {
    if choice.calls.is_empty() { "".into() } else { Value::Null }
}

struct Chunks<'a> {
    ask: &'a Ask,
    reply: &'a Reply,
}

impl Chunks<'_> {
    fn content(
        &self,
        steps: &mut Vec<Step>,
        index: usize,
        choice: &Choice,
        pace: &Pace,
        settings: &Settings,
    ) {
        let per_event = settings.tokens_per_event.max(1);
        let mut after = pace.first_token;
        let mut push = |delta: Value| {
            let mut step = self.delta(Role::Content, index, delta, None);
            step.after = after;
            after = pace.per_token.saturating_mul(u32::try_from(per_event).unwrap_or(u32::MAX));
            steps.push(step);
        };
        for piece in choice.pieces(per_event) {
            push(json!({"content": piece}));
        }
        for (place, call) in choice.calls.iter().enumerate() {
            push(json!({"tool_calls": [{"index": place, "id": call_id(call), "type": "function",
                "function": {"name": call.name, "arguments": ""}}]}));
            for part in halves(&call.arguments.to_string()) {
                push(json!({"tool_calls": [{"index": place, "function": {"arguments": part}}]}));
            }
        }
    }

    fn delta(&self, role: Role, index: usize, delta: Value, finish: Option<&str>) -> Step {
        let choices = json!([{"index": index, "delta": delta, "logprobs": null, "finish_reason": finish}]);
        self.chunk(role, choices, None)
    }

    fn chunk(&self, role: Role, choices: Value, usage: Option<Value>) -> Step {
        let mut chunk = json!({
            "id": format!("chatcmpl-{:016x}", self.reply.id), "object": "chat.completion.chunk",
            "created": CREATED, "model": self.ask.model, "service_tier": "default",
            "system_fingerprint": "fp_sim", "choices": choices,
        });
        if let (true, Some(fields)) = (self.ask.include_usage, chunk.as_object_mut()) {
            fields.insert("usage".into(), usage.unwrap_or(Value::Null));
        }
        let mut step = Step::now(role, format!("data: {chunk}\n\n"));
        step.after = Duration::ZERO;
        step
    }
}

/// Arguments travel in two parts, so that nobody relies on getting them whole.
pub(crate) fn halves(text: &str) -> [&str; 2] {
    let mut middle = text.len() / 2;
    while !text.is_char_boundary(middle) {
        middle -= 1;
    }
    let (left, right) = text.split_at(middle);
    [left, right]
}

/// Inputs are texts or token lists, one or many.
pub(crate) fn embeddings(body: &Value, settings: &Settings) -> Result<Value, BadRequest> {
    let model = field(body, "model")?;
    let inputs: Vec<String> = match body.get("input") {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) if items.iter().all(Value::is_number) => {
            vec![Value::Array(items.clone()).to_string()]
        }
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect()
        }
        _ => return Err(BadRequest::missing("input")),
    };
    if inputs.is_empty() || inputs.iter().any(String::is_empty) {
        return Err(BadRequest::new("'input' must not be empty"));
    }
    let dimensions = positive(body, "dimensions")?.unwrap_or(settings.dimensions);
    let base64 = body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let data: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let vector = embedding::embed(text, dimensions, settings.seed);
            let vector = if base64 { Value::from(embedding::base64(&vector)) } else { Value::from(vector) };
            json!({"object": "embedding", "index": index, "embedding": vector})
        })
        .collect();
    let tokens: usize = inputs.iter().map(|text| text.len() / 4 + 1).sum();
    Ok(json!({"object": "list", "data": data, "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}))
}

pub(crate) fn model(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": CREATED, "owned_by": "chimera-sim"})
}

pub(crate) fn models(ids: &[String]) -> Value {
    let data: Vec<_> = ids.iter().map(|id| model(id)).collect();
    json!({"object": "list", "data": data})
}
