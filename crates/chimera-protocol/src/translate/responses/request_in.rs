//! A responses request, read. It must bring its whole conversation: no state is kept here.

use super::input;
use crate::{
    json::{Kind, Value},
    translate::{
        openai,
        pick::{self, Picked},
        refuse::{Dropped, Refused},
        text::Text,
        vocabulary::{Format, PartKind, Reasoning, Request, Tool, ToolChoice},
    },
};

/// Reads a request; every member is taken, refused or noted as dropped.
pub(crate) fn read<'a>(root: Value<'a>, dropped: &mut Dropped) -> Picked<Request<'a>> {
    let mut request = Request::default();
    // It stands before whatever the input says.
    if let Some(text) = pick::maybe_text(root, "instructions")? {
        request.system.push(PartKind::Text(text, None).into());
    }
    pick::members(root, |name, value| member(&mut request, name, value, dropped))?;
    Ok(request)
}

fn member<'a>(request: &mut Request<'a>, name: &str, value: Value<'a>, dropped: &mut Dropped) -> Picked<()> {
    match name {
        "model" | "cache" | "instructions" => {}
        "input" => input::read(value, request, dropped)?,
        "max_output_tokens" => request.max_tokens = Some(pick::number(value)?),
        "temperature" => request.temperature = Some(pick::number(value)?),
        "top_p" => request.top_p = Some(pick::number(value)?),
        "stream" => request.stream = pick::boolean(value)?,
        "stream_options" => pick::only(value, &["include_obfuscation"])?,
        "tools" => pick::elements(value, |_, tool| {
            request.tools.push(self::tool(tool)?);
            Ok(())
        })?,
        "tool_choice" => request.tool_choice = Some(tool_choice(value)?),
        "parallel_tool_calls" => request.parallel = Some(pick::boolean(value)?),
        "text" => text(value, request, dropped)?,
        "reasoning" => reasoning(value, request)?,
        "user" | "safety_identifier" => request.user = Some(pick::text(value)?),
        "previous_response_id" | "conversation" => {
            return Err(Refused::here(
                "this model's provider keeps no conversations; send all of it as input",
            ));
        }
        _ => return other(name, value, dropped),
    }
    Ok(())
}

/// Members that mean nothing to another provider: left out where that cannot change the answer.
fn other(name: &str, value: Value<'_>, dropped: &mut Dropped) -> Picked<()> {
    let harmless = match name {
        "metadata" | "store" | "service_tier" | "prompt_cache_key" | "prompt_cache_retention" => true,
        "truncation" => value.is("disabled"),
        "background" => value.as_bool() == Some(false),
        "top_logprobs" => value.raw() == "0",
        "include" => value.elements().all(|what| what.is("reasoning.encrypted_content")),
        _ => false,
    };
    if !harmless {
        return Err(Refused::unknown());
    }
    dropped.add(name.to_owned());
    Ok(())
}

fn tool(value: Value<'_>) -> Picked<Tool<'_>> {
    if !pick::required(value, "type")?.is("function") {
        return Err(Refused::here("only functions can be called through another provider").inside("type"));
    }
    pick::only(value, &["type", "name", "description", "parameters", "strict"])?;
    let schema = value.get("parameters").filter(|schema| !schema.is_null());
    let strict = value.get("strict").filter(|strict| !strict.is_null());
    Ok(Tool {
        name: pick::text_in(value, "name")?,
        description: pick::maybe_text(value, "description")?,
        schema: schema.map(pick::object).transpose().map_err(|r| r.inside("parameters"))?.map(Into::into),
        strict: strict.map(pick::boolean).transpose().map_err(|r| r.inside("strict"))?,
        cache: None,
    })
}

fn tool_choice(value: Value<'_>) -> Picked<ToolChoice<'_>> {
    if value.kind() == Kind::String {
        return match &*pick::word(value)? {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Any),
            _ => Err(Refused::here("it must be auto, none, required or a function")),
        };
    }
    let kind = pick::required(value, "type")?;
    if kind.is("function") {
        return Ok(ToolChoice::Only(vec![pick::text_in(value, "name")?]));
    }
    if !kind.is("allowed_tools") || !pick::required(value, "mode")?.is("required") {
        return Err(Refused::unknown().inside("type"));
    }
    let mut names = Vec::new();
    pick::elements(pick::required(value, "tools")?, |_, tool| {
        names.push(pick::text_in(tool, "name")?);
        Ok(())
    })
    .map_err(|refused| refused.inside("tools"))?;
    Ok(ToolChoice::Only(names))
}

fn text<'a>(value: Value<'a>, request: &mut Request<'a>, dropped: &mut Dropped) -> Picked<()> {
    pick::members(value, |name, value| {
        match name {
            "format" => {
                let kind = pick::required(value, "type")?;
                request.format = match &*pick::word(kind).map_err(|refused| refused.inside("type"))? {
                    "text" => None,
                    "json_object" => Some(Format::Json),
                    "json_schema" => Some(openai::request_in::schema_format(value)?),
                    _ => return Err(Refused::unknown().inside("type")),
                };
            }
            "verbosity" if value.is("medium") => dropped.add("text.verbosity"),
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })
}

fn reasoning(value: Value<'_>, request: &mut Request<'_>) -> Picked<()> {
    let mut reasoning = Reasoning::default();
    pick::members(value, |name, value| {
        match name {
            "effort" => reasoning.level = openai::request_in::effort(value)?.level,
            "summary" | "generate_summary" => reasoning.shown = Text::of(value).is_some(),
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })?;
    if reasoning != Reasoning::default() {
        request.reasoning = Some(reasoning);
    }
    Ok(())
}
