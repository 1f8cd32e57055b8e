//! The one look at a JSON body: strict validation and a tape of where everything is.
//!
//! A gateway that forwards bytes must not read them more leniently than the provider will. So what two
//! parsers may take in two ways is refused here: duplicate keys, lone surrogates, numbers that no
//! double holds, bytes after the document. Everything else keeps its place and its spelling.

pub(crate) mod skim;

use std::{borrow::Cow, fmt, ops::Range};

/// The deepest nesting that is read: the deepest that serde_json reads.
pub const MAX_DEPTH: usize = 127;

/// What is wrong with a document, and where. Quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct JsonError {
    /// The offset of the byte at fault.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: JsonErrorKind,
}

/// What can be wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// There is nothing but white space.
    Empty,
    /// It begins with a byte order mark.
    Bom,
    /// It is in UTF-16 or UTF-32.
    Utf16,
    /// It is not UTF-8.
    InvalidUtf8,
    /// A byte that cannot stand there.
    UnexpectedByte,
    /// Something follows the document.
    TrailingBytes,
    /// It is nested more deeply than [`MAX_DEPTH`].
    TooDeep,
    /// A key stands twice in one object.
    DuplicateKey,
    /// Half of a surrogate pair.
    LoneSurrogate,
    /// An escape that does not exist.
    BadEscape,
    /// A control character inside a string.
    ControlCharacter,
    /// A number that is not spelled as one.
    BadNumber,
    /// A number beyond the range of a double.
    NumberOutOfRange,
    /// It ends too soon.
    Truncated,
    /// It is larger than 4 GiB.
    TooLarge,
}

impl fmt::Display for JsonErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no document",
            Self::Bom => "a byte order mark",
            Self::Utf16 => "an encoding other than UTF-8",
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::UnexpectedByte => "an unexpected byte",
            Self::TrailingBytes => "bytes after the document",
            Self::TooDeep => "nesting deeper than 127",
            Self::DuplicateKey => "a duplicate key",
            Self::LoneSurrogate => "a lone surrogate",
            Self::BadEscape => "an unknown escape",
            Self::ControlCharacter => "a control character in a string",
            Self::BadNumber => "a malformed number",
            Self::NumberOutOfRange => "a number out of range",
            Self::Truncated => "an early end",
            Self::TooLarge => "a document over 4 GiB",
        })
    }
}

/// The kind of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// One value on the tape. A container is followed by its content; `next` is the first node after it.
#[derive(Debug, Clone, Copy)]
struct Node {
    kind: Kind,
    /// A string with escapes in it.
    escaped: bool,
    start: u32,
    end: u32,
    next: u32,
}

/// Memory that parsing reuses: after some requests it allocates no more.
#[derive(Debug, Default)]
pub struct Scratch {
    nodes: Vec<Node>,
    keys: Vec<u32>,
}

/// A valid document and its tape.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    nodes: Cow<'a, [Node]>,
}

impl<'a> Document<'a> {
    /// Validates a body and notes where everything is.
    pub fn parse(body: &'a [u8]) -> Result<Self, JsonError> {
        let mut scratch = Scratch::default();
        let text = Parser::run(body, &mut scratch)?;
        Ok(Self { text, nodes: Cow::Owned(scratch.nodes) })
    }

    /// The same, in memory that is reused.
    pub fn parse_with(body: &'a [u8], scratch: &'a mut Scratch) -> Result<Self, JsonError> {
        let text = Parser::run(body, scratch)?;
        Ok(Self { text, nodes: Cow::Borrowed(&scratch.nodes) })
    }

    /// The body as text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, index: 0 }
    }

    fn node(&self, index: u32) -> Node {
        let nothing = Node { kind: Kind::Null, escaped: false, start: 0, end: 0, next: u32::MAX };
        self.nodes.get(index as usize).copied().unwrap_or(nothing)
    }

    fn slice(&self, node: Node) -> &str {
        self.text.get(node.start as usize..node.end as usize).unwrap_or_default()
    }
}

/// A value of a document.
#[derive(Debug, Clone, Copy)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    index: u32,
}

impl<'d> Value<'d> {
    fn node(self) -> Node {
        self.document.node(self.index)
    }

    /// Its kind.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where it stands in the body, quotes and brackets included.
    pub fn range(self) -> Range<usize> {
        let node = self.node();
        let quote = usize::from(node.kind == Kind::String);
        node.start as usize - quote..node.end as usize + quote
    }

