//! Outputs held against the expected text.

use std::{collections::HashMap, future::ready};

use regex::Regex;

use super::short;
use crate::{
    error::TaskError,
    evaluator::{Case, Evaluator, Judgement},
    model::CallError,
};

/// An evaluator that needs no waiting: its judgement and its version.
macro_rules! at_once {
    ($name:ty) => {
        impl Evaluator for $name {
            fn evaluate<'a>(
                &'a self,
                case: Case<'a>,
            ) -> impl Future<Output = Result<Judgement, CallError>> + Send + 'a {
                ready(Ok(self.judge(case)))
            }

            fn version(&self) -> String {
                format!("{self:?}")
            }
        }
    };
}
pub(super) use at_once;

/// The output is the expected text; white space at either end does not matter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exact;

impl Exact {
    fn judge(&self, case: Case<'_>) -> Judgement {
        let expected = case.example.expected_text();
        Judgement::passed(case.output.trim() == expected.trim(), || differs(&expected, case.output))
    }
}
at_once!(Exact);

fn differs(expected: &str, output: &str) -> String {
    format!("Expected `{}`, the output was `{}`.", short(expected), short(output))
}

/// The output is the expected text but for case, punctuation and white space.
#[derive(Debug, Clone, Copy, Default)]
pub struct Normalized;

impl Normalized {
    fn judge(&self, case: Case<'_>) -> Judgement {
        let expected = case.example.expected_text();
        let same = words(&expected) == words(case.output);
        Judgement::passed(same, || differs(&expected, case.output))
    }
}
at_once!(Normalized);

/// The words of a text in lower case.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The output has the expected text in it; of a list, the share that it has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Contains;

impl Contains {
    fn judge(&self, case: Case<'_>) -> Judgement {
        let one = [case.example.expected().clone()];
        let wanted = case.example.expected().as_array().map_or(one.as_slice(), Vec::as_slice);
        let missing: Vec<_> = wanted
            .iter()
            .map(crate::dataset::text_of)
            .filter(|text| !case.output.contains(text.as_ref()))
            .collect();
        if wanted.is_empty() || missing.is_empty() {
            return Judgement::new(1.0, "");
        }
        let score = 1.0 - missing.len() as f64 / wanted.len() as f64;
        Judgement::new(score, format!("The output lacks `{}`.", short(&missing.join("`, `"))))
    }
}
at_once!(Contains);

/// The output matches a pattern, the same for all examples.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles the pattern; the time that it takes is linear in the output.
    pub fn new(pattern: &str) -> Result<Self, TaskError> {
        let compiled = regex::RegexBuilder::new(pattern).size_limit(1 << 20).build();
        compiled.map(Self).map_err(|error| TaskError::new("pattern", error.to_string()))
    }

    fn judge(&self, case: Case<'_>) -> Judgement {
        Judgement::passed(self.0.is_match(case.output), || {
            format!("The output does not match `{}`: `{}`.", self.0.as_str(), short(case.output))
        })
    }
}
at_once!(Pattern);

/// The last number of the output is the expected one, give or take.
#[derive(Debug, Clone, Copy)]
pub struct Numeric {
    /// How far off it may be.
    pub absolute: f64,
    /// How far off it may be, as a share of the expected number.
    pub relative: f64,
}

impl Numeric {
    fn judge(&self, case: Case<'_>) -> Judgement {
        let expected = case.example.expected();
        let Some(expected) = expected.as_f64().or_else(|| last_number(&case.example.expected_text())) else {
            return Judgement::new(0.0, "The example expects no number.");
        };
        let Some(found) = last_number(case.output) else {
            return Judgement::new(0.0, format!("There is no number in `{}`.", short(case.output)));
        };
        let off = (found - expected).abs();
        let allowed = self.absolute.max(self.relative * expected.abs());
        Judgement::passed(off <= allowed, || {
            format!("Expected {expected}, the last number of the output was {found}.")
        })
    }
}
at_once!(Numeric);

