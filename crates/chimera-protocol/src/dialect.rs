//! What a dialect is: the words that one vendor's SDKs speak and understand.

use std::time::Duration;

use serde_json::Value;

use crate::{
    anthropic::Anthropic,
    gemini::Gemini,
    json::skim,
    needle,
    openai::OpenAi,
    responses::Responses,
    spelling::Spellings,
    usage::{Reported, Usage},
};

/// A wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DialectId {
    /// OpenAI's chat completions and embeddings.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// Google's generateContent.
    Gemini,
    /// OpenAI's responses.
    Responses,
}

impl DialectId {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Responses => "responses",
        }
    }

    /// Its rules.
    pub fn dialect(self) -> &'static dyn Dialect {
        match self {
            Self::OpenAi => &OpenAi,
            Self::Anthropic => &Anthropic,
            Self::Gemini => &Gemini,
            Self::Responses => &Responses,
        }
    }
}

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A generation, unary or streamed.
    Chat,
    /// Embeddings.
    Embed,
    /// A count of tokens.
    CountTokens,
}

/// An error, before it is put into a dialect's words.
#[derive(Debug, Clone, Copy)]
pub struct ErrorParts<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The gateway's stable code.
    pub code: &'a str,
    /// What happened, for people.
    pub message: &'a str,
    /// The member at fault.
    pub param: Option<&'a str>,
    /// The request's id.
    pub request_id: &'a str,
    /// How long the caller is to wait before it asks again.
    pub retry_after: Option<Duration>,
}

/// What one event of a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// It frames or keeps alive: nothing of the answer yet.
    Lifecycle,
    /// Part of the answer.
    Content,
    /// Token usage and nothing else.
    Usage,
    /// An error in place of the rest.
    Error,
    /// The end that the protocol promises.
    End,
}

/// How a stream is made from a unary answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnfoldOptions {
    /// Whether an OpenAI stream ends with its usage.
    pub include_usage: bool,
}

/// A unary answer that is not what its dialect promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAnswer(pub &'static str);

/// An answer that cannot be put into its other form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// Something in it is not JSON.
    #[error("it is not JSON")]
    NotJson,
    /// It lacks its proper end.
    #[error("it lacks its end")]
    Truncated,
    /// It holds an error.
    #[error("it holds an error")]
    Error,
    /// It has another shape than expected.
    #[error("it lacks {0}")]
    Shape(&'static str),
}

/// Which choices of a stream have begun, and which have ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choices {
    begun: u128,
    ended: u128,
}

impl Choices {
    /// A choice by its index has begun. No vendor gives more than 128; what is beyond counts as the last.
    pub fn begins(&mut self, index: u64) {
        self.begun |= 1 << index.min(127);
    }

    /// A choice has ended.
    pub fn ends(&mut self, index: u64) {
        self.begins(index);
        self.ended |= 1 << index.min(127);
    }

    /// All have ended, whichever there are.
    pub fn end(&mut self) {
        self.ends(0);
        self.ended = u128::MAX;
    }

    /// Whether there were any and all have ended.
    pub fn have_ended(&self) -> bool {
        self.begun != 0 && self.begun & !self.ended == 0
    }
}

