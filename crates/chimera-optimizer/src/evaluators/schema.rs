//! The part of JSON Schema that describes a value by itself. A validator of all of it brings forty crates
//! and fetches references over the network; what is not understood here is refused when the schema is read.

use regex::Regex;
use serde_json::{Map, Value};

use super::json::equal;
use crate::error::TaskError;

/// Words that say something about a schema and nothing about a value.
const NOTES: &[&str] =
    &["$schema", "$id", "$comment", "title", "description", "default", "examples", "format"];

/// Schemas nested deeper are refused.
const DEEPEST: usize = 32;

/// A schema that was read.
#[derive(Debug, Clone)]
pub(super) enum Schema {
    Anything,
    Nothing,
    Rules(Vec<Rule>),
}

#[derive(Debug, Clone)]
pub(super) enum Rule {
    Types(Vec<String>),
    OneOfValues(Vec<Value>),
    Properties(Vec<(String, Schema)>, Option<Box<Schema>>),
    Required(Vec<String>),
    Items(Box<Schema>),
    Length(&'static str, u64),
    Bound(&'static str, f64),
    Pattern(Regex),
    Unique,
    All(Vec<Schema>),
    Any(Vec<Schema>),
    One(Vec<Schema>),
    Not(Box<Schema>),
}

impl Schema {
    pub(super) fn new(value: &Value) -> Result<Self, TaskError> {
        read(value, "schema", 0)
    }

    /// The first thing that is wrong with a value, if anything is.
    pub(super) fn fault(&self, value: &Value) -> Option<String> {
        self.at("", value)
    }

    fn at(&self, path: &str, value: &Value) -> Option<String> {
        match self {
            Self::Anything => None,
            Self::Nothing => Some(format!("{} is not allowed", shown(path))),
            Self::Rules(rules) => rules.iter().find_map(|rule| rule.fault(path, value)),
        }
    }
}

impl Rule {
    fn fault(&self, path: &str, value: &Value) -> Option<String> {
        let wrong = |why: String| Some(format!("{} {why}", shown(path)));
        match self {
            Self::Types(types) if !types.iter().any(|kind| is(kind, value)) => {
                wrong(format!("is not of type {}", types.join(" or ")))
            }
            Self::OneOfValues(values) if !values.iter().any(|one| equal(one, value)) => {
                wrong("is none of the values allowed".into())
            }
            Self::Properties(known, others) => properties(path, value, known, others.as_deref()),
            Self::Required(names) => {
                let fields = value.as_object()?;
                let missing = names.iter().find(|name| !fields.contains_key(*name))?;
                wrong(format!("lacks `{missing}`"))
            }
            Self::Items(schema) => value
                .as_array()?
                .iter()
                .enumerate()
                .find_map(|(place, item)| schema.at(&format!("{path}/{place}"), item)),
            Self::Length(word, bound) => length(word, *bound, value).and_then(wrong),
            Self::Bound(word, bound) => bounds(word, *bound, value.as_f64()?).and_then(wrong),
            Self::Pattern(pattern) if !pattern.is_match(value.as_str()?) => {
                wrong(format!("does not match `{}`", pattern.as_str()))
            }
            Self::Unique => {
                let items = value.as_array()?;
                let twice = items
                    .iter()
                    .enumerate()
                    .any(|(place, item)| items.iter().take(place).any(|earlier| equal(earlier, item)));
                if twice { wrong("has an item twice".into()) } else { None }
            }
            Self::All(schemas) => schemas.iter().find_map(|schema| schema.at(path, value)),
            Self::Any(schemas) if schemas.iter().all(|schema| schema.at(path, value).is_some()) => {
                wrong("fits none of the alternatives".into())
            }
            Self::One(schemas) => {
                let fits = schemas.iter().filter(|schema| schema.at(path, value).is_none()).count();
                if fits == 1 { None } else { wrong(format!("fits {fits} of the alternatives, not one")) }
            }
            Self::Not(schema) if schema.at(path, value).is_none() => wrong("is what is not allowed".into()),
            _ => None,
        }
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "the value" } else { path }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        _ => value.as_f64().is_some_and(|number| number.fract() == 0.0),
    }
}

fn properties(
    path: &str,
    value: &Value,
    known: &[(String, Schema)],
    others: Option<&Schema>,
) -> Option<String> {
    value.as_object()?.iter().find_map(|(name, value)| {
        let schema = known.iter().find(|(known, _)| known == name).map(|(_, schema)| schema).or(others)?;
        schema.at(&format!("{path}/{name}"), value)
    })
}

fn length(word: &str, bound: u64, value: &Value) -> Option<String> {
    let length = match word {
        "minLength" | "maxLength" => value.as_str()?.chars().count(),
        "minItems" | "maxItems" => value.as_array()?.len(),
        _ => value.as_object()?.len(),
    } as u64;
    if word.starts_with("min") && length < bound {
        return Some(format!("has {length}, at least {bound} are wanted"));
    }
    (word.starts_with("max") && length > bound).then(|| format!("has {length}, at most {bound} are wanted"))
}

fn bounds(word: &str, bound: f64, value: f64) -> Option<String> {
    match word {
        "minimum" if value < bound => Some(format!("is below {bound}")),
        "maximum" if value > bound => Some(format!("is above {bound}")),
        "exclusiveMinimum" if value <= bound => Some(format!("is not above {bound}")),
        "exclusiveMaximum" if value >= bound => Some(format!("is not below {bound}")),
        _ => None,
    }
}

fn read(value: &Value, path: &str, depth: usize) -> Result<Schema, TaskError> {
    let wrong = |why: &str| TaskError::new(path, why);
    if depth > DEEPEST {
        return Err(wrong("nested too deep"));
    }
    match value {
        Value::Bool(true) => Ok(Schema::Anything),
        Value::Bool(false) => Ok(Schema::Nothing),
        Value::Object(words) => {
            let mut rules = Vec::new();
            for (word, value) in words {
                if !NOTES.contains(&word.as_str()) && word != "additionalProperties" {
                    rules.push(rule(word, value, words, &format!("{path}.{word}"), depth)?);
                }
            }
            if words.contains_key("additionalProperties") && !words.contains_key("properties") {
                rules.push(rule("properties", &Value::Object(Map::new()), words, path, depth)?);
            }
            Ok(Schema::Rules(rules))
        }
        _ => Err(wrong("a schema is an object, true or false")),
    }
}

fn rule(
    word: &str,
    value: &Value,
    beside: &Map<String, Value>,
    path: &str,
    depth: usize,
) -> Result<Rule, TaskError> {
    let wrong = |why: &str| TaskError::new(path, why);
    let number = || value.as_f64().ok_or_else(|| wrong("must be a number"));
    let count = || value.as_u64().ok_or_else(|| wrong("must be a whole number"));
    let inner = || read(value, path, depth + 1).map(Box::new);
    let list = || -> Result<Vec<Schema>, TaskError> {
        let schemas = value.as_array().ok_or_else(|| wrong("must be a list of schemas"))?;
        schemas.iter().map(|schema| read(schema, path, depth + 1)).collect()
    };
    Ok(match word {
        "type" => Rule::Types(types(value).ok_or_else(|| wrong("must be a type, or a list of types"))?),
        "enum" => Rule::OneOfValues(value.as_array().ok_or_else(|| wrong("must be a list"))?.clone()),
        "const" => Rule::OneOfValues(vec![value.clone()]),
        "properties" => {
            let fields = value.as_object().ok_or_else(|| wrong("must be an object"))?;
            let known = fields
                .iter()
                .map(|(name, schema)| Ok((name.clone(), read(schema, &format!("{path}.{name}"), depth + 1)?)))
                .collect::<Result<_, TaskError>>()?;
            let others = beside.get("additionalProperties");
            Rule::Properties(
                known,
                others.map(|schema| read(schema, path, depth + 1)).transpose()?.map(Box::new),
            )
        }
        "required" => Rule::Required(texts(value).ok_or_else(|| wrong("must be a list of names"))?),
        "items" => Rule::Items(inner()?),
        "minLength" => Rule::Length("minLength", count()?),
        "maxLength" => Rule::Length("maxLength", count()?),
        "minItems" => Rule::Length("minItems", count()?),
        "maxItems" => Rule::Length("maxItems", count()?),
        "minProperties" => Rule::Length("minProperties", count()?),
        "maxProperties" => Rule::Length("maxProperties", count()?),
        "minimum" => Rule::Bound("minimum", number()?),
        "maximum" => Rule::Bound("maximum", number()?),
        "exclusiveMinimum" => Rule::Bound("exclusiveMinimum", number()?),
        "exclusiveMaximum" => Rule::Bound("exclusiveMaximum", number()?),
        "pattern" => {
            let pattern = value.as_str().ok_or_else(|| wrong("must be text"))?;
            Rule::Pattern(Regex::new(pattern).map_err(|error| TaskError::new(path, error.to_string()))?)
        }
        "uniqueItems" if value == &Value::Bool(true) => Rule::Unique,
        "uniqueItems" => Rule::All(Vec::new()),
        "allOf" => Rule::All(list()?),
        "anyOf" => Rule::Any(list()?),
        "oneOf" => Rule::One(list()?),
        "not" => Rule::Not(inner()?),
        _ => return Err(wrong("this keyword is not supported")),
    })
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

fn types(value: &Value) -> Option<Vec<String>> {
    const ALL: &[&str] = &["null", "boolean", "object", "array", "string", "number", "integer"];
    let types = value.as_str().map(|one| vec![one.to_owned()]).or_else(|| texts(value))?;
    types.iter().all(|kind| ALL.contains(&kind.as_str())).then_some(types)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let error = |schema: Value| Schema::new(&schema).unwrap_err().to_string();
        assert_eq!(error(json!({"$ref": "#/x"})), "schema.$ref: this keyword is not supported");
        assert_eq!(
            error(json!({"properties": {"a": {"type": "text"}}})),
            "schema.properties.a.type: must be a type, or a list of types"
        );
        assert_eq!(error(json!(3)), "schema: a schema is an object, true or false");
    }

    #[test]
    fn each_keyword_finds_its_fault() {
        let rows = [
            (json!({"type": ["string", "null"]}), json!(1), Some("the value is not of type string or null")),
            (json!({"type": "integer"}), json!(2.0), None),
            (json!({"enum": [1, "a"]}), json!(1.0), None),
            (json!({"const": "a"}), json!("b"), Some("the value is none of the values allowed")),
            (json!({"additionalProperties": false}), json!({"x": 1}), Some("/x is not allowed")),
            (
                json!({"properties": {"a": true}, "additionalProperties": {"type": "null"}}),
                json!({"a": 1, "b": 2}),
                Some("/b is not of type null"),
            ),
            (json!({"required": ["a"]}), json!({}), Some("the value lacks `a`")),
            (json!({"items": {"maxLength": 1}}), json!(["a", "bc"]), Some("/1 has 2, at most 1 are wanted")),
            (json!({"minItems": 1}), json!([]), Some("the value has 0, at least 1 are wanted")),
            (json!({"exclusiveMaximum": 3}), json!(3), Some("the value is not below 3")),
            (json!({"pattern": "^a"}), json!("b"), Some("the value does not match `^a`")),
            (json!({"uniqueItems": true}), json!([1, 1.0]), Some("the value has an item twice")),
            (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!(2), None),
            (json!({"oneOf": [true, true]}), json!(2), Some("the value fits 2 of the alternatives, not one")),
            (json!({"not": {"const": 1}}), json!(1), Some("the value is what is not allowed")),
            (json!({"allOf": [{"minimum": 2}]}), json!(1), Some("the value is below 2")),
        ];
        for (schema, value, fault) in rows {
            assert_eq!(Schema::new(&schema).unwrap().fault(&value).as_deref(), fault, "{schema} {value}");
        }
    }
}
