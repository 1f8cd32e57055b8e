//! A Gemini stream, written.
//!
//! Grammar: chunks with candidates; the last says why each ended and what it cost. A call is told whole:
//! its arguments are kept until they are.

use bytes::{BufMut, BytesMut};

use super::{answer_out, finish};
use crate::{
    FoldError,
    translate::{
        AnswerContext, HOLD_LIMIT,
        text::Text,
        vocabulary::{Finish, Piece, Signature},
        write::Writer,
    },
    usage::Usage,
};

/// Writes chunks.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    /// What every chunk ends with, after its candidates.
    tail: BytesMut,
    calls: Vec<Pending>,
    finished: Vec<(u64, Finish<'static>)>,
    usage: Option<Usage>,
}

/// A call whose arguments are still coming.
#[derive(Debug)]
struct Pending {
    choice: u64,
    call: u64,
    id: Text<'static>,
    name: Text<'static>,
    signature: Option<Signature<'static>>,
    arguments: String,
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
                self.start(id.as_ref(), model.as_ref(), context);
            }
            Piece::Usage(usage) => self.usage.get_or_insert_default().update(usage),
            Piece::Text { choice, text } | Piece::Refusal { choice, text } => {
                self.part(choice, out, |writer| answer_out::text(&text, false, None, writer));
            }
            Piece::Thinking { choice, text } => {
                self.part(choice, out, |writer| answer_out::text(&text, true, None, writer));
            }
            Piece::Signed { choice, signature, thoughts } => {
                let text = "".into();
                self.part(choice, out, |writer| answer_out::text(&text, thoughts, Some(&signature), writer));
            }
            Piece::Redacted { choice, data } => {
                self.part(choice, out, |writer| answer_out::redacted(&data, writer));
            }
            Piece::Call { choice, call, id, name, signature } => self.calls.push(Pending {
                choice,
                call,
                id: id.to_owned(),
                name: name.to_owned(),
                signature: signature.map(|s| Signature { vendor: s.vendor, text: s.text.to_owned() }),
                arguments: String::new(),
            }),
            Piece::Arguments { choice, call, text } => {
                let known = |pending: &&mut Pending| (pending.choice, pending.call) == (choice, call);
                if let Some(pending) = self.calls.iter_mut().find(known) {
                    text.append_to(&mut pending.arguments);
                    if pending.arguments.len() > HOLD_LIMIT {
                        return Err(FoldError::Shape("a tool call that ends"));
                    }
                }
            }
            Piece::CallEnd { choice, call } => return self.whole_call(choice, call, out),
            Piece::Citation { choice, citation } => {
                Self::begin(out);
                let mut writer = Writer::new(out);
                writer.raw(r#"],"role":"model"},"citationMetadata":"#);
                answer_out::sources(&[citation], &mut writer);
                self.close(choice, out);
            }
            Piece::Logprobs { choice, tokens } => {
                Self::begin(out);
                let mut writer = Writer::new(out);
                writer.raw(r#"],"role":"model"},"logprobsResult":"#);
                answer_out::logprobs(&tokens, &mut writer);
                self.close(choice, out);
            }
            Piece::Finish { choice, finish } => self.finished.push((choice, finish.to_owned())),
        }
        Ok(())
    }

    /// The proper end: one last chunk.
    pub(crate) fn end(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(b"data: ");
        let mut writer = Writer::new(out);
        writer.object().key("candidates").array();
        for (choice, finish) in &self.finished {
            writer.item().object().key("content").object().key("parts").array();
            writer.end_array().word("role", "model").end_object();
            writer.word("finishReason", finish::word(finish)).key("index").number(*choice).end_object();
        }
        writer.end_array();
        if let Some(usage) = &self.usage {
            writer.key("usageMetadata");
            finish::usage(usage, &mut writer);
        }
        out.extend_from_slice(&self.tail);
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, context: &AnswerContext<'_>) {
        self.tail.put_slice(b",\"modelVersion\":");
        let mut writer = Writer::new(&mut self.tail);
        writer.text(model.unwrap_or(&context.model.into())).key("responseId");
        writer.text(id.unwrap_or(&context.id.into())).end_object();
        self.tail.put_slice(b"\n\n");
    }

    fn begin(out: &mut BytesMut) {
        out.extend_from_slice(b"data: {\"candidates\":[{\"content\":{\"parts\":[");
    }

    fn close(&self, choice: u64, out: &mut BytesMut) {
        out.extend_from_slice(b",\"index\":");
        Writer::new(out).number(choice);
        out.extend_from_slice(b"}]");
        out.extend_from_slice(&self.tail);
    }

    /// A chunk of one part; the one that comes thousands of times among them.
    fn part(&self, choice: u64, out: &mut BytesMut, write: impl FnOnce(&mut Writer<'_>)) {
        Self::begin(out);
        write(&mut Writer::new(out));
        out.extend_from_slice(b"],\"role\":\"model\"}");
        self.close(choice, out);
    }

    fn whole_call(&mut self, choice: u64, call: u64, out: &mut BytesMut) -> Result<(), FoldError> {
        let known = |pending: &Pending| (pending.choice, pending.call) == (choice, call);
        let Some(at) = self.calls.iter().position(known) else { return Ok(()) };
        let call = self.calls.remove(at);
        let mut result = Ok(());
        let before = out.len();
        self.part(choice, out, |writer| {
            let signature = call.signature.as_ref();
            result = answer_out::function_call(&call.id, &call.name, &call.arguments, signature, writer);
        });
        if result.is_err() {
            out.truncate(before);
        }
        result
    }
}
