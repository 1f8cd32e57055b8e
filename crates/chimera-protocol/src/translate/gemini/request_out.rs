//! A Gemini generateContent request, written.

use bytes::BytesMut;

use super::message_out;
use crate::translate::{
    field::{Field, Side},
    pick::Picked,
    vocabulary::{Format, Level, Reasoning, Request, Tool, ToolChoice},
    write::Writer,
};

/// The most stop sequences that Gemini takes.
const MOST_STOPS: usize = 5;

/// Writes a request: what stays the same from turn to turn first, so that as much as can be is known to
/// the provider's cache of prompts. The model and whether it is a stream stand in the path.
pub(crate) fn write(request: &Request<'_>, side: &mut Side<'_>, out: &mut BytesMut) -> Picked<()> {
    let mut writer = Writer::new(out);
    writer.object();
    tools(request, side, &mut writer)?;
    if request.parallel == Some(false) {
        return side.refuse(Field::Parallel, "this model's provider cannot be kept to one call at a time");
    }
    if request.user.is_some() {
        side.drop(Field::User);
    }
    if has_config(request) {
        writer.key("generationConfig").object();
        sampling(request, side, &mut writer)?;
        match &request.format {
            None => {}
            Some(Format::Json) => _ = writer.word("responseMimeType", "application/json"),
            Some(Format::Schema { schema, .. }) => {
                writer.word("responseMimeType", "application/json").key("responseJsonSchema").raw(schema);
            }
        }
        if let Some(reasoning) = request.reasoning {
            thinking(reasoning, side, &mut writer);
        }
        writer.end_object();
    }
    message_out::conversation(request, side, &mut writer)?;
    writer.end_object();
    Ok(())
}

fn has_config(request: &Request<'_>) -> bool {
    let numbers = [
        request.max_tokens,
        request.temperature,
        request.top_p,
        request.top_k,
        request.presence,
        request.frequency,
        request.seed,
    ];
    numbers.iter().any(Option::is_some)
        || !request.stop.is_empty()
        || request.n.is_some()
        || request.logprobs
        || request.format.is_some()
        || request.reasoning.is_some()
}

fn sampling(request: &Request<'_>, side: &Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    if request.stop.len() > MOST_STOPS {
        return side.refuse(Field::Stop, "this model's provider takes at most 5 stop sequences");
    }
    writer
        .maybe_raw("maxOutputTokens", request.max_tokens)
        .maybe_raw("temperature", request.temperature)
        .maybe_raw("topP", request.top_p)
        .maybe_raw("topK", request.top_k)
        .maybe_raw("presencePenalty", request.presence)
        .maybe_raw("frequencyPenalty", request.frequency)
        .maybe_raw("seed", request.seed);
    if let Some(n) = request.n {
        writer.key("candidateCount").number(n);
    }
    if request.logprobs {
        writer.key("responseLogprobs").bool(true).maybe_raw("logprobs", request.top_logprobs);
    }
    if !request.stop.is_empty() {
        writer.key("stopSequences").array();
        for stop in &request.stop {
            writer.item().text(stop);
        }
        writer.end_array();
    }
    Ok(())
}

/// Gemini 2 takes a budget, later models a level.
fn thinking(reasoning: Reasoning, side: &Side<'_>, writer: &mut Writer<'_>) {
    let Reasoning { level, budget, shown } = reasoning;
    writer.key("thinkingConfig").object();
    if side.model.starts_with("gemini-2") {
        if let Some(budget) = budget.filter(|_| level.is_none()).or(level.map(Level::budget)) {
            writer.key("thinkingBudget").raw(&budget.to_string());
        }
    } else {
        let level = level.or_else(|| budget.filter(|budget| *budget >= 0).map(Level::of_budget));
        if let Some(level) = level {
            writer.word(
                "thinkingLevel",
                match level {
                    Level::None | Level::Minimal => "minimal",
                    Level::Low => "low",
                    Level::Medium => "medium",
                    Level::High | Level::Most => "high",
                },
            );
        }
    }
    if shown {
        writer.key("includeThoughts").bool(true);
    }
    writer.end_object();
}

fn tools(request: &Request<'_>, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    if !request.tools.is_empty() {
        writer.key("tools").array().item().object().key("functionDeclarations").array();
        for tool in &request.tools {
            if tool.cache.is_some() {
                side.drop(Field::Cache);
            }
            self::tool(tool, writer.item());
        }
        writer.end_array().end_object().end_array();
    }
    let strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    let mode = match &request.tool_choice {
        // To keep to a schema is a mode of calling here.
        None | Some(ToolChoice::Auto) if strict => "VALIDATED",
        None => return Ok(()),
        Some(ToolChoice::Auto) => "AUTO",
        Some(ToolChoice::None) => "NONE",
        Some(ToolChoice::Any | ToolChoice::Only(_)) => "ANY",
    };
    writer.key("toolConfig").object().key("functionCallingConfig").object().word("mode", mode);
    if let Some(ToolChoice::Only(names)) = &request.tool_choice {
        writer.key("allowedFunctionNames").array();
        for name in names {
            writer.item().text(name);
        }
        writer.end_array();
    }
    writer.end_object().end_object();
    Ok(())
}

fn tool(tool: &Tool<'_>, writer: &mut Writer<'_>) {
    writer.object().key("name").text(&tool.name);
    if let Some(description) = &tool.description {
        writer.key("description").text(description);
    }
    writer.maybe_raw("parametersJsonSchema", tool.schema.as_deref()).end_object();
}
