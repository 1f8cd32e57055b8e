//! What the gateway needs to know of a request, found in one pass over its outermost members.

use std::{borrow::Cow, ops::Range};

use crate::{
    dialect::{DialectId, Operation},
    json::{Document, Kind, Value},
};

/// A request that cannot be carried out, by the member at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The member at fault.
    pub param: &'static str,
    /// What is wrong with it.
    pub message: &'static str,
}

/// A `cache` member, which is meant for the gateway and not for the provider.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheMember {
    /// The bytes to cut so that the rest is as if it had never been there.
    pub cut: Range<usize>,
    /// What it says.
    pub value: serde_json::Value,
}

/// The facts of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct LookOver<'a> {
    /// The model, where the body names it.
    pub model: Option<Cow<'a, str>>,
    /// Where the body names it, quotes included.
    pub model_range: Option<Range<usize>>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// Whether usage is asked for at the end of the stream (OpenAI).
    pub include_usage: bool,
    /// The temperature, if one is given.
    pub temperature: Option<f64>,
    /// Whether a seed is given.
    pub has_seed: bool,
    /// The gateway's own member, if there is one.
    pub cache_member: Option<CacheMember>,
}

fn refuse<T>(param: &'static str, message: &'static str) -> Result<T, Refusal> {
    Err(Refusal { param, message })
}

impl<'a> LookOver<'a> {
    /// Looks at a request of a dialect.
    pub fn of(dialect: DialectId, operation: Operation, document: &'a Document<'a>) -> Result<Self, Refusal> {
        let root = document.root();
        if root.kind() != Kind::Object {
            return refuse("body", "the body must be a JSON object");
        }
        let mut over = Self {
            model: None,
            model_range: None,
            stream: false,
            include_usage: false,
            temperature: None,
            has_seed: false,
            cache_member: None,
        };
        let wanted = wanted(dialect, operation);
        let mut has_content = false;
        for (key, value) in root.members() {
            let name = key.as_str().unwrap_or_default();
            has_content |= wanted.contains(&name.as_ref()) && !value.is_null();
            over.member(dialect, &name, key, value, document)?;
        }
        if over.model.is_none() && dialect != DialectId::Gemini {
            return refuse("model", "model is required");
        }
        match wanted.first() {
            Some(first) if !has_content => refuse(first, required(first)),
            _ => Ok(over),
        }
    }

    fn member(
        &mut self,
        dialect: DialectId,
        name: &str,
        key: Value<'a>,
        value: Value<'a>,
        document: &'a Document<'a>,
    ) -> Result<(), Refusal> {
        match (name, value.kind()) {
            ("model", Kind::String) if dialect != DialectId::Gemini => {
                let model = value.as_str().unwrap_or_default();
                if model.is_empty() || model.len() > 256 {
                    return refuse("model", "model must be 1 to 256 bytes long");
                }
                self.model = Some(model);
                self.model_range = Some(value.range());
            }
            ("model", _) if dialect != DialectId::Gemini => return refuse("model", "model must be a string"),
            ("stream", Kind::Bool) => self.stream = value.as_bool() == Some(true),
            ("stream", Kind::Null) => {}
            ("stream", _) if dialect != DialectId::Gemini => {
                return refuse("stream", "stream must be true or false");
            }
            ("stream_options", Kind::Object) => {
                self.include_usage = value.get("include_usage").and_then(Value::as_bool) == Some(true);
            }
            ("stream_options", Kind::Null) => {}
            ("stream_options", _) if dialect == DialectId::OpenAi => {
                return refuse("stream_options", "stream_options must be an object");
            }
            ("temperature", Kind::Number) => self.temperature = value.as_f64(),
            ("seed", Kind::Number) => self.has_seed = true,
            ("generationConfig", Kind::Object) if dialect == DialectId::Gemini => {
                self.temperature = value.get("temperature").and_then(Value::as_f64);
                self.has_seed = value.get("seed").is_some_and(|seed| seed.kind() == Kind::Number);
            }
            ("cache", Kind::Object) => {
                let value_of = serde_json::from_str(value.raw()).unwrap_or_default();
                self.cache_member = Some(CacheMember { cut: cut(document, key, value), value: value_of });
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the same answer may be expected each time.
    pub fn is_deterministic(&self) -> bool {
        self.has_seed || self.temperature == Some(0.0)
    }
}

/// The members of which a request must have one.
fn wanted(dialect: DialectId, operation: Operation) -> &'static [&'static str] {
    match (dialect, operation) {
        (DialectId::OpenAi, Operation::Embed) | (DialectId::Responses, _) => &["input"],
        (DialectId::OpenAi | DialectId::Anthropic, _) => &["messages"],
        (DialectId::Gemini, Operation::Embed) => &["content", "requests"],
        (DialectId::Gemini, Operation::CountTokens) => &["contents", "generateContentRequest"],
        (DialectId::Gemini, Operation::Chat) => &["contents"],
    }
}

fn required(name: &str) -> &'static str {
    match name {
        "input" => "input is required",
        "messages" => "messages is required",
        "content" => "content is required",
        _ => "contents is required",
    }
}

/// A member with the comma that goes with it.
fn cut(document: &Document<'_>, key: Value<'_>, value: Value<'_>) -> Range<usize> {
    let text = document.text();
    let (start, end) = (key.range().start, value.range().end);
    let after = text.get(end..).unwrap_or_default();
    let trimmed = after.trim_start();
    if trimmed.starts_with(',') {
        return start..end + (after.len() - trimmed.len()) + 1;
    }
    let before = text.get(..start).unwrap_or_default().trim_end();
    before.strip_suffix(',').map_or(start, str::len)..end
}

/// A change to a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Splice {
    /// The bytes that go.
    pub range: Range<usize>,
    /// What comes in their place.
    pub with: &'static str,
}

