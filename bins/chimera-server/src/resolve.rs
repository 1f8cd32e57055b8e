//! From the file to the gateway's settings: everything is checked here, once.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use chimera_gateway::{
    CompressionSettings, KeyDigest, Limits, Settings, SizeLimits, Tenant, Tenants, Timeouts,
};
use toml::Value;

use crate::{
    cache,
    config::{self, ConfigError, Dialect, File},
    console,
    keep::InForce,
    surroundings::{Addresses, Surroundings},
    transform,
    units::{SecretSource, Size, Span},
    upstreams::models,
};

/// Adds the providers whose keys the environment holds, where the file does not name them.
pub(crate) fn add_environment_providers(file: &mut File, variable: &dyn Fn(&str) -> Option<String>) {
    for Vendor { name, dialect, keys, url_variable, url } in VENDORS {
        let Some(key) = set_key(keys, variable) else { continue };
        if file.providers.contains_key(name) {
            continue;
        }
        let base_url = variable(url_variable).unwrap_or_else(|| url.to_owned());
        // OpenAI itself serves them; servers that only look like it mostly do not.
        let responses = dialect == Dialect::OpenAi && base_url == url;
        let env = crate::units::EnvSecret { env: key.to_owned() };
        file.providers.insert(
            name.to_owned(),
            config::Provider {
                dialect,
                base_url,
                api_key: Some(SecretSource::Env(env)),
                api_keys: Vec::new(),
                models: Vec::new(),
                ca_file: None,
                max_connections: 4096,
                max_in_flight: 16_384,
                idle_timeout: Span(Duration::from_secs(20)),
                ask_usage: true,
                drain_for_usage: Span(Duration::ZERO),
                responses,
                min_idle: 0,
                min_in_flight: None,
                max_waiting: None,
                wait_target: Span(Duration::from_secs(5)),
                requests_per_minute: None,
                tokens_per_minute: None,
                learn_limits: false,
            },
        );
    }
}

/// A vendor that its key in the environment switches on.
pub(crate) struct Vendor {
    pub(crate) name: &'static str,
    pub(crate) dialect: Dialect,
    pub(crate) keys: &'static [&'static str],
    pub(crate) url_variable: &'static str,
    pub(crate) url: &'static str,
}

pub(crate) const VENDORS: [Vendor; 3] = [
    Vendor {
        name: "openai",
        dialect: Dialect::OpenAi,
        keys: &["OPENAI_API_KEY"],
        url_variable: "CHIMERA_OPENAI_BASE_URL",
        url: "https://api.openai.com/v1",
    },
    Vendor {
        name: "anthropic",
        dialect: Dialect::Anthropic,
        keys: &["ANTHROPIC_API_KEY"],
        url_variable: "CHIMERA_ANTHROPIC_BASE_URL",
        url: "https://api.anthropic.com",
    },
    Vendor {
        name: "gemini",
        dialect: Dialect::Gemini,
        keys: &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
        url_variable: "CHIMERA_GEMINI_BASE_URL",
        url: "https://generativelanguage.googleapis.com",
    },
];

/// The first of the variables that is set.
pub(crate) fn set_key(
    keys: &'static [&'static str],
    variable: &dyn Fn(&str) -> Option<String>,
) -> Option<&'static str> {
    let set = |name: &&&str| variable(name).is_some_and(|value| !value.trim().is_empty());
    keys.iter().find(set).copied()
}

/// The addresses, and whether they may be listened on.
pub(crate) fn addresses(file: &File) -> Result<Addresses, ConfigError> {
    let parse = |key: &str, text: &str| {
        text.parse::<SocketAddr>()
            .map_err(|_| ConfigError::new(key, "it is not an address and port, as in 127.0.0.1:8080"))
    };
    let data = parse("server.listen", &file.server.listen)?;
    let admin = parse("server.admin_listen", &file.server.admin_listen)?;
    if data == admin && data.port() != 0 {
        return Err(ConfigError::new("server.admin_listen", "it is the same address as server.listen"));
    }
    if !data.ip().is_loopback() && file.clients.is_empty() {
        return Err(ConfigError::new(
            "server.listen",
            "it is not a loopback address and no client keys are configured: anybody who reaches it \
             could spend your provider keys. Add [clients.NAME] with key_sha256, or listen on 127.0.0.1",
        ));
    }
    if !admin.ip().is_loopback() && file.admin.key_sha256.is_none() {
        return Err(ConfigError::new(
            "server.admin_listen",
            "it is not a loopback address and admin.key_sha256 is not set",
        ));
    }
    Ok(Addresses { data, admin })
}

