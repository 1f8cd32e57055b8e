//! A request as the texts in it: where each stands, who says it, and in which turn.
//!
//! Steps see texts, never a parsed tree. What no step changes keeps its bytes: the body is written by
//! splicing the changed texts into the original, so that a provider's prompt cache and fields that
//! nobody here knows come through untouched.

use std::{borrow::Cow, ops::Range};

use chimera_protocol::{
    DialectId,
    json::{Document, JsonError, Value},
};
use smallvec::{SmallVec, smallvec};

use crate::{changes::Changes, texts, turns};

/// Who says a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The instructions.
    System,
    /// The person, or whoever asks.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One text of a request.
#[derive(Debug, Clone)]
pub struct Part<'d> {
    pub(crate) role: Role,
    pub(crate) turn: Option<usize>,
    pub(crate) embedded: bool,
    pub(crate) text: Cow<'d, str>,
    /// Where it stands in the source, quotes included.
    pub(crate) range: Range<usize>,
    pub(crate) changed: bool,
}

impl Part<'_> {
    /// Who says it.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The turn it belongs to; `None` for texts outside the conversation.
    pub fn turn(&self) -> Option<usize> {
        self.turn
    }

    /// Whether it is JSON inside a string: the arguments of a tool call.
    pub fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// The text itself.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// One element of the conversation.
#[derive(Debug, Clone)]
pub struct Turn {
    pub(crate) role: Role,
    pub(crate) calls_tools: bool,
    pub(crate) answers_tools: bool,
    pub(crate) range: Range<usize>,
    pub(crate) dropped: bool,
}

impl Turn {
    /// Who speaks.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it holds the result of a tool call of an earlier turn.
    pub fn answers_tools(&self) -> bool {
        self.answers_tools
    }

    /// Whether it calls a tool, whose result a later turn holds.
    pub fn calls_tools(&self) -> bool {
        self.calls_tools
    }

    /// Whether a step has left it out.
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }
}

/// A list with an element for each text or turn. Those of most requests fit in place.
pub(crate) type List<T> = SmallVec<[T; 16]>;

/// The texts of one request.
#[derive(Debug, Clone)]
pub struct Prompt<'d> {
    source: &'d str,
    parts: List<Part<'d>>,
    turns: List<Turn>,
    model: Cow<'d, str>,
    /// The body; a plain text has none.
    root: Option<Value<'d>>,
    dialect: DialectId,
}

impl<'d> Prompt<'d> {
    /// The texts of a request in any dialect.
    pub fn of_request(document: &'d Document<'d>) -> Self {
        let mut found = texts::Found::default();
        texts::find(document.root(), &mut found);
        let model = document.root().get("model").and_then(|model| model.as_str()).unwrap_or_default();
        Self {
            source: document.text(),
            parts: found.parts,
            turns: found.turns,
            model,
            root: Some(document.root()),
            dialect: DialectId::OpenAi,
        }
    }

    /// A plain text, as what a user says.
    pub fn of_text(text: &'d str) -> Self {
        let part = Part {
            role: Role::User,
            turn: None,
            embedded: false,
            text: Cow::Borrowed(text),
            range: 0..text.len(),
            changed: false,
        };
        Self {
            source: text,
            parts: smallvec![part],
            turns: List::new(),
            model: Cow::Borrowed(""),
            root: None,
            dialect: DialectId::OpenAi,
        }
    }

    /// The same, in a dialect that is known: in its words turns are added. Without, OpenAI's.
    pub fn in_dialect(self, dialect: DialectId) -> Self {
        Self { dialect, ..self }
    }

    /// The dialect in which turns are added.
    pub fn dialect(&self) -> DialectId {
        self.dialect
    }

