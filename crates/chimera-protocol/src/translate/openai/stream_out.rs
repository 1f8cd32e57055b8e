//! An OpenAI stream, written.
//!
//! Grammar: for each choice a chunk with the role, then deltas, then one chunk with the finish reason;
//! at last the usage if it was asked for, and `[DONE]`.

use bytes::{BufMut, BytesMut};

use super::{answer_out, finish};
use crate::{
    FoldError,
    translate::{
        AnswerContext, HOLD_LIMIT, carrier,
        text::Text,
        vocabulary::{Piece, Signature, Vendor},
        write::Writer,
    },
    usage::Usage,
};

/// Writes chunks.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    /// What every chunk begins with, up to its choices.
    head: BytesMut,
    choices: Vec<ChoiceState>,
    finished: Vec<(u64, &'static str)>,
    usage: Option<Usage>,
    include_usage: bool,
}

#[derive(Debug)]
struct ChoiceState {
    index: u64,
    /// The thoughts so far, spelled, until their proof comes.
    thoughts: String,
    blocks: u64,
}

impl StreamWriter {
    pub(crate) fn new(include_usage: bool) -> Self {
        Self { include_usage, ..Self::default() }
    }

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
            Piece::Text { choice, text } => self.grow(choice, "content", &text, out),
            Piece::Refusal { choice, text } => self.grow(choice, "refusal", &text, out),
            Piece::Thinking { choice, text } => {
                self.grow(choice, "reasoning_content", &text, out);
                if let Some(state) = self.choices.iter_mut().find(|state| state.index == choice) {
                    text.append_to(&mut state.thoughts);
                    if state.thoughts.len() > HOLD_LIMIT {
                        return Err(FoldError::Shape("thoughts that end"));
                    }
                }
            }
            Piece::Signed { choice, signature, .. } => self.signed(choice, &signature, out),
            Piece::Redacted { choice, data } => {
                let index = self.next_block(choice, out);
                self.delta(choice, out, |writer| {
                    writer.key("thinking_blocks").array().item();
                    answer_out::redacted(index, &data, writer);
                    writer.end_array();
                });
            }
            Piece::Citation { choice, citation } => self.delta(choice, out, |writer| {
                citation.openai(writer.key("annotations").array().item());
                writer.end_array();
            }),
            Piece::Call { choice, call, id, name, signature } => {
                self.delta(choice, out, |writer| self::call(call, &id, &name, signature.as_ref(), writer));
            }
            Piece::Arguments { choice, call, text } => self.delta(choice, out, |writer| {
                writer.key("tool_calls").array().item().object().key("index").number(call);
                writer.key("function").object().key("arguments").text(&text).end_object();
                writer.end_object().end_array();
            }),
            Piece::CallEnd { .. } => {}
            Piece::Logprobs { choice, tokens } => {
                self.open(choice, false, out);
                self.begin(choice, out);
                let mut writer = Writer::new(out);
                writer.raw(r#"{},"logprobs":"#);
                answer_out::logprobs(&tokens, &mut writer);
                out.extend_from_slice(b",\"finish_reason\":null}]}\n\n");
            }
            // Told at the proper end only: many take it for the end itself.
            Piece::Finish { choice, finish } => {
                self.open(choice, false, out);
                self.finished.push((choice, finish::word(&finish)));
            }
        }
        Ok(())
    }

    /// The proper end.
    pub(crate) fn end(&mut self, out: &mut BytesMut) {
        for (choice, word) in std::mem::take(&mut self.finished) {
            self.begin(choice, out);
            out.extend_from_slice(b"{},\"finish_reason\":\"");
            out.extend_from_slice(word.as_bytes());
            out.extend_from_slice(b"\"}]}\n\n");
        }
        if let Some(usage) = self.usage.filter(|_| self.include_usage) {
            out.extend_from_slice(&self.head);
            let mut writer = Writer::new(out);
            writer.raw(r#"[],"usage":"#);
            finish::usage(&usage, &mut writer);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, context: &AnswerContext<'_>) {
        self.head.put_slice(b"data: ");
        let mut writer = Writer::new(&mut self.head);
        writer.object().key("id").text(id.unwrap_or(&context.id.into()));
        writer.word("object", "chat.completion.chunk").key("created").number(context.created);
        writer.key("model").text(model.unwrap_or(&context.model.into())).key("choices");
    }

    /// The chunk with the role, before the first of a choice.
    fn open(&mut self, choice: u64, is_text: bool, out: &mut BytesMut) {
        if self.choices.iter().any(|state| state.index == choice) {
            return;
        }
        self.choices.push(ChoiceState { index: choice, thoughts: String::new(), blocks: 0 });
        self.begin(choice, out);
        out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":");
        out.extend_from_slice(if is_text { b"\"\"" } else { b"null" });
        out.extend_from_slice(b"},\"finish_reason\":null}]}\n\n");
    }

    /// A chunk up to its delta.
    fn begin(&self, choice: u64, out: &mut BytesMut) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"[{\"index\":");
        Writer::new(out).number(choice);
        out.extend_from_slice(b",\"delta\":");
    }

    fn delta(&mut self, choice: u64, out: &mut BytesMut, write: impl FnOnce(&mut Writer<'_>)) {
        self.open(choice, false, out);
        self.begin(choice, out);
        let mut writer = Writer::new(out);
        writer.object();
        write(&mut writer);
        writer.end_object();
        out.extend_from_slice(b",\"finish_reason\":null}]}\n\n");
    }

    /// The chunk that comes thousands of times.
    fn grow(&mut self, choice: u64, name: &str, text: &Text<'_>, out: &mut BytesMut) {
        self.open(choice, name == "content", out);
        self.begin(choice, out);
        let mut writer = Writer::new(out);
        writer.object().key(name).text(text).end_object();
        out.extend_from_slice(b",\"finish_reason\":null}]}\n\n");
    }

    fn next_block(&mut self, choice: u64, out: &mut BytesMut) -> u64 {
        self.open(choice, false, out);
        let Some(state) = self.choices.iter_mut().find(|state| state.index == choice) else { return 0 };
        state.blocks += 1;
        state.blocks - 1
    }

    fn signed(&mut self, choice: u64, signature: &Signature<'_>, out: &mut BytesMut) {
        if signature.vendor == Vendor::Gemini {
            self.delta(choice, out, |writer| carrier::write_extra_content(writer, &signature.text));
            return;
        }
        let index = self.next_block(choice, out);
        let state = self.choices.iter_mut().find(|state| state.index == choice);
        let thoughts = state.map(|state| std::mem::take(&mut state.thoughts)).unwrap_or_default();
        self.delta(choice, out, |writer| {
            writer.key("thinking_blocks").array().item();
            carrier::write_anthropic_block(writer, Some(index), &thoughts.into(), &signature.text);
            writer.end_array();
        });
    }
}

/// The first delta of a call.
fn call(
    index: u64,
    id: &Text<'_>,
    name: &Text<'_>,
    signature: Option<&Signature<'_>>,
    writer: &mut Writer<'_>,
) {
    writer.key("tool_calls").array().item().object().key("index").number(index);
    writer.key("id").text(id).word("type", "function").key("function").object();
    writer.key("name").text(name).word("arguments", "").end_object();
    if let Some(signature) = signature {
        carrier::write_extra_content(writer, &signature.text);
    }
    writer.end_object().end_array();
}
