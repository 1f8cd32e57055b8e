//! A JSON Schema, read once.

use std::collections::{BTreeMap, HashMap};

use regex::bytes::{Regex, RegexBuilder};
use serde_json::{Map, Value};

/// A schema that cannot be used: where, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
#[non_exhaustive]
pub struct SchemaError {
    /// The place in the schema, as a JSON pointer.
    pub place: String,
    /// Why.
    pub why: String,
}

/// A type, as a bit.
pub(crate) mod types {
    pub(crate) const NULL: u8 = 1;
    pub(crate) const BOOLEAN: u8 = 2;
    pub(crate) const INTEGER: u8 = 4;
    pub(crate) const NUMBER: u8 = 8;
    pub(crate) const STRING: u8 = 16;
    pub(crate) const ARRAY: u8 = 32;
    pub(crate) const OBJECT: u8 = 64;

    pub(crate) const NAMES: [(u8, &str); 7] = [
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
pub(crate) type Id = usize;

/// What one schema asserts.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// `false`: nothing fits.
    pub(crate) never: bool,
    /// Types, as bits; 0 for any.
    pub(crate) types: u8,
    pub(crate) one_of_values: Option<Vec<Value>>,
    pub(crate) number: Option<Box<NumberRules>>,
    pub(crate) string: Option<Box<StringRules>>,
    pub(crate) array: Option<Box<ArrayRules>>,
    pub(crate) object: Option<Box<ObjectRules>>,
    pub(crate) reference: Option<Id>,
    pub(crate) all_of: Vec<Id>,
    pub(crate) any_of: Option<Vec<Id>>,
    pub(crate) one_of: Option<Vec<Id>>,
    pub(crate) not: Option<Id>,
    /// `if`, `then`, `else`.
    pub(crate) condition: Option<(Id, Option<Id>, Option<Id>)>,
}

#[derive(Debug, Default)]
pub(crate) struct NumberRules {
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) above: Option<f64>,
    pub(crate) below: Option<f64>,
    pub(crate) multiple_of: Option<f64>,
}

#[derive(Debug, Default)]
pub(crate) struct StringRules {
    pub(crate) shortest: Option<u64>,
    pub(crate) longest: Option<u64>,
    pub(crate) pattern: Option<Regex>,
}

#[derive(Debug, Default)]
pub(crate) struct ArrayRules {
    pub(crate) prefix: Vec<Id>,
    pub(crate) items: Option<Id>,
    pub(crate) contains: Option<(Id, u64, Option<u64>)>,
    pub(crate) fewest: Option<u64>,
    pub(crate) most: Option<u64>,
    pub(crate) unique: bool,
}

#[derive(Debug, Default)]
pub(crate) struct ObjectRules {
    pub(crate) properties: BTreeMap<String, Id>,
    pub(crate) patterns: Vec<(Regex, Id)>,
    pub(crate) additional: Option<Id>,
    pub(crate) names: Option<Id>,
    pub(crate) required: Vec<String>,
    /// What a member wants beside itself.
    pub(crate) dependent: BTreeMap<String, Vec<String>>,
    pub(crate) fewest: Option<u64>,
    pub(crate) most: Option<u64>,
}

