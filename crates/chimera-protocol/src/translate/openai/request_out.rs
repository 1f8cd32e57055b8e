//! An OpenAI chat request, written.

use bytes::BytesMut;

use super::message_out;
use crate::translate::{
    field::{Field, Side},
    pick::Picked,
    text::Text,
    vocabulary::{Format, Level, Request, Tool, ToolChoice},
    write::Writer,
};

/// The most stop sequences that OpenAI takes.
const MOST_STOPS: usize = 4;

/// Writes a request: what stays the same from turn to turn first, so that as much as can be is known to
/// the provider's cache of prompts.
pub(crate) fn write(request: &Request<'_>, side: &mut Side<'_>, out: &mut BytesMut) -> Picked<()> {
    let mut writer = Writer::new(out);
    writer.object().word("model", side.model);
    sampling(request, side, &mut writer)?;
    tools(request, side, &mut writer)?;
    format(request, &mut writer);
    reasoning(request, side, &mut writer);
    if let Some(user) = &request.user {
        writer.key("user").text(user);
    }
    if request.stream {
        // Usage is always asked for: it is taken out again where the caller does not want it.
        writer.key("stream").bool(true);
        writer.key("stream_options").object().key("include_usage").bool(true).end_object();
    }
    message_out::conversation(request, side, &mut writer)?;
    writer.end_object();
    Ok(())
}

fn sampling(request: &Request<'_>, side: &Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    if request.top_k.is_some() {
        return side.refuse(Field::TopK, "this model's provider cannot limit sampling to the top k");
    }
    if request.stop.len() > MOST_STOPS {
        return side.refuse(Field::Stop, "this model's provider takes at most 4 stop sequences");
    }
    writer
        .maybe_raw("max_completion_tokens", request.max_tokens)
        .maybe_raw("temperature", request.temperature)
        .maybe_raw("top_p", request.top_p)
        .maybe_raw("presence_penalty", request.presence)
        .maybe_raw("frequency_penalty", request.frequency)
        .maybe_raw("seed", request.seed);
    if let Some(n) = request.n {
        writer.key("n").number(n);
    }
    if request.logprobs {
        writer.key("logprobs").bool(true).maybe_raw("top_logprobs", request.top_logprobs);
    }
    if !request.stop.is_empty() {
        writer.key("stop").array();
        for stop in &request.stop {
            writer.item().text(stop);
        }
        writer.end_array();
    }
    Ok(())
}

fn tools(request: &Request<'_>, side: &mut Side<'_>, writer: &mut Writer<'_>) -> Picked<()> {
    if !request.tools.is_empty() {
        writer.key("tools").array();
        for tool in &request.tools {
            if tool.cache.is_some() {
                side.drop(Field::Cache);
            }
            self::tool(tool, writer.item());
        }
        writer.end_array();
    }
    if let Some(choice) = &request.tool_choice {
        writer.key("tool_choice");
        tool_choice(choice, writer);
    }
    if let Some(parallel) = request.parallel {
        writer.key("parallel_tool_calls").bool(parallel);
    }
    Ok(())
}

fn tool(tool: &Tool<'_>, writer: &mut Writer<'_>) {
    writer.object().word("type", "function").key("function").object().key("name").text(&tool.name);
    if let Some(description) = &tool.description {
        writer.key("description").text(description);
    }
    writer.maybe_raw("parameters", tool.schema.as_deref());
    if let Some(strict) = tool.strict {
        writer.key("strict").bool(strict);
    }
    writer.end_object().end_object();
}

fn tool_choice(choice: &ToolChoice<'_>, writer: &mut Writer<'_>) {
    let named = |name: &Text<'_>, writer: &mut Writer<'_>| {
        writer.object().word("type", "function").key("function").object().key("name").text(name);
        writer.end_object().end_object();
    };
    match choice {
        ToolChoice::Auto => _ = writer.string("auto"),
        ToolChoice::None => _ = writer.string("none"),
        ToolChoice::Any => _ = writer.string("required"),
        ToolChoice::Only(names) => match names.as_slice() {
            [name] => named(name, writer),
            names => {
                writer.object().word("type", "allowed_tools").key("allowed_tools").object();
                writer.word("mode", "required").key("tools").array();
                for name in names {
                    named(name, writer.item());
                }
                writer.end_array().end_object().end_object();
            }
        },
    }
}

fn format(request: &Request<'_>, writer: &mut Writer<'_>) {
    match &request.format {
        None => {}
        Some(Format::Json) => {
            writer.key("response_format").object().word("type", "json_object").end_object();
        }
        Some(Format::Schema { name, description, schema, strict }) => {
            writer.key("response_format").object().word("type", "json_schema").key("json_schema").object();
            // OpenAI wants a name; the other dialects have none.
            writer.key("name").text(name.as_ref().unwrap_or(&Text::from("response")));
            if let Some(description) = description {
                writer.key("description").text(description);
            }
            writer.key("schema").raw(schema).key("strict").bool(*strict).end_object().end_object();
        }
    }
}

fn reasoning(request: &Request<'_>, side: &mut Side<'_>, writer: &mut Writer<'_>) {
    let Some(reasoning) = request.reasoning else { return };
    let level = reasoning.level.or(match reasoning.budget {
        Some(budget) if budget >= 0 => Some(Level::of_budget(budget)),
        // Left to the model, as it is when nothing is said.
        _ => None,
    });
    if let Some(level) = level {
        writer.word("reasoning_effort", level.word());
    }
    if reasoning.shown {
        side.drop(Field::Shown);
    }
}