/// The change that makes a streamed OpenAI request ask for usage. All other bytes stay.
pub fn ask_usage(document: &Document<'_>) -> Splice {
    let root = document.root();
    match root.get("stream_options") {
        Some(options) if options.kind() == Kind::Object => match options.get("include_usage") {
            Some(value) => Splice { range: value.range(), with: "true" },
            None => {
                let at = options.range().start + 1;
                let is_empty = options.members().next().is_none();
                let with = if is_empty { r#""include_usage":true"# } else { r#""include_usage":true,"# };
                Splice { range: at..at, with }
            }
        },
        Some(other) => Splice { range: other.range(), with: r#"{"include_usage":true}"# },
        None => {
            let at = root.range().start + 1;
            Splice { range: at..at, with: r#""stream_options":{"include_usage":true},"# }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(dialect: DialectId, operation: Operation, body: &str) -> &'static str {
        let document = Document::parse(body.as_bytes()).unwrap();
        LookOver::of(dialect, operation, &document).unwrap_err().param
    }

    #[test]
    fn faults_are_refused_by_the_name_of_the_member() {
        use DialectId::{Anthropic, Gemini, OpenAi};
        use Operation::{Chat, Embed};
        assert_eq!(refused(OpenAi, Chat, "[]"), "body");
        assert_eq!(refused(OpenAi, Chat, r#"{"messages":[]}"#), "model");
        assert_eq!(refused(OpenAi, Chat, r#"{"model":5,"messages":[]}"#), "model");
        assert_eq!(refused(OpenAi, Chat, r#"{"model":"","messages":[]}"#), "model");
        assert_eq!(refused(OpenAi, Chat, r#"{"model":"m"}"#), "messages");
        assert_eq!(refused(OpenAi, Chat, r#"{"model":"m","messages":[],"stream":"yes"}"#), "stream");
        assert_eq!(refused(OpenAi, Embed, r#"{"model":"m"}"#), "input");
        assert_eq!(refused(Anthropic, Chat, r#"{"model":"m"}"#), "messages");
        assert_eq!(refused(Gemini, Chat, "{}"), "contents");
    }

    fn spliced(body: &str) -> String {
        let document = Document::parse(body.as_bytes()).unwrap();
        let splice = ask_usage(&document);
        let mut out = body.to_owned();
        out.replace_range(splice.range, splice.with);
        assert!(Document::parse(out.as_bytes()).is_ok(), "{out}");
        out
    }

    #[test]
    fn usage_is_asked_for_by_a_change_of_one_member() {
        assert_eq!(spliced(r#"{ "model":"m"}"#), r#"{"stream_options":{"include_usage":true}, "model":"m"}"#);
        assert_eq!(
            spliced(r#"{"stream_options":{"include_usage":false,"x":1}}"#),
            r#"{"stream_options":{"include_usage":true,"x":1}}"#
        );
        assert_eq!(spliced(r#"{"stream_options":{}}"#), r#"{"stream_options":{"include_usage":true}}"#);
        assert_eq!(
            spliced(r#"{"stream_options":{ "x":1}}"#),
            r#"{"stream_options":{"include_usage":true, "x":1}}"#
        );
        assert_eq!(spliced(r#"{"stream_options":null}"#), r#"{"stream_options":{"include_usage":true}}"#);
    }

    #[test]
    fn the_gateways_own_member_is_cut_out_cleanly() {
        for (body, rest) in [
            (r#"{"cache":{"ttl":5},"model":"m","messages":[]}"#, r#"{"model":"m","messages":[]}"#),
            (r#"{"model":"m","messages":[], "cache": {"ttl":5} }"#, r#"{"model":"m","messages":[] }"#),
            (r#"{"model":"m", "cache":{"ttl":5} , "messages":[]}"#, r#"{"model":"m",  "messages":[]}"#),
        ] {
            let document = Document::parse(body.as_bytes()).unwrap();
            let member =
                LookOver::of(DialectId::OpenAi, Operation::Chat, &document).unwrap().cache_member.unwrap();
            let mut out = body.to_owned();
            out.replace_range(member.cut, "");
            assert_eq!(out, rest);
            assert_eq!(member.value["ttl"], 5);
        }
    }

    #[test]
    fn what_makes_an_answer_repeatable() {
        let is = |body: &str, dialect| {
            let document = Document::parse(body.as_bytes()).unwrap();
            LookOver::of(dialect, Operation::Chat, &document).unwrap().is_deterministic()
        };
        assert!(is(r#"{"model":"m","messages":[],"temperature":0.0}"#, DialectId::OpenAi));
        assert!(is(r#"{"model":"m","messages":[],"seed":1}"#, DialectId::OpenAi));
        assert!(!is(r#"{"model":"m","messages":[]}"#, DialectId::OpenAi));
        assert!(is(r#"{"contents":[],"generationConfig":{"temperature":0}}"#, DialectId::Gemini));
    }
}
