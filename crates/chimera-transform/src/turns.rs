//! Turns put into a request, each in the words of its dialect.
//!
//! Whatever a text holds, it becomes one JSON string inside one message whose role is written here: no
//! text can make a message of its own.

use std::ops::Range;

use chimera_protocol::{
    DialectId,
    json::{Document, JsonError, Kind, Value},
};

use crate::prompt::{Role, quoted, splice};

/// A turn to be put in: who speaks, and what.
pub(crate) type Added = (Role, String);

/// Where turns go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Before the conversation; the instructions with the others.
    Front,
    /// Behind it.
    Back,
}

/// A request with a conversation that goes on: what was said since, as messages of its dialect.
///
/// Instructions join those that are there. `None` when the body is not JSON.
pub fn with_turns(dialect: DialectId, body: &[u8], turns: &[(Role, String)]) -> Option<String> {
    put(dialect, body, turns, Side::Back, &[]).ok()
}

/// A request with turns put in, and some of its members left out.
pub(crate) fn put(
    dialect: DialectId,
    body: &[u8],
    turns: &[Added],
    side: Side,
    without: &[&str],
) -> Result<String, JsonError> {
    let document = Document::parse(body)?;
    let mut writing = Writing { dialect, root: document.root(), edits: Vec::new(), members: Vec::new() };
    let apart = matches!(dialect, DialectId::Anthropic | DialectId::Gemini);
    let (system, spoken): (Vec<_>, Vec<_>) =
        turns.iter().partition(|(role, _)| apart && *role == Role::System);
    let system: Vec<&str> = system.iter().map(|(_, text)| text.as_str()).collect();
    if !system.is_empty() {
        writing.instructions(&system.join("\n\n"));
    }
    if !spoken.is_empty() {
        writing.conversation(&spoken, side);
    }
    let Writing { root, mut edits, members, .. } = writing;
    let left = cuts(root, without, &mut edits);
    if !members.is_empty() {
        let comma = if left > 0 { "," } else { "" };
        let end = root.range().end.saturating_sub(1);
        edits.push((end..end, format!("{comma}{}", members.join(","))));
    }
    Ok(splice(document.text(), edits))
}

/// Cuts members out of an object with their commas; says how many are left.
fn cuts(root: Value<'_>, without: &[&str], edits: &mut Vec<(Range<usize>, String)>) -> usize {
    let members: Vec<_> = root.members().collect();
    let kept = |key: &Value<'_>| !without.iter().any(|name| key.is(name));
    let last_kept = members.iter().rposition(|(key, _)| kept(key));
    for (index, (key, value)) in members.iter().enumerate().filter(|(_, (key, _))| !kept(key)) {
        // Up to the next member, whose comma goes too; behind the last that stays, its comma goes.
        let end = members.get(index + 1).map_or(value.range().end, |(next, _)| next.range().start);
        let is_behind = last_kept.is_some_and(|last| last < index);
        let before = index.checked_sub(1).and_then(|before| members.get(before)).filter(|_| is_behind);
        let start = before.map_or(key.range().start, |(_, value)| value.range().end);
        let end = if is_behind { value.range().end } else { end };
        edits.push((start..end, String::new()));
    }
    members.iter().filter(|(key, _)| kept(key)).count()
}

/// A request that is being added to.
struct Writing<'d> {
    dialect: DialectId,
    root: Value<'d>,
    edits: Vec<(Range<usize>, String)>,
    /// Members that it did not have.
    members: Vec<String>,
}