/// The digest of the admin listener's key.
pub(crate) fn admin_key(file: &File) -> Result<Option<KeyDigest>, ConfigError> {
    let Some(digest) = file.admin.key_sha256.as_deref() else { return Ok(None) };
    parse_digest(digest).map(Some).ok_or_else(|| ConfigError::new("admin.key_sha256", DIGEST))
}

const DIGEST: &str = "a digest is 64 hex digits: printf %s KEY | sha256sum";

/// Refuses a file that changes what is set up once, at the start. A listener that stays where it was
/// while the file says otherwise would be checked as if it were there: keys could be taken away from
/// one that everybody reaches.
pub(crate) fn unchanged_since_start(running: &File, new: &File) -> Result<(), ConfigError> {
    let table = |file: &File| {
        let bounds = [("capacity", file.cache.capacity), ("max_entry", file.cache.max_entry)];
        let bounds = bounds.map(|(key, size)| Ok((key.to_owned(), Value::try_from(size)?)));
        let mut bounds = bounds.into_iter().collect::<Result<toml::Table, toml::ser::Error>>()?;
        bounds.insert("redis".to_owned(), Value::try_from(&file.cache.redis)?);
        bounds.insert("disk".to_owned(), Value::try_from(&file.cache.disk)?);
        let sections = [
            ("server", Value::try_from(&file.server)?),
            ("log", Value::try_from(&file.log)?),
            ("cache", bounds.into()),
            ("worker_pool", Value::try_from(&file.worker_pool)?),
            ("traces", Value::try_from(&file.traces)?),
            ("console", Value::try_from(&file.console)?),
        ];
        Ok::<_, toml::ser::Error>(
            sections.map(|(section, keys)| (section, keys.as_table().cloned().unwrap_or_default())),
        )
    };
    let both = table(running).and_then(|running| Ok((running, table(new)?)));
    let (running, new) = both.map_err(|error| ConfigError::new("the file", error.to_string()))?;
    for ((section, running), (_, new)) in running.iter().zip(&new) {
        let mut keys = running.keys().chain(new.keys());
        if let Some(key) = keys.find(|key| running.get(*key) != new.get(*key)) {
            return Err(ConfigError::new(format!("{section}.{key}"), "a change of it needs a restart"));
        }
    }
    Ok(())
}

/// Resolves everything that a reload may change. What is configured as `before` is kept with its state.
pub(crate) fn settings(
    file: &File,
    addresses: &Addresses,
    around: &Surroundings,
    before: Option<&InForce<'_>>,
) -> Result<Settings, ConfigError> {
    server(file)?;
    admin_key(file)?;
    console::settings(file)?;
    let mut settings = Settings::new(models(file, addresses, around, before)?);
    settings.tenants = tenants(file, before)?;
    settings.timeouts = timeouts(file)?;
    if file.breaker.probe_every.is_some_and(|every| every.0 < Duration::from_secs(1)) {
        return Err(ConfigError::new("breaker.probe_every", "it must be at least 1s"));
    }
    settings.probe_every = file.breaker.probe_every.map(|every| every.0);
    settings.cache = cache::settings(file)?;
    settings.transforms = transform::transforms(file)?;
    transform::check_moderators(&settings)?;
    settings.optimizer = file.optimizer.settings()?;
    settings.worker_pool = transform::pool(file)?;
    crate::redis::second_tier(file)?;
    crate::disk::check(file)?;
    settings.sizes = sizes(file)?;
    settings.compression = CompressionSettings {
        enabled: file.compression.enabled,
        min_size: bytes("compression.min_size", file.compression.min_size.0)?,
        event_streams: file.compression.event_streams,
    };
    Ok(settings)
}

fn bytes(key: &str, value: u64) -> Result<usize, ConfigError> {
    usize::try_from(value).map_err(|_| ConfigError::new(key, "it is too large for this machine"))
}

