//! The parser: one pass that validates and lays the tape.

use std::borrow::Cow;

use super::{
    JsonError, JsonErrorKind as E, Kind, MAX_DEPTH, Node, Scratch, escape::unescape, plain::plain_until,
};

/// Objects of up to so many members are searched for duplicates one by one.
const FEW_KEYS: usize = 16;

pub(super) struct Parser<'s, 'a> {
    text: &'a str,
    body: &'a [u8],
    at: usize,
    scratch: &'s mut Scratch,
}

impl<'s, 'a> Parser<'s, 'a> {
    pub(super) fn run(body: &'a [u8], scratch: &'s mut Scratch) -> Result<&'a str, JsonError> {
        let fail = |offset, kind| Err(JsonError { offset, kind });
        if u32::try_from(body.len()).is_err() {
            return fail(0, E::TooLarge);
        }
        match body {
            [0xef, 0xbb, 0xbf, ..] => return fail(0, E::Bom),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, ..] | [_, 0, ..] => return fail(0, E::Utf16),
            _ => {}
        }
        let text = match std::str::from_utf8(body) {
            Ok(text) => text,
            Err(error) => return fail(error.valid_up_to(), E::InvalidUtf8),
        };
        scratch.nodes.clear();
        scratch.keys.clear();
        let mut parser = Parser { text, body, at: 0, scratch };
        parser.skip_space();
        if parser.at == body.len() {
            return fail(0, E::Empty);
        }
        parser.value(0)?;
        parser.skip_space();
        if parser.at < body.len() {
            return fail(parser.at, E::TrailingBytes);
        }
        Ok(text)
    }

    fn fail<T>(&self, kind: E) -> Result<T, JsonError> {
        let kind = if self.at >= self.body.len() { E::Truncated } else { kind };
        Err(JsonError { offset: self.at.min(self.body.len()), kind })
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn open(&mut self, kind: Kind) -> usize {
        let start = self.at as u32;
        self.scratch.nodes.push(Node { kind, escaped: false, start, end: start, next: 0 });
        self.scratch.nodes.len() - 1
    }

    fn close(&mut self, node: usize, end: usize) {
        let next = self.scratch.nodes.len() as u32;
        if let Some(node) = self.scratch.nodes.get_mut(node) {
            (node.end, node.next) = (end as u32, next);
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') if depth < MAX_DEPTH => self.object(depth),
            Some(b'[') if depth < MAX_DEPTH => self.array(depth),
            Some(b'{' | b'[') => self.fail(E::TooDeep),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Kind::Bool),
            Some(b'f') => self.word("false", Kind::Bool),
            Some(b'n') => self.word("null", Kind::Null),
            _ => self.fail(E::UnexpectedByte),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), JsonError> {
        let node = self.open(kind);
        for byte in word.bytes() {
            if self.peek() != Some(byte) {
                return self.fail(E::UnexpectedByte);
            }
            self.at += 1;
        }
        self.close(node, self.at);
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        let node = self.open(Kind::Array);
        self.at += 1;
        self.skip_space();
        if self.peek() != Some(b']') {
            loop {
                self.value(depth + 1)?;
                self.skip_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    _ => return self.fail(E::UnexpectedByte),
                }
                self.skip_space();
            }
        }
        self.at += 1;
        self.close(node, self.at);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        let node = self.open(Kind::Object);
        let first_key = self.scratch.keys.len();
        self.at += 1;
        self.skip_space();
        if self.peek() != Some(b'}') {
            loop {
                if self.peek() != Some(b'"') {
                    return self.fail(E::UnexpectedByte);
                }
                let key = self.scratch.nodes.len() as u32;
                self.string()?;
                self.check_key(key, first_key)?;
                self.skip_space();
                if self.peek() != Some(b':') {
                    return self.fail(E::UnexpectedByte);
                }
                self.at += 1;
                self.skip_space();
                self.value(depth + 1)?;
                self.skip_space();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break,
                    _ => return self.fail(E::UnexpectedByte),
                }
                self.skip_space();
            }
        }
        self.at += 1;
        self.check_many(first_key)?;
        self.scratch.keys.truncate(first_key);
        self.close(node, self.at);
        Ok(())
    }

    fn key_text(&self, key: u32) -> Cow<'a, str> {
        let Some(node) = self.scratch.nodes.get(key as usize) else { return Cow::Borrowed("") };
        let text = self.text.get(node.start as usize..node.end as usize).unwrap_or_default();
        if node.escaped { Cow::Owned(unescape(text)) } else { Cow::Borrowed(text) }
    }

    /// Notes a key; while the object is small, compares it with those before it.
    fn check_key(&mut self, key: u32, first: usize) -> Result<(), JsonError> {
        let known = self.scratch.keys.get(first..).unwrap_or_default();
        if known.len() < FEW_KEYS {
            let text = self.key_text(key);
            if known.iter().any(|other| self.key_text(*other) == text) {
                return self.duplicate(key);
            }
        }
        self.scratch.keys.push(key);
        Ok(())
    }

    /// Sorts the keys of a large object and compares neighbours: no quadratic work for any input.
    fn check_many(&self, first: usize) -> Result<(), JsonError> {
        let keys = self.scratch.keys.get(first..).unwrap_or_default();
        if keys.len() <= FEW_KEYS {
            return Ok(());
        }
        let mut texts: Vec<_> = keys.iter().map(|key| (self.key_text(*key), *key)).collect();
        texts.sort_unstable();
        match texts.iter().zip(texts.iter().skip(1)).find(|(a, b)| a.0 == b.0) {
            Some((_, (_, key))) => self.duplicate(*key),
            None => Ok(()),
        }
    }

    fn duplicate(&self, key: u32) -> Result<(), JsonError> {
        let offset = self.scratch.nodes.get(key as usize).map_or(0, |node| node.start as usize - 1);
        Err(JsonError { offset, kind: E::DuplicateKey })
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        let node = self.open(Kind::String);
        let mut escaped = false;
        loop {
            self.at = plain_until(self.body, self.at);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fail(E::ControlCharacter),
                None => return self.fail(E::Truncated),
            }
        }
        if let Some(node) = self.scratch.nodes.get_mut(node) {
            node.escaped = escaped;
        }
        self.close(node, self.at);
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                let unit = self.hex4()?;
                match unit {
                    0xdc00..0xe000 => Err(JsonError { offset: start, kind: E::LoneSurrogate }),
                    0xd800..0xdc00 => {
                        let is_pair = self.body.get(self.at..self.at + 2) == Some(b"\\u");
                        if !is_pair {
                            return Err(JsonError { offset: start, kind: E::LoneSurrogate });
                        }
                        self.at += 1;
                        match self.hex4()? {
                            0xdc00..0xe000 => Ok(()),
                            _ => Err(JsonError { offset: start, kind: E::LoneSurrogate }),
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => self.fail(E::BadEscape),
        }
    }

    /// Four hex digits after the `u` at which the parser stands.
    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            self.at += 1;
            match self.peek().and_then(|byte| char::from(byte).to_digit(16)) {
                Some(digit) => unit = unit << 4 | digit,
                None => return self.fail(E::BadEscape),
            }
        }
        self.at += 1;
        Ok(unit)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let node = self.open(Kind::Number);
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            // The fault is the digit after the zero, or what stands where a digit should.
            self.at -= whole.saturating_sub(1);
            return self.fail(E::BadNumber);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return self.fail(E::BadNumber);
            }
        }
        let mut exponent = false;
        if let Some(b'e' | b'E') = self.peek() {
            exponent = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail(E::BadNumber);
            }
        }
        // Only these can leave the range of a double.
        if exponent || whole > 300 {
            let text = self.text.get(start..self.at).unwrap_or_default();
            if !text.parse::<f64>().is_ok_and(f64::is_finite) {
                return Err(JsonError { offset: start, kind: E::NumberOutOfRange });
            }
        }
        self.close(node, self.at);
        Ok(())
    }
}
