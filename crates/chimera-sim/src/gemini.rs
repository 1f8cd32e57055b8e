//! Google's Gemini wire format: generateContent and its relatives.

use serde_json::{Value, json};

use crate::{
    answer::{Ask, Choice, Finish, Reply, Tool, Usage, input_tokens},
    body::{Role, Step},
    embedding,
    request::{BadRequest, content_text, positive, text_bytes},
    settings::{Pace, Settings},
};

pub(crate) fn read(body: &Value, model: &str, stream: bool) -> Result<Ask, BadRequest> {
    let contents = body
        .get("contents")
        .and_then(Value::as_array)
        .filter(|contents| !contents.is_empty())
        .ok_or_else(|| BadRequest::new("* GenerateContentRequest.contents: contents is not specified"))?;
    let user = |content: &&Value| content.get("role").and_then(Value::as_str).unwrap_or("user") == "user";
    let answered = contents.last().is_some_and(has_function_response);
    let limit = match body.get("generationConfig") {
        Some(config) => positive(config, "maxOutputTokens")?,
        None => None,
    };
    Ok(Ask {
        model: model.into(),
        prompt: contents.iter().rev().find(user).map(content_text).unwrap_or_default(),
        input_bytes: contents.iter().map(text_bytes).sum::<usize>()
            + body.get("systemInstruction").map_or(0, text_bytes),
        tools: if answered { Vec::new() } else { tools(body) },
        format: format(body),
        max_tokens: limit,
        stream,
        include_usage: true,
        choices: 1,
        ..Ask::default()
    })
}

fn has_function_response(content: &Value) -> bool {
    let parts = content.get("parts").and_then(Value::as_array);
    parts.into_iter().flatten().any(|part| part.get("functionResponse").is_some())
}

fn tools(body: &Value) -> Vec<Tool> {
    let mode = body.pointer("/toolConfig/functionCallingConfig/mode");
    if mode.and_then(Value::as_str) == Some("NONE") {
        return Vec::new();
    }
    let tools = body.get("tools").and_then(Value::as_array);
    tools
        .into_iter()
        .flatten()
        .filter_map(|tool| tool.get("functionDeclarations")?.as_array())
        .flatten()
        .filter_map(|function| {
            let schema = function.get("parameters").or_else(|| function.get("parametersJsonSchema"));
            Some(Tool {
                name: function.get("name")?.as_str()?.to_owned(),
                schema: schema.cloned().unwrap_or_default(),
            })
        })
        .collect()
}

fn format(body: &Value) -> Option<Value> {
    let config = body.get("generationConfig")?;
    config.get("responseJsonSchema").or_else(|| config.get("responseSchema")).cloned().or_else(|| {
        let kind = config.get("responseMimeType")?.as_str()?;
        (kind == "application/json")
            .then(|| json!({"type": "object", "properties": {"answer": {"type": "string"}}}))
    })
}

pub(crate) fn unary(ask: &Ask, reply: &Reply) -> Value {
    let choice = reply.only();
    let parts = if choice.calls.is_empty() { json!([{"text": choice.text()}]) } else { calls(&choice) };
    chunk(ask, reply, parts, Some(finish(&choice)), reply.usage.as_ref())
}

fn calls(choice: &Choice) -> Value {
    choice
        .calls
        .iter()
        .map(|call| json!({"functionCall": {"name": call.name, "args": call.arguments}}))
        .collect()
}

fn finish(choice: &Choice) -> &'static str {
    match choice.finish {
        Finish::Stop | Finish::Tools => "STOP",
        Finish::Length => "MAX_TOKENS",
    }
}

fn chunk(ask: &Ask, reply: &Reply, parts: Value, finish: Option<&str>, usage: Option<&Usage>) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}});
    if let (Some(finish), Some(fields)) = (finish, candidate.as_object_mut()) {
        fields.insert("finishReason".into(), finish.into());
    }
    if let Some(fields) = candidate.as_object_mut() {
        fields.insert("index".into(), 0.into());
    }
    let mut chunk = json!({"candidates": [candidate]});
    if let Some(fields) = chunk.as_object_mut() {
        if let Some(usage) = usage {
            fields.insert("usageMetadata".into(), usage_value(usage));
        }
        fields.insert("modelVersion".into(), ask.model.as_str().into());
        fields.insert("responseId".into(), format!("{:016x}", reply.id).into());
    }
    chunk
}

