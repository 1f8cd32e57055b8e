//! Templates compiled, and rendered within bounds.

use std::{fmt, io};

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, filters, functions, tests};
use serde_json::{Map, Value};

use super::Template;
use crate::prompt::Role;

/// Compiled templates.
pub(super) struct Renderer {
    environment: Environment<'static>,
    max_size: usize,
}

impl fmt::Debug for Renderer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renderer").field("max_size", &self.max_size).finish_non_exhaustive()
    }
}

/// What templates can use. Each filter is code in the binary: those that prompts have no use for are left
/// out.
fn language() -> Environment<'static> {
    let mut language = Environment::empty();
    language.add_filter("capitalize", filters::capitalize);
    language.add_filter("default", filters::default);
    language.add_filter("first", filters::first);
    language.add_filter("indent", filters::indent);
    language.add_filter("items", filters::items);
    language.add_filter("join", filters::join);
    language.add_filter("last", filters::last);
    language.add_filter("length", filters::length);
    language.add_filter("lower", filters::lower);
    language.add_filter("replace", filters::replace);
    language.add_filter("round", filters::round);
    language.add_filter("sort", filters::sort);
    language.add_filter("tojson", filters::tojson);
    language.add_filter("trim", filters::trim);
    language.add_filter("upper", filters::upper);
    language.add_test("defined", tests::is_defined);
    language.add_test("eq", tests::is_eq);
    language.add_test("in", tests::is_in);
    language.add_test("mapping", tests::is_mapping);
    language.add_test("none", tests::is_none);
    language.add_test("number", tests::is_number);
    language.add_test("sequence", tests::is_sequence);
    language.add_test("string", tests::is_string);
    language.add_test("undefined", tests::is_undefined);
    language.add_function("range", functions::range);
    language
}

/// What a turn of a template is called, in errors above all.
fn name_of(template: &Template, index: usize) -> String {
    let role = match template.turns.get(index) {
        Some((Role::System, _)) => "system",
        Some((Role::Assistant, _)) => "assistant",
        _ => "user",
    };
    format!("{}@{}, turn {index} ({role})", template.id, template.version)
}

impl Renderer {
    pub(super) fn new(fuel: u64, max_size: usize) -> Self {
        let mut environment = language();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(fuel));
        Self { environment, max_size }
    }

    /// Compiles the turns of a template. One that uses a variable that it does not declare is refused.
    pub(super) fn add(&mut self, template: &Template) -> Result<(), String> {
        for (index, (_, source)) in template.turns.iter().enumerate() {
            let name = name_of(template, index);
            let added = self.environment.add_template_owned(name.clone(), source.clone());
            added.map_err(|error| {
                let detail = error.detail().unwrap_or_default();
                format!("{name}, line {}: {} {detail}", error.line().unwrap_or(1), error.kind())
            })?;
            let compiled = self.environment.get_template(&name).map_err(|error| error.to_string())?;
            let globals: Vec<_> = self.environment.globals().map(|(name, _)| name).collect();
            let mut unknown: Vec<_> = compiled
                .undeclared_variables(false)
                .into_iter()
                .filter(|used| !template.variables.contains_key(used) && !globals.contains(&used.as_str()))
                .collect();
            unknown.sort_unstable();
            if let Some(unknown) = unknown.first() {
                let line = source.lines().position(|line| line.contains(unknown.as_str())).unwrap_or(0) + 1;
                return Err(format!("{name}, line {line}: there is no variable `{unknown}`"));
            }
        }
        Ok(())
    }

    /// Renders one turn.
    pub(super) fn render(
        &self,
        template: &Template,
        index: usize,
        variables: &Map<String, Value>,
    ) -> Result<String, String> {
        let name = name_of(template, index);
        let compiled = self.environment.get_template(&name).map_err(|_| format!("{name}: it is missing"))?;
        let mut out = Bounded { text: Vec::new(), left: self.max_size };
        let rendered = compiled.render_captured_to(object(variables), &mut out).map(drop);
        match rendered {
            Ok(()) => String::from_utf8(out.text).map_err(|_| format!("{name}: it is not text")),
            Err(error) => {
                let line = error.line().unwrap_or(1);
                let why = self.why(&error, &compiled.undeclared_variables(true), variables);
                Err(format!("{name}, line {line}: {why}"))
            }
        }
    }

    /// Why a template came to nothing. The details that the engine gives may quote a value: they stay here.
    fn why(
        &self,
        error: &Error,
        used: &std::collections::HashSet<String>,
        variables: &Map<String, Value>,
    ) -> String {
        match error.kind() {
            ErrorKind::UndefinedError => {
                let mut missing: Vec<_> = used.iter().filter(|path| is_missing(path, variables)).collect();
                missing.sort_unstable();
                match missing.first() {
                    Some(path) => format!("`{path}` is undefined"),
                    None => "a value is undefined".to_owned(),
                }
            }
            ErrorKind::OutOfFuel => "it takes more steps than it may".to_owned(),
            ErrorKind::WriteFailure => format!("it renders to more than {} bytes", self.max_size),
            kind => kind.to_string(),
        }
    }
}

/// Whether a path like `order.id` leads nowhere. Members of what is no object are the engine's own.
fn is_missing(path: &str, variables: &Map<String, Value>) -> bool {
    let mut members = variables;
    for name in path.split('.') {
        match members.get(name) {
            None => return true,
            Some(Value::Object(inner)) => members = inner,
            Some(_) => return false,
        }
    }
    false
}

fn object(members: &Map<String, Value>) -> minijinja::Value {
    minijinja::Value::from_pairs(members.iter().map(|(name, member)| (name.as_str(), value(member))))
}

fn value(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(flag) => minijinja::Value::from(*flag),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => minijinja::Value::from(number),
            (_, Some(number)) => minijinja::Value::from(number),
            _ => minijinja::Value::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => minijinja::Value::from(text.as_str()),
        Value::Array(elements) => elements.iter().map(self::value).collect(),
        Value::Object(members) => object(members),
    }
}

/// A text of so many bytes at most.
struct Bounded {
    text: Vec<u8>,
    left: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
