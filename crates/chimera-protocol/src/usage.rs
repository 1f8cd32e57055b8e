//! Tokens as providers count them.

use crate::json::skim;

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

/// Tokens in classes without overlap: their sum is the total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classes {
    /// Of the prompt, neither read from nor written to the provider's cache.
    pub input: u64,
    /// Of the prompt, read from the provider's cache.
    pub cached: u64,
    /// Of the prompt, written to the provider's cache.
    pub written: u64,
    /// Of the answer, what is not reasoning.
    pub output: u64,
    /// Of the answer, spent on reasoning.
    pub reasoning: u64,
}

impl Classes {
    /// All of the prompt.
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cached).saturating_add(self.written)
    }

    /// All of the answer.
    pub fn completion(&self) -> u64 {
        self.output.saturating_add(self.reasoning)
    }
}

impl Usage {
    /// All tokens.
    pub fn total(&self) -> u64 {
        self.input_tokens.unwrap_or(0).saturating_add(self.output_tokens.unwrap_or(0))
    }

    /// The same tokens in classes of which each is counted, and paid, once. A part that is told to be
    /// larger than its whole counts as the whole.
    pub fn classes(&self) -> Classes {
        let (input, output) = (self.input_tokens.unwrap_or(0), self.output_tokens.unwrap_or(0));
        let cached = self.cached_input_tokens.unwrap_or(0).min(input);
        let written = self.cache_write_tokens.unwrap_or(0).min(input - cached);
        let reasoning = self.reasoning_tokens.unwrap_or(0).min(output);
        Classes { input: input - cached - written, cached, written, output: output - reasoning, reasoning }
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
fn count(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(MOST, |number: u64| number.min(MOST)));
    }
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    let number: f64 = text.parse().ok().filter(|_| is_number)?;
    // A conversion from float to integer saturates.
    Some((number.max(0.0) as u64).min(MOST))
}

/// The details of a count, as OpenAI gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) cached_tokens: Option<u64>,
    pub(crate) reasoning_tokens: Option<u64>,
}

impl Details {
    fn read(value: &[u8]) -> Self {
        let mut details = Self::default();
        let read = skim::members(value, |name, value| match name {
            b"cached_tokens" => details.cached_tokens = count(value),
            b"reasoning_tokens" => details.reasoning_tokens = count(value),
            _ => {}
        });
        if read.is_ok() { details } else { Self::default() }
    }
}

/// What a provider reported of usage, under the names of every dialect: each reads its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reported {
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
    pub(crate) prompt_tokens_details: Details,
    pub(crate) completion_tokens_details: Details,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) input_tokens_details: Details,
    pub(crate) output_tokens_details: Details,
    pub(crate) cache_read_input_tokens: Option<u64>,
    pub(crate) cache_creation_input_tokens: Option<u64>,
    pub(crate) prompt_token_count: Option<u64>,
    pub(crate) candidates_token_count: Option<u64>,
    pub(crate) thoughts_token_count: Option<u64>,
    pub(crate) cached_content_token_count: Option<u64>,
}

impl Reported {
    /// Reads a report. Members that are no counts are passed over; `None` for what is no object.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let mut reported = Self::default();
        skim::members(value, |name, value| {
            let of = &mut reported;
            match name {
                b"prompt_tokens" => of.prompt_tokens = count(value),
                b"completion_tokens" => of.completion_tokens = count(value),
                b"prompt_tokens_details" => of.prompt_tokens_details = Details::read(value),
                b"completion_tokens_details" => of.completion_tokens_details = Details::read(value),
                b"input_tokens" => of.input_tokens = count(value),
                b"output_tokens" => of.output_tokens = count(value),
                b"input_tokens_details" => of.input_tokens_details = Details::read(value),
                b"output_tokens_details" => of.output_tokens_details = Details::read(value),
                b"cache_read_input_tokens" => of.cache_read_input_tokens = count(value),
                b"cache_creation_input_tokens" => of.cache_creation_input_tokens = count(value),
                b"promptTokenCount" => of.prompt_token_count = count(value),
                b"candidatesTokenCount" => of.candidates_token_count = count(value),
                b"thoughtsTokenCount" => of.thoughts_token_count = count(value),
                b"cachedContentTokenCount" => of.cached_content_token_count = count(value),
                _ => {}
            }
        })
        .ok()?;
        Some(reported)
    }

    /// Reads it where an event may carry it: in itself, in the message that it starts, or in the response
    /// that it ends.
    pub(crate) fn carried(event: &[u8]) -> Option<Self> {
        let (mut own, mut within) = (None, None);
        skim::members(event, |name, value| match name {
            b"usage" | b"usageMetadata" => own = Self::read(value),
            b"message" | b"response" => {
                // Anything else than an object carries nothing.
                let _ = skim::members(value, |name, value| {
                    if name == b"usage" {
                        within = Self::read(value);
                    }
                });
            }
            _ => {}
        })
        .ok()?;
        own.or(within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u26_absurd_counts_saturate() {
        let of = |text: &str| {
            let reported =
                Reported::carried(format!("{{\"usage\":{{\"prompt_tokens\":{text}}}}}").as_bytes());
            reported.unwrap().prompt_tokens
        };
        assert_eq!(of("12"), Some(12));
        assert_eq!(of("-5"), Some(0));
        assert_eq!(of("9223372036854775808"), Some(MOST));
        assert_eq!(of("99999999999999999999999"), Some(MOST));
        assert_eq!(of("1e300"), Some(MOST));
        assert_eq!(of("1e999"), Some(MOST));
        assert_eq!(of("1.5"), Some(1));
        for none in ["\"12\"", "null", "true", r#"{"a":[1]}"#, "[{}]"] {
            assert_eq!(of(none), None);
        }
        for odd in ["5", "null", "[1]", "\"x\""] {
            assert_eq!(Reported::carried(format!("{{\"usage\":{odd}}}").as_bytes()), None);
        }
        let within = br#"{"type":"message_start","message":{"id":"m","usage":{"input_tokens":3}}}"#;
        assert_eq!(Reported::carried(within).unwrap().input_tokens, Some(3));
        let usage = Usage { input_tokens: Some(MOST), output_tokens: Some(MOST), ..Usage::default() };
        assert_eq!(usage.total(), u64::MAX - 1);
    }

    #[test]
    fn pain_6_each_token_is_in_one_class_and_their_sum_is_the_total() {
        let some = [None, Some(0), Some(3), Some(10), Some(MOST)];
        for input in some {
            for output in some {
                for (cached, written) in some.into_iter().flat_map(|a| some.map(|b| (a, b))) {
                    for reasoning in some {
                        let usage = Usage {
                            input_tokens: input,
                            output_tokens: output,
                            cached_input_tokens: cached,
                            cache_write_tokens: written,
                            reasoning_tokens: reasoning,
                        };
                        let classes = usage.classes();
                        assert_eq!(classes.prompt(), input.unwrap_or(0));
                        assert_eq!(classes.completion(), output.unwrap_or(0));
                        let sum = [classes.input, classes.cached, classes.written];
                        assert_eq!(sum.iter().sum::<u64>(), classes.prompt());
                        assert_eq!(classes.prompt() + classes.completion(), usage.total());
                    }
                }
            }
        }
    }
}
