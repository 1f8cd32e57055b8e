//! A stream on its way from one dialect into another: whole events in, whole events out.

use bytes::BytesMut;

use super::{AnswerContext, anthropic, gemini, openai, responses, vocabulary::Piece};
use crate::{
    DialectId, ErrorParts, FoldError,
    json::{Document, Kind, Scratch},
};

/// Translates one stream.
///
/// Feed it each event's data with [`event`](Self::event), in order, and call [`end`](Self::end) when the
/// provider's bytes have ended. What it appends to `out` is whole events of the caller's dialect. After
/// an error, [`fail`](Self::fail) writes the caller's error event; nothing comes after that, and never a
/// normal end. There is one legal end: `end` returns `Ok` once, when the provider's stream ended as its
/// own grammar says, and writes the caller's.
#[derive(Debug)]
pub struct StreamTranslator {
    reader: Reader,
    writer: Writer,
    to: DialectId,
    state: State,
    scratch: Scratch,
    context: Context,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    /// It broke, and the caller is to be told.
    Failed,
    /// The caller was told that it broke.
    Told,
}

#[derive(Debug)]
struct Context {
    id: String,
    model: String,
    created: u64,
}

#[derive(Debug)]
enum Reader {
    OpenAi(openai::stream_in::Reader),
    Anthropic(anthropic::stream_in::Reader),
    Gemini(gemini::stream_in::Reader),
    /// A dialect that is only written.
    None,
}

#[derive(Debug)]
enum Writer {
    OpenAi(openai::stream_out::StreamWriter),
    Anthropic(anthropic::stream_out::StreamWriter),
    Gemini(gemini::stream_out::StreamWriter),
    Responses(Box<responses::stream_out::StreamWriter>),
}

impl Writer {
    fn piece(
        &mut self,
        piece: Piece<'_>,
        context: &AnswerContext<'_>,
        out: &mut BytesMut,
    ) -> Result<(), FoldError> {
        match self {
            Self::OpenAi(writer) => writer.piece(piece, context, out),
            Self::Anthropic(writer) => writer.piece(piece, context, out),
            Self::Gemini(writer) => writer.piece(piece, context, out),
            Self::Responses(writer) => writer.piece(piece, context, out),
        }
    }
}

impl StreamTranslator {
    /// A translator of a stream that has not begun. `include_usage` is what an OpenAI caller asked for.
    pub fn new(from: DialectId, to: DialectId, include_usage: bool, context: &AnswerContext<'_>) -> Self {
        Self {
            reader: match from {
                DialectId::OpenAi => Reader::OpenAi(Default::default()),
                DialectId::Anthropic => Reader::Anthropic(Default::default()),
                DialectId::Gemini => Reader::Gemini(Default::default()),
                DialectId::Responses => Reader::None,
            },
            writer: match to {
                DialectId::OpenAi => Writer::OpenAi(openai::stream_out::StreamWriter::new(include_usage)),
                DialectId::Anthropic => Writer::Anthropic(Default::default()),
                DialectId::Gemini => Writer::Gemini(Default::default()),
                DialectId::Responses => Writer::Responses(Default::default()),
            },
            to,
            state: State::Open,
            scratch: Scratch::default(),
            context: Context {
                id: context.id.to_owned(),
                model: context.model.to_owned(),
                created: context.created,
            },
        }
    }

    /// Translates the data of one event. What comes after the provider's own end is ignored.
    pub fn event(&mut self, data: &[u8], out: &mut BytesMut) -> Result<(), FoldError> {
        if self.state != State::Open || data.is_empty() || self.is_over() {
            return Ok(());
        }
        if let Reader::OpenAi(reader) = &mut self.reader
            && data == b"[DONE]"
        {
            reader.done();
            return Ok(());
        }
        let Self { reader, writer, scratch, context, .. } = self;
        let context = AnswerContext { id: &context.id, model: &context.model, created: context.created };
        let read = match Document::parse_with(data, scratch) {
            Err(_) => Err(FoldError::NotJson),
            Ok(document) if document.root().kind() != Kind::Object => Err(FoldError::NotJson),
            Ok(document) => {
                let sink = &mut |piece: Piece<'_>| writer.piece(piece, &context, out);
                match reader {
                    Reader::OpenAi(reader) => reader.chunk(document.root(), sink),
                    Reader::Anthropic(reader) => reader.event(document.root(), sink),
                    Reader::Gemini(reader) => reader.chunk(document.root(), &context, sink),
                    Reader::None => Err(FoldError::Shape("a dialect that is translated")),
                }
            }
        };
        if read.is_err() {
            self.state = State::Failed;
        }
        read
    }

    /// Ends the stream, if the provider's has properly ended.
    pub fn end(&mut self, out: &mut BytesMut) -> Result<(), FoldError> {
        if self.state != State::Open {
            return if self.state == State::Ended { Ok(()) } else { Err(FoldError::Error) };
        }
        let Self { reader, writer, context, .. } = self;
        let context = AnswerContext { id: &context.id, model: &context.model, created: context.created };
        let whole = match reader {
            Reader::OpenAi(reader) => reader.is_whole(),
            Reader::Anthropic(reader) => reader.is_over(),
            Reader::Gemini(reader) => reader.is_whole(),
            Reader::None => false,
        };
        let ended = match reader {
            _ if !whole => Err(FoldError::Truncated),
            Reader::Gemini(reader) => reader.end(&mut |piece: Piece<'_>| writer.piece(piece, &context, out)),
            _ => Ok(()),
        };
        if ended.is_err() {
            self.state = State::Failed;
            return ended;
        }
        self.state = State::Ended;
        match writer {
            Writer::OpenAi(writer) => writer.end(out),
            Writer::Anthropic(writer) => writer.end(out),
            Writer::Gemini(writer) => writer.end(out),
            Writer::Responses(writer) => writer.end(out),
        }
        Ok(())
    }

    /// Writes an error in place of the rest, unless the stream has ended already.
    pub fn fail(&mut self, parts: &ErrorParts<'_>, out: &mut BytesMut) {
        if matches!(self.state, State::Open | State::Failed) {
            self.state = State::Told;
            out.extend_from_slice(&self.to.dialect().error_event(parts));
        }
    }

    /// Whether the provider's terminal event was seen. Gemini has none: its bytes end.
    pub fn is_over(&self) -> bool {
        match &self.reader {
            Reader::OpenAi(reader) => reader.is_over(),
            Reader::Anthropic(reader) => reader.is_over(),
            Reader::Gemini(_) | Reader::None => false,
        }
    }
}