impl Writing<'_> {
    /// Instructions where they stand apart from the conversation, before those that are there.
    fn instructions(&mut self, text: &str) {
        let block = match self.dialect {
            DialectId::Gemini => format!(r#"{{"text":{}}}"#, quoted(text)),
            _ => format!(r#"{{"type":"text","text":{}}}"#, quoted(text)),
        };
        if self.dialect == DialectId::Gemini {
            let there = self.root.get("systemInstruction").or_else(|| self.root.get("system_instruction"));
            match (there, there.and_then(|there| there.get("parts"))) {
                (_, Some(parts)) => self.insert(parts, &block, Side::Front),
                (Some(there), None) => self.edits.push((there.range(), format!(r#"{{"parts":[{block}]}}"#))),
                (None, _) => self.members.push(format!(r#""systemInstruction":{{"parts":[{block}]}}"#)),
            }
            return;
        }
        match self.root.get("system") {
            Some(there) if there.kind() == Kind::Array => self.insert(there, &block, Side::Front),
            Some(there) if there.kind() == Kind::String => {
                let joined = format!("{text}\n\n{}", there.as_str().unwrap_or_default());
                self.edits.push((there.range(), quoted(&joined)));
            }
            Some(there) => self.edits.push((there.range(), quoted(text))),
            None => self.members.push(format!(r#""system":{}"#, quoted(text))),
        }
    }

    fn conversation(&mut self, turns: &[&Added], side: Side) {
        let turns: Vec<String> = turns.iter().map(|(role, text)| self.turn(*role, text)).collect();
        let turns = turns.join(",");
        let name = match self.dialect {
            DialectId::OpenAi | DialectId::Anthropic => "messages",
            DialectId::Gemini => "contents",
            DialectId::Responses => "input",
        };
        match self.root.get(name) {
            None => self.members.push(format!(r#""{name}":[{turns}]"#)),
            Some(list) if list.kind() == Kind::Array => self.insert(list, &turns, side),
            // The short form of a conversation: one text of the user's.
            Some(text) if text.kind() == Kind::String => {
                let own = self.turn(Role::User, &text.as_str().unwrap_or_default());
                let (first, second) = if side == Side::Front { (turns, own) } else { (own, turns) };
                self.edits.push((text.range(), format!("[{first},{second}]")));
            }
            Some(other) => self.edits.push((other.range(), format!("[{turns}]"))),
        }
    }

    fn turn(&self, role: Role, text: &str) -> String {
        let text = quoted(text);
        match (self.dialect, role) {
            (DialectId::Gemini, Role::Assistant) => {
                format!(r#"{{"role":"model","parts":[{{"text":{text}}}]}}"#)
            }
            (DialectId::Gemini, _) => format!(r#"{{"role":"user","parts":[{{"text":{text}}}]}}"#),
            (_, Role::System) => format!(r#"{{"role":"system","content":{text}}}"#),
            (_, Role::Assistant) => format!(r#"{{"role":"assistant","content":{text}}}"#),
            (_, Role::User | Role::Tool) => format!(r#"{{"role":"user","content":{text}}}"#),
        }
    }

    /// Puts elements at one side of an array.
    fn insert(&mut self, array: Value<'_>, elements: &str, side: Side) {
        let empty = array.elements().next().is_none();
        let range = array.range();
        let (at, text) = match side {
            _ if empty => (range.start + 1, elements.to_owned()),
            Side::Front => (range.start + 1, format!("{elements},")),
            Side::Back => (range.end.saturating_sub(1), format!(",{elements}")),
        };
        self.edits.push((at..at, text));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    #[track_caller]
    fn check(dialect: DialectId, body: Json, side: Side, expected: Json) {
        let turns = [(Role::System, "s".into()), (Role::User, "u\"".into()), (Role::Assistant, "a".into())];
        let out = put(dialect, body.to_string().as_bytes(), &turns, side, &["prompt"]).unwrap();
        assert_eq!(serde_json::from_str::<Json>(&out).unwrap(), expected, "{out}");
    }

    #[test]
    fn turns_in_every_dialect() {
        let (s, u, a) = (
            json!({"role": "system", "content": "s"}),
            json!({"role": "user", "content": "u\""}),
            json!({"role": "assistant", "content": "a"}),
        );
        let own = json!({"role": "user", "content": "own"});
        check(DialectId::OpenAi, json!({"prompt": {}}), Side::Front, json!({"messages": [s, u, a]}));
        let body = json!({"messages": [own], "prompt": 1, "model": "m"});
        check(DialectId::OpenAi, body, Side::Front, json!({"messages": [s, u, a, own], "model": "m"}));
        let body = json!({"messages": [own], "model": "m", "prompt": 1});
        check(DialectId::OpenAi, body, Side::Back, json!({"messages": [own, s, u, a], "model": "m"}));
        let body = json!({"input": "own"});
        check(DialectId::Responses, body, Side::Front, json!({"input": [s, u, a, own]}));
        let body = json!({"prompt": 1, "system": "old", "messages": []});
        let system = "s\n\nold";
        check(DialectId::Anthropic, body, Side::Front, json!({"system": system, "messages": [u, a]}));
        let body = json!({"system": [{"type": "text", "text": "old"}], "messages": [own]});
        let system = json!([{"type": "text", "text": "s"}, {"type": "text", "text": "old"}]);
        check(DialectId::Anthropic, body, Side::Front, json!({"system": system, "messages": [u, a, own]}));
        let contents = json!([{"role": "user", "parts": [{"text": "u\""}]}, {"role": "model", "parts": [{"text": "a"}]}]);
        let expected = json!({"systemInstruction": {"parts": [{"text": "s"}]}, "contents": contents});
        check(DialectId::Gemini, json!({"contents": []}), Side::Front, expected);
        let body = json!({"system_instruction": {"parts": [{"text": "old"}]}});
        let parts = json!([{"text": "s"}, {"text": "old"}]);
        let expected = json!({"system_instruction": {"parts": parts}, "contents": contents});
        check(DialectId::Gemini, body, Side::Front, expected);
    }

    #[test]
    fn members_are_cut_with_their_commas() {
        let without = |body: &str, names: &[&str]| {
            put(DialectId::OpenAi, body.as_bytes(), &[], Side::Front, names).unwrap()
        };
        assert_eq!(without(r#"{"a":1,"b":2,"c":3}"#, &["b"]), r#"{"a":1,"c":3}"#);
        assert_eq!(without(r#"{"a":1,"b":2,"c":3}"#, &["a"]), r#"{"b":2,"c":3}"#);
        assert_eq!(without(r#"{"a":1,"b":2,"c":3}"#, &["c"]), r#"{"a":1,"b":2}"#);
        assert_eq!(without(r#"{"a":1,"b":2,"c":3}"#, &["b", "c"]), r#"{"a":1}"#);
        assert_eq!(without(r#"{"a":1,"b":2,"c":3}"#, &["a", "c"]), r#"{"b":2}"#);
        assert_eq!(without(r#"{"a":1}"#, &["a"]), "{}");
        assert_eq!(without(r#"{ "a" : 1 }"#, &["b"]), r#"{ "a" : 1 }"#);
    }
}
