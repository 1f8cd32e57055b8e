//! The one look at a JSON body: strict validation and a tape of where everything is.
//!
//! A gateway that forwards bytes must not read them more leniently than the provider will. So what two
//! parsers may take in two ways is refused here: duplicate keys, lone surrogates, numbers that no
//! double holds, bytes after the document. Everything else keeps its place and its spelling.

mod error;
mod escape;
mod parser;
mod plain;
pub(crate) mod skim;

use std::{borrow::Cow, ops::Range};

pub use error::{JsonError, JsonErrorKind};
pub(crate) use escape::{unescape, unescape_into};
use parser::Parser;
pub(crate) use plain::plain_until;

/// The deepest nesting that is read: the deepest that serde_json reads.
pub const MAX_DEPTH: usize = 127;

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

#[cfg(test)]
mod tests;
