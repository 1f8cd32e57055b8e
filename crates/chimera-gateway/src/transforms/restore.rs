//! A stream on its way back through a pipeline, in the caller's framing.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use chimera_protocol::{ArrayFramer, DialectId, sse};
use chimera_transform::{Events, StepError, StepErrorKind, event_texts};

use crate::{
    failure::{Code, Failure},
    following::Following,
    load::Piece,
    upstream::Framing,
};

/// The framing of a stream that is to be restored.
pub(super) fn framing(is_events: bool, array: bool) -> Framing {
    match (is_events, array) {
        (false, true) => Framing::Array,
        _ => Framing::Events,
    }
}

/// Why an answer is not told.
pub(super) enum Withheld {
    /// It is not what was asked for, and may be asked for again.
    Unfit(String),
    Failed(Failure),
}

impl From<StepError> for Withheld {
    fn from(StepError { kind, message }: StepError) -> Self {
        match kind {
            StepErrorKind::Correctable => Self::Unfit(message),
            StepErrorKind::Refused => Self::Failed(Failure::invalid(message).status(422)),
            _ => Self::Failed(Failure::new(Code::Internal, message)),
        }
    }
}

impl From<Failure> for Withheld {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Withheld> for Failure {
    fn from(why: Withheld) -> Self {
        match why {
            Withheld::Unfit(why) => Self::invalid(why).status(422),
            Withheld::Failed(failure) => failure,
        }
    }
}

/// What a model says to its caller in a stream that is at hand.
pub(super) fn said(dialect: DialectId, framing: Framing, most: usize, stream: Bytes) -> String {
    let mut said = Vec::new();
    match framing {
        Framing::Array => {
            let mut framer = ArrayFramer::new(most);
            framer.push(stream);
            while let Ok(Some(raw)) = framer.next_element() {
                said.extend(event_texts(dialect, bare(&raw)));
            }
        }
        _ => {
            let mut framer = sse::Framer::new(most);
            framer.push(stream);
            while let Ok(Some(raw)) = framer.next_event() {
                said.extend(event_texts(dialect, sse::Event::parse(&raw).data()));
            }
        }
    }
    said.concat()
}

/// Restores the events of a stream. After a step's error nothing more of it passes.
pub(crate) struct Restoring {
    events: Events,
    frames: Frames,
    over: bool,
    /// Why nothing more passes, once what passed before it is told.
    stopped: Option<Withheld>,
}

enum Frames {
    Events(sse::Framer),
    /// Whether an element was written.
    Array(ArrayFramer, bool),
}

fn failed(why: &str) -> Failure {
    Failure::new(Code::UpstreamInvalidResponse, format!("the answer cannot be restored: {why}"))
}

impl Restoring {
    pub(super) fn new(events: Events, framing: Framing, most: usize) -> Self {
        let frames = match framing {
            Framing::Array => Frames::Array(ArrayFramer::new(most), false),
            _ => Frames::Events(sse::Framer::new(most)),
        };
        Self { events, frames, over: false, stopped: None }
    }

    /// A stream that is at hand: all of it, or none.
    pub(super) fn whole(&mut self, stream: Bytes) -> Result<Bytes, Withheld> {
        let mut out = self.push(stream);
        if let Some(why) = self.stopped.take() {
            return Err(why);
        }
        self.end(&mut out)?;
        Ok(out.freeze())
    }

    /// What some events become, up to the first that must not pass.
    fn push(&mut self, bytes: Bytes) -> BytesMut {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        self.stopped = self.pass(bytes, &mut out).err();
        BytesMut::from(Bytes::from(out))
    }

    fn pass(&mut self, bytes: Bytes, out: &mut Vec<u8>) -> Result<(), Withheld> {
        match &mut self.frames {
            Frames::Events(framer) => {
                framer.push(bytes);
                while let Some(raw) = framer.next_event().map_err(|error| failed(&error.to_string()))? {
                    self.events.event(&raw, out)?;
                }
            }
            Frames::Array(framer, begun) => {
                framer.push(bytes);
                while let Some(raw) = framer.next_element().map_err(|error| failed(&error.to_string()))? {
                    element(&mut self.events, &raw, begun, out)?;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut BytesMut) -> Result<(), StepError> {
        let mut rest = Vec::new();
        if let Frames::Events(framer) = &mut self.frames {
            if let Some(raw) = framer.finish() {
                self.events.event(&raw, &mut rest)?;
            }
            self.events.end(&mut rest)?;
        }
        out.extend_from_slice(&rest);
        Ok(())
    }

    /// The next piece of a stream that passes by.
    pub(crate) fn poll_next(
        &mut self,
        following: &mut Following,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Piece>> {
        loop {
            if let Some(why) = self.stopped.take() {
                self.over = true;
                return Poll::Ready(Some(Piece::Failed(Arc::new(why.into()))));
            }
            let restored = match ready!(following.poll_next(cx)) {
                // What must not pass does not pass later.
                Some(Piece::Events(_)) if self.over => continue,
                Some(Piece::Events(events)) => Ok(self.push(events)),
                None if !self.over && following.cut().is_none() => {
                    self.over = true;
                    let mut out = BytesMut::new();
                    match self.end(&mut out) {
                        Ok(()) if out.is_empty() => return Poll::Ready(None),
                        ended => ended.map(|()| out),
                    }
                }
                other => return Poll::Ready(other),
            };
            match restored {
                Ok(out) if out.is_empty() => {}
                Ok(out) => return Poll::Ready(Some(Piece::Events(out.freeze()))),
                Err(error) => {
                    self.over = true;
                    let failure = Withheld::from(error).into();
                    return Poll::Ready(Some(Piece::Failed(Arc::new(failure))));
                }
            }
        }
    }
}

/// An element of an array without what stands before it.
fn bare(raw: &[u8]) -> &[u8] {
    let start = memchr::memchr(b'{', raw).unwrap_or(raw.len());
    raw.get(start..).unwrap_or_default()
}

/// One element of an array, or its closing bracket, with what is let go before it.
fn element(events: &mut Events, raw: &[u8], begun: &mut bool, out: &mut Vec<u8>) -> Result<(), StepError> {
    let data = bare(raw);
    let mut write = |data: &[u8]| {
        out.extend_from_slice(if *begun { b",\r\n" } else { b"[" });
        out.extend_from_slice(data);
        *begun = true;
    };
    if data.is_empty() {
        // The end of the array ends every text in it.
        events.data(None, b"", &mut |_, data| write(data.as_bytes()))?;
        out.extend_from_slice(if *begun { b"]" } else { b"[]" });
        return Ok(());
    }
    let changed = events.data(None, data, &mut |_, before| write(before.as_bytes()))?;
    write(changed.as_deref().map_or(data, str::as_bytes));
    Ok(())
}
