//! What a request of the API wants transformed: one text, or one conversation.

use std::borrow::Cow;

use chimera_protocol::json::{Kind, Value};

use crate::failure::Failure;

/// Something to transform, as it stands in its request.
pub(super) enum Item<'d> {
    Text(Cow<'d, str>),
    /// Messages of a chat request, and the template that goes before them, as they are spelled.
    Chat {
        messages: Option<&'d str>,
        prompt: Option<&'d str>,
    },
}

impl<'d> Item<'d> {
    /// A text, messages, or a template; of a batch, the item of that number.
    pub(super) fn read(value: Value<'d>, index: Option<usize>) -> Result<Self, Failure> {
        let wrong = |name: &str, why: &'static str| Failure::invalid(why).param(field(index, name));
        if value.kind() != Kind::Object {
            return Err(wrong("", "an item must be an object with text or messages"));
        }
        let (messages, prompt) = (value.get("messages"), value.get("prompt"));
        if let Some(text) = value.get("text") {
            if messages.is_some() || prompt.is_some() {
                return Err(wrong("text", "send text or messages, not both"));
            }
            return text.as_str().map(Self::Text).ok_or_else(|| wrong("text", "text must be a string"));
        }
        match (messages, prompt) {
            (None, None) => return Err(wrong("text", "text, messages or prompt is required")),
            (Some(messages), _) if messages.kind() != Kind::Array => {
                return Err(wrong("messages", "messages must be an array"));
            }
            (Some(messages), _) if messages.elements().any(|message| message.kind() != Kind::Object) => {
                return Err(wrong("messages", "messages must be objects"));
            }
            (_, Some(prompt)) if prompt.kind() != Kind::Object => {
                return Err(wrong("prompt", "prompt must be an object"));
            }
            _ => {}
        }
        Ok(Self::Chat { messages: messages.map(Value::raw), prompt: prompt.map(Value::raw) })
    }
}

/// How an error names a member of an item, or the item itself.
fn field(index: Option<usize>, name: &str) -> String {
    match (index, name.is_empty()) {
        (None, _) => name.to_owned(),
        (Some(index), true) => format!("items[{index}]"),
        (Some(index), false) => format!("items[{index}].{name}"),
    }
}
