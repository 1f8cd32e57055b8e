//! From the file to the gateway's settings: everything is checked here, once.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use chimera_circuit_breaker as breaker;
use chimera_gateway::{
    CachePolicy, CacheSettings, CompressionSettings, DialectId, KeyDigest, Limits, ModelProvider, Models,
    Settings, SizeLimits, Tenant, Tenants, Timeouts,
};
use chimera_provider_pool::{
    Credential, Deployment, Failover, Group, InOrder, Provider, ProviderSettings, RoundRobin, Secret,
    SharedConnect, SharedPicker, Target, client_config,
};
use http::HeaderName;
use toml::Value;

use crate::{
    config::{self, ConfigError, Dialect, File, Picker, Policy},
    units::SecretSource,
};

/// What resolving needs besides the file.
pub(crate) struct Surroundings {
    /// Connects to providers by TCP.
    pub(crate) tcp: SharedConnect,
    /// Connects to the simulated provider inside this process.
    pub(crate) sim: SharedConnect,
    pub(crate) workers: usize,
}

/// The listeners' addresses, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Bare model names of the vendors.
const OPENAI_MODELS: &[&str] =
    &["gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "text-embedding-*", "codex-*", "ft:*"];
const ANTHROPIC_MODELS: &[&str] = &["claude-*"];
const GEMINI_MODELS: &[&str] = &["gemini-*", "gemma-*", "gemini-embedding-*", "embedding-*", "learnlm-*"];

/// Adds the providers whose keys the environment holds, where the file does not name them.
pub(crate) fn add_environment_providers(file: &mut File, variable: &dyn Fn(&str) -> Option<String>) {
    let vendors: [(&str, Dialect, &[&str], &str, &str); 3] = [
        (
            "openai",
            Dialect::OpenAi,
            &["OPENAI_API_KEY"],
            "CHIMERA_OPENAI_BASE_URL",
            "https://api.openai.com/v1",
        ),
        (
            "anthropic",
            Dialect::Anthropic,
            &["ANTHROPIC_API_KEY"],
            "CHIMERA_ANTHROPIC_BASE_URL",
            "https://api.anthropic.com",
        ),
        (
            "gemini",
            Dialect::Gemini,
            &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
            "CHIMERA_GEMINI_BASE_URL",
            "https://generativelanguage.googleapis.com",
        ),
    ];
    for (name, dialect, keys, url_variable, url) in vendors {
        let set = |name: &&&str| variable(name).is_some_and(|value| !value.trim().is_empty());
        let Some(key) = keys.iter().find(set) else { continue };
        if file.providers.contains_key(name) {
            continue;
        }
        let base_url = variable(url_variable).unwrap_or_else(|| url.to_owned());
        let env = crate::units::EnvSecret { env: (*key).to_owned() };
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
                idle_timeout: crate::units::Span(Duration::from_secs(20)),
                ask_usage: true,
            },
        );
    }
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
        let capacity =
            toml::Table::from_iter([("capacity".to_owned(), Value::try_from(file.cache.capacity)?)]);
        let sections = [
            ("server", Value::try_from(&file.server)?),
            ("log", Value::try_from(&file.log)?),
            ("cache", capacity.into()),
        ];
        Ok::<_, toml::ser::Error>(
            sections.map(|(section, keys)| (section, keys.as_table().cloned().unwrap_or_default())),
        )
    };
    let both = table(running).and_then(|running| Ok((running, table(new)?)));
    let (running, new) = both.map_err(|error| ConfigError::new("the file", error.to_string()))?;
    for ((section, running), (_, new)) in running.iter().zip(&new) {
        if let Some((key, _)) = new.iter().find(|(key, value)| running.get(*key) != Some(value)) {
            return Err(ConfigError::new(format!("{section}.{key}"), "a change of it needs a restart"));
        }
    }
    Ok(())
}

