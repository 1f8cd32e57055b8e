//! An OpenAI chat request, read.

use super::message_in;
use crate::{
    json::{Kind, Value},
    translate::{
        pick::{self, Picked},
        refuse::{Dropped, Refused},
        text::Text,
        vocabulary::{Format, Level, Reasoning, Request, Tool, ToolChoice},
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
        "stream" => request.stream = pick::boolean(value)?,
        "stream_options" => pick::only(value, &["include_usage", "include_obfuscation"])?,
        "max_completion_tokens" => request.max_tokens = Some(pick::number(value)?),
        "max_tokens" => request.max_tokens = request.max_tokens.or(Some(pick::number(value)?)),
        "temperature" => request.temperature = Some(pick::number(value)?),
        "top_p" => request.top_p = Some(pick::number(value)?),
        "top_k" => request.top_k = Some(pick::number(value)?),
        "presence_penalty" => request.presence = Some(pick::number(value)?),
        "frequency_penalty" => request.frequency = Some(pick::number(value)?),
        "seed" => request.seed = Some(pick::number(value)?),
        "n" => request.n = Some(pick::count(value)?),
        "logprobs" => request.logprobs = pick::boolean(value)?,
        "top_logprobs" => request.top_logprobs = Some(pick::number(value)?),
        "stop" => request.stop = stop(value)?,
        "tools" => pick::elements(value, |_, tool| {
            request.tools.push(self::tool(tool)?);
            Ok(())
        })?,
        "tool_choice" => request.tool_choice = Some(tool_choice(value)?),
        "parallel_tool_calls" => request.parallel = Some(pick::boolean(value)?),
        "response_format" => request.format = format(value)?,
        "reasoning_effort" => request.reasoning = Some(effort(value)?),
        "user" | "safety_identifier" => request.user = Some(pick::text(value)?),
        _ => return other(name, value, dropped),
    }
    Ok(())
}

/// Members that mean nothing to another provider: left out where that cannot change the answer.
fn other(name: &str, value: Value<'_>, dropped: &mut Dropped) -> Picked<()> {
    let harmless = match name {
        "metadata"
        | "store"
        | "prompt_cache_key"
        | "prompt_cache_retention"
        | "service_tier"
        | "prediction" => true,
        "logit_bias" => value.kind() == Kind::Object && value.members().next().is_none(),
        "verbosity" => value.is("medium"),
        "modalities" => value.elements().all(|modality| modality.is("text")),
        "functions" | "function_call" => {
            return Err(Refused::here("it is out of use; send tools and tool_choice"));
        }
        _ => false,
    };
    if !harmless {
        return Err(Refused::unknown());
    }
    dropped.add(name.to_owned());
    Ok(())
}

fn stop(value: Value<'_>) -> Picked<Vec<Text<'_>>> {
    if let Some(one) = Text::of(value) {
        return Ok(vec![one]);
    }
    let mut all = Vec::new();
    pick::elements(value, |_, text| {
        all.push(pick::text(text)?);
        Ok(())
    })?;
    Ok(all)
}

fn tool(value: Value<'_>) -> Picked<Tool<'_>> {
    pick::only(value, &["type", "function", "cache_control"])?;
    let kind = pick::required(value, "type")?;
    if !kind.is("function") {
        return Err(Refused::here("only functions can be called through another provider").inside("type"));
    }
    let function = pick::required(value, "function")?;
    let inside = |refused: Refused| refused.inside("function");
    pick::only(function, &["name", "description", "parameters", "strict"]).map_err(inside)?;
    let schema = function.get("parameters").filter(|schema| !schema.is_null());
    let strict = function.get("strict").filter(|strict| !strict.is_null());
    Ok(Tool {
        name: pick::text_in(function, "name").map_err(inside)?,
        description: pick::maybe_text(function, "description").map_err(inside)?,
        schema: schema
            .map(pick::object)
            .transpose()
            .map_err(|refused| refused.inside("parameters").inside("function"))?
            .map(Into::into),
        strict: strict
            .map(pick::boolean)
            .transpose()
            .map_err(|refused| refused.inside("strict").inside("function"))?,
        cache: value.get("cache_control").map(Value::raw),
    })
}

fn tool_choice(value: Value<'_>) -> Picked<ToolChoice<'_>> {
    if let Some(word) = value.as_str() {
        return match &*word {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Any),
            _ => Err(Refused::here("it must be auto, none, required or a function")),
        };
    }
    let kind = pick::required(value, "type")?;
    if kind.is("function") {
        let function = pick::required(value, "function")?;
        let name = pick::text_in(function, "name").map_err(|refused| refused.inside("function"))?;
        return Ok(ToolChoice::Only(vec![name]));
    }
    if !kind.is("allowed_tools") {
        return Err(Refused::here("it must be function or allowed_tools").inside("type"));
    }
    let allowed = pick::required(value, "allowed_tools")?;
    allowed_tools(allowed).map_err(|refused| refused.inside("allowed_tools"))
}

fn allowed_tools(allowed: Value<'_>) -> Picked<ToolChoice<'_>> {
    if !pick::required(allowed, "mode")?.is("required") {
        return Err(Refused::here("only `required` has a counterpart").inside("mode"));
    }
    let mut names = Vec::new();
    let tools = pick::required(allowed, "tools")?;
    pick::elements(tools, |_, tool| {
        let function = pick::required(tool, "function")?;
        names.push(pick::text_in(function, "name").map_err(|refused| refused.inside("function"))?);
        Ok(())
    })
    .map_err(|refused| refused.inside("tools"))?;
    Ok(ToolChoice::Only(names))
}

fn format(value: Value<'_>) -> Picked<Option<Format<'_>>> {
    let kind = pick::required(value, "type")?;
    match &*pick::word(kind).map_err(|refused| refused.inside("type"))? {
        "text" => Ok(None),
        "json_object" => Ok(Some(Format::Json)),
        "json_schema" => {
            let schema = pick::required(value, "json_schema")?;
            schema_format(schema).map(Some).map_err(|refused| refused.inside("json_schema"))
        }
        _ => Err(Refused::unknown().inside("type")),
    }
}

/// A schema with its name and whether it is to be kept to the letter.
pub(crate) fn schema_format(value: Value<'_>) -> Picked<Format<'_>> {
    let strict = value.get("strict").filter(|strict| !strict.is_null());
    let schema = pick::required(value, "schema")?;
    Ok(Format::Schema {
        name: pick::maybe_text(value, "name")?,
        description: pick::maybe_text(value, "description")?,
        schema: pick::object(schema).map_err(|refused| refused.inside("schema"))?.into(),
        strict: strict.map(pick::boolean).transpose().map_err(|r| r.inside("strict"))?.unwrap_or(false),
    })
}

/// How hard to think, in OpenAI's words.
pub(crate) fn effort(value: Value<'_>) -> Picked<Reasoning> {
    let level = match &*pick::word(value)? {
        "none" => Level::None,
        "minimal" => Level::Minimal,
        "low" => Level::Low,
        "medium" => Level::Medium,
        "high" => Level::High,
        "xhigh" | "max" => Level::Most,
        _ => return Err(Refused::here("it must be none, minimal, low, medium, high or xhigh")),
    };
    Ok(Reasoning { level: Some(level), budget: None, shown: false })
}
