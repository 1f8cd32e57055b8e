//! An Anthropic messages request, written.

use bytes::BytesMut;

use super::{message_out, model};
use crate::translate::{
    field::{Field, Side},
    pick::{self, Picked},
    vocabulary::{Format, Level, Request, Tool, ToolChoice},
    write::Writer,
};

/// The least that Anthropic lets a model think with.
const LEAST_BUDGET: i64 = 1024;

/// Writes a request: what stays the same from turn to turn first, so that as much as can be is known to
/// the provider's cache of prompts.
pub(crate) fn write(request: &Request<'_>, side: &mut Side<'_>, out: &mut BytesMut) -> Picked<()> {
    let mut writer = Writer::new(out);
    writer.object().word("model", side.model);
    let default = model::max_tokens(side.model).to_string();
    writer.key("max_tokens").raw(request.max_tokens.unwrap_or(&default));
    refuse_unknown(request, side)?;
    sampling(request, side, &mut writer)?;
    tools(request, side, &mut writer)?;
    thinking(request, side, &mut writer)?;
    if let Some(user) = &request.user {
        writer.key("metadata").object().key("user_id").text(user).end_object();
    }
    if request.stream {
        writer.key("stream").bool(true);
    }
    message_out::conversation(request, side, &mut writer)?;
    writer.end_object();
    Ok(())
}

/// What Anthropic has no word for: refused, unless it asks for what is so anyway.
fn refuse_unknown(request: &Request<'_>, side: &mut Side<'_>) -> Picked<()> {
    if request.n.is_some_and(|n| n != 1) {
        return side.refuse(Field::N, "this model's provider gives one answer at a time");
    }
    if request.logprobs {
        return side.refuse(Field::Logprobs, "this model's provider does not tell log probabilities");
    }
    if request.seed.is_some() {
        return side.refuse(Field::Seed, "this model's provider takes no seed");
    }
    for (value, field) in [(request.presence, Field::Presence), (request.frequency, Field::Frequency)] {
        match value.map(pick::float) {
            None => {}
            Some(0.0) => side.drop(field),
            Some(_) => return side.refuse(field, "this model's provider knows no penalties"),
        }
    }
    Ok(())
}

fn sampling(request: &Request<'_>, side: &Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    if request.temperature.map(pick::float).is_some_and(|value| value > 1.0) {
        return side.refuse(Field::Temperature, "this model's provider takes a temperature of 0 to 1");
    }
    writer
        .maybe_raw("temperature", request.temperature)
        .maybe_raw("top_p", request.top_p)
        .maybe_raw("top_k", request.top_k);
    if !request.stop.is_empty() {
        writer.key("stop_sequences").array();
        for stop in &request.stop {
            writer.item().text(stop);
        }
        writer.end_array();
    }
    Ok(())
}

fn tools(request: &Request<'_>, side: &Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    if !request.tools.is_empty() {
        writer.key("tools").array();
        for tool in &request.tools {
            self::tool(tool, writer.item());
        }
        writer.end_array();
    }
    let serial = request.parallel == Some(false) && !request.tools.is_empty();
    let (kind, name) = match &request.tool_choice {
        None if serial => ("auto", None),
        None => return Ok(()),
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Any) => ("any", None),
        Some(ToolChoice::Only(names)) => match names.as_slice() {
            [name] => ("tool", Some(name)),
            _ => return side.refuse(Field::ToolChoice, "this model's provider can be held to one tool only"),
        },
    };
    writer.key("tool_choice").object().word("type", kind);
    if let Some(name) = name {
        writer.key("name").text(name);
    }
    if serial && kind != "none" {
        writer.key("disable_parallel_tool_use").bool(true);
    }
    writer.end_object();
    Ok(())
}

fn tool(tool: &Tool<'_>, writer: &mut Writer<'_>) {
    writer.object().key("name").text(&tool.name);
    if let Some(description) = &tool.description {
        writer.key("description").text(description);
    }
    // A tool without a schema takes nothing.
    writer.key("input_schema").raw(tool.schema.as_deref().unwrap_or(r#"{"type":"object","properties":{}}"#));
    if let Some(strict) = tool.strict {
        writer.key("strict").bool(strict);
    }
    writer.maybe_raw("cache_control", tool.cache).end_object();
}

/// How to think, and the form of the answer, which share a member.
fn thinking(request: &Request<'_>, side: &Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    let mut effort = None;
    if let Some(reasoning) = request.reasoning {
        let by_budget = model::thinks_by_budget(side.model);
        match (reasoning.level, reasoning.budget) {
            (Some(Level::None), _) | (_, Some(0)) => {
                writer.key("thinking").object().word("type", "disabled").end_object();
            }
            (level, budget) if by_budget => {
                // "As you see fit" is a word that these models do not know.
                let fit = level.unwrap_or(Level::Medium).budget();
                let budget = budget.filter(|budget| *budget > 0).unwrap_or(fit);
                writer.key("thinking").object().word("type", "enabled").key("budget_tokens");
                writer.raw(&room_for(budget, request, side)?.to_string()).end_object();
            }
            (level, budget) => {
                writer.key("thinking").object().word("type", "adaptive").end_object();
                let level = level.or_else(|| budget.filter(|budget| *budget > 0).map(Level::of_budget));
                effort = level.map(|level| match level {
                    Level::None | Level::Minimal | Level::Low => "low",
                    Level::Medium => "medium",
                    Level::High => "high",
                    Level::Most => "max",
                });
            }
        }
    }
    let schema = match &request.format {
        None => None,
        Some(Format::Schema { schema, .. }) => Some(schema),
        Some(Format::Json) => {
            return side.refuse(Field::Format, "this model's provider needs a schema to answer in JSON");
        }
    };
    if effort.is_some() || schema.is_some() {
        writer.key("output_config").object();
        if let Some(effort) = effort {
            writer.word("effort", effort);
        }
        if let Some(schema) = schema {
            writer.key("format").object().word("type", "json_schema").key("schema").raw(schema).end_object();
        }
        writer.end_object();
    }
    Ok(())
}

/// A budget that leaves room for an answer below the limit.
fn room_for(budget: i64, request: &Request<'_>, side: &Side<'_>) -> Picked<i64> {
    let limit = request.max_tokens.map_or_else(
        || i64::try_from(model::max_tokens(side.model)).unwrap_or(i64::MAX),
        |limit| limit.parse().unwrap_or(i64::MAX),
    );
    if limit <= LEAST_BUDGET {
        return side
            .refuse(Field::MaxTokens, "thinking takes at least 1024 tokens; the limit leaves no room");
    }
    Ok(budget.clamp(LEAST_BUDGET, (limit - 1).max(LEAST_BUDGET)))
}
