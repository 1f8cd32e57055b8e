//! Which strings of a request are text, in every dialect.
//!
//! One walk serves all of them: the members in which conversations stand are few, and what is not text
//! inside them has names that no vendor uses for text. What a tool was called with, or gave back, is
//! data: every string of it counts, whatever its name.

use chimera_protocol::json::{Kind, Value};

use crate::prompt::{List, Part, Role, Turn};

/// What the walk finds.
#[derive(Default)]
pub(crate) struct Found<'d> {
    pub(crate) parts: List<Part<'d>>,
    pub(crate) turns: List<Turn>,
}

#[derive(Clone, Copy)]
struct Place {
    role: Role,
    turn: Option<usize>,
    /// Inside what a tool was called with or gave back.
    is_data: bool,
}

/// Members that hold instructions.
const SYSTEM: [&str; 4] = ["system", "instructions", "systemInstruction", "system_instruction"];
/// Members that hold a conversation, or something to embed.
const CONVERSATION: [&str; 6] = ["messages", "contents", "input", "content", "prompt", "prediction"];

/// Strings of a conversation that are no text: names, kinds, references, and what vendors sign.
const NOT_TEXT: [&str; 25] = [
    "type",
    "role",
    "id",
    "name",
    "status",
    "model",
    "call_id",
    "tool_call_id",
    "tool_use_id",
    "file_id",
    "media_type",
    "mimeType",
    "mime_type",
    "format",
    "detail",
    "data",
    "file_data",
    "image_url",
    "fileUri",
    "signature",
    "thinking",
    "thoughtSignature",
    "thought_signature",
    "encrypted_content",
    "cache_control",
];

/// Members whose strings are data of a tool, when they are not one string.
const DATA: [&str; 3] = ["input", "args", "response"];

/// Finds the texts of a request.
pub(crate) fn find<'d>(root: Value<'d>, found: &mut Found<'d>) {
    for (key, value) in root.members() {
        if SYSTEM.iter().any(|name| key.is(name)) {
            walk(value, Place { role: Role::System, turn: None, is_data: false }, found);
        } else if CONVERSATION.iter().any(|name| key.is(name)) {
            conversation(value, found);
        } else if key.is("requests") {
            value.elements().filter_map(|one| one.get("content")).for_each(|one| conversation(one, found));
        }
    }
}

fn conversation<'d>(value: Value<'d>, found: &mut Found<'d>) {
    let outside = Place { role: Role::User, turn: None, is_data: false };
    if value.kind() != Kind::Array || !value.elements().all(|turn| turn.kind() == Kind::Object) {
        return walk(value, outside, found);
    }
    for element in value.elements() {
        let role = role_of(element).unwrap_or(Role::User);
        let place = Place { role, turn: Some(found.turns.len()), is_data: false };
        found.turns.push(Turn {
            role,
            calls_tools: holds(element, &["tool_use", "function_call"], &["tool_calls", "functionCall"]),
            answers_tools: role == Role::Tool
                || holds(element, &["tool_result", "function_call_output"], &["functionResponse"]),
            range: element.range(),
            dropped: false,
        });
        walk(element, place, found);
    }
}

fn role_of(value: Value<'_>) -> Option<Role> {
    let of_kind = value.get("type").and_then(|kind| match &*kind.as_str()? {
        "tool_result" | "function_call_output" => Some(Role::Tool),
        "function_call" => Some(Role::Assistant),
        _ => None,
    });
    of_kind.or_else(|| match &*value.get("role")?.as_str()? {
        "system" | "developer" => Some(Role::System),
        "assistant" | "model" => Some(Role::Assistant),
        "tool" | "function" => Some(Role::Tool),
        _ => Some(Role::User),
    })
}

/// Whether a turn, or a block of it, is of such a type or has such a member.
fn holds(turn: Value<'_>, types: &[&str], members: &[&str]) -> bool {
    let one = |value: Value<'_>| {
        members.iter().any(|name| value.get(name).is_some_and(|member| !member.is_null()))
            || value.get("type").is_some_and(|kind| types.iter().any(|name| kind.is(name)))
    };
    let blocks = ["content", "parts"].iter().filter_map(|name| turn.get(name));
    one(turn) || blocks.flat_map(Value::elements).any(one)
}

