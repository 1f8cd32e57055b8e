//! A value held against a schema: the first thing that does not fit, with its place.

use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::compile::{
    ArrayRules, Id, Node, NumberRules, ObjectRules, SchemaError, StringRules, compile, types,
};

/// A schema that values can be held against. Clones share it.
#[derive(Debug, Clone)]
pub struct Schema {
    nodes: Arc<[Node]>,
}

/// What does not fit: where, as a JSON path, and what is wanted there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
#[non_exhaustive]
pub struct Misfit {
    /// Where, as a JSON path.
    pub path: String,
    /// What is wanted there.
    pub why: String,
}

impl Schema {
    /// Reads a schema. What is not understood of it is an error.
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        Ok(Self { nodes: compile(schema)?.into() })
    }

    /// The first thing of a value that does not fit.
    pub fn check(&self, value: &Value) -> Result<(), Misfit> {
        let mut check = Check { nodes: &self.nodes, path: Vec::new(), left: MOST_STEPS, alternatives: 0 };
        check.node(0, value, 0)
    }
}

/// Looks at values that one check may take: alternatives within alternatives could take for ever.
const MOST_STEPS: u32 = 500_000;
/// The deepest that schemas and references lead into each other.
const DEEPEST: usize = 256;

enum Step {
    Member(String),
    Element(usize),
}

struct Check<'v> {
    nodes: &'v [Node],
    path: Vec<Step>,
    left: u32,
    /// Within how many alternatives: what does not fit in one of them is nobody's to know.
    alternatives: u32,
}

type Checked = Result<(), Misfit>;

