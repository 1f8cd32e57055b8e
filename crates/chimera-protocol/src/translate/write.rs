//! Writes JSON piece by piece, without a tree in between.

use bytes::BytesMut;

use super::text::Text;
use crate::json::plain_until;

/// Writes one JSON document into a caller's buffer. It minds the commas; what is opened must be closed.
pub(crate) struct Writer<'o> {
    out: &'o mut BytesMut,
    /// Whether nothing stands before the next value in its container.
    first: bool,
}

impl<'o> Writer<'o> {
    pub(crate) fn new(out: &'o mut BytesMut) -> Self {
        Self { out, first: true }
    }

    fn comma(&mut self) {
        if !self.first {
            self.out.extend_from_slice(b",");
        }
        self.first = false;
    }

    /// Begins an object.
    pub(crate) fn object(&mut self) -> &mut Self {
        self.out.extend_from_slice(b"{");
        self.first = true;
        self
    }

    /// Begins an array.
    pub(crate) fn array(&mut self) -> &mut Self {
        self.out.extend_from_slice(b"[");
        self.first = true;
        self
    }

    pub(crate) fn end_object(&mut self) -> &mut Self {
        self.out.extend_from_slice(b"}");
        self.first = false;
        self
    }

    pub(crate) fn end_array(&mut self) -> &mut Self {
        self.out.extend_from_slice(b"]");
        self.first = false;
        self
    }

    /// The name of a member; its value comes next. Names are ours and need no escape.
    pub(crate) fn key(&mut self, name: &str) -> &mut Self {
        self.comma();
        self.out.extend_from_slice(b"\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self
    }

    /// The next element of an array; its value comes next.
    pub(crate) fn item(&mut self) -> &mut Self {
        self.comma();
        self
    }

    /// Valid JSON, as it stands.
    pub(crate) fn raw(&mut self, json: &str) -> &mut Self {
        self.out.extend_from_slice(json.as_bytes());
        self.first = false;
        self
    }

    pub(crate) fn text(&mut self, text: &Text<'_>) -> &mut Self {
        match text {
            Text::Spelled(text) => {
                self.out.extend_from_slice(b"\"");
                self.out.extend_from_slice(text.as_bytes());
                self.out.extend_from_slice(b"\"");
                self.first = false;
                self
            }
            Text::Plain(text) => self.string(text),
        }
    }

    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.out.extend_from_slice(b"\"");
        escape(text, self.out);
        self.out.extend_from_slice(b"\"");
        self.first = false;
        self
    }

    pub(crate) fn number(&mut self, mut number: u64) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut length = 0;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            length += 1;
            if number == 0 {
                break;
            }
        }
        self.out.extend_from_slice(digits.get(20 - length..).unwrap_or_default());
        self.first = false;
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.raw(if value { "true" } else { "false" })
    }

    /// A member whose value is one of our own words.
    pub(crate) fn word(&mut self, name: &str, word: &str) -> &mut Self {
        self.key(name).string(word)
    }

    /// A member, if there is a value for it.
    pub(crate) fn maybe_raw(&mut self, name: &str, json: Option<&str>) -> &mut Self {
        match json {
            Some(json) => self.key(name).raw(json),
            None => self,
        }
    }
}

/// Appends a text to a JSON string.
pub(crate) fn escape(text: &str, out: &mut BytesMut) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let stop = plain_until(bytes, at);
        out.extend_from_slice(bytes.get(at..stop).unwrap_or_default());
        let Some(special) = bytes.get(stop) else { return };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                let hex = |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or(b'0', |c| c as u8);
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(other >> 4), hex(other & 15)]);
            }
        }
        at = stop + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let mut out = BytesMut::new();
        let odd = "a\"\\\n\r\t\u{1}\u{1f}€😀/";
        let mut writer = Writer::new(&mut out);
        writer.object().key("a").string(odd).key("b").array();
        writer.item().number(0).item().number(u64::MAX).item().object().end_object().end_array();
        writer.key("c").bool(true).key("d").raw("1.50").end_object();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["a"], odd);
        assert_eq!(value["b"], serde_json::json!([0, u64::MAX, {}]));
        assert!(out.ends_with(br#""c":true,"d":1.50}"#));
    }
}
