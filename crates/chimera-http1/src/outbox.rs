//! What is on its way to the client.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use crate::scratch;

/// Pieces up to so many bytes are gathered; larger ones go out from where they lie.
const SMALL: usize = 8 * 1024;
/// More than this is not gathered before it is written.
const ENOUGH: usize = 16 * 1024;

/// Bytes to be written: those gathered, a large piece behind them, and what closes that.
#[derive(Default)]
pub(crate) struct Outbox {
    gathered: Vec<u8>,
    large: Bytes,
    /// The end of the chunk that the large piece is.
    behind: &'static [u8],
    sent: usize,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.large.is_empty()
    }

    /// Whether it should be written before more is put in.
    pub(crate) fn has_enough(&self) -> bool {
        self.gathered.len() >= ENOUGH || !self.large.is_empty()
    }

    /// Where small things are gathered.
    pub(crate) fn gathered(&mut self) -> &mut Vec<u8> {
        if self.gathered.capacity() == 0 {
            self.gathered = scratch::take_buffer();
        }
        &mut self.gathered
    }

    /// Puts in a piece of a body as it is.
    pub(crate) fn plain(&mut self, piece: Bytes) {
        self.piece(piece, b"");
    }

    /// Puts in a piece as a chunk.
    pub(crate) fn chunk(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        hex(piece.len(), self.gathered());
        self.gathered().extend_from_slice(b"\r\n");
        self.piece(piece, b"\r\n");
    }

    fn piece(&mut self, piece: Bytes, behind: &'static [u8]) {
        if piece.len() <= SMALL {
            self.gathered().extend_from_slice(&piece);
            self.gathered().extend_from_slice(behind);
        } else {
            (self.large, self.behind) = (piece, behind);
        }
    }

    /// Writes until all is written.
    pub(crate) fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let polled = self.poll_some(io, cx);
            let taken = match polled {
                Poll::Ready(taken) => taken?,
                Poll::Pending => {
                    self.settle();
                    return Poll::Pending;
                }
            };
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += taken;
            if self.sent == self.gathered.len() + self.large.len() + self.behind.len() {
                scratch::give_back(std::mem::take(&mut self.gathered));
                (self.large, self.behind, self.sent) = (Bytes::new(), b"", 0);
            }
        }
        Pin::new(io).poll_flush(cx)
    }

    fn poll_some<T: AsyncWrite + Unpin>(&self, io: &mut T, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let gathered = self.gathered.get(self.sent..).unwrap_or_default();
        if self.large.is_empty() {
            return Pin::new(io).poll_write(cx, gathered);
        }
        let after = self.sent.saturating_sub(self.gathered.len());
        let large = self.large.get(after..).unwrap_or_default();
        let behind = self.behind.get(after.saturating_sub(self.large.len())..).unwrap_or_default();
        let slices = [IoSlice::new(gathered), IoSlice::new(large), IoSlice::new(behind)];
        // A pipe that takes one slice at a time takes the first: it must not be an empty one.
        let empty = slices.iter().take_while(|slice| slice.is_empty()).count();
        Pin::new(io).poll_write_vectored(cx, slices.get(empty..).unwrap_or_default())
    }

    /// The client does not read: the thread's buffer is needed elsewhere, so what is left gets memory of
    /// its own.
    fn settle(&mut self) {
        let left = self.gathered.get(self.sent..).unwrap_or_default();
        if self.gathered.capacity() > left.len() * 2 {
            let (own, gone) = (left.to_vec(), self.gathered.len() - left.len());
            scratch::give_back(std::mem::replace(&mut self.gathered, own));
            self.sent -= gone;
        }
    }
}

/// Appends a number in hex digits.
fn hex(number: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        let digit = (number >> (place * 4)) & 0xf;
        out.push(*b"0123456789abcdef".get(digit).unwrap_or(&b'0'));
    }
}

/// What ends a body in chunks.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_in_hex() {
        for number in [1, 9, 10, 15, 16, 255, 256, 4095, 65_536, usize::MAX] {
            let mut out = Vec::new();
            hex(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{number:x}"));
        }
    }

    /// Takes `most` bytes at a time.
    struct Narrow(Vec<u8>, usize);

    impl AsyncWrite for Narrow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn whatever_a_write_takes_every_byte_leaves_once_and_in_order() {
        let large = Bytes::from((0..20_000_u32).map(|n| n as u8).collect::<Vec<_>>());
        for most in [1, 7, 4096, 20_003, usize::MAX] {
            let mut io = Narrow(Vec::new(), most);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut outbox = Outbox::default();
            outbox.gathered().extend_from_slice(b"head|");
            outbox.chunk(Bytes::from_static(b"small"));
            outbox.chunk(Bytes::new());
            assert!(!outbox.has_enough());
            outbox.chunk(large.clone());
            assert!(outbox.has_enough());
            assert!(outbox.poll_write(&mut io, &mut cx).is_ready() && outbox.is_empty());
            outbox.plain(Bytes::from_static(b"plain"));
            assert!(outbox.poll_write(&mut io, &mut cx).is_ready() && outbox.is_empty());
            let wanted = [b"head|5\r\nsmall\r\n4e20\r\n", &large[..], b"\r\nplain"].concat();
            assert!(io.0 == wanted, "{most}");
        }
    }
}
