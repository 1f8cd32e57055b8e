//! The smallest value that a JSON schema admits.

use serde_json::{Map, Value, json};

/// Deeper schemas (or ones that refer to themselves) end in `null`.
const MAX_DEPTH: usize = 24;

/// A value that satisfies `schema`; strings say `topic` where the schema lets them.
pub(crate) fn instance(schema: &Value, topic: &str) -> Value {
    Builder { root: schema, topic }.build(schema, 0)
}

struct Builder<'a> {
    root: &'a Value,
    topic: &'a str,
}

impl Builder<'_> {
    fn build(&self, schema: &Value, depth: usize) -> Value {
        if depth > MAX_DEPTH {
            return Value::Null;
        }
        if let Some(value) = schema.get("const").or_else(|| schema.get("enum")?.get(0)) {
            return value.clone();
        }
        if let Some(target) = self.target(schema) {
            return self.build(target, depth + 1);
        }
        match kind(schema) {
            Some("object") => self.object(schema, depth),
            Some("array") => self.array(schema, depth),
            Some("string") => self.string(schema),
            Some("integer") => integer(schema),
            Some("number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(0.5)),
            Some("boolean") => Value::Bool(true),
            Some("null") => Value::Null,
            _ => json!({}),
        }
    }

    /// The schema that this one stands for: a reference, or the first alternative.
    fn target<'s>(&'s self, schema: &'s Value) -> Option<&'s Value> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.root.pointer(reference.strip_prefix('#')?);
        }
        ["anyOf", "oneOf", "allOf"].iter().find_map(|key| schema.get(key)?.get(0))
    }

    /// Required properties; all of them when the schema does not say which.
    fn object(&self, schema: &Value, depth: usize) -> Value {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return json!({});
        };
        let required = schema.get("required").and_then(Value::as_array);
        let wanted = |name: &str| {
            required.is_none_or(|names| names.iter().any(|wanted| wanted.as_str() == Some(name)))
        };
        let fields: Map<_, _> = properties
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, schema)| (name.clone(), self.build(schema, depth + 1)))
            .collect();
        fields.into()
    }

    fn array(&self, schema: &Value, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).min(64);
        let item = match schema.get("items") {
            Some(items) => self.build(items, depth + 1),
            None => self.topic.into(),
        };
        (0..least).map(|_| item.clone()).collect()
    }

    fn string(&self, schema: &Value) -> Value {
        let fixed = match schema.get("format").and_then(Value::as_str) {
            Some("date") => Some("2025-01-01"),
            Some("date-time") => Some("2025-01-01T00:00:00Z"),
            Some("email") => Some("someone@example.com"),
            Some("uri") => Some("https://example.com/"),
            Some("uuid") => Some("00000000-0000-4000-8000-000000000000"),
            _ => None,
        };
        if let Some(fixed) = fixed {
            return fixed.into();
        }
        let bound = |key| Some(schema.get(key)?.as_u64()?.min(4096) as usize);
        let mut text: String = self.topic.chars().take(bound("maxLength").unwrap_or(64)).collect();
        while text.chars().count() < bound("minLength").unwrap_or(0) {
            text.push('x');
        }
        text.into()
    }
}

/// The type's name in lower case (Gemini shouts), the first when several are allowed.
fn kind(schema: &Value) -> Option<&'static str> {
    const KINDS: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];
    let named = match schema.get("type") {
        Some(Value::Array(names)) => names.first().and_then(Value::as_str),
        Some(name) => name.as_str(),
        None if schema.get("properties").is_some() => Some("object"),
        None => None,
    }?;
    KINDS.into_iter().find(|kind| kind.eq_ignore_ascii_case(named))
}

fn integer(schema: &Value) -> Value {
    let least = schema.get("minimum").and_then(Value::as_i64);
    let above = schema.get("exclusiveMinimum").and_then(Value::as_i64);
    let most = schema.get("maximum").and_then(Value::as_i64).unwrap_or(1);
    let value = least.or(above.map(|n| n.saturating_add(1)));
    value.unwrap_or_else(|| most.min(1)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_its_required_fields() {
        let schema = json!({
            "type": "object", "required": ["city", "days"],
            "properties": {
                "city": {"type": "string"}, "days": {"type": "integer", "minimum": 3},
                "unit": {"enum": ["C", "F"]},
            },
        });
        assert_eq!(instance(&schema, "Oslo"), json!({"city": "Oslo", "days": 3}));
    }

    #[test]
    fn references_and_alternatives_are_followed() {
        let schema = json!({
            "$defs": {"name": {"type": "STRING", "minLength": 3}},
            "type": "OBJECT", "properties": {
                "a": {"$ref": "#/$defs/name"}, "b": {"anyOf": [{"type": "null"}, {"type": "string"}]},
                "c": {"type": ["array", "null"], "items": {"type": "boolean"}, "minItems": 2},
            },
        });
        assert_eq!(instance(&schema, "a"), json!({"a": "axx", "b": null, "c": [true, true]}));
    }

    #[test]
    fn a_schema_that_contains_itself_ends() {
        let schema = json!({"type": "object", "properties": {"again": {"$ref": "#"}}, "required": ["again"]});
        assert!(instance(&schema, "x").is_object());
    }
}