impl Check<'_> {
    fn misfit(&self, why: impl Into<String>) -> Misfit {
        if self.alternatives > 0 {
            return Misfit { path: String::new(), why: String::new() };
        }
        let mut path = "$".to_owned();
        for step in &self.path {
            let plain = |name: &str| {
                let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
                !name.is_empty() && name.chars().all(fits)
            };
            match step {
                Step::Member(name) if plain(name) => path.push_str(&format!(".{name}")),
                Step::Member(name) => path.push_str(&format!("[{}]", Value::from(name.as_str()))),
                Step::Element(index) => path.push_str(&format!("[{index}]")),
            }
        }
        Misfit { path, why: why.into() }
    }

    fn wants(&self, fits: bool, why: impl FnOnce() -> String) -> Checked {
        match fits {
            true => Ok(()),
            false if self.alternatives > 0 => Err(self.misfit("")),
            false => Err(self.misfit(why())),
        }
    }

    /// Whether a value fits, whatever it is that does not.
    fn fits(&mut self, id: Id, value: &Value, depth: usize) -> Result<bool, Misfit> {
        let length = self.path.len();
        self.alternatives += 1;
        let fits = self.node(id, value, depth).is_ok();
        self.alternatives -= 1;
        self.path.truncate(length);
        // Out of steps is no answer.
        if self.left == 0 { Err(self.misfit("it takes too long to check")) } else { Ok(fits) }
    }

    fn node(&mut self, id: Id, value: &Value, depth: usize) -> Checked {
        let nodes = self.nodes;
        let Some(node) = nodes.get(id) else { return Ok(()) };
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || depth > DEEPEST {
            self.left = 0;
            return Err(self.misfit("it takes too long to check"));
        }
        self.wants(!node.never, || "nothing is allowed here".into())?;
        self.wants(node.types == 0 || node.types & bits(value) != 0, || wanted(node.types))?;
        if let Some(values) = &node.one_of_values {
            self.wants(values.iter().any(|one| same(one, value)), || {
                "it is none of the values allowed".into()
            })?;
        }
        match value {
            Value::Number(number) => {
                node.number.as_ref().map_or(Ok(()), |rules| self.number(rules, number))?;
            }
            Value::String(text) => node.string.as_ref().map_or(Ok(()), |rules| self.string(rules, text))?,
            Value::Array(all) => node.array.as_ref().map_or(Ok(()), |rules| self.array(rules, all, depth))?,
            Value::Object(all) => {
                node.object.as_ref().map_or(Ok(()), |rules| self.object(rules, all, depth))?
            }
            _ => {}
        }
        self.combined(node, value, depth)
    }

    fn combined(&mut self, node: &Node, value: &Value, depth: usize) -> Checked {
        for id in node.reference.iter().chain(&node.all_of) {
            self.node(*id, value, depth + 1)?;
        }
        if let Some(any) = &node.any_of {
            self.any(any, value, depth)?;
        }
        if let Some(one) = &node.one_of {
            let mut fitting = 0;
            for id in one {
                fitting += usize::from(self.fits(*id, value, depth + 1)?);
            }
            self.wants(fitting <= 1, || {
                "it fits several of the alternatives, of which one is wanted".into()
            })?;
            if fitting == 0 {
                self.any(one, value, depth)?;
            }
        }
        if let Some(not) = node.not {
            let fits = self.fits(not, value, depth + 1)?;
            self.wants(!fits, || "it is what it must not be".into())?;
        }
        if let Some((condition, then, otherwise)) = node.condition {
            let branch = if self.fits(condition, value, depth + 1)? { then } else { otherwise };
            branch.map_or(Ok(()), |id| self.node(id, value, depth + 1))?;
        }
        Ok(())
    }

    /// One of several. Where only one of them is of the value's type, what does not fit in it is told.
    fn any(&mut self, any: &[Id], value: &Value, depth: usize) -> Checked {
        for id in any {
            if self.fits(*id, value, depth + 1)? {
                return Ok(());
            }
        }
        let nodes = self.nodes;
        let of_type =
            |id: &&Id| nodes.get(**id).is_some_and(|node| node.types == 0 || node.types & bits(value) != 0);
        let mut likely = any.iter().filter(of_type);
        match (likely.next(), likely.next()) {
            (Some(id), None) => self.node(*id, value, depth + 1),
            _ => Err(self.misfit("it fits none of the alternatives")),
        }
    }

    fn number(&self, rules: &NumberRules, number: &Number) -> Checked {
        let number = number.as_f64().unwrap_or(f64::NAN);
        let bound = |bound: Option<f64>, fits: fn(f64, f64) -> bool, what: &str| {
            let held = bound.is_none_or(|bound| fits(number, bound));
            self.wants(held, || format!("it must be {what} {}", bound.unwrap_or_default()))
        };
        bound(rules.minimum, |number, bound| number >= bound, "at least")?;
        bound(rules.maximum, |number, bound| number <= bound, "at most")?;
        bound(rules.above, |number, bound| number > bound, "above")?;
        bound(rules.below, |number, bound| number < bound, "below")?;
        // Multiples of 0.1 are none in binary: what is near enough is one.
        let near = |number: f64, step: f64| {
            let times = number / step;
            (times - times.round()).abs() <= 1e-9 * times.abs().max(1.0)
        };
        bound(rules.multiple_of, near, "a multiple of")
    }

    fn string(&self, rules: &StringRules, text: &str) -> Checked {
        let length = text.chars().count() as u64;
        self.count(length, rules.shortest, rules.longest, "characters")?;
        let matches = rules.pattern.as_ref().is_none_or(|pattern| pattern.is_match(text.as_bytes()));
        self.wants(matches, || "it does not match the pattern".into())
    }

    fn count(&self, count: u64, fewest: Option<u64>, most: Option<u64>, what: &str) -> Checked {
        let (least, greatest) = (fewest.unwrap_or(0), most.unwrap_or(u64::MAX));
        self.wants(count >= least, || format!("it must have at least {least} {what}"))?;
        self.wants(count <= greatest, || format!("it must have at most {greatest} {what}"))
    }

    fn array(&mut self, rules: &ArrayRules, all: &[Value], depth: usize) -> Checked {
        self.count(all.len() as u64, rules.fewest, rules.most, "elements")?;
        for (index, value) in all.iter().enumerate() {
            let Some(id) = rules.prefix.get(index).copied().or(rules.items) else { break };
            self.path.push(Step::Element(index));
            self.node(id, value, depth + 1)?;
            self.path.pop();
        }
        if let Some((id, fewest, most)) = rules.contains {
            let mut found = 0;
            for value in all {
                found += u64::from(self.fits(id, value, depth + 1)?);
            }
            self.count(found, Some(fewest), most, "elements of a kind")?;
        }
        if rules.unique {
            let mut seen = std::collections::HashSet::with_capacity(all.len());
            let unique = all.iter().all(|value| seen.insert(canonical(value)));
            self.wants(unique, || "no element may stand there twice".into())?;
        }
        Ok(())
    }

    fn object(&mut self, rules: &ObjectRules, all: &Map<String, Value>, depth: usize) -> Checked {
        self.count(all.len() as u64, rules.fewest, rules.most, "members")?;
        for name in &rules.required {
            self.wants(all.contains_key(name), || format!("the member `{name}` is required"))?;
        }
        for (name, wanted) in rules.dependent.iter().filter(|(name, _)| all.contains_key(*name)) {
            let missing = wanted.iter().find(|wanted| !all.contains_key(*wanted));
            self.wants(missing.is_none(), || format!("beside `{name}` more members are required"))?;
        }
        for (name, value) in all {
            self.path.push(Step::Member(name.clone()));
            let mut is_named = false;
            if let Some(id) = rules.properties.get(name) {
                is_named = true;
                self.node(*id, value, depth + 1)?;
            }
            for (_, id) in rules.patterns.iter().filter(|(pattern, _)| pattern.is_match(name.as_bytes())) {
                is_named = true;
                self.node(*id, value, depth + 1)?;
            }
            if let Some(id) = rules.additional.filter(|_| !is_named) {
                self.node(id, value, depth + 1)?;
            }
            if let Some(id) = rules.names {
                self.node(id, &Value::from(name.as_str()), depth + 1)?;
            }
            self.path.pop();
        }
        Ok(())
    }
}

/// The types that a value is of.
fn bits(value: &Value) -> u8 {
    match value {
        Value::Null => types::NULL,
        Value::Bool(_) => types::BOOLEAN,
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
            types::INTEGER | types::NUMBER
        }
        Value::Number(_) => types::NUMBER,
        Value::String(_) => types::STRING,
        Value::Array(_) => types::ARRAY,
        Value::Object(_) => types::OBJECT,
    }
}

fn wanted(bits: u8) -> String {
    let names: Vec<_> =
        types::NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    format!("it must be of type {}", names.join(" or "))
}

/// Whether two values are the same: 1 and 1.0 are, and the order of members is nothing.
fn same(one: &Value, other: &Value) -> bool {
    canonical(one) == canonical(other)
}

/// A value in one spelling.
fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            // Whole numbers that a double holds are spelled alike; larger ones as they are.
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => format!("{}", float as i64),
            _ => number.to_string(),
        },
        Value::Array(all) => format!("[{}]", all.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(all) => {
            let mut members: Vec<_> = all
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            members.sort_unstable();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}
