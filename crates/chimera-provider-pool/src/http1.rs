//! One HTTP/1.1 connection to a provider, driven by the request that uses it.
//!
//! The usual client has a task per connection: each piece of an answer then costs a task switch, a
//! channel and a wake, and a caller that leaves must reach another task to stop it. Here the connection
//! is a value. Whoever is polled reads the socket and passes on what one read brought; dropping the
//! value closes the socket on the spot. What a client needs of HTTP/1.1 is small (one request at a time,
//! its answer, nothing pipelined), so the codec is here too: `head.rs`, strict, and without I/O. Where a body ends is
//! decided by the same decoder as on the server's side.

mod head;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, StatusCode, response};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::Instant,
};

use chimera_http1::{ChunkError, Decoder, poll_read, with_scratch};

use crate::connect::Transport;

/// Bytes of one answer passed on in one piece at most; what is ready beyond it follows in the next.
const MAX_PIECE: usize = 64 * 1024;

/// What can go wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The provider closed it.
    #[error("the provider closed the connection before its answer was complete")]
    Closed,
    /// The head of the answer cannot be read.
    #[error("the head of the provider's answer is not valid: {0}")]
    Head(&'static str),
    /// The chunks of the answer cannot be read.
    #[error("the provider's answer is not validly chunked")]
    Chunk(#[from] ChunkError),
}

/// A request that was not answered.
#[derive(Debug)]
pub(crate) struct Unanswered<E> {
    /// Whether no byte of the request left.
    pub(crate) unsent: bool,
    pub(crate) error: E,
}

/// One exclusive HTTP/1.1 connection.
pub(crate) struct Http1 {
    io: Transport,
    /// Read and not yet understood: the beginning of a head, or of the body behind it.
    rest: BytesMut,
    body: Decoder,
    /// What was met behind data that had to be passed on first.
    fault: Option<Fault>,
    /// Whether another request may follow the answer.
    reusable: bool,
    /// What is left of a request whose answer has begun; it is sent while that is read.
    unsent: Option<Box<Outbox>>,
    pub(crate) idle_since: Instant,
    _open: OwnedSemaphorePermit,
}

impl Http1 {
    pub(crate) fn new(io: Transport, open: OwnedSemaphorePermit) -> Self {
        Self {
            io,
            rest: BytesMut::new(),
            body: Decoder::Ended,
            fault: None,
            reusable: true,
            unsent: None,
            idle_since: Instant::now(),
            _open: open,
        }
    }

    /// Whether its answer has ended cleanly, so that it may be kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.reusable && self.body.is_ended() && self.rest.is_empty()
    }

    /// Looks whether an idle connection is still good: not closed by the provider, and nothing unasked
    /// for has arrived on it.
    pub(crate) fn is_usable(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        self.is_clean()
            && Pin::new(&mut self.io).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
    }

    /// Sends a request and reads the head of its answer. Dropping the future ends both: the connection
    /// must not be used again then.
    pub(crate) async fn send(
        &mut self,
        request: Request<Bytes>,
        host: &HeaderValue,
        credential: Option<(&HeaderName, &HeaderValue)>,
    ) -> Result<response::Parts, Unanswered<Fault>> {
        let (parts, body) = request.into_parts();
        let head = head::write(&parts, host, credential, body.len());
        let mut outbox = Outbox { head, body, sent: 0, is_gone: false };
        // Until the answer has ended nobody else may use it.
        self.body = Decoder::UntilClose;
        self.reusable = true;
        let answered = std::future::poll_fn(|cx| self.poll_exchange(&mut outbox, cx)).await;
        let answer = answered.map_err(|error| Unanswered { unsent: outbox.sent == 0, error })?;
        // One that refuses wants no more of it; one that accepts may begin before it has read all.
        if !outbox.is_gone && answer.status.is_success() {
            self.unsent = Some(Box::new(outbox));
        }
        Ok(answer)
    }

    /// Writes what can be written and reads until a head is there. A provider may answer before it has
    /// read everything, and refuse the rest by closing: its answer counts more than the failed write.
    fn poll_exchange(
        &mut self,
        outbox: &mut Outbox,
        cx: &mut Context<'_>,
    ) -> Poll<Result<response::Parts, Fault>> {
        let written = match outbox.poll_send(&mut self.io, cx) {
            Poll::Ready(Err(error)) if outbox.sent == 0 => return Poll::Ready(Err(error.into())),
            Poll::Ready(Err(error)) => Some(error),
            Poll::Ready(Ok(())) | Poll::Pending => None,
        };
        match self.poll_head(cx) {
            Poll::Ready(Ok(parts)) => {
                self.reusable &= outbox.is_gone;
                Poll::Ready(Ok(parts))
            }
            Poll::Ready(Err(fault)) => Poll::Ready(Err(written.map_or(fault, Fault::Io))),
            Poll::Pending if written.is_some() => {
                // Writing has failed for good and nothing has come: there is nothing to wait for but
                // what the provider said before it closed, which would be here.
                Poll::Ready(Err(written.map_or(Fault::Closed, Fault::Io)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<response::Parts, Fault>> {
        loop {
            let read = with_scratch(|scratch| {
                let read = ready!(poll_read(&mut self.io, cx, scratch));
                Poll::Ready(read.map_err(Fault::Io).and_then(|read| match read {
                    [] => Err(Fault::Closed),
                    // Nearly always the head comes whole: it is read where it lies.
                    read if self.rest.is_empty() => take_head(read),
                    read => {
                        self.rest.extend_from_slice(read);
                        take_head(&std::mem::take(&mut self.rest))
                    }
                }))
            });
            match ready!(read)? {
                Taken::All(head, rest) => {
                    (self.body, self.rest) = (head.body, rest);
                    self.reusable = head.keeps_alive;
                    return Poll::Ready(Ok(head.parts));
                }
                Taken::More(rest) => self.rest = rest,
            }
        }
    }

    /// Everything of the body that is ready, in one piece, up to 64 KiB; `None` at its end. What came
    /// before a fault is passed on before it.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        // Whether that fails will be seen by what is read.
        if self.unsent.as_mut().is_some_and(|unsent| unsent.poll_send(&mut self.io, cx).is_ready()) {
            self.unsent = None;
        }
        let mut piece = BytesMut::new();
        if !self.rest.is_empty() {
            piece = self.first_piece();
        }
        while piece.len() < MAX_PIECE && self.fault.is_none() && !self.body.is_ended() {
            let Self { io, body, fault, reusable, .. } = self;
            let polled = with_scratch(|scratch| {
                match ready!(poll_read(io, cx, scratch)) {
                    Ok([]) if *body == Decoder::UntilClose => *body = Decoder::Ended,
                    Ok([]) => *fault = Some(Fault::Closed),
                    Ok(read) => {
                        piece.reserve(read.len());
                        decode(body, read, &mut piece, fault, reusable);
                    }
                    Err(error) => *fault = Some(error.into()),
                }
                Poll::Ready(())
            });
            if polled.is_pending() {
                break;
            }
        }
        if !piece.is_empty() {
            // A whole answer may be kept for hours: it holds no more than it needs.
            let spare = piece.capacity() - piece.len();
            let is_exact = !self.body.is_ended() || spare <= piece.len() / 8;
            return Poll::Ready(Some(Ok(match is_exact {
                true => piece.freeze(),
                false => Bytes::copy_from_slice(&piece),
            })));
        }
        if let Some(fault) = self.fault.take() {
            self.reusable = false;
            return Poll::Ready(Some(Err(fault)));
        }
        if self.body.is_ended() { Poll::Ready(None) } else { Poll::Pending }
    }

    /// What came with the head. Where that is just the body, or a part of it, it is passed on as it is.
    fn first_piece(&mut self) -> BytesMut {
        let rest = std::mem::take(&mut self.rest);
        if let Decoder::Length(left) = &mut self.body
            && let Some(after) = left.checked_sub(rest.len() as u64)
        {
            self.body = Decoder::length(after);
            return rest;
        }
        let mut piece = BytesMut::with_capacity(rest.len());
        decode(&mut self.body, &rest, &mut piece, &mut self.fault, &mut self.reusable);
        piece
    }
}

/// Decodes what was read. Bytes behind the body's end, which nobody asked for, cost the connection.
fn decode(
    body: &mut Decoder,
    read: &[u8],
    piece: &mut BytesMut,
    fault: &mut Option<Fault>,
    reusable: &mut bool,
) {
    match body.decode(read, piece) {
        Ok(taken) => *reusable &= taken == read.len(),
        Err(error) => *fault = Some(error.into()),
    }
}

enum Taken {
    /// A head, and what came behind it.
    All(head::Head, BytesMut),
    /// What has come of one.
    More(BytesMut),
}

/// Takes the head off what was read; informational ones are skipped (RFC 9110, section 15.2).
fn take_head(mut bytes: &[u8]) -> Result<Taken, Fault> {
    loop {
        let Some(head) = head::read(bytes)? else { return Ok(Taken::More(bytes.into())) };
        bytes = bytes.get(head.length..).unwrap_or_default();
        let status = head.parts.status;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Taken::All(head, bytes.into()));
        }
        if bytes.is_empty() {
            return Ok(Taken::More(BytesMut::new()));
        }
    }
}

/// A request on its way out.
struct Outbox {
    head: Vec<u8>,
    body: Bytes,
    /// Bytes of both that the socket took.
    sent: usize,
    /// Whether it took them all, and holds none of them back.
    is_gone: bool,
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.sent == self.head.len() + self.body.len()
    }

    fn poll_send(&mut self, io: &mut Transport, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_gone {
            return Poll::Ready(Ok(()));
        }
        while !self.is_empty() {
            let head = self.head.get(self.sent..).unwrap_or_default();
            let body = self.body.get(self.sent.saturating_sub(self.head.len())..).unwrap_or_default();
            let slices = [io::IoSlice::new(head), io::IoSlice::new(body)];
            let slices = if head.is_empty() { &slices[1..] } else { &slices[..] };
            match ready!(Pin::new(&mut *io).poll_write_vectored(cx, slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                taken => self.sent += taken,
            }
        }
        // TLS may hold some of it back.
        ready!(Pin::new(io).poll_flush(cx))?;
        self.is_gone = true;
        Poll::Ready(Ok(()))
    }
}
