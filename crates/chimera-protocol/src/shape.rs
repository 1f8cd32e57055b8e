//! Events that differ from the last one in their text alone.
//!
//! Nearly all events of a stream are the same bytes around another word or two. Whoever has read one of
//! them, and found text and nothing else in it, need not read the next: it is compared, which costs a
//! twentieth. Anything that is not the same to the byte is read as ever.

use std::ops::Range;

use memchr::memmem;

/// Members whose strings are the text of an answer, in all dialects: what they say never changes what
/// kind of event it is.
const TEXTS: [&[u8]; 7] = [
    b"\"content\":\"",
    b"\"text\":\"",
    b"\"thinking\":\"",
    b"\"reasoning_content\":\"",
    b"\"partial_json\":\"",
    b"\"arguments\":\"",
    b"\"refusal\":\"",
];

/// The shape of an event that was read: everything but its text.
#[derive(Debug, Default)]
pub struct Shape {
    event: Vec<u8>,
    text: Range<usize>,
}

impl Shape {
    /// Learns the shape of a whole event, blank line included, that was read and is content and nothing
    /// else: no role, no usage, no end.
    pub fn learn(&mut self, event: &[u8]) {
        self.event.clear();
        let Some(start) = TEXTS.iter().find_map(|name| Some(memmem::find(event, name)? + name.len())) else {
            return;
        };
        let Some(length) = event.get(start..).and_then(string_end) else { return };
        self.event.extend_from_slice(event);
        self.text = start..start + length;
    }

    /// Whether an event is the one that was learnt with another text.
    pub fn fits(&self, event: &[u8]) -> bool {
        let (Some(before), Some(after)) =
            (self.event.get(..self.text.start), self.event.get(self.text.end..))
        else {
            return false;
        };
        let Some(rest) = event.strip_prefix(before).filter(|_| !before.is_empty()) else { return false };
        rest.strip_suffix(after).is_some_and(|text| string_end(rest) == Some(text.len()))
    }
}

/// Where a string ends that begins here; `None` where it does not, or holds what no string may.
fn string_end(bytes: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if *byte < 0x20 => return None,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        dialect::{DialectId, Observed},
        sse::Event,
        stream_watch::StreamWatch,
    };

    fn openai(text: &str) -> String {
        format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    }

    fn anthropic(text: &str) -> String {
        format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n"
        )
    }

    fn learnt(event: &str) -> Shape {
        let mut shape = Shape::default();
        shape.learn(event.as_bytes());
        shape
    }

    #[test]
    fn another_text_fits_and_anything_else_does_not() {
        for of in [openai, anthropic] {
            let shape = learnt(&of("Hello"));
            for text in ["Hello", "", " world", "\\n\\n", "\\\"quoted\\\"", "\\u00e9", "é", "a\\\\", "{}[]:,"]
            {
                assert!(shape.fits(of(text).as_bytes()), "{text}");
            }
            for text in ["a\",\"b\":\"c", "a\\", "a\n", "\",\"finish_reason\":\"stop"] {
                assert!(!shape.fits(of(text).as_bytes()), "{text}");
            }
            let event = of("Hello");
            for at in 0..event.len() {
                assert!(!shape.fits(&event.as_bytes()[..at]), "a part of it");
            }
            assert!(!shape.fits([of("a"), of("b")].concat().as_bytes()), "two of them");
            assert!(!shape.fits(of("a").replace("\"index\":0", "\"index\":1").as_bytes()));
        }
    }

    #[test]
    fn an_event_without_text_has_no_shape() {
        for event in ["", "data: [DONE]\n\n", "data: {\"choices\":[]}\n\n", "data: {\"content\":\"cut"] {
            let shape = learnt(event);
            assert!(!shape.fits(event.as_bytes()), "{event}");
        }
    }

    proptest! {
        /// What fits is read as what it was learnt from: content that ends nothing and costs nothing.
        #[test]
        fn u21_what_fits_is_content_and_nothing_else(text in "[ -~]{0,12}", dialect in 0..2_usize) {
            let (of, dialect): (fn(&str) -> String, _) =
                [(openai as fn(&str) -> String, DialectId::OpenAi), (anthropic, DialectId::Anthropic)][dialect];
            let event = of(&text);
            if learnt(&of("Hello")).fits(event.as_bytes()) {
                let mut watch = StreamWatch::new(dialect);
                let event = Event::parse(event.as_bytes());
                prop_assert_eq!(watch.event(event.event, event.data()), Observed::Content);
                prop_assert!(!watch.may_end_here() && !watch.is_over() && watch.usage().is_none());
            }
        }
    }
}
