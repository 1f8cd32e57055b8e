//! A stream of responses, written.
//!
//! Grammar: `response.created`, `response.in_progress`; then items, each added, told in deltas and done,
//! with its place in the output; at last `response.completed` or `response.incomplete` with the whole
//! response. Every event is numbered. Calls may be told beside each other: their places tell them apart.

use bytes::BytesMut;

use super::item::{self, Identity, Status};
use crate::{
    FoldError,
    translate::{
        AnswerContext, HOLD_LIMIT, carrier,
        citation::Citation,
        text::Text,
        vocabulary::{Finish, Piece, Signature},
        write::Writer,
    },
    usage::Usage,
};

/// Writes events.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    identity: Identity,
    sequence: u64,
    /// The place of the next item.
    next: u64,
    /// The text or the thoughts that are being told.
    open: Option<Growing>,
    calls: Vec<Calling>,
    /// Items that are done, by their place.
    done: Vec<(u64, String)>,
    held: usize,
    finish: Option<Finish<'static>>,
    usage: Option<Usage>,
}

/// A message or thoughts.
#[derive(Debug)]
struct Growing {
    kind: Kind,
    id: String,
    place: u64,
    text: String,
    cited: Vec<Citation<'static>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Refusal,
    Thoughts,
}

/// A call whose arguments are still coming.
#[derive(Debug)]
struct Calling {
    call: u64,
    id: String,
    place: u64,
    call_id: Text<'static>,
    name: Text<'static>,
    arguments: String,
}

impl Kind {
    /// What the deltas of this kind are called, and what their part is.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("response.output_text", "output_text"),
            Self::Refusal => ("response.refusal", "refusal"),
            Self::Thoughts => ("response.reasoning_summary_text", "summary_text"),
        }
    }
}

impl StreamWriter {
    pub(crate) fn piece(
        &mut self,
        piece: Piece<'_>,
        context: &AnswerContext<'_>,
        out: &mut BytesMut,
    ) -> Result<(), FoldError> {
        match piece {
            Piece::Start { id, model, usage } => {
                self.usage = usage;
                self.start(id.as_ref(), model.as_ref(), context, out);
            }
            Piece::Usage(usage) => self.usage.get_or_insert_default().update(usage),
            Piece::Text { choice: 0, text } => self.grow(Kind::Text, &text, out),
            Piece::Citation { choice: 0, citation } => self.cite(citation.to_owned(), out),
            Piece::Refusal { choice: 0, text } => self.grow(Kind::Refusal, &text, out),
            Piece::Thinking { choice: 0, text } => self.grow(Kind::Thoughts, &text, out),
            Piece::Signed { choice: 0, signature, thoughts } => self.signed(&signature, thoughts, out),
            Piece::Redacted { choice: 0, data } => {
                self.close(None, out);
                self.proof(&carrier::wrap_redacted_for_responses(&data), out);
            }
            Piece::Call { choice: 0, call, id, name, signature } => {
                self.close(None, out);
                if let Some(signature) = signature {
                    self.proof(&carrier::wrap_for_responses(&signature, true), out);
                }
                self.begin_call(call, id.to_owned(), name.to_owned(), out);
            }
            Piece::Arguments { choice: 0, call, text } => self.arguments(call, &text, out),
            Piece::CallEnd { choice: 0, call } => self.end_call(call, out),
            Piece::Finish { choice: 0, finish } => self.finish = Some(finish.to_owned()),
            // There is one answer, and log probabilities are not asked for.
            _ => {}
        }
        if self.held > HOLD_LIMIT { Err(FoldError::Shape("an answer that ends")) } else { Ok(()) }
    }

    /// The proper end.
    pub(crate) fn end(&mut self, out: &mut BytesMut) {
        self.close(None, out);
        let status = Status::of(self.finish.as_ref().unwrap_or(&Finish::Stop));
        self.done.sort_by_key(|(place, _)| *place);
        let items: Vec<_> = self.done.iter().map(|(_, item)| item.as_str()).collect();
        let (output, usage, identity) = (items.join(","), self.usage, self.identity.clone());
        let name = if status == Status::Completed { "response.completed" } else { "response.incomplete" };
        self.event(name, out, |writer| {
            item::response(&identity, status, &output, usage.as_ref(), writer.key("response"));
        });
    }

