//! What can be wrong with a document.

use std::fmt;

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
    /// It is nested more deeply than [`MAX_DEPTH`](super::MAX_DEPTH).
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
