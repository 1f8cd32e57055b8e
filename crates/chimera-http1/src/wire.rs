//! The pipe of a connection, and the bytes on both sides of it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    body::{BodyError, Feed, RequestBody},
    decoder::Decoder,
    head::{self, Head, Refused},
    outbox::Outbox,
    scratch::{poll_read, with_scratch},
};

/// Bytes that are read ahead of the request being answered. With more, a client's leaving is noticed late.
const MAX_AHEAD: usize = 64 * 1024;
/// Bytes that are read and dropped so that a client gets to read why it was refused.
const MAX_DROPPED: usize = 1 << 20;
/// How a connection of HTTP/2 begins (RFC 9113, section 3.4); the rest of it is for whoever speaks it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

pub(crate) struct Wire<T> {
    /// `None` once it was handed on.
    io: Option<T>,
    /// Read and not yet understood.
    rest: BytesMut,
    /// Bytes of it that were looked at and hold no whole head.
    seen: usize,
    /// Whether no request has come yet.
    is_new: bool,
    /// Where the body of the request being answered ends, and where it goes.
    decoder: Decoder,
    feed: Option<Feed>,
    /// Whether the client waits for leave to send it.
    expects_continue: bool,
    /// Whether the end of what is read has been lost.
    is_lost: bool,
    is_shut: bool,
    dropped: usize,
    pub(crate) outbox: Outbox,
}

/// What came instead of nothing.
#[expect(
    clippy::large_enum_variant,
    reason = "it nearly always is the large one, and is taken apart at once"
)]
pub(crate) enum Came {
    /// A request, and whether another may follow it.
    Request(Request<RequestBody>, bool),
    Refused(StatusCode),
    Http2(Bytes),
    Closed,
}

