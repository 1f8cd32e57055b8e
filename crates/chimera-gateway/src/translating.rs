//! A provider's stream on its way to a caller of another dialect, event by event.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use chimera_protocol::{
    DialectId, FoldError, sse,
    translate::{ErrorFacts, StreamTranslator},
};

use crate::{
    failure::{Code, Failure},
    following::Following,
    load::Piece,
    upstream::Framing,
};

/// A stream that is being told in the caller's dialect: the provider's bytes in, the caller's out.
pub(crate) struct Retelling {
    /// The provider's dialect and the caller's.
    dialects: [DialectId; 2],
    framer: sse::Framer,
    translator: StreamTranslator,
    frames: Frames,
    /// The caller was told the end.
    over: bool,
}

impl Retelling {
    /// `most` is the largest event that is read.
    pub(crate) fn new(
        dialects: [DialectId; 2],
        translator: StreamTranslator,
        framing: Framing,
        most: usize,
    ) -> Self {
        let (framer, frames) = (sse::Framer::new(most), Frames::new(framing));
        Self { dialects, framer, translator, frames, over: false }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// What some events are in the caller's dialect, the end with the one that tells it, up to the first that
    /// cannot be told, and why not. What comes after the end is the provider's own affair.
    pub(crate) fn events(&mut self, events: Bytes) -> (BytesMut, Option<Failure>) {
        let mut out = BytesMut::with_capacity(events.len() + events.len() / 4);
        self.framer.push(events);
        let failed = self.each(&mut out).err();
        if failed.is_none() && self.translator.is_over() {
            return match self.end(out) {
                Ok(out) => (out, None),
                Err(failure) => (BytesMut::new(), Some(failure)),
            };
        }
        (self.frames.put(out), failed)
    }

    /// Tells the events that are whole, to the end of the stream at most.
    fn each(&mut self, out: &mut BytesMut) -> Result<(), Failure> {
        while !self.translator.is_over()
            && let Some(raw) = self.framer.next_event().map_err(|_| told("an event is too large"))?
        {
            let event = sse::Event::parse(&raw);
            let before = out.len();
            if let Err(fault) = self.translator.event(event.data(), out) {
                out.truncate(before);
                let [provider, caller] = self.dialects;
                return Err(match fault {
                    FoldError::Error => {
                        Failure::provider_says(&ErrorFacts::of_event(provider, event.data()), caller)
                    }
                    fault => told(&fault.to_string()),
                });
            }
        }
        Ok(())
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
    /// Why it does not go on, once what came before is told.
    stopped: Option<Failure>,
}

impl Translating {
    pub(crate) fn new(inner: Following, retelling: Retelling) -> Self {
        Self { inner, retelling, over: false, stopped: None }
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            if let Some(failure) = self.stopped.take() {
                return Poll::Ready(Some(Piece::Failed(Arc::new(failure))));
            }
            let told = match ready!(self.inner.poll_next(cx)) {
                // The rest is the provider's own affair.
                Some(Piece::Events(_)) if self.over => continue,
                Some(Piece::Events(events)) => {
                    let told;
                    (told, self.stopped) = self.retelling.events(events);
                    told
                }
                None if !self.over && self.inner.cut().is_none() => {
                    let ended = self.retelling.end(BytesMut::new());
                    ended.unwrap_or_else(|failure| {
                        self.stopped = Some(failure);
                        BytesMut::new()
                    })
                }
                // What native callers were told by the provider was told to nobody in another dialect.
                Some(Piece::Failed(failure)) if failure.is_told => {
                    let failure = Failure { is_told: false, ..Failure::clone(&failure) };
                    return Poll::Ready(Some(Piece::Failed(Arc::new(failure))));
                }
                other => return Poll::Ready(other),
            };
            self.over = self.retelling.is_over() || self.stopped.is_some();
            if !told.is_empty() {
                return Poll::Ready(Some(Piece::Events(told.freeze())));
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