    /// A member of the body; `None` for a plain text.
    pub fn member(&self, name: &str) -> Option<Value<'d>> {
        self.root?.get(name)
    }

    /// Whether it is a plain text, which has no turns to add to.
    pub fn is_text(&self) -> bool {
        self.root.is_none()
    }

    /// The model that is asked, where the body names it.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Its texts, in their order; those of dropped turns are left out.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &Part<'d>)> {
        self.parts.iter().enumerate().filter(|(_, part)| !self.is_dropped(part))
    }

    /// The conversation, dropped turns included.
    pub fn turns(&self) -> &[Turn] {
        &self.turns
    }

    /// The turn with which the last exchange begins: what is before it, a provider may have seen before.
    pub fn last_exchange(&self) -> usize {
        self.turns.iter().rposition(|turn| turn.role == Role::User && !turn.answers_tools).unwrap_or(0)
    }

    /// Whether a text is what a provider's prompt cache may hold: anything before the last exchange.
    pub fn is_prefix(&self, part: &Part<'_>) -> bool {
        match part.turn {
            Some(turn) => turn < self.last_exchange(),
            None => !self.turns.is_empty(),
        }
    }

    /// Bytes of all its texts.
    pub fn len(&self) -> usize {
        self.parts().map(|(_, part)| part.text.len()).sum()
    }

    /// Whether it has no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_dropped(&self, part: &Part<'_>) -> bool {
        part.turn.and_then(|turn| self.turns.get(turn)).is_some_and(|turn| turn.dropped)
    }

    /// Makes the changes of one step.
    pub(crate) fn apply(&mut self, changes: Changes) {
        for (index, text) in changes.texts {
            if let Some(part) = self.parts.get_mut(index) {
                part.text = Cow::Owned(text);
                part.changed = true;
            }
        }
        for index in changes.dropped {
            if let Some(turn) = self.turns.get_mut(index) {
                turn.dropped = true;
            }
        }
    }

    /// The changed source; `None` when nothing was changed.
    pub fn write(&self) -> Option<String> {
        let mut edits: Vec<_> = self.cuts().into_iter().map(|cut| (cut, String::new())).collect();
        for (_, part) in self.parts().filter(|(_, part)| part.changed) {
            let with = if self.is_text() { part.text.clone().into_owned() } else { quoted(&part.text) };
            edits.push((part.range.clone(), with));
        }
        (!edits.is_empty()).then(|| splice(self.source, edits))
    }

    /// The source with the turns that a step wants added, and without the members it has used up.
    pub(crate) fn reshaped(&self, turns: &[turns::Added], without: &[&str]) -> Result<String, JsonError> {
        let written = self.write();
        let source = written.as_deref().unwrap_or(self.source);
        turns::put(self.dialect, source.as_bytes(), turns, turns::Side::Front, without)
    }

    /// What is cut out of the source for the turns that were dropped, commas included.
    fn cuts(&self) -> Vec<Range<usize>> {
        let mut cuts = Vec::new();
        let last_kept = self.turns.iter().rposition(|turn| !turn.dropped);
        for (turn, next) in self.turns.iter().zip(self.turns.iter().skip(1)) {
            let behind = last_kept.is_none_or(|kept| {
                self.turns.get(kept).is_some_and(|kept| kept.range.start < turn.range.start)
            });
            if turn.dropped && !behind {
                cuts.push(turn.range.start..next.range.start);
            }
        }
        let end = self.turns.last().map_or(0, |turn| turn.range.end);
        let from = match last_kept {
            Some(kept) => self.turns.get(kept).map_or(end, |kept| kept.range.end),
            None => self.turns.first().map_or(end, |first| first.range.start),
        };
        if from < end {
            cuts.push(from..end);
        }
        cuts
    }
}

/// A text with changes made in it: what stands at each range is replaced.
pub(crate) fn splice(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    // Stable: what is put in at one place keeps its order.
    edits.sort_by_key(|(range, _)| range.start);
    let added: usize = edits.iter().map(|(_, with)| with.len()).sum();
    let mut out = String::with_capacity(text.len() + added);
    let mut at = 0;
    for (range, with) in edits {
        out.push_str(text.get(at..range.start).unwrap_or_default());
        out.push_str(&with);
        at = range.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropping(body: &str, turns: &[usize]) -> String {
        let document = Document::parse(body.as_bytes()).unwrap();
        let mut prompt = Prompt::of_request(&document);
        let mut changes = Changes::default();
        turns.iter().for_each(|turn| changes.drop_turn(*turn));
        prompt.apply(changes);
        prompt.write().unwrap_or_else(|| body.to_owned())
    }

    #[test]
    fn what_is_not_changed_keeps_its_bytes() {
        let body = r#"{ "x":1e1, "messages" : [ {"role":"user","content":"a\u0062"} ,{"content":"c","role":"user"}] }"#;
        let document = Document::parse(body.as_bytes()).unwrap();
        let mut prompt = Prompt::of_request(&document);
        assert_eq!(prompt.write(), None);
        let mut changes = Changes::default();
        changes.replace(1, "\"d\"\n".to_owned());
        prompt.apply(changes);
        assert_eq!(prompt.write().unwrap(), body.replace(r#""c""#, r#""\"d\"\n""#));
    }

    #[test]
    fn turns_are_cut_with_their_commas() {
        let body = r#"{"messages":[{"role":"user","content":"0"}, {"role":"user","content":"1"} ,{"role":"user","content":"2"}]}"#;
        for dropped in [&[0][..], &[1], &[2], &[0, 1], &[1, 2], &[0, 2], &[0, 1, 2], &[]] {
            let out = dropping(body, dropped);
            let document = Document::parse(out.as_bytes()).unwrap();
            let left: Vec<_> = document
                .root()
                .get("messages")
                .unwrap()
                .elements()
                .map(|turn| turn.get("content").unwrap().as_str().unwrap().parse::<usize>().unwrap())
                .collect();
            let expected: Vec<_> = (0..3).filter(|turn| !dropped.contains(turn)).collect();
            assert_eq!(left, expected, "{out}");
        }
    }

    #[test]
    fn a_plain_text_is_written_plainly() {
        let mut prompt = Prompt::of_text("a");
        let mut changes = Changes::default();
        changes.replace(0, "\"\n".to_owned());
        prompt.apply(changes);
        assert_eq!(prompt.write().as_deref(), Some("\"\n"));
    }
}
