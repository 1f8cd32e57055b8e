//! The cache of prompts that a provider keeps: what a new one has in common with an earlier one, from its
//! first byte on, is not read again and costs less.
//!
//! Real providers compare tokens of tools, system and messages; bytes of the body are stricter, which is
//! what a test of whoever stands between wants: one member in another place, or one number in another
//! spelling, and nothing after it is known.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use crate::dialect::Dialect;

/// The latest prompts, oldest first.
#[derive(Debug, Default)]
pub(crate) struct PromptCache(Mutex<VecDeque<(Dialect, Bytes)>>);

/// How much of a prompt was known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    bytes: usize,
    of: usize,
}

impl Known {
    /// So many of these tokens are known.
    pub(crate) fn share(self, tokens: usize) -> usize {
        tokens.saturating_mul(self.bytes).checked_div(self.of).unwrap_or(0)
    }
}

impl PromptCache {
    /// What is known of a prompt; it is remembered, and the oldest above `keep` forgotten. Anthropic does
    /// neither unless it is asked to.
    pub(crate) fn meet(&self, dialect: Dialect, body: &Bytes, keep: usize) -> Known {
        if keep == 0 || (dialect == Dialect::Anthropic && !has_hint(body)) {
            return Known::default();
        }
        let mut prompts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_dialect = prompts.iter().filter(|(other, _)| *other == dialect);
        let bytes = of_dialect.map(|(_, earlier)| shared(earlier, body)).max().unwrap_or(0);
        while prompts.len() >= keep {
            prompts.pop_front();
        }
        prompts.push_back((dialect, body.clone()));
        Known { bytes, of: body.len() }
    }
}

fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

fn has_hint(body: &[u8]) -> bool {
    const HINT: &[u8] = b"\"cache_control\"";
    body.windows(HINT.len()).any(|window| window == HINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_before_is_known_up_to_the_first_other_byte() {
        let cache = PromptCache::default();
        let meet = |dialect, body: &'static str, keep| {
            cache.meet(dialect, &Bytes::from_static(body.as_bytes()), keep).share(100)
        };
        assert_eq!(meet(Dialect::OpenAi, "abcdefghij", 2), 0);
        assert_eq!(meet(Dialect::OpenAi, "abcdeyyyyy", 2), 50);
        assert_eq!(meet(Dialect::Gemini, "abcdefghij", 2), 0, "another provider's");
        assert_eq!(meet(Dialect::OpenAi, "abcdefghij", 2), 50, "the first is forgotten");
        assert_eq!(meet(Dialect::OpenAi, "abcdefghij", 0), 0, "nothing is kept");
        let hinted = r#"{"cache_control":{}}"#;
        assert_eq!(meet(Dialect::Anthropic, "abcdefghij", 9) + meet(Dialect::Anthropic, "abcdefghij", 9), 0);
        assert_eq!(meet(Dialect::Anthropic, hinted, 9) + meet(Dialect::Anthropic, hinted, 9), 100);
    }
}
