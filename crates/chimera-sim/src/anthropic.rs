//! Anthropic's wire format: messages, token counts, model lists.

use serde_json::{Value, json};

use crate::{
    answer::{Ask, Call, Choice, Finish, Reply, Tool, Usage, input_tokens},
    body::{Role, Step},
    openai::halves,
    request::{BadRequest, content_text, field, positive, text_bytes},
    settings::{Pace, Settings},
};

pub(crate) fn read(body: &Value) -> Result<Ask, BadRequest> {
    let mut ask = read_uncapped(body)?;
    ask.max_tokens = positive(body, "max_tokens")?;
    if ask.max_tokens.is_none() {
        return Err(BadRequest::new("max_tokens: Field required"));
    }
    Ok(ask)
}

/// Counting tokens needs no `max_tokens`; everything else is the same.
fn read_uncapped(body: &Value) -> Result<Ask, BadRequest> {
    let model = field(body, "model").map_err(|_| BadRequest::new("model: Field required"))?;
    let messages = body
        .get("messages")
        .and_then(Value::as_array)
        .filter(|messages| !messages.is_empty())
        .ok_or_else(|| BadRequest::new("messages: at least one message is required"))?;
    let user = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("user");
    let answered = messages.last().is_some_and(has_tool_result);
    Ok(Ask {
        model,
        prompt: messages.iter().rev().find(user).map(content_text).unwrap_or_default(),
        input_bytes: messages.iter().map(text_bytes).sum::<usize>()
            + body.get("system").map_or(0, text_bytes),
        tools: if answered { Vec::new() } else { tools(body) },
        format: format(body),
        stream: body.get("stream").and_then(Value::as_bool).unwrap_or(false),
        include_usage: true,
        choices: 1,
        ..Ask::default()
    })
}

fn has_tool_result(message: &Value) -> bool {
    let parts = message.get("content").and_then(Value::as_array);
    parts.into_iter().flatten().any(|part| part.get("type").and_then(Value::as_str) == Some("tool_result"))
}

fn tools(body: &Value) -> Vec<Tool> {
    let choice = body.get("tool_choice");
    if choice.and_then(|choice| choice.get("type")?.as_str()) == Some("none") {
        return Vec::new();
    }
    let forced = choice.and_then(|choice| choice.get("name")?.as_str());
    let tools = body.get("tools").and_then(Value::as_array);
    tools
        .into_iter()
        .flatten()
        .filter_map(|tool| {
            Some(Tool {
                name: tool.get("name")?.as_str()?.to_owned(),
                schema: tool.get("input_schema").cloned().unwrap_or_default(),
            })
        })
        .filter(|tool| forced.is_none_or(|name| name == tool.name))
        .collect()
}

fn format(body: &Value) -> Option<Value> {
    body.pointer("/output_config/format/schema").or_else(|| body.pointer("/output_format/schema")).cloned()
}

pub(crate) fn unary(ask: &Ask, reply: &Reply) -> Value {
    let choice = reply.only();
    let content: Vec<Value> = if choice.calls.is_empty() {
        vec![json!({"type": "text", "text": choice.text()})]
    } else {
        choice
            .calls
            .iter()
            .map(|call| {
                json!({"type": "tool_use", "id": call_id(call), "name": call.name, "input": call.arguments})
            })
            .collect()
    };
    message(ask, reply, content.into(), stop_reason(&choice).into(), usage(reply))
}

fn message(ask: &Ask, reply: &Reply, content: Value, stop: Value, usage: Option<Value>) -> Value {
    let mut message = json!({
        "id": format!("msg_{:016x}", reply.id), "type": "message", "role": "assistant",
        "model": ask.model, "content": content, "stop_reason": stop, "stop_sequence": null,
    });
    if let (Some(usage), Some(fields)) = (usage, message.as_object_mut()) {
        fields.insert("usage".into(), usage);
    }
    message
}

fn usage(reply: &Reply) -> Option<Value> {
    let usage = reply.usage.as_ref()?;
    Some(usage_with(usage, &json!(usage.output)))
}

fn usage_with(usage: &Usage, output: &Value) -> Value {
    json!({"input_tokens": usage.fresh, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached, "output_tokens": output, "service_tier": "standard"})
}