    /// Its bytes as they stand.
    pub fn raw(self) -> &'d str {
        self.document.text.get(self.range()).unwrap_or_default()
    }

    /// A string, unescaped.
    pub fn as_str(self) -> Option<Cow<'d, str>> {
        let node = self.node();
        let text = self.document.slice(node);
        match (node.kind, node.escaped) {
            (Kind::String, false) => Some(Cow::Borrowed(text)),
            (Kind::String, true) => Some(Cow::Owned(unescape(text))),
            _ => None,
        }
    }

    /// The content of a string as it is spelled: its quotes taken away, its escapes left.
    pub fn spelled(self) -> Option<&'d str> {
        let node = self.node();
        (node.kind == Kind::String).then(|| self.document.slice(node))
    }

    /// A Boolean.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.raw() == "true")
    }

    /// A number as a double.
    pub fn as_f64(self) -> Option<f64> {
        (self.kind() == Kind::Number).then(|| self.raw().parse().ok()).flatten()
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The members of an object; nothing for another kind.
    pub fn members(self) -> Members<'d> {
        let node = self.node();
        let end = if node.kind == Kind::Object { node.next } else { 0 };
        Members { document: self.document, at: self.index + 1, end }
    }

    /// The elements of an array; nothing for another kind.
    pub fn elements(self) -> Elements<'d> {
        let node = self.node();
        let end = if node.kind == Kind::Array { node.next } else { 0 };
        Elements { document: self.document, at: self.index + 1, end }
    }

    /// The member of an object with this name.
    pub fn get(self, name: &str) -> Option<Value<'d>> {
        self.members().find(|(key, _)| key.is(name)).map(|(_, value)| value)
    }

    /// Whether it is this string, or as a key has this name.
    pub fn is(self, name: &str) -> bool {
        let node = self.node();
        let text = self.document.slice(node);
        if node.escaped { unescape(text) == name } else { text == name }
    }
}

/// The members of an object, key and value, in their order.
#[derive(Debug)]
pub struct Members<'d> {
    document: &'d Document<'d>,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Members<'d> {
    type Item = (Value<'d>, Value<'d>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let key = Value { document: self.document, index: self.at };
        let value = Value { document: self.document, index: self.at + 1 };
        self.at = value.node().next;
        Some((key, value))
    }
}

/// The elements of an array in their order.
#[derive(Debug)]
pub struct Elements<'d> {
    document: &'d Document<'d>,
    at: u32,
    end: u32,
}

impl<'d> Iterator for Elements<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        if self.at >= self.end {
            return None;
        }
        let element = Value { document: self.document, index: self.at };
        self.at = element.node().next;
        Some(element)
    }
}

/// Undoes the escapes of a string that was validated.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    unescape_into(text, &mut out);
    out
}

/// Appends a string that was validated, without its escapes.
pub(crate) fn unescape_into(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (plain, escape) = rest.split_at(at);
        out.push_str(plain);
        let mut chars = escape.chars();
        chars.next();
        match chars.next() {
            Some('u') => {
                let (c, length) = unescape_unicode(escape);
                out.push(c);
                rest = escape.get(length..).unwrap_or_default();
                continue;
            }
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some(other) => out.push(other),
            None => {}
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

fn code_unit(escape: &str) -> Option<u32> {
    u32::from_str_radix(escape.get(2..6)?, 16).ok()
}

fn unescape_unicode(escape: &str) -> (char, usize) {
    let high = code_unit(escape).unwrap_or(0xfffd);
    if !(0xd800..0xdc00).contains(&high) {
        return (char::from_u32(high).unwrap_or('\u{fffd}'), 6);
    }
    let low = escape.get(6..).and_then(code_unit).unwrap_or(0xdc00);
    let scalar = 0x10000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff);
    (char::from_u32(scalar).unwrap_or('\u{fffd}'), 12)
}

/// Objects of up to so many members are searched for duplicates one by one.
const FEW_KEYS: usize = 16;

struct Parser<'s, 'a> {
    text: &'a str,
    body: &'a [u8],
    at: usize,
    scratch: &'s mut Scratch,
}

use JsonErrorKind as E;

impl<'s, 'a> Parser<'s, 'a> {
    fn run(body: &'a [u8], scratch: &'s mut Scratch) -> Result<&'a str, JsonError> {
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

/// The first byte from `at` on that a string cannot simply hold: a quote, a backslash, a control
/// character. Short strings, which most are, are looked at eight bytes at a time in a register; long ones
/// with vector instructions.
pub(crate) fn plain_until(body: &[u8], at: usize) -> usize {
    let mut offset = at;
    for word in body.get(at..).unwrap_or_default().as_chunks::<8>().0.iter().take(SHORT / 8) {
        match first_special(u64::from_le_bytes(*word)) {
            8 => offset += 8,
            found => return offset + found,
        }
    }
    let rest = body.get(offset..).unwrap_or_default();
    if rest.len() < 8 {
        return offset + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len());
    }
    let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    let plain = rest.get(..end).unwrap_or(rest);
    // The smallest byte is found by vector instructions; where there is a control character is asked
    // only if there is one.
    if plain.iter().fold(u8::MAX, |least, byte| least.min(*byte)) >= 0x20 {
        return offset + end;
    }
    offset + plain.iter().position(|byte| is_special(*byte)).unwrap_or(end)
}

/// Bytes up to which a string is short.
const SHORT: usize = 24;

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The place of the first special byte of eight; 8 if there is none. See Anderson, "Bit Twiddling Hacks":
/// a byte's high bit is set where it is zero, or less than a bound, and the lowest one set is right.
fn first_special(word: u64) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (((quote | backslash | control) & (ONES << 7)).trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests;