fn above_zero<'a>(
    section: &str,
    spans: impl IntoIterator<Item = (&'a str, Duration)>,
) -> Result<(), ConfigError> {
    match spans.into_iter().find(|(_, span)| span.is_zero()) {
        Some((name, _)) => Err(ConfigError::new(format!("{section}.{name}"), "it must be above zero")),
        None => Ok(()),
    }
}

/// More event loops than any machine has use for.
const MOST_WORKERS: usize = 1024;

/// Systems take 104 to 108 bytes, of which some are for the number of a process.
const LONGEST_HANDOVER: usize = 90;

/// The server's own settings, as far as they are more than an address.
fn server(file: &File) -> Result<(), ConfigError> {
    let server = &file.server;
    let spans = [
        ("header_timeout", server.header_timeout.0),
        ("idle_timeout", server.idle_timeout.0),
        ("write_stall_timeout", server.write_stall_timeout.0),
    ];
    above_zero("server", spans)?;
    if server.workers > MOST_WORKERS {
        return Err(ConfigError::new("server.workers", format!("it must be at most {MOST_WORKERS}")));
    }
    if server.max_connections == 0 {
        return Err(ConfigError::new("server.max_connections", "it must be at least 1"));
    }
    if server.drain_min.0 > server.drain_max.0 {
        return Err(ConfigError::new("server.drain_min", "it must be at most server.drain_max"));
    }
    if let Some(path) = &server.handover {
        let refused = |why: &str| Err(ConfigError::new("server.handover", why));
        if file.cache.disk.path.is_some() {
            return refused(
                "the cache's file is open in one process at a time: take out this or cache.disk.path",
            );
        }
        if !(1..=LONGEST_HANDOVER).contains(&path.as_os_str().len()) {
            return refused("it must be a path of at most 90 bytes");
        }
    }
    Ok(())
}

fn timeouts(file: &File) -> Result<Timeouts, ConfigError> {
    let timeouts = &file.timeouts;
    let named = [
        ("standard", timeouts.standard.0),
        ("llm", timeouts.llm.0),
        ("stream_idle", timeouts.stream_idle.0),
        ("optimization", timeouts.optimization.0),
        ("health", timeouts.health.0),
        ("connect", timeouts.connect.0),
        ("request_body", timeouts.request_body.0),
        ("request_body_idle", timeouts.request_body_idle.0),
    ];
    let first_event = timeouts.first_event.map(|span| ("first_event", span.0));
    above_zero("timeouts", named.into_iter().chain(first_event))?;
    Ok(Timeouts {
        standard: timeouts.standard.0,
        llm: timeouts.llm.0,
        first_event: timeouts.first_event.map(|span| span.0),
        stream_idle: timeouts.stream_idle.0,
        optimization: timeouts.optimization.0,
        health: timeouts.health.0,
        request_body: timeouts.request_body.0,
        request_body_idle: timeouts.request_body_idle.0,
    })
}

fn sizes(file: &File) -> Result<SizeLimits, ConfigError> {
    let limits = &file.limits;
    let named = |name: &str, size: Size| {
        let value = bytes(&format!("limits.{name}"), size.0)?;
        if value == 0 {
            return Err(ConfigError::new(format!("limits.{name}"), "it must be above zero"));
        }
        Ok(value)
    };
    Ok(SizeLimits {
        request: named("request", limits.request)?,
        requests_in_flight: named("requests_in_flight", limits.requests_in_flight)?,
        answer: named("answer", limits.answer)?,
        hold: named("hold", limits.hold)?,
        event: named("event", limits.event)?,
        streams_in_flight: named("streams_in_flight", limits.streams_in_flight)?,
    })
}

