//! A Gemini generateContent request, read. Its members may be spelled in camel or in snake case.

use std::borrow::Cow;

use super::{message_in, schema};
use crate::{
    json::Value,
    translate::{
        pick::{self, Picked},
        refuse::{Dropped, Refused},
        vocabulary::{Format, Level, Reasoning, Request, Tool, ToolChoice},
    },
};

/// Reads a request; every member is taken, refused or noted as dropped.
pub(crate) fn read<'a>(root: Value<'a>, stream: bool, dropped: &mut Dropped) -> Picked<Request<'a>> {
    let mut request = Request { stream, ..Request::default() };
    pick::members(root, |name, value| member(&mut request, &camel(name), value, dropped))?;
    // Last, because it may say something of every tool.
    if let Some(value) = get(root, "toolConfig") {
        let choose = |name: &str, value| match &*camel(name) {
            "functionCallingConfig" => calling(value, &mut request),
            _ => Err(Refused::unknown()),
        };
        pick::members(value, choose).map_err(|refused| refused.inside("toolConfig"))?;
    }
    Ok(request)
}

/// A name in camel case.
pub(crate) fn camel(name: &str) -> Cow<'_, str> {
    if !name.contains('_') {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' if !out.is_empty() => upper = true,
            c if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A member in either spelling.
pub(crate) fn get<'a>(value: Value<'a>, name: &str) -> Option<Value<'a>> {
    let found = value.members().find(|(key, _)| key.as_str().is_some_and(|key| camel(&key) == name));
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}

fn member<'a>(request: &mut Request<'a>, name: &str, value: Value<'a>, dropped: &mut Dropped) -> Picked<()> {
    match name {
        "model" | "cache" => {}
        "contents" => message_in::conversation(value, request)?,
        "systemInstruction" => request.system = message_in::system(value)?,
        "generationConfig" => {
            pick::members(value, |name, value| config(request, &camel(name), value, dropped))?;
        }
        "tools" => pick::elements(value, |_, tool| tools(tool, request))?,
        "toolConfig" => {}
        "safetySettings" => {
            pick::elements(value, |_, setting| {
                let off = get(setting, "threshold")
                    .is_some_and(|threshold| threshold.is("OFF") || threshold.is("BLOCK_NONE"));
                if off { Ok(()) } else { Err(Refused::unknown().inside("threshold")) }
            })?;
            dropped.add("safetySettings");
        }
        "labels" => dropped.add("labels"),
        _ => return Err(Refused::unknown()),
    }
    Ok(())
}

fn config<'a>(request: &mut Request<'a>, name: &str, value: Value<'a>, dropped: &mut Dropped) -> Picked<()> {
    match name {
        "temperature" => request.temperature = Some(pick::number(value)?),
        "topP" => request.top_p = Some(pick::number(value)?),
        "topK" => request.top_k = Some(pick::number(value)?),
        "candidateCount" => request.n = Some(pick::count(value)?),
        "maxOutputTokens" => request.max_tokens = Some(pick::number(value)?),
        "stopSequences" => pick::elements(value, |_, stop| {
            request.stop.push(pick::text(stop)?);
            Ok(())
        })?,
        "presencePenalty" => request.presence = Some(pick::number(value)?),
        "frequencyPenalty" => request.frequency = Some(pick::number(value)?),
        "seed" => request.seed = Some(pick::number(value)?),
        "responseLogprobs" => request.logprobs = pick::boolean(value)?,
        "logprobs" => request.top_logprobs = Some(pick::number(value)?),
        "responseMimeType" => match &*pick::word(value)? {
            "text/plain" => {}
            "application/json" => _ = request.format.get_or_insert(Format::Json),
            _ => return Err(Refused::unknown()),
        },
        "responseSchema" => request.format = Some(format(schema::to_json_schema(value).into())),
        "responseJsonSchema" | "_responseJsonSchema" => {
            request.format = Some(format(pick::object(value)?.into()));
        }
        "thinkingConfig" => request.reasoning = Some(thinking(value)?),
        "responseModalities" if value.elements().all(|modality| modality.is("TEXT")) => {
            dropped.add("generationConfig.responseModalities");
        }
        _ => return Err(Refused::unknown()),
    }
    Ok(())
}

fn format(schema: Cow<'_, str>) -> Format<'_> {
    Format::Schema { name: None, description: None, schema, strict: false }
}

fn thinking(value: Value<'_>) -> Picked<Reasoning> {
    let mut reasoning = Reasoning::default();
    pick::members(value, |name, value| {
        match &*camel(name) {
            "thinkingBudget" => {
                let budget = pick::number(value)?.parse();
                let budget = budget.map_err(|_| Refused::here("it must be a whole number"))?;
                reasoning.budget = Some(budget);
            }
            "thinkingLevel" => {
                reasoning.level = match &*pick::word(value)?.to_ascii_lowercase() {
                    "thinking_level_unspecified" => None,
                    "minimal" => Some(Level::Minimal),
                    "low" => Some(Level::Low),
                    "medium" => Some(Level::Medium),
                    "high" => Some(Level::High),
                    _ => return Err(Refused::here("it must be minimal, low, medium or high")),
                };
            }
            "includeThoughts" => reasoning.shown = pick::boolean(value)?,
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })?;
    Ok(reasoning)
}

fn tools<'a>(value: Value<'a>, request: &mut Request<'a>) -> Picked<()> {
    pick::members(value, |name, value| match &*camel(name) {
        "functionDeclarations" => pick::elements(value, |_, function| {
            request.tools.push(tool(function)?);
            Ok(())
        }),
        _ => Err(Refused::unknown()),
    })
}

fn tool(value: Value<'_>) -> Picked<Tool<'_>> {
    let (mut schema, mut description) = (None, None);
    pick::members(value, |name, value| {
        match &*camel(name) {
            "name" => {}
            "description" => description = Some(pick::text(value)?),
            "parameters" => schema = Some(Cow::Owned(schema::to_json_schema(value))),
            "parametersJsonSchema" => schema = Some(Cow::Borrowed(pick::object(value)?)),
            // What the function gives back is for the model to read; a text can only be described.
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })?;
    Ok(Tool { name: pick::text_in(value, "name")?, description, schema, strict: None, cache: None })
}

fn calling<'a>(value: Value<'a>, request: &mut Request<'a>) -> Picked<()> {
    let mut names = Vec::new();
    let mut mode = None;
    pick::members(value, |name, value| {
        match &*camel(name) {
            "mode" => mode = Some(pick::word(value)?),
            "allowedFunctionNames" => pick::elements(value, |_, name| {
                names.push(pick::text(name)?);
                Ok(())
            })?,
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })?;
    request.tool_choice = match (mode.as_deref().unwrap_or("AUTO"), names.is_empty()) {
        ("AUTO" | "MODE_UNSPECIFIED", true) => Some(ToolChoice::Auto),
        ("NONE", _) => Some(ToolChoice::None),
        ("ANY", true) => Some(ToolChoice::Any),
        ("ANY", false) => Some(ToolChoice::Only(names)),
        ("VALIDATED", true) => {
            request.tools.iter_mut().for_each(|tool| tool.strict = Some(true));
            Some(ToolChoice::Auto)
        }
        (_, false) => return Err(Refused::unknown().inside("allowedFunctionNames")),
        _ => return Err(Refused::here("it must be AUTO, ANY, NONE or VALIDATED").inside("mode")),
    };
    Ok(())
}
