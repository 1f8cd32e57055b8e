//! An Anthropic messages request, read.

use super::message_in;
use crate::{
    json::Value,
    translate::{
        pick::{self, Picked},
        refuse::{Dropped, Refused},
        text::Text,
        vocabulary::{Format, Level, PartKind, Reasoning, Request, Tool, ToolChoice},
    },
};

/// Reads a request; every member is taken, refused or noted as dropped.
pub(crate) fn read<'a>(root: Value<'a>, dropped: &mut Dropped) -> Picked<Request<'a>> {
    let mut request = Request::default();
    pick::members(root, |name, value| member(&mut request, name, value, dropped))?;
    Ok(request)
}

fn member<'a>(request: &mut Request<'a>, name: &str, value: Value<'a>, dropped: &mut Dropped) -> Picked<()> {
    match name {
        // The gateway says these itself.
        "model" | "cache" => {}
        "messages" => message_in::conversation(value, request, dropped)?,
        "system" => {
            request.system = match Text::of(value) {
                Some(text) => vec![PartKind::Text(text, None).into()],
                None => message_in::parts(value, dropped)?,
            };
        }
        "max_tokens" => request.max_tokens = Some(pick::number(value)?),
        "stop_sequences" => pick::elements(value, |_, stop| {
            request.stop.push(pick::text(stop)?);
            Ok(())
        })?,
        "stream" => request.stream = pick::boolean(value)?,
        "temperature" => request.temperature = Some(pick::number(value)?),
        "top_p" => request.top_p = Some(pick::number(value)?),
        "top_k" => request.top_k = Some(pick::number(value)?),
        "tools" => pick::elements(value, |_, tool| {
            request.tools.push(self::tool(tool)?);
            Ok(())
        })?,
        "tool_choice" => tool_choice(value, request)?,
        "thinking" => thinking(value, request)?,
        "output_config" => output_config(value, request)?,
        "output_format" => request.format = format(value)?,
        "metadata" => {
            pick::only(value, &["user_id"])?;
            request.user = pick::maybe_text(value, "user_id")?;
        }
        "service_tier" => dropped.add("service_tier"),
        "mcp_servers" | "container" if value.elements().next().is_none() => dropped.add(name.to_owned()),
        _ => return Err(Refused::unknown()),
    }
    Ok(())
}

fn tool(value: Value<'_>) -> Picked<Tool<'_>> {
    if let Some(kind) = value.get("type").filter(|kind| !kind.is_null() && !kind.is("custom")) {
        pick::word(kind).map_err(|refused| refused.inside("type"))?;
        return Err(Refused::here("only custom tools can be called through another provider").inside("type"));
    }
    pick::only(value, &["type", "name", "description", "input_schema", "strict", "cache_control"])?;
    let strict = value.get("strict").filter(|strict| !strict.is_null());
    let schema = pick::required(value, "input_schema")?;
    Ok(Tool {
        name: pick::text_in(value, "name")?,
        description: pick::maybe_text(value, "description")?,
        schema: Some(pick::object(schema).map_err(|refused| refused.inside("input_schema"))?.into()),
        strict: strict.map(pick::boolean).transpose().map_err(|refused| refused.inside("strict"))?,
        cache: value.get("cache_control").filter(|hint| !hint.is_null()).map(Value::raw),
    })
}

fn tool_choice<'a>(value: Value<'a>, request: &mut Request<'a>) -> Picked<()> {
    pick::only(value, &["type", "name", "disable_parallel_tool_use"])?;
    let kind = pick::required(value, "type")?;
    let choice = match &*pick::word(kind).map_err(|refused| refused.inside("type"))? {
        "auto" => ToolChoice::Auto,
        "none" => ToolChoice::None,
        "any" => ToolChoice::Any,
        "tool" => ToolChoice::Only(vec![pick::text_in(value, "name")?]),
        _ => return Err(Refused::here("it must be auto, any, tool or none").inside("type")),
    };
    request.tool_choice = Some(choice);
    if let Some(disable) = value.get("disable_parallel_tool_use").filter(|value| !value.is_null()) {
        let disable = pick::boolean(disable).map_err(|r| r.inside("disable_parallel_tool_use"))?;
        request.parallel = disable.then_some(false);
    }
    Ok(())
}

fn thinking(value: Value<'_>, request: &mut Request<'_>) -> Picked<()> {
    pick::only(value, &["type", "budget_tokens", "display"])?;
    let kind = pick::required(value, "type")?;
    let shown = !value.get("display").is_some_and(|display| display.is("omitted"));
    match &*pick::word(kind).map_err(|refused| refused.inside("type"))? {
        "enabled" => {
            let budget = pick::required(value, "budget_tokens")?;
            let budget = pick::count(budget).map_err(|refused| refused.inside("budget_tokens"))?;
            let reasoning = request.reasoning.get_or_insert_default();
            reasoning.budget = Some(i64::try_from(budget).unwrap_or(i64::MAX));
            reasoning.shown = shown;
        }
        "adaptive" => {
            let reasoning = request.reasoning.get_or_insert_default();
            reasoning.budget = Some(-1);
            reasoning.shown = shown;
        }
        // What is so without a word of it.
        "disabled" => {}
        _ => return Err(Refused::here("it must be enabled, adaptive or disabled").inside("type")),
    }
    Ok(())
}

fn output_config<'a>(value: Value<'a>, request: &mut Request<'a>) -> Picked<()> {
    pick::members(value, |name, value| {
        match name {
            "format" => request.format = format(value)?,
            "effort" => {
                let level = match &*pick::word(value)? {
                    "low" => Level::Low,
                    "medium" => Level::Medium,
                    "high" => Level::High,
                    "xhigh" | "max" => Level::Most,
                    _ => return Err(Refused::here("it must be low, medium, high or max")),
                };
                request.reasoning.get_or_insert_with(Reasoning::default).level = Some(level);
            }
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })
}

fn format(value: Value<'_>) -> Picked<Option<Format<'_>>> {
    if !pick::required(value, "type")?.is("json_schema") {
        return Err(Refused::here("it must be json_schema").inside("type"));
    }
    pick::only(value, &["type", "schema"])?;
    let schema = pick::required(value, "schema")?;
    let schema = pick::object(schema).map_err(|refused| refused.inside("schema"))?.into();
    // Anthropic keeps to a schema to the letter.
    Ok(Some(Format::Schema { name: None, description: None, schema, strict: true }))
}
