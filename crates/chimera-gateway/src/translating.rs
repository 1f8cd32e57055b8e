//! A provider's stream on its way to a caller of another dialect, event by event.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use chimera_protocol::{sse, translate::StreamTranslator};

use crate::{
    failure::{Code, Failure},
    following::Following,
    load::Piece,
    upstream::Framing,
};

/// A stream that is being told in the caller's dialect: the provider's bytes in, the caller's out.
pub(crate) struct Retelling {
    framer: sse::Framer,
    translator: StreamTranslator,
    frames: Frames,
    /// The caller was told the end.
    over: bool,
}

impl Retelling {
    /// `most` is the largest event that is read.
    pub(crate) fn new(translator: StreamTranslator, framing: Framing, most: usize) -> Self {
        Self { framer: sse::Framer::new(most), translator, frames: Frames::new(framing), over: false }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// What some events are in the caller's dialect, the end with the one that tells it. What comes
    /// after that is the provider's own affair.
    pub(crate) fn events(&mut self, events: Bytes) -> Result<BytesMut, Failure> {
        let mut out = BytesMut::with_capacity(events.len() + events.len() / 4);
        self.framer.push(events);
        while let Some(raw) = self.framer.next_event().map_err(|_| told("an event is too large"))? {
            let event = sse::Event::parse(&raw);
            self.translator.event(event.data(), &mut out).map_err(|fault| told(&fault.to_string()))?;
            if self.translator.is_over() {
                return self.end(out);
            }
        }
        Ok(self.frames.put(out))
    }

    /// The proper end, after what was written before it.
    pub(crate) fn end(&mut self, mut out: BytesMut) -> Result<BytesMut, Failure> {
        self.translator.end(&mut out).map_err(|fault| told(&fault.to_string()))?;
        self.over = true;
        let mut framed = self.frames.put(out);
        self.frames.close(&mut framed);
        Ok(framed)
    }
}

/// A provider's stream as one caller follows it.
pub(crate) struct Translating {
    inner: Following,
    retelling: Retelling,
    /// The caller was told the end, or that there is none.
    over: bool,
}

impl Translating {
    pub(crate) fn new(inner: Following, retelling: Retelling) -> Self {
        Self { inner, retelling, over: false }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            let piece = match ready!(self.inner.poll_next(cx)) {
                // The rest is the provider's own affair.
                Some(Piece::Events(_)) if self.over => continue,
                Some(Piece::Events(events)) => self.retelling.events(events),
                None if !self.over && self.inner.cut().is_none() => self.retelling.end(BytesMut::new()),
                other => return Poll::Ready(other),
            };
            self.over = self.retelling.is_over() || piece.is_err();
            match piece {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Piece::Events(out.freeze()))),
                Err(failure) => return Poll::Ready(Some(Piece::Failed(Arc::new(failure)))),
            }
        }
    }

    pub(crate) fn cut(&self) -> Option<Failure> {
        if self.over { None } else { self.inner.cut() }
    }
}

/// Why a stream cannot go on in the caller's dialect.
fn told(why: &str) -> Failure {
    Failure::new(
        Code::UpstreamInvalidResponse,
        format!("the provider's stream cannot be told in the caller's dialect: {why}"),
    )
}

/// The framing of what a caller gets: events as they are, or the elements of one array.
struct Frames {
    array: bool,
    begun: bool,
}

impl Frames {
    fn new(framing: Framing) -> Self {
        Self { array: framing == Framing::Array, begun: false }
    }

    fn put(&mut self, events: BytesMut) -> BytesMut {
        if !self.array {
            return events;
        }
        let mut out = BytesMut::with_capacity(events.len());
        let mut framer = sse::Framer::new(events.len().max(1));
        framer.push(events.freeze());
        while let Ok(Some(raw)) = framer.next_event() {
            out.extend_from_slice(if self.begun { b",\r\n" } else { b"[" });
            self.begun = true;
            out.extend_from_slice(sse::Event::parse(&raw).data());
        }
        out
    }

    fn close(&self, out: &mut BytesMut) {
        if self.array {
            out.extend_from_slice(if self.begun { b"]" } else { b"[]" });
        }
    }
}
