//! Values whose numbers keep their spelling: a provider's `1.50` does not become `1.5` on its way.
//!
//! `serde_json::Value` keeps numbers as machine words. A number that would be spelled in another way is
//! replaced by a mark, an integer from a range of its own, and written out again as it was read. Numbers
//! that lie in that range are marked themselves, so no mark is ever mistaken.

use std::io;

use serde::Serialize;
use serde_json::{Number, Serializer, Value, ser::Formatter};

use crate::{
    dialect::FoldError,
    json::{Document, Kind, Value as Read},
};

/// Marks count up from here.
const FIRST: u64 = u64::MAX - (1 << 40);

/// The spellings behind the marks of one answer.
#[derive(Debug, Default)]
pub(crate) struct Spellings(Vec<String>);

impl Spellings {
    /// Reads a document.
    pub(crate) fn read(&mut self, text: &[u8]) -> Result<Value, FoldError> {
        let document = Document::parse(text).map_err(|_| FoldError::NotJson)?;
        Ok(self.value(document.root()))
    }

    fn value(&mut self, value: Read<'_>) -> Value {
        match value.kind() {
            Kind::Null => Value::Null,
            Kind::Bool => (value.as_bool() == Some(true)).into(),
            Kind::Number => self.number(value.raw()).into(),
            Kind::String => value.as_str().unwrap_or_default().into_owned().into(),
            Kind::Array => value.elements().map(|element| self.value(element)).collect(),
            Kind::Object => {
                let members = value.members();
                let members =
                    members.map(|(key, value)| (key.as_str().unwrap_or_default(), self.value(value)));
                members.collect()
            }
        }
    }

    fn number(&mut self, spelled: &str) -> Number {
        let read = serde_json::from_str::<Number>(spelled).ok();
        let same = |number: &Number| {
            number.as_u64().is_none_or(|number| number < FIRST) && number.to_string() == spelled
        };
        read.filter(same).unwrap_or_else(|| {
            self.0.push(spelled.to_owned());
            (FIRST + (self.0.len() as u64 - 1)).into()
        })
    }

    /// Writes a value that was made of what was read.
    pub(crate) fn write(&self, value: &Value, out: &mut Vec<u8>) {
        // Writing into memory cannot fail.
        let _ = value.serialize(&mut Serializer::with_formatter(out, Spelled(self)));
    }

    /// The same as a text.
    pub(crate) fn text(&self, value: &Value) -> String {
        let mut out = Vec::new();
        self.write(value, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }

    /// Appends an event.
    pub(crate) fn event(&self, name: Option<&str>, data: &Value, out: &mut Vec<u8>) {
        if let Some(name) = name {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
        }
        out.extend_from_slice(b"data: ");
        self.write(data, out);
        out.extend_from_slice(b"\n\n");
    }
}

/// Writes marks as what they stand for.
struct Spelled<'a>(&'a Spellings);

impl Formatter for Spelled<'_> {
    fn write_u64<W: io::Write + ?Sized>(&mut self, writer: &mut W, number: u64) -> io::Result<()> {
        let at = number.checked_sub(FIRST).and_then(|at| usize::try_from(at).ok());
        match at.and_then(|at| self.0.0.get(at)) {
            Some(spelled) => writer.write_all(spelled.as_bytes()),
            None => write!(writer, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DialectId, UnfoldOptions};

    #[test]
    fn every_number_is_written_as_it_was_read() {
        let text = r#"{"a":[1.50,-0,0.10,1E5,123456789012345678901234567890,18446744073709551615,18446742974197923840,-1,7,2.5],"b":{"c":1.0},"d":"1.50"}"#;
        let mut spellings = Spellings::default();
        let value = spellings.read(text.as_bytes()).unwrap();
        assert_eq!(spellings.text(&value), text);
        assert_eq!(value["a"][8], 7);
        assert_eq!(spellings.read(b"{"), Err(FoldError::NotJson));
    }

    /// Folded, unfolded and folded again, an answer says its numbers as the provider did.
    #[test]
    fn pain_3_a_replayed_answer_keeps_the_spelling_of_numbers() {
        let anthropic = r#"{"id":"m","type":"message","role":"assistant","model":"c","content":[{"type":"tool_use","id":"t","name":"f","input":{"price":1.50,"n":2.0}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":2,"cost":0.0100}}"#;
        let gemini = r#"{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"f","args":{"price":1.50}}}]},"finishReason":"STOP","index":0,"avgLogprobs":-0.10}],"usageMetadata":{"promptTokenCount":1}}"#;
        let openai = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"logprobs":{"content":[{"token":"hi","logprob":-0.50,"top_logprobs":[]}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"cost":1e-5}}"#;
        let responses = r#"{"id":"r","status":"completed","output":[{"type":"message","id":"m","content":[{"type":"output_text","text":"hi"}]}],"temperature":1.50,"usage":{"cost":0.0100}}"#;
        for (dialect, answer) in [
            (DialectId::Anthropic, anthropic),
            (DialectId::Gemini, gemini),
            (DialectId::OpenAi, openai),
            (DialectId::Responses, responses),
        ] {
            let options = UnfoldOptions { include_usage: true };
            let events = dialect.dialect().unfold(answer.as_bytes(), options).unwrap();
            let events = String::from_utf8(events).unwrap();
            let odd = ["1.50", "2.0", "0.0100", "-0.10", "-0.50", "1e-5"];
            let folded = String::from_utf8(dialect.dialect().fold(events.as_bytes()).unwrap()).unwrap();
            let told: Vec<_> = odd.into_iter().filter(|number| answer.contains(number)).collect();
            assert!(told.len() > 1, "{answer}");
            for number in told {
                assert!(events.contains(number), "{number}: {events}");
                assert!(folded.contains(number), "{number}: {folded}");
            }
        }
    }
}
