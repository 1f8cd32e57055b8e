//! Gemini's stream without `alt=sse`: a JSON array that is written element by element.

use bytes::{Bytes, BytesMut};

use crate::sse::SseError;

/// Splits such a stream into its elements, each with the bracket or comma before it.
#[derive(Debug)]
pub struct ArrayFramer {
    pending: Bytes,
    at: usize,
    depth: u32,
    in_string: bool,
    escaped: bool,
    limit: usize,
}

impl ArrayFramer {
    /// A framer for elements of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { pending: Bytes::new(), at: 0, depth: 0, in_string: false, escaped: false, limit }
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: Bytes) {
        if self.pending.is_empty() {
            self.pending = bytes;
        } else {
            let mut joined = BytesMut::with_capacity(self.pending.len() + bytes.len());
            joined.extend_from_slice(&self.pending);
            joined.extend_from_slice(&bytes);
            self.pending = joined.freeze();
        }
    }

    /// The next element, or the closing bracket with which the stream ends.
    pub fn next_element(&mut self) -> Result<Option<Bytes>, SseError> {
        while let Some(byte) = self.pending.get(self.at) {
            self.at += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'[' | b'{' => self.depth = self.depth.saturating_add(1),
                b']' | b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    // An element has ended, or the array itself.
                    if self.depth <= 1 {
                        let end = std::mem::take(&mut self.at);
                        return Ok(Some(self.pending.split_to(end)));
                    }
                }
                _ => {}
            }
        }
        if self.pending.len() > self.limit {
            return Err(SseError::EventTooLarge { limit: self.limit });
        }
        Ok(None)
    }

    /// The element without what separates it from the one before; empty for the closing bracket.
    pub fn element(raw: &[u8]) -> &[u8] {
        let start = raw.iter().position(|byte| *byte == b'{').unwrap_or(raw.len());
        raw.get(start..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_gives_the_same_elements() {
        let stream = br#"[{"a":"]}\"{"}
,
{"b":[1,{"c":2}]}]"#;
        let framed = |cut: usize| {
            let mut framer = ArrayFramer::new(1 << 20);
            let mut out = Vec::new();
            for piece in [&stream[..cut], &stream[cut..]] {
                framer.push(Bytes::copy_from_slice(piece));
                while let Some(element) = framer.next_element().unwrap() {
                    out.push(element);
                }
            }
            out
        };
        let whole = framed(0);
        assert_eq!(whole.len(), 3);
        assert_eq!(whole.concat(), stream);
        assert_eq!(ArrayFramer::element(&whole[1]), br#"{"b":[1,{"c":2}]}"#);
        assert_eq!(ArrayFramer::element(&whole[2]), b"");
        for cut in 0..=stream.len() {
            assert_eq!(framed(cut), whole, "{cut}");
        }
    }

    #[test]
    fn u23_an_element_over_the_cap_is_an_error() {
        let mut framer = ArrayFramer::new(8);
        framer.push(Bytes::from_static(b"[{\"a\":\"aaaaaaaaaaaa"));
        assert!(framer.next_element().is_err());
    }
}
