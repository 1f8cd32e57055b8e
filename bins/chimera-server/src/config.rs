//! The configuration file: what may stand in it, and its defaults.

use std::{collections::BTreeMap, path::Path, time::Duration};

use chimera_gateway::PipelineSpec;
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{
    cache::Cache,
    transform::Pool,
    units::{SecretSource, Size, Span},
};

/// The whole file. Every key has a default; unknown keys are refused.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) server: Server,
    pub(crate) log: Log,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) cache: Cache,
    pub(crate) compression: Compression,
    pub(crate) breaker: Breaker,
    pub(crate) admin: Admin,
    pub(crate) providers: BTreeMap<String, Provider>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) clients: BTreeMap<String, Client>,
    pub(crate) transforms: BTreeMap<String, PipelineSpec>,
    pub(crate) worker_pool: Pool,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Server {
    pub(crate) listen: String,
    pub(crate) admin_listen: String,
    pub(crate) workers: usize,
    pub(crate) max_connections: usize,
    pub(crate) header_timeout: Span,
    pub(crate) idle_timeout: Span,
    pub(crate) write_stall_timeout: Span,
    pub(crate) drain_min: Span,
    pub(crate) drain_max: Span,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            admin_listen: "127.0.0.1:8081".into(),
            workers: 0,
            max_connections: 20_000,
            header_timeout: secs(10),
            idle_timeout: secs(75),
            write_stall_timeout: secs(60),
            drain_min: secs(1),
            drain_max: secs(600),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Timeouts {
    pub(crate) standard: Span,
    pub(crate) llm: Span,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_event: Option<Span>,
    pub(crate) stream_idle: Span,
    pub(crate) health: Span,
    pub(crate) connect: Span,
    pub(crate) request_body: Span,
    pub(crate) request_body_idle: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            standard: secs(30),
            llm: secs(120),
            first_event: None,
            stream_idle: secs(60),
            health: secs(5),
            connect: secs(2),
            request_body: secs(30),
            request_body_idle: secs(10),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) request: Size,
    pub(crate) requests_in_flight: Size,
    pub(crate) answer: Size,
    pub(crate) hold: Size,
    pub(crate) event: Size,
    pub(crate) streams_in_flight: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Size(32 << 20),
            requests_in_flight: Size(512 << 20),
            answer: Size(64 << 20),
            hold: Size(64 << 10),
            event: Size(1 << 20),
            streams_in_flight: Size(256 << 20),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Compression {
    pub(crate) enabled: bool,
    pub(crate) min_size: Size,
    pub(crate) event_streams: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self { enabled: true, min_size: Size(1024), event_streams: false }
    }
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Breaker {
    pub(crate) window: Span,
    pub(crate) minimum_calls: u32,
    pub(crate) failure_rate: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slow_call: Option<Span>,
    pub(crate) slow_call_rate: f64,
    pub(crate) consecutive_failures: u32,
    pub(crate) open_base: Span,
    pub(crate) open_max: Span,
    pub(crate) probes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) probe_every: Option<Span>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            window: secs(10),
            minimum_calls: 20,
            failure_rate: 0.5,
            slow_call: None,
            slow_call_rate: 1.0,
            consecutive_failures: 5,
            open_base: secs(5),
            open_max: secs(60),
            probes: 3,
            probe_every: None,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Admin {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_sha256: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Gemini,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Provider {
    pub(crate) dialect: Dialect,
    pub(crate) base_url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<SecretSource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_keys: Vec<SecretSource>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<String>,
    #[serde(default = "default_max_connections")]
    pub(crate) max_connections: usize,
    #[serde(default = "default_max_in_flight")]
    pub(crate) max_in_flight: usize,
    #[serde(default)]
    pub(crate) min_idle: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_in_flight: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_waiting: Option<usize>,
    #[serde(default = "five_seconds")]
    pub(crate) wait_target: Span,
    #[serde(default = "default_idle")]
    pub(crate) idle_timeout: Span,
    #[serde(default = "yes")]
    pub(crate) ask_usage: bool,
    #[serde(default = "no_time")]
    pub(crate) drain_for_usage: Span,
    #[serde(default)]
    pub(crate) responses: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_minute: Option<u64>,
    #[serde(default)]
    pub(crate) learn_limits: bool,
}

fn default_max_connections() -> usize {
    4096
}

fn default_max_in_flight() -> usize {
    16_384
}

fn default_idle() -> Span {
    secs(20)
}

fn no_time() -> Span {
    secs(0)
}

fn yes() -> bool {
    true
}

fn ten() -> u32 {
    10
}

fn three() -> u32 {
    3
}

fn one() -> u32 {
    1
}

fn quarter() -> Span {
    Span(Duration::from_millis(250))
}

fn five_seconds() -> Span {
    secs(5)
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    pub(crate) deployments: Vec<Deployment>,
    #[serde(default)]
    pub(crate) picker: Picker,
    #[serde(default = "yes")]
    pub(crate) failover_refused: bool,
    #[serde(default)]
    pub(crate) failover_broken: bool,
    #[serde(default = "ten")]
    pub(crate) retry_percent: u32,
    #[serde(default = "three")]
    pub(crate) retry_floor: u32,
    #[serde(default)]
    pub(crate) retries: u32,
    #[serde(default = "quarter")]
    pub(crate) retry_backoff: Span,
    #[serde(default = "five_seconds")]
    pub(crate) retry_max_pause: Span,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_event_timeout: Option<Span>,
    #[serde(default)]
    pub(crate) hold_streams: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hedge_percentile: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) affinity_prefix: Option<Size>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deployment {
    pub(crate) provider: String,
    pub(crate) model: String,
    #[serde(default)]
    pub(crate) priority: u32,
    #[serde(default = "one")]
    pub(crate) weight: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Picker {
    #[default]
    InOrder,
    RoundRobin,
    Weighted,
    LeastLatency,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    pub(crate) key_sha256: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_minute: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<usize>,
}

pub(crate) const fn secs(seconds: u64) -> Span {
    Span(Duration::from_secs(seconds))
}

/// A configuration that cannot be used: the key at fault, and why. Quotes no value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{key}: {why}")]
pub(crate) struct ConfigError {
    pub(crate) key: String,
    pub(crate) why: String,
}

impl ConfigError {
    pub(crate) fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }
}

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
    let mut overrides: Vec<_> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("CHIMERA__")?.to_owned(), value)))
        .collect();
    overrides.sort();
    for (name, value) in overrides {
        let path: Vec<_> = name.split("__").map(str::to_ascii_lowercase).collect();
        set(&mut table, &path, value).map_err(|why| ConfigError::new(format!("CHIMERA__{name}"), why))?;
    }
    table.try_into().map_err(|error: toml::de::Error| {
        let shown = error.to_string();
        let key = shown.lines().find_map(|line| line.trim().strip_prefix("in `")?.strip_suffix('`'));
        ConfigError::new(key.unwrap_or("the file"), without_values(error.message()))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> [(String, String); 0] {
        []
    }

    #[test]
    fn the_commented_file_is_every_key_at_its_default() {
        let text = include_str!("../../../config/chimera.toml");
        let file = parse(text, none()).unwrap();
        assert_eq!(file, File::default());
        // The examples in it are good too: uncommented, they parse.
        let examples: String =
            text.lines().map(|line| line.strip_prefix("#! ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
        let file = parse(&examples, none()).unwrap();
        assert!(
            !file.providers.is_empty()
                && !file.groups.is_empty()
                && !file.clients.is_empty()
                && !file.transforms.is_empty()
        );
        // And no key is missing: what a default would fill in is written there.
        let all = Value::try_from(&file).unwrap();
        assert_eq!(missing(&all, &Value::Table(examples.parse().unwrap())), [""; 0]);
    }

    /// The keys of one value that the other does not have.
    fn missing(all: &Value, written: &Value) -> Vec<String> {
        let (Value::Table(all), Value::Table(written)) = (all, written) else { return Vec::new() };
        let of_key = |(key, value): (&String, &Value)| match written.get(key) {
            Some(found) => missing(value, found).iter().map(|inner| format!("{key}.{inner}")).collect(),
            None => vec![key.clone()],
        };
        all.iter().flat_map(of_key).collect()
    }

    #[test]
    fn p04_a_bad_file_is_refused_by_the_name_of_its_key() {
        let key = |text: &str| parse(text, none()).unwrap_err().key;
        assert_eq!(key("[server]\nlisten = 5"), "server.listen");
        assert_eq!(key("[server]\nlistn = \"a\""), "server");
        assert_eq!(key("[cache]\nttl = \"soon\""), "cache.ttl");
        assert_eq!(key("a = = b"), "line 1");
        let error = parse(
            "[providers.x]\ndialect = \"openai\"\nbase_url = \"u\"\nmax_connections = \"sk-canary\"",
            none(),
        );
        assert!(!error.unwrap_err().to_string().contains("canary"));
    }

    #[test]
    fn the_environment_overrides_any_key() {
        let environment = [
            ("CHIMERA__SERVER__WORKERS".to_owned(), "3".to_owned()),
            ("CHIMERA__CACHE__TTL".to_owned(), "5m".to_owned()),
            ("OTHER".to_owned(), "x".to_owned()),
        ];
        let file = parse("[server]\nworkers = 1", environment).unwrap();
        assert_eq!(file.server.workers, 3);
        assert_eq!(file.cache.ttl.0, Duration::from_secs(300));
        let provider = "[providers.x]\ndialect = \"openai\"\nbase_url = \"http://localhost\"\n";
        for (value, read) in [("12345", "12345"), ("\"quoted\"", "\"quoted\""), ("{ env = \"HOME\" }", "env")]
        {
            let secret = [("CHIMERA__PROVIDERS__X__API_KEY".to_owned(), value.to_owned())];
            match parse(provider, secret).unwrap().providers["x"].api_key.clone().unwrap() {
                SecretSource::Text(text) => assert_eq!(text, read),
                other => assert!(format!("{other:?}").contains(read)),
            }
        }
        let bad = [("CHIMERA__SERVER__LISTEN__X".to_owned(), "1".to_owned())];
        assert_eq!(parse("[server]\nlisten = \"a\"", bad).unwrap_err().key, "CHIMERA__SERVER__LISTEN__X");
    }
}