/// The rules of one dialect. Implementors are values without state; every method is total: any bytes
/// may come.
pub trait Dialect: Send + Sync {
    /// An error as a whole body.
    fn error_body(&self, parts: &ErrorParts<'_>) -> Vec<u8>;
    /// An error in the middle of a stream.
    fn error_event(&self, parts: &ErrorParts<'_>) -> Vec<u8>;
    /// What an event is, by the cheapest look that tells.
    fn observe(&self, event: Option<&[u8]>, data: &[u8]) -> Observed;
    /// Notes what an event of a stream says of the choices: when all that began have ended, the stream may end,
    /// although the terminal event does not come.
    fn note_choices(&self, data: &[u8], choices: &mut Choices);
    /// The terminal event, where one can be added for a provider that left it out.
    fn terminal(&self) -> Option<&'static [u8]>;
    /// The member that a good answer has.
    fn promised(&self, operation: Operation) -> &'static [&'static str];
    /// Usage from what a provider reported.
    fn usage_of(&self, reported: &Reported) -> Usage;
    /// A unary answer from the bytes of a whole stream.
    fn fold(&self, stream: &[u8]) -> Result<Vec<u8>, FoldError>;
    /// A whole stream from a unary answer.
    fn unfold(&self, answer: &[u8], options: UnfoldOptions) -> Result<Vec<u8>, FoldError>;
}

impl dyn Dialect {
    /// Checks the body of a 200 and reads its usage, in one pass: JSON, an object, no error in disguise,
    /// and with what the operation promises.
    pub fn read_answer(&self, operation: Operation, body: &[u8]) -> Result<Option<Usage>, InvalidAnswer> {
        let promised = self.promised(operation);
        let (mut has_error, mut has_promised, mut reported) = (false, false, None);
        let found = skim::members(body, |name, value| match name {
            b"error" => has_error |= value != b"null",
            b"usage" | b"usageMetadata" => reported = Some(value),
            name => has_promised |= value != b"null" && promised.iter().any(|one| one.as_bytes() == name),
        });
        found.map_err(|_| InvalidAnswer("it is not a JSON object"))?;
        if has_error {
            return Err(InvalidAnswer("it is an error under the status of success"));
        }
        if !has_promised {
            return Err(InvalidAnswer("it lacks what the operation promises"));
        }
        Ok(reported.and_then(Reported::read).map(|reported| self.usage_of(&reported)))
    }

    /// Merges what one event says of usage; events that cannot say anything are not parsed.
    pub fn merge_usage(&self, data: &[u8], so_far: &mut Option<Usage>) {
        if !needle::contains(data, &needle::USAGE) {
            return;
        }
        if let Some(reported) = Reported::carried(data) {
            so_far.get_or_insert_default().update(self.usage_of(&reported));
        }
    }
}

/// Cuts a text into pieces of about 40 bytes at character boundaries, at most 64 of them: a stored
/// answer is replayed as a stream of some events, not as one lump.
pub(crate) fn pieces(text: &str) -> Vec<&str> {
    let size = 40.max(text.len() / 64 + 1);
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let at = (size..rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(at);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// One event with a name, as Anthropic writes them, or without.
pub(crate) fn event(name: Option<&str>, data: &Value, out: &mut Vec<u8>) {
    Spellings::default().event(name, data, out);
}

/// Appends one string to another where both are strings.
pub(crate) fn append(target: &mut Value, more: &Value) {
    match (target, more) {
        (Value::String(text), Value::String(more)) => text.push_str(more),
        (target, more) if !more.is_null() => *target = more.clone(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u08_a_200_that_is_no_answer_is_seen() {
        let check = |body: &str| DialectId::OpenAi.dialect().read_answer(Operation::Chat, body.as_bytes());
        assert!(check(r#"{"choices":[]}"#).is_ok());
        for body in [
            "",
            "<html>",
            "[]",
            r#"{"choices":[]"#,
            r#"{"choices":[]} x"#,
            r#"{"error":{"message":"m"}}"#,
            "{}",
        ] {
            assert!(check(body).is_err(), "{body}");
        }
        assert!(check(r#"{"error":null,"choices":[]}"#).is_ok());
        let gemini = DialectId::Gemini.dialect();
        assert!(gemini.read_answer(Operation::Embed, br#"{"embedding":{}}"#).is_ok());
    }

    #[test]
    fn texts_are_cut_at_characters() {
        for text in ["", "a", &"ü€😀".repeat(100), &"x".repeat(10_000)] {
            let pieces = pieces(text);
            assert_eq!(pieces.concat(), text);
            assert!(pieces.len() <= 64);
        }
    }
}
