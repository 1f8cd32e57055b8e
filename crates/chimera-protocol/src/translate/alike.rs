//! Events that differ from the last one in their text alone, and what they become.
//!
//! Nearly all events of a stream are the same bytes around another word or two, and so is what they are
//! translated into. Once one of them was read and written, the next that is like it needs neither: its
//! text is put between what stood around the last one.

use std::ops::Range;

use bytes::BytesMut;

/// A spelling that stands in for a text: no JSON string can hold it.
pub(crate) const MARK: &str = "\u{1}text\u{1}";

/// What stands around the text, in an event and in its translation. Empty when nothing is known.
#[derive(Debug, Default)]
pub(crate) struct Alike {
    before: Vec<u8>,
    after: Vec<u8>,
    out_before: Vec<u8>,
    out_after: Vec<u8>,
}

impl Alike {
    /// Whether an event's data is the learnt one with another text. If so, its translation is appended.
    pub(crate) fn translate(&self, data: &[u8], out: &mut BytesMut) -> bool {
        let Some(text) = self.text_of(data) else { return false };
        if !is_plain(text) {
            return false;
        }
        out.extend_from_slice(&self.out_before);
        out.extend_from_slice(text);
        out.extend_from_slice(&self.out_after);
        true
    }

    /// Whether nothing new is to be learnt of this event.
    pub(crate) fn knows(&self, data: &[u8]) -> bool {
        self.text_of(data).is_some()
    }

    /// Learns of an event that brought this text and nothing else. `marked` is what it became, with the
    /// mark in place of the text.
    pub(crate) fn learn(&mut self, data: &[u8], text: &Range<usize>, marked: &[u8]) {
        self.forget();
        let Some(at) = memchr::memmem::find(marked, MARK.as_bytes()) else { return };
        self.before.extend_from_slice(data.get(..text.start).unwrap_or_default());
        self.after.extend_from_slice(data.get(text.end..).unwrap_or_default());
        self.out_before.extend_from_slice(marked.get(..at).unwrap_or_default());
        self.out_after.extend_from_slice(marked.get(at + MARK.len()..).unwrap_or_default());
    }

    /// Something else has happened: what was learnt need not hold any more.
    pub(crate) fn forget(&mut self) {
        for part in [&mut self.before, &mut self.after, &mut self.out_before, &mut self.out_after] {
            part.clear();
        }
    }

    fn text_of<'d>(&self, data: &'d [u8]) -> Option<&'d [u8]> {
        if self.before.is_empty() {
            return None;
        }
        data.strip_prefix(&self.before[..])?.strip_suffix(&self.after[..]).filter(|text| !text.is_empty())
    }
}

/// Whether these bytes are the content of a JSON string that needs no second look: valid UTF-8, no quote
/// that would end it, no control character, no escape but the short ones.
fn is_plain(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            0..0x20 | b'"' => return false,
            b'\\' => match bytes.next() {
                Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                _ => return false,
            },
            _ => {}
        }
    }
    std::str::from_utf8(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_sure_to_be_a_text_is_taken_for_one() {
        for plain in ["a", " wörd", "😀", r"\n", r#"\"\\"#] {
            assert!(is_plain(plain.as_bytes()), "{plain}");
        }
        for other in [r#"a","b":""#, "\n", r"\u0041", r"\x", r"\", "a\\"] {
            assert!(!is_plain(other.as_bytes()), "{other}");
        }
        assert!(!is_plain(b"\xe2\x82"));
        let mut alike = Alike::default();
        alike.learn(br#"{"t":"a"}"#, &(6..7), format!(r#"<{MARK}>"#).as_bytes());
        let mut out = BytesMut::new();
        assert!(alike.translate(br#"{"t":"b c"}"#, &mut out));
        assert!(!alike.translate(br#"{"t":""}"#, &mut out));
        assert!(!alike.translate(br#"{"t":"b","u":"c"}"#, &mut out));
        assert!(!alike.translate(br#"{"t":"b"} "#, &mut out));
        assert_eq!(&out[..], b"<b c>");
    }
}
