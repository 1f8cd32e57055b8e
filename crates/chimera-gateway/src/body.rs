//! The body of an answer to a caller.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use chimera_cache::Subscription;
use chimera_protocol::{DialectId, Fingerprint};
use futures_core::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::{
    books::Books,
    compress::StreamEncoder,
    entry::Form,
    failure::{Code, Failure},
    following::Following,
    load::Piece,
    metrics::RequestOutcome,
    request_id::RequestId,
    respond::error_event,
    transforms::Restoring,
    upstream::Framing,
};

/// A call under way, followed by one caller.
pub(crate) type Follow = Subscription<FlightKey, Piece>;

/// What makes two calls the same: the fingerprint, and the form in which the answer passes.
pub(crate) type FlightKey = (Fingerprint, Form);

/// The body of a response: empty, whole, or a stream of events.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Events(Box<Events>),
    Lines(Box<Lines>),
}

/// Pieces that are at hand one after the other.
struct Lines {
    stream: LineStream,
    books: Option<Books>,
}

/// What brings the pieces of a body that is made piece by piece.
pub type LineStream = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

/// Why a body was cut: the caller sees an aborted transfer, never a proper end.
#[derive(Debug, thiserror::Error)]
#[error("the answer was cut short")]
pub struct Aborted;

struct Events {
    following: Following,
    dialect: DialectId,
    framing: Framing,
    request_id: RequestId,
    books: Option<Books>,
    /// Whether anything of it was passed on.
    begun: bool,
    ending: Ending,
    /// Where the caller and the settings want streams compressed.
    encoder: Option<StreamEncoder>,
    /// Where a pipeline has the answer restored.
    restoring: Option<Box<Restoring>>,
}

/// How a stream comes to its end after a failure: the error event, a moment for it to be flushed, and
/// the abort.
enum Ending {
    No,
    Flush(u8),
    Done,
}

/// Polls granted to the connection to flush the error event before the transfer is aborted.
const FLUSH_POLLS: u8 = 3;

impl Body {
    /// A body at hand.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }

    /// A body that is made piece by piece.
    pub fn lines(stream: LineStream) -> Self {
        Self(Kind::Lines(Box::new(Lines { stream, books: None })))
    }

    /// No body.
    pub fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    pub(crate) fn events(
        following: Following,
        dialect: DialectId,
        framing: Framing,
        request_id: RequestId,
    ) -> Self {
        let events = Events {
            following,
            dialect,
            framing,
            request_id,
            books: None,
            begun: false,
            ending: Ending::No,
            encoder: None,
            restoring: None,
        };
        Self(Kind::Events(Box::new(events)))
    }

    /// Compresses a stream as it passes.
    pub(crate) fn encode(&mut self, encoder: StreamEncoder) {
        if let Kind::Events(events) = &mut self.0 {
            events.encoder = Some(encoder);
        }
    }

    /// Restores a stream as it passes, before it is compressed.
    pub(crate) fn restore(&mut self, restoring: Restoring) {
        if let Kind::Events(events) = &mut self.0 {
            events.restoring = Some(Box::new(restoring));
        }
    }

