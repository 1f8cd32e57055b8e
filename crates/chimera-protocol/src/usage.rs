//! Tokens as providers count them.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count(pub(crate) Option<u64>);

/// Reads whatever stands there: what is not wanted is skipped, never an error.
struct Lenient<T>(PhantomData<T>);

impl<'de> Visitor<'de> for Lenient<Count> {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
        Ok(Count(Some(number.min(MOST))))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
        Ok(Count(Some(u64::try_from(number).unwrap_or(0))))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Count, E> {
        // A conversion from float to integer saturates.
        Ok(Count(Some((number.max(0.0) as u64).min(MOST))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Count(None))
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient::<Self>(PhantomData))
    }
}

/// An object read as `T`; `None` for anything else.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Lenient<Object<T>> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|read| Object(Some(read)))
    }

    fn visit_unit<E>(self) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Object<T>, E> {
        Ok(Object(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Object<T>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Object(None))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Lenient::<Self>(PhantomData))
    }
}

/// The details of a count, as OpenAI gives them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    pub(crate) cached_tokens: Count,
    pub(crate) reasoning_tokens: Count,
}

/// What a provider reported of usage, under the names of every dialect: each reads its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reported {
    pub(crate) prompt_tokens: Count,
    pub(crate) completion_tokens: Count,
    pub(crate) prompt_tokens_details: Object<Details>,
    pub(crate) completion_tokens_details: Object<Details>,
    pub(crate) input_tokens: Count,
    pub(crate) input_tokens_details: Object<Details>,
    pub(crate) output_tokens_details: Object<Details>,
    pub(crate) output_tokens: Count,
    pub(crate) cache_read_input_tokens: Count,
    pub(crate) cache_creation_input_tokens: Count,
    #[serde(rename = "promptTokenCount")]
    pub(crate) prompt_token_count: Count,
    #[serde(rename = "candidatesTokenCount")]
    pub(crate) candidates_token_count: Count,
    #[serde(rename = "thoughtsTokenCount")]
    pub(crate) thoughts_token_count: Count,
    #[serde(rename = "cachedContentTokenCount")]
    pub(crate) cached_content_token_count: Count,
}

/// Where an event may carry usage: itself, or in the message that it starts, or in the response that it
/// ends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Carrier {
    #[serde(alias = "usageMetadata")]
    usage: Object<Reported>,
    message: Object<Message>,
    response: Object<Message>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    usage: Object<Reported>,
}

impl Carrier {
    pub(crate) fn reported(self) -> Option<Reported> {
        let within = |message: Option<Message>| message.and_then(|message| message.usage.0);
        self.usage.0.or_else(|| within(self.message.0)).or_else(|| within(self.response.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u26_absurd_counts_saturate() {
        let of = |text: &str| serde_json::from_str::<Count>(text).unwrap().0;
        assert_eq!(of("12"), Some(12));
        assert_eq!(of("-5"), Some(0));
        assert_eq!(of("9223372036854775808"), Some(MOST));
        assert_eq!(of("1e300"), Some(MOST));
        assert_eq!(of("1.5"), Some(1));
        assert_eq!(of("\"12\""), None);
        assert_eq!(of("null"), None);
        assert_eq!(of(r#"{"a":[1]}"#), None);
        assert_eq!(of("[{}]"), None);
        for odd in ["5", "null", "[1]", "\"x\"", "{\"prompt_tokens\":{}}"] {
            let carrier: Carrier = serde_json::from_str(&format!("{{\"usage\":{odd}}}")).unwrap();
            assert_eq!(carrier.reported().and_then(|reported| reported.prompt_tokens.0), None);
        }
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