/// The last number of a text; commas between digits group them.
fn last_number(text: &str) -> Option<f64> {
    text.split(|c: char| !(c.is_ascii_digit() || ".,-+eE".contains(c)))
        .rev()
        .filter(|piece| piece.contains(|c: char| c.is_ascii_digit()))
        .find_map(|piece| {
            let piece = piece.trim_start_matches([',', '.', 'e', 'E', '+']);
            piece.trim_end_matches([',', '.', '-', '+', 'e', 'E']).replace(',', "").parse().ok()
        })
}

/// How many words output and expected text share: the harmonic mean of precision and recall.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenF1;

impl TokenF1 {
    fn judge(&self, case: Case<'_>) -> Judgement {
        let (expected, output) = (words(&case.example.expected_text()), words(case.output));
        if expected.is_empty() || output.is_empty() {
            let same = expected.is_empty() && output.is_empty();
            return Judgement::passed(same, || differs(&case.example.expected_text(), case.output));
        }
        let mut left: HashMap<&str, usize> = HashMap::new();
        for word in &expected {
            *left.entry(word).or_default() += 1;
        }
        let mut shared = 0;
        for word in &output {
            if let Some(count) = left.get_mut(word.as_str()).filter(|count| **count > 0) {
                *count -= 1;
                shared += 1;
            }
        }
        let score = 2.0 * f64::from(shared) / (expected.len() + output.len()) as f64;
        if score >= 1.0 {
            return Judgement::new(1.0, "");
        }
        Judgement::new(score, differs(&case.example.expected_text(), case.output))
    }
}
at_once!(TokenF1);

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dataset::Example;

    fn with<E>(
        judge: impl Fn(&E, Case<'_>) -> Judgement,
        evaluator: E,
        expected: Value,
        output: &str,
    ) -> f64 {
        judge(&evaluator, Case { example: &Example::new("1", "in", expected), output }).score
    }

    #[test]
    fn texts_are_compared_as_the_name_says() {
        assert_eq!(with(Exact::judge, Exact, json!("Yes"), " Yes\n"), 1.0);
        assert_eq!(with(Exact::judge, Exact, json!("Yes"), "yes"), 0.0);
        assert_eq!(with(Normalized::judge, Normalized, json!("Yes, it is"), "yes it IS."), 1.0);
        assert_eq!(with(Normalized::judge, Normalized, json!("Yes"), "no"), 0.0);
        assert_eq!(with(Contains::judge, Contains, json!(["a", "b"]), "xax"), 0.5);
        assert_eq!(with(Contains::judge, Contains, json!("b"), "abc"), 1.0);
        let pattern = Pattern::new("^[A-Z]+$").unwrap();
        assert_eq!(with(Pattern::judge, pattern.clone(), Value::Null, "ABC"), 1.0);
        assert_eq!(with(Pattern::judge, pattern, Value::Null, "abc"), 0.0);
        assert!(Pattern::new("(").unwrap_err().to_string().starts_with("pattern: "));
    }

    #[test]
    fn the_last_number_counts() {
        let close = Numeric { absolute: 0.0, relative: 0.01 };
        assert_eq!(with(Numeric::judge, close, json!(1000), "of 3, the sum is 1,005."), 1.0);
        assert_eq!(with(Numeric::judge, close, json!("1000"), "1,015 apples"), 0.0);
        assert_eq!(with(Numeric::judge, close, json!(-2.5), "x = -2.5e0"), 1.0);
        assert_eq!(with(Numeric::judge, close, json!(1), "none"), 0.0);
    }

    #[test]
    fn f1_counts_each_word_as_often_as_it_is_there() {
        assert_eq!(with(TokenF1::judge, TokenF1, json!("a b"), "b a"), 1.0);
        assert_eq!(with(TokenF1::judge, TokenF1, json!("a b"), "a a"), 0.5);
        assert_eq!(with(TokenF1::judge, TokenF1, json!("a"), ""), 0.0);
        assert_eq!(with(TokenF1::judge, TokenF1, json!(""), ""), 1.0);
    }
}