fn walk<'d>(value: Value<'d>, place: Place, found: &mut Found<'d>) {
    match value.kind() {
        Kind::String => push(value, place, false, found),
        Kind::Array => value.elements().for_each(|element| walk(element, place, found)),
        Kind::Object => {
            let role = if place.is_data { None } else { role_of(value) };
            let place = Place { role: role.unwrap_or(place.role), ..place };
            for (key, member) in value.members() {
                let is_string = member.kind() == Kind::String;
                if place.is_data {
                    walk(member, place, found);
                } else if key.is("arguments") && is_string {
                    push(member, place, true, found);
                } else if DATA.iter().any(|name| key.is(name)) && !is_string {
                    walk(member, Place { is_data: true, ..place }, found);
                } else if !NOT_TEXT.iter().any(|name| key.is(name)) || is_document(value, key) {
                    walk(member, place, found);
                }
            }
        }
        _ => {}
    }
}

/// Whether a member is a document that stands in its request as text, as Anthropic has them.
fn is_document(source: Value<'_>, key: Value<'_>) -> bool {
    key.is("data") && source.get("type").is_some_and(|kind| kind.is("text"))
}

fn push<'d>(value: Value<'d>, place: Place, embedded: bool, found: &mut Found<'d>) {
    let Some(text) = value.as_str() else { return };
    if text.is_empty() {
        return;
    }
    let Place { role, turn, .. } = place;
    found.parts.push(Part { role, turn, embedded, text, range: value.range(), changed: false });
}

#[cfg(test)]
mod tests {
    use chimera_protocol::json::Document;

    use crate::{Prompt, Role};

    fn texts(body: &str) -> Vec<(Role, String)> {
        let document = Document::parse(body.as_bytes()).unwrap();
        let prompt = Prompt::of_request(&document);
        prompt.parts().map(|(_, part)| (part.role(), part.text().to_owned())).collect()
    }

    #[track_caller]
    fn check(body: &str, expected: &[(Role, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(role, text)| (*role, (*text).to_owned())).collect();
        assert_eq!(texts(body), expected);
    }

    use Role::{Assistant, System, Tool, User};

    #[test]
    fn texts_of_openai() {
        check(
            r#"{"model":"m","messages":[
                {"role":"system","content":"s"},
                {"role":"user","name":"ada","content":[{"type":"text","text":"u"},{"type":"image_url","image_url":{"url":"data:x"}}]},
                {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
                {"role":"tool","tool_call_id":"c","content":"r"}],"user":"not this"}"#,
            &[(System, "s"), (User, "u"), (Assistant, "{\"a\":1}"), (Tool, "r")],
        );
        check(r#"{"input":["a","b"]}"#, &[(User, "a"), (User, "b")]);
    }

    #[test]
    fn texts_of_anthropic() {
        check(
            r#"{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[
                {"role":"user","content":[{"type":"document","source":{"type":"text","media_type":"text/plain","data":"u"}}]},
                {"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"x"},{"type":"tool_use","id":"i","name":"f","input":{"name":"n","deep":["d"]}}]},
                {"role":"user","content":[{"type":"tool_result","tool_use_id":"i","content":[{"type":"text","text":"r"}]}]}]}"#,
            &[(System, "s"), (User, "u"), (Assistant, "n"), (Assistant, "d"), (Tool, "r")],
        );
    }

    #[test]
    fn texts_of_gemini() {
        check(
            r#"{"systemInstruction":{"parts":[{"text":"s"}]},"contents":[
                {"role":"user","parts":[{"text":"u"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},
                {"role":"model","parts":[{"functionCall":{"name":"f","args":{"id":"i"}},"thoughtSignature":"x"}]},
                {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"v":"r"}}}]}]}"#,
            &[(System, "s"), (User, "u"), (Assistant, "i"), (User, "r")],
        );
    }

    #[test]
    fn texts_of_responses() {
        check(
            r#"{"instructions":"s","input":[
                {"role":"user","content":[{"type":"input_text","text":"u"}]},
                {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
                {"type":"function_call_output","call_id":"c","output":"r"}]}"#,
            &[(System, "s"), (User, "u"), (Assistant, "{}"), (Tool, "r")],
        );
        check(r#"{"input":"just text"}"#, &[(User, "just text")]);
    }
}
