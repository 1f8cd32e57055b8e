//! Which strings of an event go on with a text, and which texts an event ends.

use chimera_protocol::{
    DialectId,
    json::{Kind, Value},
};

use crate::way_back::Form;

/// One text of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The choice, candidate, block or item.
    pub(super) index: u64,
    /// The member that carries it.
    pub(super) member: &'static str,
    /// The call of a tool, or the part of an item.
    pub(super) part: u64,
}

/// More of one text.
pub(super) struct Delta<'d> {
    pub(super) key: Key,
    pub(super) value: Value<'d>,
    pub(super) form: Form,
}

/// What an event ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Closing {
    Nothing,
    /// The texts of these choices, blocks or items.
    These(Vec<u64>),
    All,
}

impl Closing {
    pub(super) fn ends(&self, key: &Key) -> bool {
        match self {
            Self::Nothing => false,
            Self::These(indexes) => indexes.contains(&key.index),
            Self::All => true,
        }
    }
}

fn number(value: Value<'_>, name: &str) -> u64 {
    value.get(name).and_then(Value::as_f64).map_or(0, |number| number as u64)
}

fn string<'d>(value: Value<'d>, name: &str) -> Option<Value<'d>> {
    value.get(name).filter(|member| member.kind() == Kind::String)
}

fn is_set(value: Value<'_>, name: &str) -> bool {
    value.get(name).is_some_and(|member| !member.is_null())
}

/// The strings of an event that go on with a text.
pub(super) fn of(dialect: DialectId, root: Value<'_>) -> Vec<Delta<'_>> {
    match dialect {
        DialectId::OpenAi => openai(root),
        DialectId::Anthropic => anthropic(root),
        DialectId::Gemini => gemini(root),
        DialectId::Responses => responses(root),
    }
}

fn openai(root: Value<'_>) -> Vec<Delta<'_>> {
    const MEMBERS: [&str; 4] = ["content", "refusal", "reasoning_content", "reasoning"];
    let mut found = Vec::new();
    for choice in root.get("choices").into_iter().flat_map(Value::elements) {
        let index = number(choice, "index");
        let Some(delta) = choice.get("delta") else { continue };
        for member in MEMBERS {
            if let Some(value) = string(delta, member) {
                let form = if member == "content" { Form::Answer } else { Form::Text };
                found.push(Delta { key: Key { index, member, part: 0 }, value, form });
            }
        }
        for call in delta.get("tool_calls").into_iter().flat_map(Value::elements) {
            let key = Key { index, member: "arguments", part: number(call, "index") };
            if let Some(value) = call.get("function").and_then(|function| string(function, "arguments")) {
                found.push(Delta { key, value, form: Form::Embedded });
            }
        }
    }
    found
}

fn anthropic(root: Value<'_>) -> Vec<Delta<'_>> {
    let index = number(root, "index");
    let Some(delta) = root.get("delta") else { return Vec::new() };
    let members = [("text", Form::Answer), ("partial_json", Form::Embedded)];
    let found = members.into_iter().filter_map(|(member, form)| {
        Some(Delta { key: Key { index, member, part: 0 }, value: string(delta, member)?, form })
    });
    found.collect()
}

fn gemini(root: Value<'_>) -> Vec<Delta<'_>> {
    let mut found: Vec<Delta<'_>> = Vec::new();
    for candidate in root.get("candidates").into_iter().flat_map(Value::elements) {
        let index = number(candidate, "index");
        let parts = candidate.get("content").and_then(|content| content.get("parts"));
        for part in parts.into_iter().flat_map(Value::elements) {
            let thought = part.get("thought").and_then(Value::as_bool) == Some(true);
            let key = Key { index, member: if thought { "thought" } else { "text" }, part: 0 };
            if let Some(value) = string(part, "text") {
                let form = if thought { Form::Text } else { Form::Answer };
                found.push(Delta { key, value, form });
            }
        }
    }
    found
}

fn responses(root: Value<'_>) -> Vec<Delta<'_>> {
    let kind = root.get("type").and_then(Value::as_str).unwrap_or_default();
    let Some(value) = string(root, "delta").filter(|_| kind.ends_with(".delta")) else { return Vec::new() };
    let arguments = kind.contains("arguments");
    let (member, form) = match &*kind {
        _ if arguments => ("arguments", Form::Embedded),
        "response.output_text.delta" => ("text", Form::Answer),
        "response.refusal.delta" => ("refusal", Form::Text),
        _ => ("other", Form::Text),
    };
    let part = number(root, "content_index").max(number(root, "summary_index"));
    vec![Delta { key: Key { index: number(root, "output_index"), member, part }, value, form }]
}

/// What an event ends.
pub(super) fn closing(dialect: DialectId, root: Value<'_>) -> Closing {
    let kind = root.get("type").and_then(Value::as_str).unwrap_or_default();
    let finished = |list: &str, member: &str| {
        let elements = root.get(list).into_iter().flat_map(Value::elements);
        let ended: Vec<_> =
            elements.filter(|one| is_set(*one, member)).map(|one| number(one, "index")).collect();
        if ended.is_empty() { Closing::Nothing } else { Closing::These(ended) }
    };
    if is_set(root, "error") {
        return Closing::All;
    }
    match dialect {
        DialectId::OpenAi => finished("choices", "finish_reason"),
        DialectId::Gemini => finished("candidates", "finishReason"),
        DialectId::Anthropic => match &*kind {
            "content_block_stop" => Closing::These(vec![number(root, "index")]),
            "message_delta" | "message_stop" | "error" => Closing::All,
            _ => Closing::Nothing,
        },
        DialectId::Responses => match &*kind {
            "response.completed" | "response.failed" | "response.incomplete" | "error" => Closing::All,
            done if done.ends_with(".done") => Closing::These(vec![number(root, "output_index")]),
            _ => Closing::Nothing,
        },
    }
}
