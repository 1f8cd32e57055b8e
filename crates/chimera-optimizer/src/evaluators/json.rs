//! Outputs that should be JSON.

use std::future::ready;

use chimera_json_schema::Schema;
use serde_json::Value;

use super::{short, text::at_once};
use crate::{
    error::TaskError,
    evaluator::{Case, Evaluator, Judgement},
    fence,
    model::CallError,
};

/// The share of fields of the expected object that the output has with equal values. Other fields of the
/// output do not matter.
#[derive(Debug, Clone, Default)]
pub struct JsonFields {
    /// The fields looked at; all of the expected object when empty.
    pub only: Vec<String>,
}

impl JsonFields {
    fn judge(&self, case: Case<'_>) -> Judgement {
        let output = match parse(case.output) {
            Ok(output) => output,
            Err(judgement) => return judgement,
        };
        let expected = case.example.expected();
        let Some(fields) = expected.as_object() else {
            return Judgement::passed(equal(expected, &output), || {
                format!("Expected {}, the output was {}.", short(&expected.to_string()), short(case.output))
            });
        };
        let looked_at: Vec<_> =
            fields.iter().filter(|(name, _)| self.only.is_empty() || self.only.contains(name)).collect();
        let wrong: Vec<String> = looked_at
            .iter()
            .filter_map(|(name, want)| match output.get(name) {
                Some(have) if equal(want, have) => None,
                Some(have) => Some(format!("`{name}` should be {want}, was {}", short(&have.to_string()))),
                None => Some(format!("`{name}` should be {want}, is missing")),
            })
            .collect();
        if wrong.is_empty() {
            return Judgement::new(1.0, "");
        }
        let score = 1.0 - wrong.len() as f64 / looked_at.len() as f64;
        Judgement::new(score, format!("Of the fields, {}.", wrong.join("; ")))
    }
}
at_once!(JsonFields);

/// The output is JSON that a schema allows.
#[derive(Debug, Clone)]
pub struct JsonSchema(Schema);

impl JsonSchema {
    /// Reads a schema. A keyword that is not understood is refused by its place rather than passed over.
    pub fn new(schema: &Value) -> Result<Self, TaskError> {
        Schema::new(schema).map(Self).map_err(|error| TaskError::new("schema", error.to_string()))
    }

    fn judge(&self, case: Case<'_>) -> Judgement {
        match parse(case.output) {
            Ok(output) => match self.0.check(&output) {
                Ok(()) => Judgement::new(1.0, ""),
                Err(misfit) => {
                    Judgement::new(0.0, format!("The output is not what the schema asks for: at {misfit}."))
                }
            },
            Err(judgement) => judgement,
        }
    }
}
at_once!(JsonSchema);

/// The JSON of an output, which may stand in a fence.
fn parse(output: &str) -> Result<Value, Judgement> {
    let text = fence::inside(output).unwrap_or(output);
    serde_json::from_str(text.trim()).map_err(|error| {
        Judgement::new(0.0, format!("The output is not JSON ({error}): `{}`.", short(output)))
    })
}

/// Equality that does not tell 1 from 1.0.
fn equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| equal(one, other)))
        }
        (one, other) => one == other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dataset::Example;

    #[test]
    fn fields_are_counted_and_named() {
        let example = Example::new("1", "in", json!({"a": 1, "b": ["x"], "c": null}));
        let judge = |only: &[&str], output: &str| {
            JsonFields { only: only.iter().map(|name| (*name).to_owned()).collect() }
                .judge(Case { example: &example, output })
        };
        assert_eq!(judge(&[], "```json\n{\"a\":1.0,\"b\":[\"x\"],\"c\":null,\"d\":0}\n```").score, 1.0);
        let half = judge(&["a", "b"], "{\"a\":2,\"b\":[\"x\"]}");
        assert_eq!((half.score, &*half.feedback), (0.5, "Of the fields, `a` should be 1, was 2."));
        assert_eq!(judge(&[], "no").score, 0.0);
    }

    #[test]
    fn a_schema_says_where() {
        let schema = JsonSchema::new(&json!({
            "type": "object", "required": ["n"],
            "properties": {"n": {"type": "integer", "minimum": 1}}
        }))
        .unwrap();
        let example = Example::new("1", "in", Value::Null);
        let judge = |output: &str| schema.judge(Case { example: &example, output });
        assert_eq!(judge("{\"n\": 3}").score, 1.0);
        let wrong = judge("{\"n\": 0}");
        assert_eq!(
            wrong.feedback,
            "The output is not what the schema asks for: at $.n: it must be at least 1."
        );
    }
}