fn stop_reason(choice: &Choice) -> &'static str {
    match choice.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tools => "tool_use",
    }
}

fn call_id(call: &Call) -> String {
    format!("toolu_{:016x}", call.id)
}

fn event(role: Role, name: &str, data: &Value) -> Step {
    Step::now(role, format!("event: {name}\ndata: {data}\n\n"))
}

pub(crate) fn stream(ask: &Ask, reply: &Reply, pace: &Pace, settings: &Settings) -> Vec<Step> {
    let choice = reply.only();
    // The opening tells the input and a first estimate of the output, as the real one does.
    let first = reply.usage.as_ref().map(|usage| usage_with(usage, &json!(1)));
    let opening = message(ask, reply, json!([]), Value::Null, first);
    let mut steps =
        vec![event(Role::Opening, "message_start", &json!({"type": "message_start", "message": opening}))];
    let mut blocks = Blocks {
        steps: &mut steps,
        after: pace.first_token,
        pace,
        per_event: settings.tokens_per_event.max(1),
    };
    if choice.calls.is_empty() {
        blocks.text(&choice);
    }
    for (index, call) in choice.calls.iter().enumerate() {
        blocks.call(index, call);
    }
    let mut delta = json!({"type": "message_delta",
        "delta": {"stop_reason": stop_reason(&choice), "stop_sequence": null}});
    if let (Some(usage), Some(fields)) = (&reply.usage, delta.as_object_mut()) {
        fields.insert("usage".into(), json!({"output_tokens": usage.output}));
    }
    steps.push(event(Role::Closing, "message_delta", &delta));
    steps.push(event(Role::Terminal, "message_stop", &json!({"type": "message_stop"})));
    steps
}

struct Blocks<'a> {
    steps: &'a mut Vec<Step>,
    after: std::time::Duration,
    pace: &'a Pace,
    per_event: usize,
}

impl Blocks<'_> {
    fn text(&mut self, choice: &Choice) {
        self.start(0, json!({"type": "text", "text": ""}));
        self.steps.push(event(Role::Opening, "ping", &json!({"type": "ping"})));
        for piece in choice.pieces(self.per_event) {
            self.delta(0, json!({"type": "text_delta", "text": piece}));
        }
        self.stop(0);
    }

    fn call(&mut self, index: usize, call: &Call) {
        self.start(index, json!({"type": "tool_use", "id": call_id(call), "name": call.name, "input": {}}));
        self.delta(index, json!({"type": "input_json_delta", "partial_json": ""}));
        for part in halves(&call.arguments.to_string()) {
            self.delta(index, json!({"type": "input_json_delta", "partial_json": part}));
        }
        self.stop(index);
    }

    fn start(&mut self, index: usize, block: Value) {
        let data = json!({"type": "content_block_start", "index": index, "content_block": block});
        self.steps.push(event(Role::Opening, "content_block_start", &data));
    }

    fn delta(&mut self, index: usize, delta: Value) {
        let data = json!({"type": "content_block_delta", "index": index, "delta": delta});
        let mut step = event(Role::Content, "content_block_delta", &data);
        step.after = self.after;
        let tokens = u32::try_from(self.per_event).unwrap_or(u32::MAX);
        self.after = self.pace.per_token.saturating_mul(tokens);
        self.steps.push(step);
    }

    fn stop(&mut self, index: usize) {
        let data = json!({"type": "content_block_stop", "index": index});
        self.steps.push(event(Role::Closing, "content_block_stop", &data));
    }
}

pub(crate) fn count_tokens(body: &Value) -> Result<Value, BadRequest> {
    let ask = read_uncapped(body)?;
    Ok(json!({"input_tokens": input_tokens(ask.input_bytes)}))
}

pub(crate) fn model(id: &str) -> Value {
    json!({"type": "model", "id": id, "display_name": id, "created_at": "2025-01-01T00:00:00Z"})
}

pub(crate) fn models(ids: &[String]) -> Value {
    let data: Vec<_> = ids.iter().map(|id| model(id)).collect();
    json!({"data": data, "has_more": false, "first_id": ids.first(), "last_id": ids.last()})
}