/// Resolves everything that a reload may change.
pub(crate) fn settings(
    file: &File,
    addresses: &Addresses,
    around: &Surroundings,
) -> Result<Settings, ConfigError> {
    server(file)?;
    admin_key(file)?;
    let mut settings = Settings::new(models(file, addresses, around)?);
    settings.tenants = tenants(file)?;
    settings.timeouts = timeouts(file)?;
    settings.cache = cache(file)?;
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
    Ok(())
}

fn timeouts(file: &File) -> Result<Timeouts, ConfigError> {
    let timeouts = &file.timeouts;
    let named = [
        ("standard", timeouts.standard.0),
        ("llm", timeouts.llm.0),
        ("stream_idle", timeouts.stream_idle.0),
        ("health", timeouts.health.0),
        ("connect", timeouts.connect.0),
        ("request_body", timeouts.request_body.0),
    ];
    let first_event = timeouts.first_event.map(|span| ("first_event", span.0));
    above_zero("timeouts", named.into_iter().chain(first_event))?;
    Ok(Timeouts {
        standard: timeouts.standard.0,
        llm: timeouts.llm.0,
        first_event: timeouts.first_event.map(|span| span.0),
        stream_idle: timeouts.stream_idle.0,
        health: timeouts.health.0,
        request_body: timeouts.request_body.0,
    })
}

fn cache(file: &File) -> Result<CacheSettings, ConfigError> {
    let cache = &file.cache;
    if cache.max_entry.0.saturating_mul(4) > cache.capacity.0 {
        return Err(ConfigError::new("cache.max_entry", "it must be at most a quarter of cache.capacity"));
    }
    Ok(CacheSettings {
        policy: match cache.policy {
            Policy::All => CachePolicy::All,
            Policy::Deterministic => CachePolicy::Deterministic,
            Policy::Off => CachePolicy::Off,
        },
        ttl: cache.ttl.0,
        capacity: cache.capacity.0,
        max_entry: cache.max_entry.0,
    })
}

fn sizes(file: &File) -> Result<SizeLimits, ConfigError> {
    let limits = &file.limits;
    let named = |name: &str, size: config_size::Size| {
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
    })
}

use crate::units as config_size;

fn tenants(file: &File) -> Result<Tenants, ConfigError> {
    if file.clients.is_empty() {
        return Ok(Tenants::open());
    }
    let mut keys: HashMap<KeyDigest, Arc<Tenant>> = HashMap::new();
    for (name, client) in &file.clients {
        let tenant = Tenant::new(
            name.clone(),
            Limits {
                requests_per_minute: client.requests_per_minute,
                tokens_per_minute: client.tokens_per_minute,
                concurrency: client.concurrency,
            },
        );
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

fn models(file: &File, addresses: &Addresses, around: &Surroundings) -> Result<Models, ConfigError> {
    let breaker = breaker_settings(file)?;
    let mut models = Models::default();
    for (name, provider) in &file.providers {
        models.add_provider(self::provider(name, provider, file, &breaker, addresses, around)?);
    }
    if file.providers.is_empty() {
        models.add_provider(simulated(&breaker, around)?);
    }
    for (name, group) in &file.groups {
        models.add_group(self::group(name, group, &models, file, &breaker)?);
    }
    Ok(models)
}

fn breaker_settings(file: &File) -> Result<breaker::Settings, ConfigError> {
    let given = &file.breaker;
    let settings = breaker::Settings {
        window: given.window.0,
        minimum_calls: given.minimum_calls,
        failure_rate: given.failure_rate,
        consecutive_failures: given.consecutive_failures,
        open_base: given.open_base.0,
        open_max: given.open_max.0,
        probes: given.probes,
        ..breaker::Settings::default()
    };
    settings.validate().map_err(|error| ConfigError::new("breaker", error.to_string()))?;
    Ok(settings)
}

fn new_breaker(settings: &breaker::Settings, name: &str) -> Arc<breaker::Breaker> {
    let listener = breaker::BreakerMetrics::new(name).listener();
    breaker::Breaker::with_listener(settings.clone(), std::time::Instant::now(), listener)
}

fn check_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
        return Err(ConfigError::new(key, "a name is 1 to 64 letters, digits, -, _ and ."));
    }
    Ok(())
}

