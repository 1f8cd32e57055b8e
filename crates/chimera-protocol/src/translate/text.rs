//! A string on its way from one document into another.

use std::borrow::Cow;

use crate::json::{Value, unescape, unescape_into};

/// A string. Between two JSON documents its spelling is copied, escapes and all: nothing is undone only
/// to be done again, and nothing can change on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Text<'a> {
    /// The content of a JSON string as it is spelled there.
    Spelled(Cow<'a, str>),
    /// Plain text.
    Plain(Cow<'a, str>),
}

impl<'a> Text<'a> {
    /// The string that a value is.
    pub(crate) fn of(value: Value<'a>) -> Option<Self> {
        value.spelled().map(|text| Self::Spelled(Cow::Borrowed(text)))
    }

    /// The text without escapes.
    pub(crate) fn plain(&self) -> Cow<'_, str> {
        match self {
            Self::Spelled(text) if memchr::memchr(b'\\', text.as_bytes()).is_some() => {
                Cow::Owned(unescape(text))
            }
            Self::Spelled(text) | Self::Plain(text) => Cow::Borrowed(text),
        }
    }

    /// Appends the text without escapes.
    pub(crate) fn append_to(&self, out: &mut String) {
        match self {
            Self::Spelled(text) => unescape_into(text, out),
            Self::Plain(text) => out.push_str(text),
        }
    }

    /// The same, for as long as the document lives.
    pub(crate) fn into_plain(self) -> Cow<'a, str> {
        match self {
            Self::Spelled(text) if memchr::memchr(b'\\', text.as_bytes()).is_some() => {
                Cow::Owned(unescape(&text))
            }
            Self::Spelled(text) | Self::Plain(text) => text,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Spelled(text) | Self::Plain(text) => text.is_empty(),
        }
    }

    /// Its length in bytes, as it is held.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Spelled(text) | Self::Plain(text) => text.len(),
        }
    }

    /// A copy that outlives the document.
    pub(crate) fn to_owned(&self) -> Text<'static> {
        match self {
            Self::Spelled(text) => Text::Spelled(Cow::Owned(text.clone().into_owned())),
            Self::Plain(text) => Text::Plain(Cow::Owned(text.clone().into_owned())),
        }
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::Plain(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self::Plain(Cow::Owned(text))
    }
}