/// Keywords that say nothing about what fits.
const ANNOTATIONS: [&str; 23] = [
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
    "else",
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
pub(crate) fn compile(schema: &Value) -> Result<Vec<Node>, SchemaError> {
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

/// A keyword of a schema.
struct Keyword<'a> {
    key: &'a str,
    value: &'a Value,
    /// Its place.
    here: String,
    /// All keywords of the same schema.
    beside: &'a Map<String, Value>,
    depth: usize,
}

impl Keyword<'_> {
    fn error(&self, why: &str) -> SchemaError {
        error(&self.here, why)
    }

    fn count(&self) -> Result<u64, SchemaError> {
        count(&self.here, self.value)
    }

    fn members(&self) -> Result<&Map<String, Value>, SchemaError> {
        self.value.as_object().ok_or_else(|| self.error("it must be an object"))
    }
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
            let word = Keyword { key, value, here: format!("{place}/{key}"), beside: members, depth };
            let known = self.general(&mut node, &word)?
                || numbers(&mut node, &word)?
                || texts(&mut node, &word)?
                || self.arrays(&mut node, &word)?
                || self.objects(&mut node, &word)?;
            if !known && !ANNOTATIONS.contains(&word.key) {
                return Err(word.error("this keyword is not read"));
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
    fn list(&mut self, word: &Keyword<'_>) -> Result<Vec<Id>, SchemaError> {
        let all = word.value.as_array().ok_or_else(|| word.error("it must be a list of schemas"))?;
        let place = |index| format!("{}/{index}", word.here);
        all.iter().enumerate().map(|(index, one)| self.at(place(index), one, word.depth)).collect()
    }

    /// A schema.
    fn one(&mut self, word: &Keyword<'_>) -> Result<Id, SchemaError> {
        self.at(word.here.clone(), word.value, word.depth)
    }

    /// What is said of a value of any type.
    fn general(&mut self, node: &mut Node, word: &Keyword<'_>) -> Result<bool, SchemaError> {
        match word.key {
            "type" => node.types = type_bits(word)?,
            "enum" => {
                let values = word.value.as_array().ok_or_else(|| word.error("it must be a list"))?;
                node.one_of_values = Some(values.clone());
            }
            "const" => node.one_of_values = Some(vec![word.value.clone()]),
            "$ref" => node.reference = Some(self.referred(word)?),
            "allOf" => node.all_of = self.list(word)?,
            "anyOf" => node.any_of = Some(self.list(word)?),
            "oneOf" => node.one_of = Some(self.list(word)?),
            "not" => node.not = Some(self.one(word)?),
            "if" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The schema that a reference leads to.
    fn referred(&mut self, word: &Keyword<'_>) -> Result<Id, SchemaError> {
        let place = word.value.as_str().ok_or_else(|| word.error("it must be a string"))?;
        let pointer =
            place.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
        let pointer =
            pointer.ok_or_else(|| word.error("only places of the same schema can be referred to"))?;
        let root = self.root;
        let target = root.pointer(pointer).ok_or_else(|| word.error("it leads nowhere"))?;
        self.at(place.to_owned(), target, word.depth)
    }

    fn arrays(&mut self, node: &mut Node, word: &Keyword<'_>) -> Result<bool, SchemaError> {
        if !ARRAYS.contains(&word.key) {
            return Ok(false);
        }
        let rules = node.array.get_or_insert_default();
        match word.key {
            "prefixItems" => rules.prefix = self.list(word)?,
            "items" => rules.items = Some(self.one(word)?),
            "contains" => {
                let bound =
                    |name: &str| word.beside.get(name).map(|bound| count(&word.here, bound)).transpose();
                let (fewest, most) = (bound("minContains")?.unwrap_or(1), bound("maxContains")?);
                rules.contains = Some((self.one(word)?, fewest, most));
            }
            "minItems" => rules.fewest = Some(word.count()?),
            "maxItems" => rules.most = Some(word.count()?),
            "uniqueItems" => rules.unique = word.value.as_bool().unwrap_or(false),
            _ => {}
        }
        Ok(true)
    }

    fn objects(&mut self, node: &mut Node, word: &Keyword<'_>) -> Result<bool, SchemaError> {
        if !OBJECTS.contains(&word.key) {
            return Ok(false);
        }
        let rules = node.object.get_or_insert_default();
        match word.key {
            "properties" => {
                for (name, schema) in word.members()? {
                    let escaped = name.replace('~', "~0").replace('/', "~1");
                    let id = self.at(format!("{}/{escaped}", word.here), schema, word.depth)?;
                    rules.properties.insert(name.clone(), id);
                }
            }
            "patternProperties" => {
                for (name, schema) in word.members()? {
                    let id = self.at(format!("{}/{name}", word.here), schema, word.depth)?;
                    rules.patterns.push((pattern(&word.here, name)?, id));
                }
            }
            "additionalProperties" => rules.additional = Some(self.one(word)?),
            "propertyNames" => rules.names = Some(self.one(word)?),
            "required" => rules.required = strings(&word.here, word.value)?,
            "dependentRequired" => {
                for (name, wanted) in word.members()? {
                    rules.dependent.insert(name.clone(), strings(&word.here, wanted)?);
                }
            }
            "minProperties" => rules.fewest = Some(word.count()?),
            "maxProperties" => rules.most = Some(word.count()?),
            _ => {}
        }
        Ok(true)
    }
}

fn type_bits(word: &Keyword<'_>) -> Result<u8, SchemaError> {
    let one = |value: &Value| {
        let name = value.as_str()?.to_ascii_lowercase();
        types::NAMES.iter().find(|(_, known)| *known == name).map(|(bit, _)| *bit)
    };
    let bits = match word.value {
        Value::Array(all) => all.iter().try_fold(0, |bits, value| Some(bits | one(value)?)),
        value => one(value),
    };
    bits.filter(|bits| *bits != 0).ok_or_else(|| word.error("there is no such type"))
}

fn numbers(node: &mut Node, word: &Keyword<'_>) -> Result<bool, SchemaError> {
    if !NUMBERS.contains(&word.key) {
        return Ok(false);
    }
    let rules = node.number.get_or_insert_default();
    let bound = match word.key {
        "minimum" => &mut rules.minimum,
        "maximum" => &mut rules.maximum,
        "exclusiveMinimum" => &mut rules.above,
        "exclusiveMaximum" => &mut rules.below,
        _ => &mut rules.multiple_of,
    };
    *bound = Some(number(&word.here, word.value)?);
    if rules.multiple_of.is_some_and(|step| step <= 0.0) {
        return Err(word.error("it must be above zero"));
    }
    Ok(true)
}

fn texts(node: &mut Node, word: &Keyword<'_>) -> Result<bool, SchemaError> {
    if !TEXTS.contains(&word.key) {
        return Ok(false);
    }
    let rules = node.string.get_or_insert_default();
    match word.key {
        "minLength" => rules.shortest = Some(word.count()?),
        "maxLength" => rules.longest = Some(word.count()?),
        "pattern" => {
            let text = word.value.as_str().ok_or_else(|| word.error("it must be a string"))?;
            rules.pattern = Some(pattern(&word.here, text)?);
        }
        _ => {}
    }
    Ok(true)
}
