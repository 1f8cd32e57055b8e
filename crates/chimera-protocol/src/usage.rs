//! Tokens as providers count them.

use serde_json::Value;

/// The tokens of one answer. In every dialect `input_tokens` includes what was read from and written
/// to the provider's prompt cache, and `output_tokens` includes reasoning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    pub output_tokens: Option<u64>,
    /// Of the prompt's, those read from the provider's cache.
    pub cached_input_tokens: Option<u64>,
    /// Of the prompt's, those written to the provider's cache.
    pub cache_write_tokens: Option<u64>,
    /// Of the answer's, those spent on reasoning.
    pub reasoning_tokens: Option<u64>,
}

impl Usage {
    /// All tokens.
    pub fn total(&self) -> u64 {
        self.input_tokens.unwrap_or(0).saturating_add(self.output_tokens.unwrap_or(0))
    }

    /// Takes over what another report knows and this one does not, or knows later.
    pub fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
        self.cached_input_tokens = later.cached_input_tokens.or(self.cached_input_tokens);
        self.cache_write_tokens = later.cache_write_tokens.or(self.cache_write_tokens);
        self.reasoning_tokens = later.reasoning_tokens.or(self.reasoning_tokens);
    }
}

/// The largest count believed; beyond it a provider is wrong, and sums must not wrap round.
const MOST: u64 = i64::MAX as u64;

/// A count, read leniently: below zero is zero, beyond sense is the most, no number is none.
pub(crate) fn count(value: Option<&Value>) -> Option<u64> {
    let number = value?.as_number()?;
    if let Some(count) = number.as_u64() {
        return Some(count.min(MOST));
    }
    let float = number.as_f64()?;
    // A conversion from float to integer saturates.
    Some((float.max(0.0) as u64).min(MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u26_absurd_counts_saturate() {
        let of = |text: &str| count(Some(&serde_json::from_str(text).unwrap()));
        assert_eq!(of("12"), Some(12));
        assert_eq!(of("-5"), Some(0));
        assert_eq!(of("9223372036854775808"), Some(MOST));
        assert_eq!(of("1e300"), Some(MOST));
        assert_eq!(of("1.5"), Some(1));
        assert_eq!(of("\"12\""), None);
        assert_eq!(of("null"), None);
        let usage = Usage { input_tokens: Some(MOST), output_tokens: Some(MOST), ..Usage::default() };
        assert_eq!(usage.total(), u64::MAX - 1);
    }
}
