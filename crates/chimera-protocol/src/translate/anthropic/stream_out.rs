//! An Anthropic stream, written.
//!
//! Grammar: `message_start`, then blocks, each opened, told in deltas and closed before the next opens,
//! then `message_delta` with the stop reason and the bill, and `message_stop`. A provider may tell two
//! calls at once, or text in the middle of a call: what does not belong to the open call waits until that
//! call is whole.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::finish;
use crate::{
    FoldError,
    translate::{
        AnswerContext, HOLD_LIMIT, carrier,
        citation::Citation,
        text::Text,
        vocabulary::{Finish, Piece, Signature, Vendor},
        write::Writer,
    },
    usage::Usage,
};

/// Writes events.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    /// The index of the next block to open.
    next: u64,
    open: Open,
    finish: Option<Finish<'static>>,
    usage: Option<Usage>,
    /// Citations that wait for the text they belong to.
    cited: Vec<Citation<'static>>,
    /// What waits for the open call to be whole.
    waiting: Vec<Piece<'static>>,
    /// Its bytes.
    held: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    Text,
    Thinking,
    Call(u64),
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
            // There is one answer, and no place for log probabilities.
            Piece::Logprobs { .. } => {}
            Piece::Finish { choice: 0, finish } => {
                self.finish = Some(finish.to_owned());
                self.whole(out);
            }
            piece if self.must_wait(&piece) => {
                self.held += weight(&piece);
                if self.held > HOLD_LIMIT {
                    return Err(FoldError::Shape("a tool call that ends"));
                }
                self.waiting.extend(owned(piece));
            }
            Piece::CallEnd { choice: 0, .. } => self.whole(out),
            piece => self.say(piece, out),
        }
        Ok(())
    }

    /// The proper end.
    pub(crate) fn end(&mut self, out: &mut BytesMut) {
        self.whole(out);
        if !self.cited.is_empty() {
            self.ensure(Open::Text, out);
            self.close(out);
        }
        out.extend_from_slice(b"event: message_delta\ndata: ");
        let mut writer = Writer::new(out);
        writer.object().word("type", "message_delta").key("delta").object();
        finish::write(self.finish.as_ref().unwrap_or(&Finish::Stop), &mut writer);
        writer.end_object().key("usage");
        finish::usage(self.usage.as_ref(), &mut writer);
        writer.end_object();
        out.extend_from_slice(b"\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn must_wait(&self, piece: &Piece<'_>) -> bool {
        let Open::Call(open) = self.open else { return false };
        !matches!(piece, Piece::Arguments { call, .. } | Piece::CallEnd { call, .. } if *call == open)
    }

    /// The open block has ended; what waited is said, up to the next call that is not whole.
    fn whole(&mut self, out: &mut BytesMut) {
        self.close(out);
        self.held = 0;
        let mut queue: VecDeque<_> = std::mem::take(&mut self.waiting).into();
        while let Some(piece) = queue.pop_front() {
            if self.must_wait(&piece) {
                self.held += weight(&piece);
                self.waiting.push(piece);
            } else if matches!(piece, Piece::CallEnd { .. }) {
                self.close(out);
                // What waited behind this call has its turn before the rest.
                self.held = 0;
                let mut again: VecDeque<_> = std::mem::take(&mut self.waiting).into();
                again.append(&mut queue);
                queue = again;
            } else {
                self.say(piece, out);
            }
        }
    }

    fn say(&mut self, piece: Piece<'_>, out: &mut BytesMut) {
        match piece {
            Piece::Text { choice: 0, text } | Piece::Refusal { choice: 0, text } => {
                self.ensure(Open::Text, out);
                self.delta("text_delta", "text", &text, out);
            }
            Piece::Thinking { choice: 0, text } => {
                self.ensure(Open::Thinking, out);
                self.delta("thinking_delta", "thinking", &text, out);
            }
            Piece::Citation { choice: 0, citation } if self.open == Open::Text => self.cite(&citation, out),
            Piece::Citation { choice: 0, citation } => self.cited.push(citation.to_owned()),
            Piece::Signed { choice: 0, signature, .. } => self.signed(&signature, out),
            Piece::Redacted { choice: 0, data } => {
                self.close(out);
                self.block(out, |writer| {
                    writer.word("type", "redacted_thinking").key("data").text(&data);
                });
                self.open = Open::Thinking;
                self.close(out);
            }
            Piece::Call { choice: 0, call, id, name, signature } => {
                self.close(out);
                if let Some(signature) = signature {
                    self.carried(&signature, false, out);
                }
                self.block(out, |writer| {
                    writer.word("type", "tool_use").key("id").text(&id).key("name").text(&name);
                    writer.key("input").object().end_object();
                });
                self.open = Open::Call(call);
            }
            Piece::Arguments { choice: 0, text, .. } => {
                self.delta("input_json_delta", "partial_json", &text, out);
            }
            _ => {}
        }
    }

    fn start(
        &mut self,
        id: Option<&Text<'_>>,
        model: Option<&Text<'_>>,
        context: &AnswerContext<'_>,
        out: &mut BytesMut,
    ) {
        out.extend_from_slice(b"event: message_start\ndata: ");
        let mut writer = Writer::new(out);
        writer.object().word("type", "message_start").key("message").object();
        writer.key("id").text(id.unwrap_or(&context.id.into())).word("type", "message");
        writer.word("role", "assistant").key("model").text(model.unwrap_or(&context.model.into()));
        writer.key("content").array().end_array().key("stop_reason").raw("null");
        writer.key("stop_sequence").raw("null").key("usage");
        finish::usage(self.usage.as_ref(), &mut writer);
        writer.end_object().end_object();
        out.extend_from_slice(b"\n\n");
    }

    /// Opens a block of this kind, unless it is open.
    fn ensure(&mut self, wanted: Open, out: &mut BytesMut) {
        if self.open == wanted {
            return;
        }
        self.close(out);
        self.block(out, |writer| match wanted {
            Open::Thinking => _ = writer.word("type", "thinking").word("thinking", "").word("signature", ""),
            _ => _ = writer.word("type", "text").word("text", ""),
        });
        self.open = wanted;
        if wanted == Open::Text {
            std::mem::take(&mut self.cited).iter().for_each(|citation| self.cite(citation, out));
        }
    }

    fn block(&mut self, out: &mut BytesMut, content: impl FnOnce(&mut Writer<'_>)) {
        out.extend_from_slice(b"event: content_block_start\ndata: ");
        let mut writer = Writer::new(out);
        writer.object().word("type", "content_block_start").key("index").number(self.next);
        writer.key("content_block").object();
        content(&mut writer);
        writer.end_object().end_object();
        out.extend_from_slice(b"\n\n");
        self.next += 1;
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open == Open::Nothing {
            return;
        }
        self.open = Open::Nothing;
        out.extend_from_slice(
            b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":",
        );
        Writer::new(out).number(self.next.saturating_sub(1));
        out.extend_from_slice(b"}\n\n");
    }

    /// The event that comes thousands of times.
    fn delta(&self, kind: &str, name: &str, text: &Text<'_>, out: &mut BytesMut) {
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        let mut writer = Writer::new(out);
        writer.number(self.next.saturating_sub(1)).raw(",\"delta\":");
        writer.object().word("type", kind).key(name).text(text).end_object();
        out.extend_from_slice(b"}\n\n");
    }

    fn cite(&self, citation: &Citation<'_>, out: &mut BytesMut) {
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        let mut writer = Writer::new(out);
        writer.number(self.next.saturating_sub(1)).raw(",\"delta\":");
        citation.anthropic(writer.object().word("type", "citations_delta").key("citation"));
        writer.end_object();
        out.extend_from_slice(b"}\n\n");
    }

    fn signed(&mut self, signature: &Signature<'_>, out: &mut BytesMut) {
        if signature.vendor == Vendor::Gemini {
            self.carried(signature, true, out);
            return;
        }
        self.ensure(Open::Thinking, out);
        self.delta("signature_delta", "signature", &signature.text, out);
        self.close(out);
    }

    /// Gemini's proof in its carrier: a thinking block without text.
    fn carried(&mut self, signature: &Signature<'_>, of_text: bool, out: &mut BytesMut) {
        self.close(out);
        self.ensure(Open::Thinking, out);
        let wrapped = carrier::wrap_for_anthropic(&signature.text, of_text).into();
        self.delta("signature_delta", "signature", &wrapped, out);
        self.close(out);
    }
}

/// Bytes that a waiting piece holds.
fn weight(piece: &Piece<'_>) -> usize {
    let of = |text: &Text<'_>| text.len();
    64 + match piece {
        Piece::Text { text, .. }
        | Piece::Thinking { text, .. }
        | Piece::Refusal { text, .. }
        | Piece::Arguments { text, .. } => of(text),
        Piece::Redacted { data, .. } => of(data),
        Piece::Citation { citation, .. } => citation.len(),
        Piece::Call { id, name, .. } => of(id) + of(name),
        _ => 0,
    }
}

/// A copy of a piece that can wait.
fn owned(piece: Piece<'_>) -> Option<Piece<'static>> {
    let keep =
        |signature: Signature<'_>| Signature { vendor: signature.vendor, text: signature.text.to_owned() };
    Some(match piece {
        Piece::Text { choice, text } => Piece::Text { choice, text: text.to_owned() },
        Piece::Thinking { choice, text } => Piece::Thinking { choice, text: text.to_owned() },
        Piece::Refusal { choice, text } => Piece::Refusal { choice, text: text.to_owned() },
        Piece::Redacted { choice, data } => Piece::Redacted { choice, data: data.to_owned() },
        Piece::Citation { choice, citation } => Piece::Citation { choice, citation: citation.to_owned() },
        Piece::Signed { choice, signature, thoughts } => {
            Piece::Signed { choice, signature: keep(signature), thoughts }
        }
        Piece::Call { choice, call, id, name, signature } => Piece::Call {
            choice,
            call,
            id: id.to_owned(),
            name: name.to_owned(),
            signature: signature.map(keep),
        },
        Piece::Arguments { choice, call, text } => Piece::Arguments { choice, call, text: text.to_owned() },
        Piece::CallEnd { choice, call } => Piece::CallEnd { choice, call },
        Piece::Start { .. } | Piece::Logprobs { .. } | Piece::Finish { .. } | Piece::Usage(_) => return None,
    })
}
