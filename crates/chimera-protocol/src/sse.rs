//! Server-sent events, read byte by byte as the WHATWG standard says.
//!
//! A [`Framer`] finds where events end and hands them on whole and untouched; an [`Event`] reads one.
//! However the bytes are cut, the same events come out.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

/// A stream that is not one of server-sent events that can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SseError {
    /// An event does not end within the limit.
    #[error("an event is larger than {limit} bytes")]
    EventTooLarge {
        /// The limit.
        limit: usize,
    },
}

/// Splits a byte stream into whole events, each with the blank line that ends it.
#[derive(Debug)]
pub struct Framer {
    pending: Bytes,
    /// Bytes of `pending` already searched, and where the line being searched begins.
    searched: usize,
    line: usize,
    limit: usize,
}

impl Framer {
    /// A framer for events of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { pending: Bytes::new(), searched: 0, line: 0, limit }
    }

    /// Adds bytes. What is whole should be taken out before more is added; an unfinished rest is
    /// copied once.
    pub fn push(&mut self, bytes: Bytes) {
        if self.pending.is_empty() {
            self.pending = bytes;
        } else if !bytes.is_empty() {
            let mut joined = BytesMut::with_capacity(self.pending.len() + bytes.len());
            joined.extend_from_slice(&self.pending);
            joined.extend_from_slice(&bytes);
            self.pending = joined.freeze();
        }
    }

    /// The next whole event, a slice of the bytes that were pushed.
    pub fn next_event(&mut self) -> Result<Option<Bytes>, SseError> {
        while let Some(at) = find_line_end(&self.pending, self.searched) {
            let is_cr = self.pending.get(at) == Some(&b'\r');
            let after = match self.pending.get(at + 1) {
                Some(b'\n') if is_cr => at + 2,
                // The line feed of the pair may still be on its way.
                None if is_cr => {
                    self.searched = at;
                    break;
                }
                _ => at + 1,
            };
            let blank = at == self.line;
            (self.searched, self.line) = (after, after);
            if blank {
                (self.searched, self.line) = (0, 0);
                return Ok(Some(self.pending.split_to(after)));
            }
        }
        if self.pending.len() > self.limit {
            return Err(SseError::EventTooLarge { limit: self.limit });
        }
        self.searched = match find_line_end(&self.pending, self.searched) {
            Some(at) => at,
            None => self.pending.len(),
        };
        Ok(None)
    }

    /// What is left at the end of the stream: an event if its blank line ended with a lone carriage
    /// return, else an unfinished one, which the standard says to drop.
    pub fn finish(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(&mut self.pending);
        let ends = rest.len() == self.line + 1 && rest.last() == Some(&b'\r');
        (self.searched, self.line) = (0, 0);
        ends.then_some(rest)
    }

    /// Bytes held of an unfinished event.
    pub fn unfinished(&self) -> usize {
        self.pending.len()
    }
}

fn find_line_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr2(b'\n', b'\r', bytes.get(from..)?).map(|at| from + at)
}

/// One event, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event<'a> {
    /// Its name, if it has one.
    pub event: Option<&'a [u8]>,
    /// Its data; lines are joined by line feeds. `None` if there is no data line.
    pub data: Option<Cow<'a, [u8]>>,
    /// Its id, if it has one.
    pub id: Option<&'a [u8]>,
}

impl<'a> Event<'a> {
    /// Reads a whole event as a [`Framer`] yields it.
    pub fn parse(raw: &'a [u8]) -> Self {
        let mut event = Self::default();
        let mut rest = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
        while !rest.is_empty() {
            let at = find_line_end(rest, 0).unwrap_or(rest.len());
            let (line, after) = rest.split_at(at);
            rest = after.strip_prefix(b"\r\n").or(after.get(1..)).unwrap_or_default();
            event.line(line);
        }
        event
    }

    /// The data, empty if there is none.
    pub fn data(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }

    fn line(&mut self, line: &'a [u8]) {
        let (name, value) = match memchr::memchr(b':', line) {
            // A comment.
            Some(0) => return,
            Some(at) => {
                let (name, value) = line.split_at(at);
                let value = value.get(1..).unwrap_or_default();
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match name {
            b"data" => match &mut self.data {
                None => self.data = Some(Cow::Borrowed(value)),
                Some(data) => {
                    let data = data.to_mut();
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
            },
            b"event" => self.event = Some(value),
            b"id" if !value.contains(&0) => self.id = Some(value),
            _ => {}
        }
    }
}

/// Every whole event of a finished stream, read.
pub(crate) fn events(stream: &[u8]) -> Vec<Event<'_>> {
    let mut events = Vec::new();
    let mut framer = Framer::new(usize::MAX);
    framer.push(Bytes::copy_from_slice(stream));
    let mut at = 0;
    while let Ok(Some(raw)) = framer.next_event() {
        let end = at + raw.len();
        events.push(Event::parse(stream.get(at..end).unwrap_or_default()));
        at = end;
    }
    if let Some(raw) = framer.finish() {
        events.push(Event::parse(stream.get(at..at + raw.len()).unwrap_or_default()));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut framer = Framer::new(1 << 20);
        let mut out = Vec::new();
        for piece in pieces {
            framer.push(Bytes::copy_from_slice(piece));
            while let Some(event) = framer.next_event().unwrap() {
                out.push(event.to_vec());
            }
        }
        out.extend(framer.finish().map(|event| event.to_vec()));
        out
    }

    #[test]
    fn u21_every_split_gives_the_same_events() {
        let streams: [&[u8]; 6] = [
            b"data: a\n\ndata: b\n\n",
            b"\xef\xbb\xbfdata:x\r\n\r\nevent: e\r\ndata: y\r\n\r\n",
            b"data: a\rdata: b\r\rdata: c\r\r",
            b": comment\n\nid: 1\ndata\n\ndata: unfinished",
            b"\n\ndata: \xe2\x82\xac\n\n",
            b"data: a\r\n\ndata: b\n\r\n",
        ];
        for stream in streams {
            let whole = framed(&[stream]);
            for one in 0..=stream.len() {
                for two in one..=stream.len() {
                    let pieces = [&stream[..one], &stream[one..two], &stream[two..]];
                    assert_eq!(framed(&pieces), whole, "{one} {two}");
                }
            }
        }
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        let event = Event::parse(b"\xef\xbb\xbfevent:e\ndata:x\ndata:  y\n:c\nid: 7\nretry: 5\nunknown\n\n");
        assert_eq!(event.event, Some(&b"e"[..]));
        assert_eq!(event.data(), b"x\n y");
        assert_eq!(event.id, Some(&b"7"[..]));
        assert_eq!(Event::parse(b": ping\n\n").data, None);
        assert_eq!(Event::parse(b"data\n\n").data(), b"");
    }

    #[test]
    fn u23_an_event_over_the_cap_is_an_error() {
        let mut framer = Framer::new(64);
        framer.push(Bytes::from(vec![b'x'; 65]));
        assert_eq!(framer.next_event(), Err(SseError::EventTooLarge { limit: 64 }));
        let mut framer = Framer::new(64);
        framer.push(Bytes::from_static(b"data: short\n\n"));
        assert!(framer.next_event().unwrap().is_some());
        assert_eq!(framer.next_event(), Ok(None));
    }

    #[test]
    fn u22_bytes_that_are_not_utf_8_pass_through() {
        let stream = b"data: \xff\xfe\n\n";
        assert_eq!(framed(&[stream]), [stream.to_vec()]);
        assert_eq!(Event::parse(stream).data(), b"\xff\xfe");
    }
}
