//! Byte strings that are looked for in every event of a stream, each prepared once: preparing costs
//! more than the search itself.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// A byte string to look for.
pub(crate) type Needle = LazyLock<Finder<'static>>;

macro_rules! needles {
    ($($name:ident = $text:literal),* $(,)?) => {
        $(pub(crate) static $name: Needle = LazyLock::new(|| Finder::new($text));)*
    };
}

needles! {
    BLOCK_REASON = b"\"blockReason\"",
    CANDIDATES = b"\"candidates\"",
    CHOICES = b"\"choices\"",
    CONTENT = b"\"content\"",
    ERROR = b"\"error\"",
    FINISH_REASON = b"\"finish_reason\"",
    GEMINI_FINISH_REASON = b"\"finishReason\"",
    INDEX = b"\"index\"",
    ROLE = b"\"role\"",
    TOOL_USE = b"\"tool_use\"",
    // `usage` and `usageMetadata`.
    USAGE = b"\"usage",
}

/// Whether the needle occurs.
pub(crate) fn contains(data: &[u8], needle: &Needle) -> bool {
    needle.find(data).is_some()
}

/// What follows the first occurrence of a member's name and its colon.
pub(crate) fn value_of<'a>(data: &'a [u8], name: &Needle) -> Option<&'a [u8]> {
    let at = name.find(data)? + name.needle().len();
    let rest = data.get(at..).unwrap_or_default().trim_ascii_start();
    Some(rest.strip_prefix(b":").unwrap_or(rest).trim_ascii_start())
}