    /// Takes the whole body out, when it is at hand.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Kind::Whole(bytes) => Some(bytes.take().unwrap_or_default()),
            Kind::Events(_) | Kind::Lines(_) => None,
        }
    }

    /// Takes all of a stream out, once it has ended; `None` when the body is none. What is longer than it
    /// may be is a failure, as is what ends too early.
    pub(crate) async fn take_stream(&mut self, most: usize) -> Result<Option<Bytes>, Failure> {
        let Kind::Events(events) = &mut self.0 else { return Ok(None) };
        let mut all = BytesMut::new();
        loop {
            match std::future::poll_fn(|cx| events.following.poll_next(cx)).await {
                Some(Piece::Events(more)) if all.len() + more.len() > most => {
                    let why = "the answer is longer than what is held back of a stream";
                    return Err(Failure::new(Code::UpstreamInvalidResponse, why));
                }
                Some(Piece::Events(more)) => all.extend_from_slice(&more),
                Some(Piece::Failed(failure)) => return Err(Failure::clone(&failure)),
                Some(Piece::Head(_) | Piece::Answer(_) | Piece::Stored(_)) | None => {
                    return events.following.cut().map_or_else(|| Ok(Some(all.freeze())), Err);
                }
            }
        }
    }

    /// The whole body, when it is at hand.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match &self.0 {
            Kind::Whole(bytes) => Some(bytes.as_deref().unwrap_or_default()),
            Kind::Events(_) | Kind::Lines(_) => None,
        }
    }

    /// Keeps a request's books open until its stream ends.
    pub(crate) fn attach(&mut self, books: Books) {
        match &mut self.0 {
            Kind::Events(events) => events.books = Some(books),
            Kind::Lines(lines) => lines.books = Some(books),
            Kind::Whole(_) => {}
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Lines(lines) => {
                let polled = lines.stream.as_mut().poll_next(cx);
                if polled.is_pending()
                    && let Some(revoked) = lines.books.as_mut().and_then(Books::revoked)
                    && let Some(mut books) = lines.books.take()
                {
                    books.cut(&revoked);
                    return Poll::Ready(Some(Err(Aborted)));
                }
                let line = ready!(polled);
                if line.is_none()
                    && let Some(mut books) = lines.books.take()
                {
                    books.ended(RequestOutcome::Success);
                }
                Poll::Ready(line.map(|line| Ok(Frame::data(line))))
            }
            Kind::Events(events) => {
                // After a panic the stream is over and is not polled again, so nothing sees it half-done.
                let polled = catch_unwind(AssertUnwindSafe(|| events.poll_data(cx)));
                let data = ready!(polled.unwrap_or_else(|_| Poll::Ready(events.panicked())));
                Poll::Ready(events.encoded(data).map(|data| data.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Kind::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Events(_) | Kind::Lines(_) => SizeHint::default(),
        }
    }
}

impl Events {
    /// A fault of ours ends this stream and nothing else. What was passed on of it are whole events, so its
    /// caller is told.
    fn panicked(&mut self) -> Option<Result<Bytes, Aborted>> {
        if let Some(books) = &mut self.books {
            books.panicked();
        }
        Some(Ok(self.failed(&Failure::new(Code::Internal, "the gateway failed on this stream"))))
    }

    /// The event that tells of a failure, before the transfer is aborted.
    fn failed(&mut self, failure: &Failure) -> Bytes {
        self.ending = Ending::Flush(FLUSH_POLLS);
        error_event(self.dialect, self.framing, self.begun, failure, &self.request_id)
    }

    fn cut(&mut self, failure: &Failure) {
        if let Some(books) = &mut self.books {
            books.cut(failure);
        }
    }

    /// Puts data into the caller's encoding; after the last, what ends the encoded stream.
    fn encoded(&mut self, data: Option<Result<Bytes, Aborted>>) -> Option<Result<Bytes, Aborted>> {
        let Some(encoder) = &mut self.encoder else { return data };
        match data {
            Some(Ok(data)) => Some(encoder.push(&data).map_err(|_| Aborted)),
            Some(Err(aborted)) => Some(Err(aborted)),
            None => self.encoder.take().map(|encoder| encoder.finish().map_err(|_| Aborted)),
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        match &mut self.ending {
            Ending::No => {}
            Ending::Flush(0) => {
                self.ending = Ending::Done;
                return Poll::Ready(Some(Err(Aborted)));
            }
            Ending::Flush(left) => {
                *left -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Ending::Done => return Poll::Ready(None),
        }
        let polled = match &mut self.restoring {
            None => self.following.poll_next(cx),
            Some(restoring) => restoring.poll_next(&mut self.following, cx),
        };
        let piece = match polled {
            // Who was left behind is told of it: what was passed on are whole events.
            Poll::Ready(piece) => piece.or_else(|| Some(Piece::Failed(Arc::new(self.following.cut()?)))),
            Poll::Pending => match self.books.as_mut().and_then(Books::cut_short) {
                Some(failure) => Some(Piece::Failed(Arc::new(failure))),
                None => return Poll::Pending,
            },
        };
        match piece {
            Some(Piece::Events(events)) => {
                self.begun = true;
                Poll::Ready(Some(Ok(events)))
            }
            Some(Piece::Failed(failure)) => {
                self.cut(&failure);
                if failure.is_told {
                    self.ending = Ending::Flush(FLUSH_POLLS);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(self.failed(&failure))))
            }
            Some(Piece::Head(_) | Piece::Answer(_) | Piece::Stored(_)) | None => {
                if let Some(books) = &mut self.books {
                    books.ended(RequestOutcome::Success);
                }
                self.ending = Ending::Done;
                Poll::Ready(None)
            }
        }
    }
}