fn tenants(file: &File, before: Option<&InForce<'_>>) -> Result<Tenants, ConfigError> {
    if file.clients.is_empty() {
        return Ok(Tenants::open());
    }
    let mut keys: HashMap<KeyDigest, Arc<Tenant>> = HashMap::new();
    for (name, client) in &file.clients {
        let limits = Limits {
            requests_per_minute: client.requests_per_minute,
            tokens_per_minute: client.tokens_per_minute,
            concurrency: client.concurrency,
        };
        let kept = before.and_then(|before| before.tenant(name, client));
        let tenant = kept.unwrap_or_else(|| Tenant::new(name.clone(), limits));
        let at = format!("clients.{name}.key_sha256");
        let zero = [
            ("requests_per_minute", client.requests_per_minute == Some(0)),
            ("tokens_per_minute", client.tokens_per_minute == Some(0)),
            ("concurrency", client.concurrency == Some(0)),
        ];
        if let Some((key, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            let why = "it must be at least 1; to shut a client out, remove it";
            return Err(ConfigError::new(format!("clients.{name}.{key}"), why));
        }
        if client.key_sha256.is_empty() {
            return Err(ConfigError::new(at, "at least one digest is needed"));
        }
        for digest in &client.key_sha256 {
            let digest = parse_digest(digest).ok_or_else(|| ConfigError::new(&at, DIGEST))?;
            if keys.insert(digest, tenant.clone()).is_some() {
                return Err(ConfigError::new(at, "the same digest is configured twice"));
            }
        }
    }
    Ok(Tenants::keyed(keys))
}

/// 64 hex digits.
fn parse_digest(text: &str) -> Option<KeyDigest> {
    let text = text.strip_prefix("sha256:").unwrap_or(text);
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut digest = [0; 32];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        config::parse(text, []).unwrap()
    }

    fn around() -> Surroundings {
        let tcp: chimera_provider_pool::SharedConnect = Arc::new(
            chimera_provider_pool::TcpConnect::new(chimera_provider_pool::Resolver::default()).unwrap(),
        );
        Surroundings { sim: tcp.clone(), tcp, workers: 1 }
    }

    fn refused(text: &str) -> String {
        let file = file(text);
        let result =
            addresses(&file).and_then(|addresses| settings(&file, &addresses, &around(), None).map(|_| ()));
        result.unwrap_err().key
    }

    #[test]
    fn a_listener_beyond_loopback_needs_client_keys() {
        assert_eq!(refused("[server]\nlisten = \"0.0.0.0:8080\""), "server.listen");
        assert_eq!(refused("[server]\nadmin_listen = \"0.0.0.0:8081\""), "server.admin_listen");
        let digest = "ab".repeat(32);
        let keyed = format!("[server]\nlisten = \"0.0.0.0:8080\"\n[clients.a]\nkey_sha256 = [\"{digest}\"]");
        assert!(addresses(&file(&keyed)).is_ok());
    }

    #[test]
    fn p04_semantic_faults_name_their_key() {
        let provider = |rest: &str| format!("[providers.p]\ndialect = \"openai\"\n{rest}");
        assert_eq!(refused(&provider("base_url = \"ftp://x\"")), "providers.p.base_url");
        assert_eq!(refused(&provider("base_url = \"http://127.0.0.1:8080/v1\"")), "providers.p.base_url");
        assert_eq!(
            refused(&provider("base_url = \"http://h\"\napi_key = { env = \"CHIMERA_TEST_UNSET\" }")),
            "providers.p.api_key"
        );
        assert_eq!(
            refused(&provider("base_url = \"http://h\"\nca_file = \"/nonexistent\"")),
            "providers.p.ca_file"
        );
        for host in ["LOCALHOST", "localhost.", "api.localhost", "[::1]", "0.0.0.0", "127.9.9.9"] {
            let own = provider(&format!("base_url = \"http://{host}:8080/v1\""));
            assert_eq!(refused(&own), "providers.p.base_url", "{host}");
        }
        assert_eq!(
            refused(&provider("base_url = \"http://h\"\nmax_in_flight = 0")),
            "providers.p.max_in_flight"
        );
        assert_eq!(refused(&provider("base_url = \"http://h\"\nmodels = [\"\"]")), "providers.p.models");
        let many: Vec<_> = (0..100_000).map(|n| format!("\"m{n}\"")).collect();
        let many = format!("base_url = \"http://h\"\nmodels = [{}]", many.join(","));
        assert_eq!(refused(&provider(&many)), "providers.p.models");
        let group =
            |n: usize| format!("[groups.g{n}]\ndeployments = [{{ provider = \"p\", model = \"m\" }}]\n");
        let groups: String = (0..100_000).map(group).collect();
        assert_eq!(refused(&provider(&format!("base_url = \"http://h\"\n{groups}"))), "groups");
        assert_eq!(refused("[breaker]\nslow_call = \"0s\""), "breaker.slow_call");
        assert_eq!(refused("[breaker]\nslow_call_rate = 1.5"), "breaker");
        let same = "[server]\nlisten = \"127.0.0.1:7\"\nadmin_listen = \"127.0.0.1:7\"";
        assert_eq!(refused(same), "server.admin_listen");
        assert_eq!(refused("[groups.g]\ndeployments = []"), "groups.g.deployments");
        assert_eq!(
            refused("[groups.g]\ndeployments = [{ provider = \"none\", model = \"m\" }]"),
            "groups.g.deployments[0].provider"
        );
        assert_eq!(refused("[clients.c]\nkey_sha256 = [\"zz\"]"), "clients.c.key_sha256");
        let digest = "ab".repeat(32);
        for limit in ["requests_per_minute", "tokens_per_minute", "concurrency"] {
            let client = format!("[clients.c]\nkey_sha256 = [\"{digest}\"]\n{limit} = 0");
            assert_eq!(refused(&client), format!("clients.c.{limit}"));
        }
        assert_eq!(refused("[timeouts]\nllm = \"0s\""), "timeouts.llm");
        assert_eq!(refused("[timeouts]\nfirst_event = \"0s\""), "timeouts.first_event");
        assert_eq!(refused("[timeouts]\nrequest_body_idle = \"0s\""), "timeouts.request_body_idle");
        assert_eq!(refused("[server]\nheader_timeout = \"0s\""), "server.header_timeout");
        assert_eq!(refused("[server]\nmax_connections = 0"), "server.max_connections");
        assert_eq!(refused("[server]\nworkers = 100000"), "server.workers");
        assert_eq!(refused("[server]\ndrain_max = \"10ms\""), "server.drain_min");
        let both = "[server]\nhandover = \"/a\"\n[cache.disk]\npath = \"/b\"";
        assert_eq!(refused(both), "server.handover");
        assert_eq!(refused(&format!("[server]\nhandover = \"/{}\"", "a".repeat(90))), "server.handover");
        assert_eq!(refused("[cache]\ncapacity = \"1MiB\""), "cache.max_entry");
        assert_eq!(refused("[server]\nlisten = \"localhost\""), "server.listen");
        assert_eq!(refused("[admin]\nkey_sha256 = \"zz\""), "admin.key_sha256");
    }

    #[test]
    fn p04_what_is_set_up_at_the_start_is_not_reloaded() {
        let running = file("");
        let changed = |text: &str| unchanged_since_start(&running, &file(text)).unwrap_err().key;
        assert_eq!(changed("[server]\nlisten = \"127.0.0.1:1\""), "server.listen");
        assert_eq!(changed("[server]\nidle_timeout = \"1s\""), "server.idle_timeout");
        assert_eq!(changed("[log]\nlevel = \"debug\""), "log.level");
        assert_eq!(changed("[cache]\ncapacity = \"1GiB\""), "cache.capacity");
        assert_eq!(changed("[cache]\nmax_entry = \"2MiB\""), "cache.max_entry");
        assert_eq!(changed("[server]\nhandover = \"/a\""), "server.handover");
        let without = unchanged_since_start(&file("[server]\nhandover = \"/a\""), &running);
        assert_eq!(without.unwrap_err().key, "server.handover");
        assert_eq!(unchanged_since_start(&running, &file("[cache]\nttl = \"1s\"")), Ok(()));
    }

    #[test]
    fn keys_in_the_environment_switch_providers_on() {
        let mut file = File::default();
        let variable = |name: &str| match name {
            "OPENAI_API_KEY" | "GEMINI_API_KEY" => Some("k".to_owned()),
            "CHIMERA_OPENAI_BASE_URL" => Some("http://127.0.0.1:9/v1".to_owned()),
            // What clients set to reach us is never read.
            "OPENAI_BASE_URL" | "ANTHROPIC_BASE_URL" => Some("http://127.0.0.1:8080".to_owned()),
            _ => None,
        };
        add_environment_providers(&mut file, &variable);
        assert_eq!(file.providers.keys().collect::<Vec<_>>(), ["gemini", "openai"]);
        assert_eq!(file.providers["openai"].base_url, "http://127.0.0.1:9/v1");
        assert_eq!(file.providers["gemini"].base_url, "https://generativelanguage.googleapis.com");
    }
}
