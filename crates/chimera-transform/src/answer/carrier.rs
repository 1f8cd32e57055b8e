//! What carries the rest of a text that ends while some of it is held: a copy of the last event that
//! carried it, with nothing else in it.

use chimera_protocol::{DialectId, json::Document};

use super::{Delta, deltas::Key};
use crate::prompt::{quoted, splice};

/// An event to copy.
pub(super) struct Carrier {
    name: Option<Vec<u8>>,
    data: String,
    /// What the text, or the list that it stands in, is replaced at.
    range: std::ops::Range<usize>,
    dialect: DialectId,
}

impl Carrier {
    pub(super) fn new(dialect: DialectId, name: Option<&[u8]>, delta: &Delta<'_>, data: &str) -> Self {
        // The others of a list are left out: they would be told twice.
        let list = match dialect {
            DialectId::OpenAi => Some("choices"),
            DialectId::Gemini => Some("candidates"),
            DialectId::Anthropic | DialectId::Responses => None,
        };
        let range = list.and_then(|list| {
            let document = Document::parse(data.as_bytes()).ok()?;
            Some(document.root().get(list)?.range())
        });
        Self {
            name: name.map(<[u8]>::to_vec),
            data: data.to_owned(),
            range: range.unwrap_or_else(|| delta.value.range()),
            dialect,
        }
    }

    pub(super) fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }

    /// The data of an event that carries this much more of the text.
    pub(super) fn carry(&self, key: &Key, text: &str) -> String {
        let (text, Key { index, member, part }) = (quoted(text), key);
        let with = match (self.dialect, *member) {
            (DialectId::OpenAi, "arguments") => format!(
                r#"[{{"index":{index},"delta":{{"tool_calls":[{{"index":{part},"function":{{"arguments":{text}}}}}]}},"finish_reason":null}}]"#
            ),
            (DialectId::OpenAi, _) => {
                format!(r#"[{{"index":{index},"delta":{{"{member}":{text}}},"finish_reason":null}}]"#)
            }
            (DialectId::Gemini, _) => {
                let thought = if *member == "thought" { r#","thought":true"# } else { "" };
                format!(
                    r#"[{{"index":{index},"content":{{"role":"model","parts":[{{"text":{text}{thought}}}]}}}}]"#
                )
            }
            (DialectId::Anthropic | DialectId::Responses, _) => text,
        };
        splice(&self.data, vec![(self.range.clone(), with)])
    }
}
