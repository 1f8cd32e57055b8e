//! A stream on its way from one dialect into another: whole events in, whole events out.

use std::{borrow::Cow, ops::Range};

use bytes::BytesMut;

use super::{
    AnswerContext,
    alike::{Alike, MARK},
    anthropic, gemini, openai, responses,
    text::Text,
    vocabulary::Piece,
};
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
    alike: Alike,
    /// Where an event is written to be learnt of.
    marked: BytesMut,
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

/// What one event brought.
#[derive(Debug, Default)]
struct Seen {
    pieces: usize,
    /// The choice and the place in the data of a text.
    text: Option<(u64, Range<usize>)>,
}

impl Seen {
    fn note(&mut self, piece: &Piece<'_>, data: &[u8]) {
        self.pieces += 1;
        if let Piece::Text { choice, text: Text::Spelled(text) } = piece {
            // The text is a part of the data: where it lies tells where it stands.
            let start = (text.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
            let place = start..start.wrapping_add(text.len());
            if data.get(place.clone()) == Some(text.as_bytes()) {
                self.text = Some((*choice, place));
            }
        }
    }

    /// The text, if there was nothing else.
    fn only_text(&self) -> Option<(u64, Range<usize>)> {
        self.text.clone().filter(|_| self.pieces == 1)
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
            alike: Alike::default(),
            marked: BytesMut::new(),
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
        if self.alike.translate(data, out) {
            return Ok(());
        }
        let Self { reader, writer, scratch, context, .. } = self;
        let context = AnswerContext { id: &context.id, model: &context.model, created: context.created };
        let before = out.len();
        let mut seen = Seen::default();
        let read = match Document::parse_with(data, scratch) {
            Err(_) => Err(FoldError::NotJson),
            Ok(document) if document.root().kind() != Kind::Object => Err(FoldError::NotJson),
            Ok(document) => {
                let sink = &mut |piece: Piece<'_>| {
                    seen.note(&piece, data);
                    writer.piece(piece, &context, out)
                };
                match reader {
                    Reader::OpenAi(reader) => reader.chunk(document.root(), sink),
                    Reader::Anthropic(reader) => reader.event(document.root(), sink),
                    Reader::Gemini(reader) => reader.chunk(document.root(), &context, sink),
                    Reader::None => Err(FoldError::Shape("a dialect that is translated")),
                }
            }
        };
        match read {
            Ok(()) => self.learn(data, &seen, out.get(before..).unwrap_or_default()),
            Err(_) => self.state = State::Failed,
        }
        read
    }

    /// Remembers what stands around the text of an event that brought nothing else.
    fn learn(&mut self, data: &[u8], seen: &Seen, written: &[u8]) {
        let Some((choice, text)) = seen.only_text() else {
            self.alike.forget();
            return;
        };
        // Responses number their events; and what opens a block is written only once.
        let repeats = !matches!(self.writer, Writer::Responses(_)) && !written.is_empty();
        if !repeats || self.alike.knows(data) {
            return;
        }
        self.marked.clear();
        let context = &self.context;
        let context = AnswerContext { id: &context.id, model: &context.model, created: context.created };
        let piece = Piece::Text { choice, text: Text::Spelled(Cow::Borrowed(MARK)) };
        if self.writer.piece(piece, &context, &mut self.marked).is_ok() {
            self.alike.learn(data, &text, &self.marked);
        }
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