    fn event(&mut self, name: &str, out: &mut BytesMut, members: impl FnOnce(&mut Writer<'_>)) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
        let mut writer = Writer::new(out);
        writer.object().word("type", name).key("sequence_number").number(self.sequence);
        members(&mut writer);
        writer.end_object();
        out.extend_from_slice(b"\n\n");
        self.sequence += 1;
    }

    fn start(
        &mut self,
        id: Option<&Text<'_>>,
        model: Option<&Text<'_>>,
        context: &AnswerContext<'_>,
        out: &mut BytesMut,
    ) {
        let plain = |text: Option<&Text<'_>>, other: &str| {
            text.map_or(other.to_owned(), |text| text.plain().into_owned())
        };
        let identity = Identity {
            id: plain(id, context.id),
            model: plain(model, context.model),
            created: context.created,
        };
        for name in ["response.created", "response.in_progress"] {
            self.event(name, out, |writer| {
                item::response(&identity, Status::InProgress, "", None, writer.key("response"));
            });
        }
        self.identity = identity;
    }

    /// A delta of text, of a refusal or of thoughts; text comes thousands of times.
    fn grow(&mut self, kind: Kind, text: &Text<'_>, out: &mut BytesMut) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            self.close(None, out);
            self.open_item(kind, out);
        }
        let Some(mut open) = self.open.take() else { return };
        self.held += text.len();
        text.append_to(&mut open.text);
        let name = match kind {
            Kind::Text => "response.output_text.delta",
            Kind::Refusal => "response.refusal.delta",
            Kind::Thoughts => "response.reasoning_summary_text.delta",
        };
        self.event(name, out, |writer| {
            place(&open, writer);
            writer.key("delta").text(text);
            if kind == Kind::Text {
                writer.key("logprobs").raw("[]");
            }
        });
        self.open = Some(open);
    }

    fn cite(&mut self, citation: Citation<'static>, out: &mut BytesMut) {
        if self.open.as_ref().is_none_or(|open| open.kind != Kind::Text) {
            self.close(None, out);
            self.open_item(Kind::Text, out);
        }
        let Some(mut open) = self.open.take() else { return };
        self.held += citation.len();
        self.event("response.output_text.annotation.added", out, |writer| {
            place(&open, writer);
            writer.key("annotation_index").number(open.cited.len() as u64).key("annotation");
            citation.responses(writer);
        });
        open.cited.push(citation);
        self.open = Some(open);
    }

    fn open_item(&mut self, kind: Kind, out: &mut BytesMut) {
        let at = self.next;
        self.next += 1;
        let stem = if kind == Kind::Thoughts { "rs" } else { "msg" };
        let id = item::id(stem, &self.identity, at);
        let open = Growing { kind, id, place: at, text: String::new(), cited: Vec::new() };
        let (_, part) = kind.words();
        self.event("response.output_item.added", out, |writer| {
            writer.key("output_index").number(at).key("item");
            match kind {
                Kind::Thoughts => item::reasoning(&open.id, None, None, writer),
                _ => item::message(&open.id, "in_progress", part, None, writer),
            }
        });
        let added = match kind {
            Kind::Thoughts => "response.reasoning_summary_part.added",
            _ => "response.content_part.added",
        };
        self.event(added, out, |writer| {
            place(&open, writer);
            write_part(kind, "", &[], writer.key("part"));
        });
        self.open = Some(open);
    }

    /// The text or the thoughts that were being told are done, perhaps with a proof.
    fn close(&mut self, proof: Option<&str>, out: &mut BytesMut) {
        let Some(open) = self.open.take() else { return };
        let kind = open.kind;
        let (stem, part) = kind.words();
        self.event(&format!("{stem}.done"), out, |writer| {
            place(&open, writer);
            writer.word(if kind == Kind::Refusal { "refusal" } else { "text" }, &open.text);
            if kind == Kind::Text {
                writer.key("logprobs").raw("[]");
            }
        });
        let done = match kind {
            Kind::Thoughts => "response.reasoning_summary_part.done",
            _ => "response.content_part.done",
        };
        self.event(done, out, |writer| {
            place(&open, writer);
            write_part(kind, &open.text, &open.cited, writer.key("part"));
        });
        let text = Text::from(open.text.as_str());
        self.item_done(open.place, out, |writer| match kind {
            Kind::Thoughts => item::reasoning(&open.id, Some(&text), proof, writer),
            _ => item::message(&open.id, "completed", part, Some((&text, &open.cited)), writer),
        });
    }

    fn item_done(&mut self, at: u64, out: &mut BytesMut, write: impl FnOnce(&mut Writer<'_>)) {
        let mut json = BytesMut::new();
        write(&mut Writer::new(&mut json));
        let json = String::from_utf8(json.to_vec()).unwrap_or_default();
        self.event("response.output_item.done", out, |writer| {
            writer.key("output_index").number(at).key("item").raw(&json);
        });
        self.done.push((at, json));
    }

    /// Thoughts without text that carry a proof.
    fn proof(&mut self, proof: &str, out: &mut BytesMut) {
        let at = self.next;
        self.next += 1;
        self.held += proof.len();
        let id = item::id("rs", &self.identity, at);
        self.event("response.output_item.added", out, |writer| {
            writer.key("output_index").number(at).key("item");
            item::reasoning(&id, None, None, writer);
        });
        self.item_done(at, out, |writer| item::reasoning(&id, None, Some(proof), writer));
    }

    fn signed(&mut self, signature: &Signature<'_>, thoughts: bool, out: &mut BytesMut) {
        let proof = carrier::wrap_for_responses(signature, false);
        if thoughts && self.open.as_ref().is_some_and(|open| open.kind == Kind::Thoughts) {
            self.close(Some(&proof), out);
        } else {
            self.close(None, out);
            self.proof(&proof, out);
        }
    }

    fn begin_call(&mut self, call: u64, call_id: Text<'static>, name: Text<'static>, out: &mut BytesMut) {
        let at = self.next;
        self.next += 1;
        let id = item::id("fc", &self.identity, at);
        self.event("response.output_item.added", out, |writer| {
            writer.key("output_index").number(at).key("item");
            item::call(&id, "in_progress", &call_id, &name, "", writer);
        });
        self.calls.push(Calling { call, id, place: at, call_id, name, arguments: String::new() });
    }

    fn arguments(&mut self, call: u64, text: &Text<'_>, out: &mut BytesMut) {
        let Some(at) = self.calls.iter().position(|calling| calling.call == call) else { return };
        let mut calling = self.calls.swap_remove(at);
        self.held += text.len();
        text.append_to(&mut calling.arguments);
        self.event("response.function_call_arguments.delta", out, |writer| {
            writer.word("item_id", &calling.id).key("output_index").number(calling.place);
            writer.key("delta").text(text);
        });
        self.calls.push(calling);
    }

    fn end_call(&mut self, call: u64, out: &mut BytesMut) {
        let Some(at) = self.calls.iter().position(|calling| calling.call == call) else { return };
        let calling = self.calls.swap_remove(at);
        let arguments = if calling.arguments.is_empty() { "{}" } else { &calling.arguments };
        self.event("response.function_call_arguments.done", out, |writer| {
            writer.word("item_id", &calling.id).key("output_index").number(calling.place);
            writer.key("name").text(&calling.name).word("arguments", arguments);
        });
        self.item_done(calling.place, out, |writer| {
            item::call(&calling.id, "completed", &calling.call_id, &calling.name, arguments, writer);
        });
    }
}

/// Where a delta belongs.
fn place(open: &Growing, writer: &mut Writer<'_>) {
    let index = if open.kind == Kind::Thoughts { "summary_index" } else { "content_index" };
    writer.word("item_id", &open.id).key("output_index").number(open.place).key(index).number(0);
}

fn write_part(kind: Kind, text: &str, cited: &[Citation<'_>], writer: &mut Writer<'_>) {
    match kind {
        Kind::Thoughts => _ = writer.object().word("type", "summary_text").word("text", text).end_object(),
        _ => item::part(kind.words().1, &text.into(), cited, writer),
    }
}
