//! A JSON Schema, read once.
//!
//! What is read: every assertion and applicator of draft 2020-12 that structured output knows, `$ref` to
//! places of the same schema, and of OpenAPI `nullable` and type names in capitals, as Gemini spells
//! them. `format` and what else only annotates is passed over. A keyword that would be an assertion and is
//! not read is refused by name: a schema that was half understood would let pass what it forbids.

use std::collections::{BTreeMap, HashMap};

use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// A schema that cannot be used: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct SchemaError {
    /// The place in the schema, as a JSON pointer.
    pub place: String,
    /// Why.
    pub why: String,
}

/// A type, as a bit.
pub(super) mod types {
    pub(in super::super) const NULL: u8 = 1;
    pub(in super::super) const BOOLEAN: u8 = 2;
    pub(in super::super) const INTEGER: u8 = 4;
    pub(in super::super) const NUMBER: u8 = 8;
    pub(in super::super) const STRING: u8 = 16;
    pub(in super::super) const ARRAY: u8 = 32;
    pub(in super::super) const OBJECT: u8 = 64;

    pub(in super::super) const NAMES: [(u8, &str); 7] = [
        (NULL, "null"),
        (BOOLEAN, "boolean"),
        (INTEGER, "integer"),
        (NUMBER, "number"),
        (STRING, "string"),
        (ARRAY, "array"),
        (OBJECT, "object"),
    ];
}

/// A schema by its number.
pub(super) type Id = usize;

/// What one schema asserts.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// `false`: nothing fits.
    pub(super) never: bool,
    /// Types, as bits; 0 for any.
    pub(super) types: u8,
    pub(super) one_of_values: Option<Vec<Value>>,
    pub(super) number: Option<Box<NumberRules>>,
    pub(super) string: Option<Box<StringRules>>,
    pub(super) array: Option<Box<ArrayRules>>,
    pub(super) object: Option<Box<ObjectRules>>,
    pub(super) reference: Option<Id>,
    pub(super) all_of: Vec<Id>,
    pub(super) any_of: Option<Vec<Id>>,
    pub(super) one_of: Option<Vec<Id>>,
    pub(super) not: Option<Id>,
    /// `if`, `then`, `else`.
    pub(super) condition: Option<(Id, Option<Id>, Option<Id>)>,
}

#[derive(Debug, Default)]
pub(super) struct NumberRules {
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) above: Option<f64>,
    pub(super) below: Option<f64>,
    pub(super) multiple_of: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct StringRules {
    pub(super) shortest: Option<u64>,
    pub(super) longest: Option<u64>,
    pub(super) pattern: Option<Regex>,
}

#[derive(Debug, Default)]
pub(super) struct ArrayRules {
    pub(super) prefix: Vec<Id>,
    pub(super) items: Option<Id>,
    pub(super) contains: Option<(Id, u64, Option<u64>)>,
    pub(super) fewest: Option<u64>,
    pub(super) most: Option<u64>,
    pub(super) unique: bool,
}

#[derive(Debug, Default)]
pub(super) struct ObjectRules {
    pub(super) properties: BTreeMap<String, Id>,
    pub(super) patterns: Vec<(Regex, Id)>,
    pub(super) additional: Option<Id>,
    pub(super) names: Option<Id>,
    pub(super) required: Vec<String>,
    /// What a member wants beside itself.
    pub(super) dependent: BTreeMap<String, Vec<String>>,
    pub(super) fewest: Option<u64>,
    pub(super) most: Option<u64>,
}

/// Keywords that say nothing about what fits.
const ANNOTATIONS: [&str; 22] = [
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
    "contentEncoding",
    "contentMediaType",
    "propertyOrdering",
    "nullable",
    "minContains",
    "maxContains",
    "then",
];

/// Keywords by the type of what they say something about.
const NUMBERS: [&str; 5] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const TEXTS: [&str; 3] = ["minLength", "maxLength", "pattern"];
const ARRAYS: [&str; 6] = ["prefixItems", "items", "contains", "minItems", "maxItems", "uniqueItems"];
const OBJECTS: [&str; 8] = [
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "required",
    "dependentRequired",
    "minProperties",
    "maxProperties",
];

/// The deepest nesting of a schema that is read.
const DEEPEST: usize = 64;
/// The most schemas in one.
const MOST: usize = 10_000;

/// Reads a schema: its root is the first of the nodes.
pub(super) fn compile(schema: &Value) -> Result<Vec<Node>, SchemaError> {
    let mut compiler = Compiler { root: schema, nodes: Vec::new(), known: HashMap::new() };
    compiler.at("#".to_owned(), schema, 0)?;
    Ok(compiler.nodes)
}

