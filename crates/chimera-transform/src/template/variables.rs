//! The variables of a template, and whether what a request gives fits them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A variable of a template.
#[derive(Debug, Clone, PartialEq)]
pub struct Variable {
    /// What it may be.
    pub kind: VariableKind,
    /// What it is where a request does not say; without, a request must.
    pub default: Option<Value>,
}

/// What a variable may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariableKind {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// A list of anything.
    List,
    /// An object of anything.
    Object,
}

impl VariableKind {
    fn fits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Object => value.is_object(),
        }
    }

    fn wanted(self) -> &'static str {
        match self {
            Self::String => "it must be a string",
            Self::Integer => "it must be a whole number",
            Self::Number => "it must be a number",
            Self::Boolean => "it must be true or false",
            Self::List => "it must be a list",
            Self::Object => "it must be an object",
        }
    }
}

impl Variable {
    /// Whether its default is of its own kind.
    pub(super) fn check_default(&self) -> Result<(), String> {
        match &self.default {
            Some(value) if !self.kind.fits(value) => Err(format!("default: {}", self.kind.wanted())),
            _ => Ok(()),
        }
    }
}

/// The values of all variables: what a request gives, and the defaults for the rest.
pub(super) fn checked(
    variables: &BTreeMap<String, Variable>,
    mut given: Map<String, Value>,
) -> Result<Map<String, Value>, String> {
    // The name is the request's own: what else it may hold is not quoted.
    if given.keys().any(|name| !variables.contains_key(name)) {
        let known: Vec<_> = variables.keys().map(String::as_str).collect();
        return Err(format!("prompt.variables: the template has {} and no others", known.join(", ")));
    }
    let mut values = Map::new();
    for (name, variable) in variables {
        let wrong = |why: &str| format!("prompt.variables.{name}: {why}");
        let value = match given.remove(name) {
            Some(value) if variable.kind.fits(&value) => value,
            Some(_) => return Err(wrong(variable.kind.wanted())),
            None => variable.default.clone().ok_or_else(|| wrong("it is required"))?,
        };
        values.insert(name.clone(), value);
    }
    Ok(values)
}
