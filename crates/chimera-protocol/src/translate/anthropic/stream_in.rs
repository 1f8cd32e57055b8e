//! An Anthropic answer, read: whole or event by event.

use super::finish;
use crate::{
    DialectId, FoldError,
    json::Value,
    translate::{
        citation::Citation,
        text::Text,
        usage_in,
        vocabulary::{Piece, Signature, Vendor},
    },
};

/// Reads events.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    phase: Phase,
    block: Block,
    calls: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Before,
    Blocks,
    /// Why it ended was told.
    Stopped,
    Over,
}

/// The block that is open.
#[derive(Debug, Default, PartialEq, Eq)]
enum Block {
    #[default]
    None,
    Text,
    Thinking,
    Call {
        begun: bool,
    },
    /// One that callers of another dialect cannot have asked for.
    Other,
}

type Sink<'s, 'a> = &'s mut dyn FnMut(Piece<'a>) -> Result<(), FoldError>;

impl Reader {
    /// Reads one event.
    pub(crate) fn event<'a>(&mut self, data: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let kind = data.get("type").and_then(Value::spelled).unwrap_or_default();
        match (kind, &self.phase) {
            ("error", _) => Err(FoldError::Error),
            ("message_start", Phase::Before) => {
                self.phase = Phase::Blocks;
                start(data.get("message").ok_or(FoldError::Shape("a message"))?, sink)
            }
            ("content_block_start", Phase::Blocks) if self.block == Block::None => {
                let block = data.get("content_block").ok_or(FoldError::Shape("a content block"))?;
                self.open(block, sink)
            }
            ("content_block_delta", Phase::Blocks) => {
                self.delta(data.get("delta").ok_or(FoldError::Shape("a delta"))?, sink)
            }
            ("content_block_stop", Phase::Blocks) => self.close(sink),
            ("message_delta", Phase::Blocks) if self.block == Block::None => self.stop(data, sink),
            ("message_delta", Phase::Stopped) => Ok(()),
            ("message_stop", Phase::Stopped) => {
                self.phase = Phase::Over;
                Ok(())
            }
            (
                "message_start"
                | "content_block_start"
                | "content_block_delta"
                | "content_block_stop"
                | "message_delta"
                | "message_stop",
                _,
            ) => Err(FoldError::Shape("its events in order")),
            // Pings, and what is not known yet.
            _ => Ok(()),
        }
    }

    /// Reads a whole answer.
    pub(crate) fn whole<'a>(&mut self, message: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        if message.get("type").is_some_and(|kind| kind.is("error")) {
            return Err(FoldError::Error);
        }
        start(message, sink)?;
        let content = message.get("content").ok_or(FoldError::Shape("content"))?;
        for block in content.elements() {
            self.open(block, sink)?;
            self.close(sink)?;
        }
        self.finish(message, sink)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    fn open<'a>(&mut self, block: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let text = |name: &str| block.get(name).and_then(Text::of).filter(|text| !text.is_empty());
        match block.get("type").and_then(Value::spelled).unwrap_or_default() {
            "text" => {
                self.block = Block::Text;
                text("text").map_or(Ok(()), |text| sink(Piece::Text { choice: 0, text }))?;
                let cited = block.get("citations").into_iter().flat_map(Value::elements);
                cited
                    .filter_map(Citation::of_anthropic)
                    .try_for_each(|citation| sink(Piece::Citation { choice: 0, citation }))
            }
            "thinking" => {
                self.block = Block::Thinking;
                if let Some(text) = text("thinking") {
                    sink(Piece::Thinking { choice: 0, text })?;
                }
                text("signature").map_or(Ok(()), |text| sink(signed(text)))
            }
            "redacted_thinking" => {
                self.block = Block::Other;
                text("data").map_or(Ok(()), |data| sink(Piece::Redacted { choice: 0, data }))
            }
            "tool_use" => {
                let id = text("id").ok_or(FoldError::Shape("the id of a tool call"))?;
                let name = text("name").ok_or(FoldError::Shape("the name of a tool"))?;
                let call = self.calls;
                sink(Piece::Call { choice: 0, call, id, name, signature: None })?;
                // A stream begins with an empty object and tells the rest in fragments.
                let input = block.get("input").filter(|input| input.members().next().is_some());
                self.block = Block::Call { begun: input.is_some() };
                match input {
                    Some(input) => sink(Piece::Arguments { choice: 0, call, text: input.raw().into() }),
                    None => Ok(()),
                }
            }
            _ => {
                self.block = Block::Other;
                Ok(())
            }
        }
    }

    fn delta<'a>(&mut self, delta: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let text = |name: &str| delta.get(name).and_then(Text::of).filter(|text| !text.is_empty());
        match (delta.get("type").and_then(Value::spelled).unwrap_or_default(), &mut self.block) {
            ("text_delta", Block::Text) => {
                text("text").map_or(Ok(()), |text| sink(Piece::Text { choice: 0, text }))
            }
            ("citations_delta", Block::Text) => {
                let citation = delta.get("citation").and_then(Citation::of_anthropic);
                citation.map_or(Ok(()), |citation| sink(Piece::Citation { choice: 0, citation }))
            }
            ("thinking_delta", Block::Thinking) => {
                text("thinking").map_or(Ok(()), |text| sink(Piece::Thinking { choice: 0, text }))
            }
            ("signature_delta", Block::Thinking) => {
                text("signature").map_or(Ok(()), |text| sink(signed(text)))
            }
            ("input_json_delta", Block::Call { begun }) => match text("partial_json") {
                Some(text) => {
                    *begun = true;
                    sink(Piece::Arguments { choice: 0, call: self.calls, text })
                }
                None => Ok(()),
            },
            (_, Block::None) => Err(FoldError::Shape("its events in order")),
            ("text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta", block)
                if *block != Block::Other =>
            {
                Err(FoldError::Shape("deltas that fit their block"))
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self, sink: Sink<'_, '_>) -> Result<(), FoldError> {
        match std::mem::take(&mut self.block) {
            Block::None => Err(FoldError::Shape("its events in order")),
            Block::Call { begun } => {
                let call = self.calls;
                self.calls += 1;
                if !begun {
                    sink(Piece::Arguments { choice: 0, call, text: "{}".into() })?;
                }
                sink(Piece::CallEnd { choice: 0, call })
            }
            _ => Ok(()),
        }
    }

    fn stop<'a>(&mut self, data: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        if let Some(usage) = data.get("usage").and_then(|usage| usage_in(usage, DialectId::Anthropic)) {
            sink(Piece::Usage(usage))?;
        }
        let Some(delta) = data.get("delta") else { return Ok(()) };
        if delta.get("stop_reason").is_some_and(|reason| !reason.is_null()) {
            self.phase = Phase::Stopped;
            return self.finish(delta, sink);
        }
        Ok(())
    }

    fn finish<'a>(&self, value: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let reason = value.get("stop_reason").and_then(Value::as_str).unwrap_or_default();
        let sequence = value.get("stop_sequence").and_then(Text::of);
        sink(Piece::Finish { choice: 0, finish: finish::read(&reason, sequence) })
    }
}

fn start<'a>(message: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
    let text = |name: &str| message.get(name).and_then(Text::of).filter(|text| !text.is_empty());
    let usage = message.get("usage").and_then(|usage| usage_in(usage, DialectId::Anthropic));
    sink(Piece::Start { id: text("id"), model: text("model"), usage })
}

fn signed(text: Text<'_>) -> Piece<'_> {
    Piece::Signed { choice: 0, signature: Signature { vendor: Vendor::Anthropic, text }, thoughts: true }
}