struct Compiler<'s> {
    root: &'s Value,
    nodes: Vec<Node>,
    /// Schemas by their places.
    known: HashMap<String, Id>,
}

fn error(place: &str, why: impl Into<String>) -> SchemaError {
    SchemaError { place: place.to_owned(), why: why.into() }
}

fn count(place: &str, value: &Value) -> Result<u64, SchemaError> {
    let whole = value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0);
    whole.map(|number| number as u64).ok_or_else(|| error(place, "it must be a whole number"))
}

fn number(place: &str, value: &Value) -> Result<f64, SchemaError> {
    value.as_f64().ok_or_else(|| error(place, "it must be a number"))
}

fn strings(place: &str, value: &Value) -> Result<Vec<String>, SchemaError> {
    let strings =
        value.as_array().and_then(|all| all.iter().map(|one| Some(one.as_str()?.to_owned())).collect());
    strings.ok_or_else(|| error(place, "it must be a list of strings"))
}

fn pattern(place: &str, text: &str) -> Result<Regex, SchemaError> {
    let built = RegexBuilder::new(text).unicode(false).size_limit(1 << 20).build();
    built.map_err(|_| error(place, "it is not a regular expression that can be used (ASCII, no look-around)"))
}

impl Compiler<'_> {
    /// The schema at a place.
    fn at(&mut self, place: String, schema: &Value, depth: usize) -> Result<Id, SchemaError> {
        if let Some(id) = self.known.get(&place) {
            return Ok(*id);
        }
        if depth > DEEPEST || self.nodes.len() >= MOST {
            return Err(error(&place, "the schema is too large"));
        }
        let id = self.nodes.len();
        self.nodes.push(Node::default());
        self.known.insert(place.clone(), id);
        let node = match schema {
            Value::Bool(any) => Node { never: !any, ..Node::default() },
            Value::Object(members) => self.node(&place, members, depth + 1)?,
            _ => return Err(error(&place, "a schema is an object, true or false")),
        };
        if let Some(slot) = self.nodes.get_mut(id) {
            *slot = node;
        }
        Ok(id)
    }

    fn node(&mut self, place: &str, members: &Map<String, Value>, depth: usize) -> Result<Node, SchemaError> {
        let mut node = Node::default();
        for (key, value) in members {
            let here = format!("{place}/{key}");
            let known = self.general(&mut node, &here, key, value, depth)?
                || numbers(&mut node, &here, key, value)?
                || texts(&mut node, &here, key, value)?
                || self.arrays(&mut node, &here, key, value, members, depth)?
                || self.objects(&mut node, &here, key, value, depth)?;
            if !known && !ANNOTATIONS.contains(&key.as_str()) && key != "else" {
                return Err(error(&here, "this keyword is not read"));
            }
        }
        if let Some(condition) = members.get("if") {
            let mut branch = |name: &str| -> Result<Option<Id>, SchemaError> {
                members.get(name).map(|one| self.at(format!("{place}/{name}"), one, depth)).transpose()
            };
            let (then, otherwise) = (branch("then")?, branch("else")?);
            node.condition = Some((self.at(format!("{place}/if"), condition, depth)?, then, otherwise));
        }
        if members.get("nullable").and_then(Value::as_bool) == Some(true) && node.types != 0 {
            node.types |= types::NULL;
        }
        Ok(node)
    }

    /// A list of schemas.
    fn list(&mut self, here: &str, value: &Value, depth: usize) -> Result<Vec<Id>, SchemaError> {
        let all = value.as_array().ok_or_else(|| error(here, "it must be a list of schemas"))?;
        all.iter().enumerate().map(|(index, one)| self.at(format!("{here}/{index}"), one, depth)).collect()
    }

    /// What is said of a value of any type.
    fn general(
        &mut self,
        node: &mut Node,
        here: &str,
        key: &str,
        value: &Value,
        depth: usize,
    ) -> Result<bool, SchemaError> {
        match key {
            "type" => node.types = type_bits(here, value)?,
            "enum" => {
                let values = value.as_array().ok_or_else(|| error(here, "it must be a list"))?;
                node.one_of_values = Some(values.clone());
            }
            "const" => node.one_of_values = Some(vec![value.clone()]),
            "$ref" => node.reference = Some(self.referred(here, value, depth)?),
            "allOf" => node.all_of = self.list(here, value, depth)?,
            "anyOf" => node.any_of = Some(self.list(here, value, depth)?),
            "oneOf" => node.one_of = Some(self.list(here, value, depth)?),
            "not" => node.not = Some(self.at(here.to_owned(), value, depth)?),
            "if" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The schema that a reference leads to.
    fn referred(&mut self, here: &str, value: &Value, depth: usize) -> Result<Id, SchemaError> {
        let place = value.as_str().ok_or_else(|| error(here, "it must be a string"))?;
        let pointer =
            place.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer =
            pointer.ok_or_else(|| error(here, "only places of the same schema can be referred to"))?;
        let root = self.root;
        let target = root.pointer(pointer).ok_or_else(|| error(here, "it leads nowhere"))?;
        self.at(place.to_owned(), target, depth)
    }

    fn arrays(
        &mut self,
        node: &mut Node,
        here: &str,
        key: &str,
        value: &Value,
        members: &Map<String, Value>,
        depth: usize,
    ) -> Result<bool, SchemaError> {
        if !ARRAYS.contains(&key) {
            return Ok(false);
        }
        let rules = node.array.get_or_insert_default();
        match key {
            "prefixItems" => rules.prefix = self.list(here, value, depth)?,
            "items" => rules.items = Some(self.at(here.to_owned(), value, depth)?),
            "contains" => {
                let bound = |name: &str| members.get(name).map(|bound| count(here, bound)).transpose();
                let (fewest, most) = (bound("minContains")?.unwrap_or(1), bound("maxContains")?);
                rules.contains = Some((self.at(here.to_owned(), value, depth)?, fewest, most));
            }
            "minItems" => rules.fewest = Some(count(here, value)?),
            "maxItems" => rules.most = Some(count(here, value)?),
            "uniqueItems" => rules.unique = value.as_bool().unwrap_or(false),
            _ => {}
        }
        Ok(true)
    }

    fn objects(
        &mut self,
        node: &mut Node,
        here: &str,
        key: &str,
        value: &Value,
        depth: usize,
    ) -> Result<bool, SchemaError> {
        if !OBJECTS.contains(&key) {
            return Ok(false);
        }
        let rules = node.object.get_or_insert_default();
        let members = || value.as_object().ok_or_else(|| error(here, "it must be an object"));
        match key {
            "properties" => {
                for (name, schema) in members()? {
                    let escaped = name.replace('~', "~0").replace('/', "~1");
                    let id = self.at(format!("{here}/{escaped}"), schema, depth)?;
                    rules.properties.insert(name.clone(), id);
                }
            }
            "patternProperties" => {
                for (name, schema) in members()? {
                    let id = self.at(format!("{here}/{name}"), schema, depth)?;
                    rules.patterns.push((pattern(here, name)?, id));
                }
            }
            "additionalProperties" => rules.additional = Some(self.at(here.to_owned(), value, depth)?),
            "propertyNames" => rules.names = Some(self.at(here.to_owned(), value, depth)?),
            "required" => rules.required = strings(here, value)?,
            "dependentRequired" => {
                for (name, wanted) in members()? {
                    rules.dependent.insert(name.clone(), strings(here, wanted)?);
                }
            }
            "minProperties" => rules.fewest = Some(count(here, value)?),
            "maxProperties" => rules.most = Some(count(here, value)?),
            _ => {}
        }
        Ok(true)
    }
}

fn type_bits(here: &str, value: &Value) -> Result<u8, SchemaError> {
    let one = |value: &Value| {
        let name = value.as_str()?.to_ascii_lowercase();
        types::NAMES.iter().find(|(_, known)| *known == name).map(|(bit, _)| *bit)
    };
    let bits = match value {
        Value::Array(all) => all.iter().try_fold(0, |bits, value| Some(bits | one(value)?)),
        value => one(value),
    };
    bits.filter(|bits| *bits != 0).ok_or_else(|| error(here, "there is no such type"))
}

fn numbers(node: &mut Node, here: &str, key: &str, value: &Value) -> Result<bool, SchemaError> {
    if !NUMBERS.contains(&key) {
        return Ok(false);
    }
    let rules = node.number.get_or_insert_default();
    let bound = match key {
        "minimum" => &mut rules.minimum,
        "maximum" => &mut rules.maximum,
        "exclusiveMinimum" => &mut rules.above,
        "exclusiveMaximum" => &mut rules.below,
        _ => &mut rules.multiple_of,
    };
    *bound = Some(number(here, value)?);
    if rules.multiple_of.is_some_and(|step| step <= 0.0) {
        return Err(error(here, "it must be above zero"));
    }
    Ok(true)
}

fn texts(node: &mut Node, here: &str, key: &str, value: &Value) -> Result<bool, SchemaError> {
    if !TEXTS.contains(&key) {
        return Ok(false);
    }
    let rules = node.string.get_or_insert_default();
    match key {
        "minLength" => rules.shortest = Some(count(here, value)?),
        "maxLength" => rules.longest = Some(count(here, value)?),
        "pattern" => {
            let text = value.as_str().ok_or_else(|| error(here, "it must be a string"))?;
            rules.pattern = Some(pattern(here, text)?);
        }
        _ => {}
    }
    Ok(true)
}