/// What was known is told only where something was.
fn usage_value(usage: &Usage) -> Value {
    let mut value = json!({
        "promptTokenCount": usage.input, "candidatesTokenCount": usage.output,
        "totalTokenCount": usage.total,
    });
    if let (1.., Some(fields)) = (usage.cached, value.as_object_mut()) {
        fields.insert("cachedContentTokenCount".into(), usage.cached.into());
    }
    value
}

/// A stream of chunks; without `alt=sse` they are the elements of one JSON array.
pub(crate) fn stream(ask: &Ask, reply: &Reply, pace: &Pace, settings: &Settings, sse: bool) -> Vec<Step> {
    let choice = reply.only();
    let per_event = settings.tokens_per_event.max(1);
    let mut parts: Vec<Value> = choice.pieces(per_event).map(|piece| json!([{"text": piece}])).collect();
    if !choice.calls.is_empty() {
        parts.push(calls(&choice));
    }
    if parts.is_empty() {
        parts.push(json!([{"text": ""}]));
    }
    let last = parts.len() - 1;
    let mut steps: Vec<Step> = Vec::with_capacity(parts.len() + 1);
    for (index, parts) in parts.into_iter().enumerate() {
        let (end, usage) =
            if index == last { (Some(finish(&choice)), reply.usage.as_ref()) } else { (None, None) };
        let chunk = chunk(ask, reply, parts, end, usage);
        // Gemini has no terminal event: the chunk with the finish reason is the last one.
        let role = if index == last { Role::Terminal } else { Role::Content };
        let mut step = Step::now(role, frame(&chunk, sse, index == 0));
        step.after = if index == 0 {
            pace.first_token
        } else {
            pace.per_token.saturating_mul(u32::try_from(per_event).unwrap_or(u32::MAX))
        };
        steps.push(step);
    }
    if !sse {
        steps.push(Step::now(Role::Terminal, "]"));
    }
    steps
}

fn frame(chunk: &Value, sse: bool, first: bool) -> String {
    match (sse, first) {
        (true, _) => format!("data: {chunk}\r\n\r\n"),
        (false, true) => format!("[{chunk}"),
        (false, false) => format!(",\r\n{chunk}"),
    }
}

/// Counts contents given directly or wrapped in a `generateContentRequest`.
pub(crate) fn count_tokens(body: &Value) -> Result<Value, BadRequest> {
    let inner = body.get("generateContentRequest").unwrap_or(body);
    let ask = read(inner, "", false)?;
    let tokens = input_tokens(ask.input_bytes);
    Ok(json!({"totalTokens": tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}]}))
}

pub(crate) fn embed(body: &Value, settings: &Settings) -> Result<Value, BadRequest> {
    Ok(json!({"embedding": {"values": values(body, settings)?}}))
}

pub(crate) fn batch_embed(body: &Value, settings: &Settings) -> Result<Value, BadRequest> {
    let requests = body
        .get("requests")
        .and_then(Value::as_array)
        .filter(|requests| !requests.is_empty())
        .ok_or_else(|| BadRequest::missing("requests"))?;
    let embeddings = requests
        .iter()
        .map(|request| Ok(json!({"values": values(request, settings)?})))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(json!({"embeddings": embeddings}))
}

fn values(request: &Value, settings: &Settings) -> Result<Vec<f32>, BadRequest> {
    let text = request.get("content").map(content_text).unwrap_or_default();
    if text.is_empty() {
        return Err(BadRequest::missing("content"));
    }
    let dimensions = positive(request, "outputDimensionality")?.unwrap_or(settings.dimensions);
    Ok(embedding::embed(&text, dimensions, settings.seed))
}

pub(crate) fn model(id: &str) -> Value {
    json!({
        "name": format!("models/{id}"), "version": "001", "displayName": id,
        "description": "A simulated model.", "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens",
            "embedContent", "batchEmbedContents"],
    })
}

pub(crate) fn models(ids: &[String]) -> Value {
    let models: Vec<_> = ids.iter().map(|id| model(id)).collect();
    json!({"models": models})
}
