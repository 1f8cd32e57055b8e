//! A whole response, written.

use bytes::BytesMut;

use super::item::{self, Identity, Status};
use crate::translate::{
    AnswerContext, carrier,
    citation::Citation,
    text::Text,
    vocabulary::{Completion, Finish, Part, PartKind, Signature},
    write::Writer,
};

/// Writes a response.
pub(crate) fn write(completion: &Completion<'_>, context: &AnswerContext<'_>, out: &mut BytesMut) {
    let plain = |text: &Option<Text<'_>>, other: &str| {
        text.as_ref().map_or(other.to_owned(), |text| text.plain().into_owned())
    };
    let identity = Identity {
        id: plain(&completion.id, context.id),
        model: plain(&completion.model, context.model),
        created: context.created,
    };
    let choice = completion.choices.first();
    let mut items = Items { identity: &identity, json: BytesMut::new(), count: 0 };
    let parts = choice.map(|choice| choice.parts.as_slice()).unwrap_or_default();
    let is_text = |part: &Part<'_>| matches!(&part.kind, PartKind::Text(text, _) if !text.is_empty());
    let last_text = parts.iter().rposition(is_text);
    for (at, part) in parts.iter().enumerate() {
        let cited = choice.filter(|_| Some(at) == last_text).map(|choice| choice.citations.as_slice());
        items.part(part, cited.unwrap_or_default());
    }
    let output = String::from_utf8(items.json.to_vec()).unwrap_or_default();
    let status = Status::of(choice.map_or(&Finish::Stop, |choice| &choice.finish));
    item::response(&identity, status, &output, completion.usage.as_ref(), &mut Writer::new(out));
}

/// The items so far, with commas between them.
struct Items<'i> {
    identity: &'i Identity,
    json: BytesMut,
    count: u64,
}

impl Items<'_> {
    fn add(&mut self, kind: &str, write: impl FnOnce(&str, &mut Writer<'_>)) {
        if self.count > 0 {
            self.json.extend_from_slice(b",");
        }
        let id = item::id(kind, self.identity, self.count);
        write(&id, &mut Writer::new(&mut self.json));
        self.count += 1;
    }

    fn proof(&mut self, text: Option<&Text<'_>>, signature: &Signature<'_>, of_call: bool) {
        let proof = carrier::wrap_for_responses(signature, of_call);
        self.add("rs", |id, writer| item::reasoning(id, text, Some(&proof), writer));
    }

    fn part(&mut self, part: &Part<'_>, cited: &[Citation<'_>]) {
        match &part.kind {
            PartKind::Text(text, signature) => {
                if !text.is_empty() {
                    self.add("msg", |id, w| {
                        item::message(id, "completed", "output_text", Some((text, cited)), w)
                    });
                }
                if let Some(signature) = signature {
                    self.proof(None, signature, false);
                }
            }
            PartKind::Refusal(text) => {
                self.add("msg", |id, w| item::message(id, "completed", "refusal", Some((text, &[])), w));
            }
            PartKind::Thinking(text, Some(signature)) => self.proof(Some(text), signature, false),
            PartKind::Thinking(text, None) => {
                self.add("rs", |id, writer| item::reasoning(id, Some(text), None, writer));
            }
            PartKind::Redacted(data) => {
                let proof = carrier::wrap_redacted_for_responses(data);
                self.add("rs", |id, writer| item::reasoning(id, None, Some(&proof), writer));
            }
            PartKind::Call(call) => {
                if let Some(signature) = &call.signature {
                    self.proof(None, signature, true);
                }
                let arguments = if call.arguments.is_empty() { "{}" } else { &call.arguments };
                self.add("fc", |id, w| item::call(id, "completed", &call.id, &call.name, arguments, w));
            }
            PartKind::Media(_) | PartKind::Result(_) => {}
        }
    }
}
