//! Examples: what goes in, and what should come out. Read from JSON lines under limits, with errors that
//! name the line and the field.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value};

use crate::{candidate::Digest, chance::Chance};

/// How much data a task may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataLimits {
    /// Examples, all sets together. Default 10,000.
    pub examples: usize,
    /// Bytes of one example. Default 64 KiB.
    pub example_bytes: usize,
    /// Bytes of all examples. Default 16 MiB.
    pub total_bytes: usize,
}

impl Default for DataLimits {
    fn default() -> Self {
        Self { examples: 10_000, example_bytes: 64 << 10, total_bytes: 16 << 20 }
    }
}

/// What is wrong with a line of data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {field}: {why}")]
pub struct DataError {
    /// The line, from one.
    pub line: usize,
    /// The field at fault.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

/// One example.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    id: Arc<str>,
    input: Value,
    expected: Value,
    digest: Digest,
}

impl Example {
    /// An example; its id tells it apart for people.
    pub fn new(id: impl Into<Arc<str>>, input: impl Into<Value>, expected: impl Into<Value>) -> Self {
        let (input, expected) = (input.into(), expected.into());
        let digest = Digest::of_parts([input.to_string().as_bytes(), expected.to_string().as_bytes()]);
        Self { id: id.into(), input, expected, digest }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What should come out; null when only the evaluator knows.
    pub fn expected(&self) -> &Value {
        &self.expected
    }

    /// What should come out, as text.
    pub fn expected_text(&self) -> Cow<'_, str> {
        text_of(&self.expected)
    }

    /// What goes in, as text.
    pub fn input_text(&self) -> Cow<'_, str> {
        text_of(&self.input)
    }

    /// A field of what goes in, where that is an object.
    pub fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        self.input.get(name).map(text_of)
    }

    pub(crate) fn digest(&self) -> Digest {
        self.digest
    }
}

/// A text as it is, another value as JSON, nothing as nothing.
pub(crate) fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(""),
        other => Cow::Owned(other.to_string()),
    }
}

/// Reads JSON lines: an object a line with `input` (text or an object), `expected` (any value, may be left
/// out) and `id` (text, may be left out). Empty lines are passed over.
pub fn read_examples(text: &str, limits: &DataLimits) -> Result<Vec<Example>, DataError> {
    if text.len() > limits.total_bytes {
        let why = format!("{} bytes of data, {} are allowed", text.len(), limits.total_bytes);
        return Err(DataError { line: 1, field: "(all)".into(), why });
    }
    let mut examples = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |field: &str, why: String| DataError { line: number + 1, field: field.into(), why };
        if examples.len() == limits.examples {
            return Err(wrong("(all)", format!("more than {} examples", limits.examples)));
        }
        if line.len() > limits.example_bytes {
            let why = format!("{} bytes, {} are allowed", line.len(), limits.example_bytes);
            return Err(wrong("(line)", why));
        }
        let value: Value =
            serde_json::from_str(line).map_err(|error| wrong("(line)", format!("not JSON: {error}")))?;
        let example =
            from_value(value, &(number + 1).to_string()).map_err(|(field, why)| wrong(&field, why))?;
        examples.push(example);
    }
    Ok(examples)
}

/// Takes an example out of an object; the error is the field and what is wrong with it.
pub(crate) fn from_value(value: Value, id: &str) -> Result<Example, (String, String)> {
    let Value::Object(mut fields) = value else {
        return Err(("(line)".into(), "must be an object with `input` and `expected`".into()));
    };
    let id = take_id(&mut fields, id)?;
    let input = match fields.remove("input") {
        Some(input @ (Value::String(_) | Value::Object(_))) => input,
        Some(_) => return Err(("input".into(), "must be text or an object".into())),
        None => return Err(("input".into(), "is missing".into())),
    };
    let expected = fields.remove("expected").unwrap_or(Value::Null);
    if let Some(field) = fields.keys().next() {
        return Err((field.chars().take(40).collect(), "is not a field of an example".into()));
    }
    Ok(Example::new(id, input, expected))
}

fn take_id(fields: &mut Map<String, Value>, otherwise: &str) -> Result<String, (String, String)> {
    match fields.remove("id") {
        None => Ok(otherwise.to_owned()),
        Some(Value::String(id)) if !id.is_empty() && id.len() <= 200 => Ok(id),
        Some(_) => Err(("id".into(), "must be text of 1 to 200 bytes".into())),
    }
}

/// The three sets of a task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dataset {
    /// What proposals are made from.
    pub train: Vec<Example>,
    /// What candidates are chosen by.
    pub validation: Vec<Example>,
    /// What nobody looks at until the search is over.
    pub held_out: Vec<Example>,
}

impl Dataset {
    /// Deals examples into three sets, by shares of validation and held-out, as the seed has it.
    pub fn split(mut examples: Vec<Example>, validation: f64, held_out: f64, seed: u64) -> Self {
        Chance::new(seed, 0x5e75).shuffle(&mut examples);
        let count = |share: f64| ((examples.len() as f64) * share.clamp(0.0, 1.0)).round() as usize;
        let (held_out, validation) = (count(held_out), count(validation));
        let held_out = examples.split_off(examples.len().saturating_sub(held_out));
        let validation = examples.split_off(examples.len().saturating_sub(validation));
        Self { train: examples, validation, held_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        read_examples(text, &DataLimits { examples: 2, example_bytes: 60, total_bytes: 200 })
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_error_names_line_and_field() {
        let good = "{\"input\":\"a\",\"expected\":1}\n\n";
        assert_eq!(error(&format!("{good}{{\"expected\":1}}")), "line 3: input: is missing");
        assert_eq!(error(&format!("{good}{{\"input\":3}}")), "line 3: input: must be text or an object");
        assert_eq!(error("{\"input\":\"a\",\"answer\":1}"), "line 1: answer: is not a field of an example");
        assert_eq!(error("{\"input\":\"a\",\"id\":1}"), "line 1: id: must be text of 1 to 200 bytes");
        assert!(error("{\"input\"").starts_with("line 1: (line): not JSON: "));
        assert_eq!(error("[1]"), "line 1: (line): must be an object with `input` and `expected`");
        assert_eq!(error(&good.repeat(3)), "line 5: (all): more than 2 examples");
        assert_eq!(error(&format!("\"{}\"", "a".repeat(60))), "line 1: (line): 62 bytes, 60 are allowed");
        assert_eq!(error(&"a".repeat(201)), "line 1: (all): 201 bytes of data, 200 are allowed");
    }

    #[test]
    fn a_split_loses_nothing_and_is_the_same_again() {
        let examples: Vec<_> = (0..10).map(|n| Example::new(n.to_string(), n.to_string(), n)).collect();
        let sets = Dataset::split(examples.clone(), 0.3, 0.2, 5);
        assert_eq!((sets.train.len(), sets.validation.len(), sets.held_out.len()), (5, 3, 2));
        assert_eq!(sets, Dataset::split(examples, 0.3, 0.2, 5));
    }
}
