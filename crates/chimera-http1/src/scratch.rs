//! Memory that all connections of a thread share: one that waits holds none for what may come.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::HeaderMap;
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes read at once.
const READ: usize = 64 * 1024;
/// What is kept for the next answer: larger ones are given back.
const KEPT: usize = 64 * 1024;

thread_local! {
    static READING: Cell<Box<[u8]>> = Cell::default();
    static WRITING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static HEADERS: Cell<HeaderMap> = Cell::default();
}

/// Lends the thread's buffer for reading, 64 KiB.
pub fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    // Taken out, not borrowed: a pipe may be anything, also something that reads in turn.
    let mut scratch = READING.take();
    if scratch.is_empty() {
        scratch = vec![0; READ].into();
    }
    let result = work(&mut scratch);
    READING.set(scratch);
    result
}

/// What one read brings; nothing at the end.
pub fn poll_read<'a, T: AsyncRead + Unpin>(
    io: &mut T,
    cx: &mut Context<'_>,
    scratch: &'a mut [u8],
) -> Poll<io::Result<&'a [u8]>> {
    let mut buffer = ReadBuf::new(scratch);
    let read = ready!(Pin::new(io).poll_read(cx, &mut buffer));
    let length = buffer.filled().len();
    Poll::Ready(read.map(|()| scratch.get(..length).unwrap_or_default()))
}

/// An empty buffer to write into; give it back with [`give_back`].
pub(crate) fn take_buffer() -> Vec<u8> {
    WRITING.take()
}

pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT {
        buffer.clear();
        WRITING.set(buffer);
    }
}

/// An empty map with room.
pub(crate) fn take_headers() -> HeaderMap {
    HEADERS.take()
}

pub(crate) fn give_back_headers(mut headers: HeaderMap) {
    if headers.capacity() <= 128 {
        headers.clear();
        HEADERS.set(headers);
    }
}