/// What became of looking after the client while its request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attended {
    /// More of its body was handed over: whoever waits for it is to be asked again.
    Again,
    Waits,
    Left,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    pub(crate) fn new(io: T) -> Self {
        Self {
            io: Some(io),
            rest: BytesMut::new(),
            seen: 0,
            is_new: true,
            decoder: Decoder::Ended,
            feed: None,
            expects_continue: false,
            is_lost: false,
            is_shut: false,
            dropped: 0,
            outbox: Outbox::default(),
        }
    }

    /// Whether nothing of a next request has come.
    pub(crate) fn is_idle(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take_io(&mut self) -> Option<T> {
        self.io.take()
    }

    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        self.feed = None;
        loop {
            if head::may_be_whole(&self.rest, self.seen) {
                let rest = std::mem::take(&mut self.rest);
                if let Some(came) = self.take_head(&rest) {
                    return Poll::Ready(came);
                }
            }
            self.seen = self.rest.len();
            let came = with_scratch(|scratch| {
                let Some(io) = &mut self.io else { return Poll::Ready(Some(Came::Closed)) };
                match ready!(poll_read(io, cx, scratch)) {
                    Ok([]) | Err(_) => Poll::Ready(Some(Came::Closed)),
                    // Nearly always a request comes whole: it is read where it lies.
                    Ok(read) if self.rest.is_empty() => Poll::Ready(self.take_head(read)),
                    Ok(read) => {
                        self.rest.extend_from_slice(read);
                        Poll::Ready(None)
                    }
                }
            });
            if let Some(came) = ready!(came) {
                return Poll::Ready(came);
            }
        }
    }

    /// Takes a request off what was read, and keeps the rest; all of it when it is not whole yet.
    fn take_head(&mut self, bytes: &[u8]) -> Option<Came> {
        if self.is_new && bytes.starts_with(PREFACE) {
            return Some(Came::Http2(Bytes::copy_from_slice(bytes)));
        }
        match head::read(bytes) {
            Ok(None) => {
                self.rest = bytes.into();
                None
            }
            Err(Refused(status)) => {
                self.is_lost = true;
                Some(Came::Refused(status))
            }
            Ok(Some(head)) => {
                self.is_new = false;
                Some(self.begin(head, bytes))
            }
        }
    }

    fn begin(&mut self, head: Head, bytes: &[u8]) -> Came {
        let Head { parts, body, keeps_alive, expects_continue, length } = head;
        let behind = bytes.get(length..).unwrap_or_default();
        let whole = match &body {
            Decoder::Ended => Some(0),
            Decoder::Length(length) => usize::try_from(*length).ok().filter(|length| *length <= behind.len()),
            _ => None,
        };
        let (body, rest) = match whole.and_then(|length| behind.split_at_checked(length)) {
            Some((whole, rest)) => {
                self.decoder = Decoder::Ended;
                (RequestBody::whole(Bytes::copy_from_slice(whole)), rest)
            }
            None => {
                let (feed, coming) = Feed::new(&body);
                (self.decoder, self.feed) = (body, Some(feed));
                self.expects_continue = expects_continue;
                (coming, behind)
            }
        };
        (self.rest, self.seen) = (rest.into(), 0);
        Came::Request(Request::from_parts(parts, body), keeps_alive)
    }

    /// Reads more of the body if somebody wants it; once it is over, notices a client that leaves.
    pub(crate) fn attend(&mut self, cx: &mut Context<'_>) -> Attended {
        if self.decoder.is_ended() || self.is_lost {
            return self.watch(cx);
        }
        loop {
            match &self.feed {
                Some(feed) if feed.is_wanted(cx) => {}
                _ => return Attended::Waits,
            }
            if !self.rest.is_empty() {
                let rest = std::mem::take(&mut self.rest);
                if self.hand_over(&rest, cx) {
                    return Attended::Again;
                }
            }
            if std::mem::take(&mut self.expects_continue) {
                self.outbox.gathered().extend_from_slice(CONTINUE);
            }
            if !self.outbox.is_empty()
                && let Poll::Ready(Err(_)) = self.poll_write(cx)
            {
                return Attended::Left;
            }
            let handed = with_scratch(|scratch| {
                let Some(io) = &mut self.io else { return Poll::Ready(None) };
                match ready!(poll_read(io, cx, scratch)) {
                    Ok([]) | Err(_) => Poll::Ready(None),
                    Ok(read) => Poll::Ready(Some(self.hand_over(read, cx))),
                }
            });
            match handed {
                Poll::Pending => return Attended::Waits,
                Poll::Ready(None) => return Attended::Left,
                Poll::Ready(Some(true)) => return Attended::Again,
                // It was framing alone.
                Poll::Ready(Some(false)) => {}
            }
        }
    }

    /// Decodes what was read and hands the body's part over; false if there was none.
    fn hand_over(&mut self, read: &[u8], cx: &mut Context<'_>) -> bool {
        let mut data = BytesMut::with_capacity(read.len());
        let end = match self.decoder.decode(read, &mut data) {
            Ok(taken) => {
                self.rest.extend_from_slice(read.get(taken..).unwrap_or_default());
                self.decoder.is_ended().then_some(Ok(()))
            }
            Err(_) => {
                self.is_lost = true;
                Some(Err(BodyError::Chunks))
            }
        };
        if data.is_empty() && end.is_none() {
            return false;
        }
        if let Some(feed) = &self.feed {
            feed.push(data.freeze(), end, cx);
        }
        true
    }

    fn watch(&mut self, cx: &mut Context<'_>) -> Attended {
        let Some(io) = &mut self.io else { return Attended::Left };
        let rest = &mut self.rest;
        while rest.len() < MAX_AHEAD {
            let read = with_scratch(|scratch| {
                let read = ready!(poll_read(io, cx, scratch));
                Poll::Ready(read.is_ok_and(|read| {
                    rest.extend_from_slice(read);
                    !read.is_empty()
                }))
            });
            match read {
                Poll::Pending => break,
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Attended::Left,
            }
        }
        Attended::Waits
    }

    /// What nobody will read of the request's body is dropped, as far as it is at hand. Whether the place
    /// of the next request is known.
    pub(crate) fn finish_body(&mut self) -> bool {
        self.expects_continue = false;
        if !self.decoder.is_ended() && !self.is_lost && self.feed.as_ref().is_some_and(Feed::is_unread) {
            let mut dropped = BytesMut::new();
            match self.decoder.decode(&self.rest, &mut dropped) {
                Ok(taken) => self.rest.advance(taken),
                Err(_) => self.is_lost = true,
            }
        }
        self.decoder.is_ended() && !self.decoder.has_skipped() && !self.is_lost
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => self.outbox.poll_write(io, cx),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Writes what is left, says that it was the last, and reads on for as long as the client writes: closed
    /// with bytes unread, a socket is reset, and the client would not get to read the answer.
    pub(crate) fn poll_close(&mut self, lingers: bool, cx: &mut Context<'_>) -> Poll<()> {
        if !self.outbox.is_empty() && ready!(self.poll_write(cx)).is_err() {
            return Poll::Ready(());
        }
        let Some(io) = &mut self.io else { return Poll::Ready(()) };
        if !self.is_shut {
            if ready!(Pin::new(&mut *io).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            self.is_shut = true;
        }
        if !lingers || (self.decoder.is_ended() && !self.is_lost && self.rest.is_empty()) {
            return Poll::Ready(());
        }
        while self.dropped < MAX_DROPPED {
            let read = with_scratch(|scratch| {
                Poll::Ready(ready!(poll_read(io, cx, scratch)).map_or(0, <[u8]>::len))
            });
            match ready!(read) {
                0 => break,
                read => self.dropped += read,
            }
        }
        Poll::Ready(())
    }
}
