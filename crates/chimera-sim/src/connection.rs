//! One served connection, with the two things hyper rightly cannot be asked for:
//! a reset, and bytes outside the framing.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a response body asks of the connection that carries it.
#[derive(Debug, Default)]
pub(crate) struct Control {
    reset: AtomicBool,
    trailing: Mutex<Bytes>,
}

impl Control {
    /// The connection is to end with a reset instead of a close.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Release);
    }

    /// These bytes are to follow what the HTTP layer has written.
    pub(crate) fn trail(&self, bytes: Bytes) {
        *self.trailing.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
    }

    fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Acquire)
    }

    fn take_trailing(&self) -> Bytes {
        std::mem::take(&mut self.trailing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A transport that obeys a [`Control`].
#[derive(Debug)]
pub(crate) struct FaultIo<T> {
    io: T,
    control: Arc<Control>,
    abort: fn(&T),
    trailing: Bytes,
}

impl<T> FaultIo<T> {
    /// `abort` makes the transport end with a reset when it is dropped next.
    pub(crate) fn new(io: T, control: Arc<Control>, abort: fn(&T)) -> Self {
        Self { io, control, abort, trailing: Bytes::new() }
    }
}

impl<T> Drop for FaultIo<T> {
    fn drop(&mut self) {
        if self.control.is_reset() {
            (self.abort)(&self.io);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for FaultIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for FaultIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    /// The HTTP layer flushes when its own buffer is empty, which is where the extra bytes belong.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.trailing.is_empty() {
            this.trailing = this.control.take_trailing();
        }
        while !this.trailing.is_empty() {
            let written = ready!(Pin::new(&mut this.io).poll_write(cx, &this.trailing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.trailing.advance(written);
        }
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.control.is_reset() {
            // A FIN would arrive before the reset and make it look like an orderly close.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