fn provider(
    name: &str,
    given: &config::Provider,
    file: &File,
    breaker: &breaker::Settings,
    addresses: &Addresses,
    around: &Surroundings,
) -> Result<ModelProvider, ConfigError> {
    let at = |key: &str| format!("providers.{name}.{key}");
    check_name(&format!("providers.{name}"), name)?;
    let target = Target::parse(&given.base_url)
        .map_err(|error| ConfigError::new(at("base_url"), error.to_string()))?;
    if is_ourselves(&target, addresses) {
        return Err(ConfigError::new(
            at("base_url"),
            "it is this gateway's own listener: requests would loop",
        ));
    }
    if given.max_in_flight == 0 {
        return Err(ConfigError::new(at("max_in_flight"), "it must be at least 1"));
    }
    if given.models.iter().any(String::is_empty) {
        return Err(ConfigError::new(at("models"), "a model name is empty"));
    }
    let mut settings = ProviderSettings::new(name, target);
    settings.credentials = credentials(name, given)?;
    settings.max_connections = given.max_connections;
    settings.idle_timeout = given.idle_timeout.0;
    settings.connect_timeout = file.timeouts.connect.0;
    if let Some(path) = &given.ca_file {
        settings.tls = Some(roots(path).map_err(|why| ConfigError::new(at("ca_file"), why))?);
    }
    let (dialect, vendor) = match given.dialect {
        Dialect::OpenAi => (DialectId::OpenAi, OPENAI_MODELS),
        Dialect::Anthropic => (DialectId::Anthropic, ANTHROPIC_MODELS),
        Dialect::Gemini => (DialectId::Gemini, GEMINI_MODELS),
    };
    // A provider named after its vendor serves the vendor's bare names without being told.
    let is_vendor = matches!(
        (name, given.dialect),
        ("openai", Dialect::OpenAi) | ("anthropic", Dialect::Anthropic) | ("gemini", Dialect::Gemini)
    );
    let patterns = match (given.models.is_empty(), is_vendor) {
        (true, true) => vendor.iter().map(|pattern| (*pattern).to_owned()).collect(),
        _ => given.models.clone(),
    };
    let provider = Provider::new(settings, around.tcp.clone(), around.workers)
        .map_err(|error| ConfigError::new(format!("providers.{name}"), error.to_string()))?;
    Ok(ModelProvider {
        group: own_group(&provider, breaker, given.max_in_flight),
        provider,
        dialects: vec![dialect],
        patterns,
        ask_usage: given.ask_usage,
    })
}

fn own_group(provider: &Arc<Provider>, breaker: &breaker::Settings, max_in_flight: usize) -> Arc<Group> {
    let name = provider.name();
    let deployment = Deployment::new(name, provider.clone(), None, new_breaker(breaker, name), max_in_flight);
    Group::new(name, vec![deployment], Arc::new(InOrder), Failover::default())
}

fn is_ourselves(target: &Target, addresses: &Addresses) -> bool {
    let host = target.host().trim_end_matches('.').to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().ok();
    let is_loopback = host == "localhost"
        || host.ends_with(".localhost")
        || ip.is_some_and(|ip| ip.is_loopback() || ip.is_unspecified());
    [addresses.data, addresses.admin].iter().any(|ours| {
        // A listener on all addresses is reached by each of this machine's.
        let is_reached = match ip {
            _ if is_loopback => ours.ip().is_loopback() || ours.ip().is_unspecified(),
            Some(ip) => ip == ours.ip() || (ours.ip().is_unspecified() && is_of_this_machine(ip)),
            None => false,
        };
        is_reached && ours.port() == target.port()
    })
}

/// Only an address of this machine can be bound.
fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

