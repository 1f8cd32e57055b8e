//! From text and environment to the file's struct.

use std::{collections::BTreeMap, path::Path};

use toml::{Table, Value};

use super::{ConfigError, File};
use crate::resolve::{VENDORS, set_key};

/// Reads the file, if there is one, and puts the environment's overrides on top.
pub(crate) fn load(
    path: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<File, ConfigError> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| ConfigError::new("--config", format!("{}: {error}", path.display())))?,
        None => String::new(),
    };
    parse(&text, environment)
}

pub(crate) fn parse(
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<File, ConfigError> {
    let mut table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line =
            error.span().map_or(1, |span| text.get(..span.start).map_or(1, |t| t.lines().count().max(1)));
        ConfigError::new(format!("line {line}"), without_values(error.message()))
    })?;
    let environment: BTreeMap<String, String> = environment.into_iter().collect();
    let mut overrides: Vec<_> = environment
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("CHIMERA__")?.to_owned(), value.clone())))
        .collect();
    overrides.sort();
    for (name, value) in overrides {
        let path: Vec<_> = name.split("__").map(str::to_ascii_lowercase).collect();
        set(&mut table, &path, value).map_err(|why| ConfigError::new(format!("CHIMERA__{name}"), why))?;
    }
    complete_vendors(&mut table, &|name| environment.get(name).cloned());
    table.try_into().map_err(|error: toml::de::Error| {
        let shown = error.to_string();
        let key = shown.lines().find_map(|line| line.trim().strip_prefix("in `")?.strip_suffix('`'));
        ConfigError::new(key.unwrap_or("the file"), without_values(error.message()))
    })
}

/// A vendor that its key in the environment switches on, and of which only some settings are given, has the others that
/// it has without any.
fn complete_vendors(table: &mut Table, variable: &dyn Fn(&str) -> Option<String>) {
    let Some(providers) = table.get_mut("providers").and_then(Value::as_table_mut) else { return };
    for vendor in VENDORS {
        let Some(provider) = providers.get_mut(vendor.name).and_then(Value::as_table_mut) else { continue };
        let (Some(key), false) = (set_key(vendor.keys, variable), provider.contains_key("dialect")) else {
            continue;
        };
        let base_url = variable(vendor.url_variable).unwrap_or_else(|| vendor.url.to_owned());
        let mut default = |key: &str, value: Value| {
            provider.entry(key).or_insert(value);
        };
        default("responses", Value::from(vendor.name == "openai" && base_url == vendor.url));
        default("base_url", Value::from(base_url));
        default("dialect", Value::from(vendor.name));
        if !provider.contains_key("api_keys") {
            let env = Table::from_iter([("env".to_owned(), Value::from(key))]);
            provider.entry("api_key").or_insert(Value::Table(env));
        }
    }
}

/// Keys whose text is never read as anything else: a secret may be all digits.
const TEXTS: [&str; 3] = ["api_key", "secret", "url"];

/// Puts one override into the tree: as TOML where it reads as a value, as text otherwise.
fn set(table: &mut Table, path: &[String], text: String) -> Result<(), String> {
    let [section @ .., key] = path else { return Err("it names no key".into()) };
    let mut at = table;
    for name in section {
        let next = at.entry(name.clone()).or_insert_with(|| Value::Table(Table::new()));
        at = next.as_table_mut().ok_or_else(|| format!("`{name}` is not a section"))?;
    }
    let value = format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
    let value = value.filter(|value| value.is_table() || !TEXTS.contains(&key.as_str()));
    at.insert(key.clone(), value.unwrap_or(Value::String(text)));
    Ok(())
}

/// Takes quoted values out of a parser's message: one of them may be a secret.
fn without_values(message: &str) -> String {
    let mut out = String::new();
    for (index, part) in message.trim().split('"').enumerate() {
        out.push_str(if index % 2 == 0 { part } else { "[…]" });
    }
    out.replace('\n', " ")
}