fn credentials(name: &str, given: &config::Provider) -> Result<Vec<Credential>, ConfigError> {
    let (header, prefix) = match given.dialect {
        Dialect::OpenAi => (http::header::AUTHORIZATION, "Bearer "),
        Dialect::Anthropic => (HeaderName::from_static("x-api-key"), ""),
        Dialect::Gemini => (HeaderName::from_static("x-goog-api-key"), ""),
    };
    let one = given.api_key.iter().map(|source| ("api_key".to_owned(), source));
    let several = given.api_keys.iter().enumerate().map(|(i, source)| (format!("api_keys[{i}]"), source));
    one.chain(several)
        .map(|(key, source)| {
            let at = format!("providers.{name}.{key}");
            let secret = source.read().map_err(|why| ConfigError::new(&at, why))?;
            Credential::new(header.clone(), prefix, Secret::new(secret))
                .ok_or_else(|| ConfigError::new(at, "it cannot be sent in a header"))
        })
        .collect()
}

fn roots(path: &str) -> Result<Arc<rustls::ClientConfig>, String> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it holds no certificate".into());
    }
    client_config(roots).map_err(|error| error.to_string())
}

fn group(
    name: &str,
    given: &config::Group,
    models: &Models,
    file: &File,
    breaker: &breaker::Settings,
) -> Result<Arc<Group>, ConfigError> {
    let at = |key: String| format!("groups.{name}.{key}");
    check_name(&format!("groups.{name}"), name)?;
    if given.deployments.is_empty() || given.deployments.len() > 64 {
        return Err(ConfigError::new(at("deployments".into()), "a group has 1 to 64 deployments"));
    }
    let mut deployments = Vec::new();
    for (index, deployment) in given.deployments.iter().enumerate() {
        let provider = models.provider(&deployment.provider).ok_or_else(|| {
            ConfigError::new(at(format!("deployments[{index}].provider")), "no provider has this name")
        })?;
        if deployment.model.is_empty() {
            return Err(ConfigError::new(at(format!("deployments[{index}].model")), "it is empty"));
        }
        let label = format!("{}/{}", deployment.provider, deployment.model);
        let most = file.providers.get(&deployment.provider).map_or(16_384, |provider| provider.max_in_flight);
        let breaker = new_breaker(breaker, &label);
        let model = Some(deployment.model.clone());
        deployments.push(Deployment::new(label, provider.provider.clone(), model, breaker, most));
    }
    let picker: SharedPicker = match given.picker {
        Picker::InOrder => Arc::new(InOrder),
        Picker::RoundRobin => Arc::new(RoundRobin::default()),
    };
    let failover = Failover { refused: given.failover_refused, broken: given.failover_broken };
    Ok(Group::new(name, deployments, picker, failover))
}

/// The provider inside this process: it answers when no other is configured.
fn simulated(breaker: &breaker::Settings, around: &Surroundings) -> Result<ModelProvider, ConfigError> {
    let wrong = |error: chimera_provider_pool::SettingsError| ConfigError::new("sim", error.to_string());
    let target = Target::parse("http://sim.internal").map_err(wrong)?;
    let provider = Provider::new(ProviderSettings::new("sim", target), around.sim.clone(), around.workers)
        .map_err(wrong)?;
    Ok(ModelProvider {
        group: own_group(&provider, breaker, 16_384),
        provider,
        dialects: vec![DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini],
        patterns: vec!["sim-*".into()],
        ask_usage: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        config::parse(text, []).unwrap()
    }

    fn around() -> Surroundings {
        let tcp: SharedConnect = Arc::new(
            chimera_provider_pool::TcpConnect::new(chimera_provider_pool::Resolver::default()).unwrap(),
        );
        Surroundings { sim: tcp.clone(), tcp, workers: 1 }
    }

    fn refused(text: &str) -> String {
        let file = file(text);
        let result =
            addresses(&file).and_then(|addresses| settings(&file, &addresses, &around()).map(|_| ()));
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
        assert_eq!(refused("[server]\nheader_timeout = \"0s\""), "server.header_timeout");
        assert_eq!(refused("[server]\nmax_connections = 0"), "server.max_connections");
        assert_eq!(refused("[server]\nworkers = 100000"), "server.workers");
        assert_eq!(refused("[server]\ndrain_max = \"10ms\""), "server.drain_min");
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
