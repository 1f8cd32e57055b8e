//! From the file's providers and groups to what requests are sent to.

use std::{
    net::{IpAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use chimera_circuit_breaker as breaker;
use chimera_gateway::{DialectId, ModelProvider, Models};
use chimera_provider_pool::{
    Credential, Deployment, DeploymentSettings, Failover, Group, GroupSettings, InOrder, LeastLatency,
    Provider, ProviderSettings, RoundRobin, Secret, SharedPicker, Target, Weighted, client_config,
};
use http::HeaderName;

use crate::{
    config::{self, ConfigError, Dialect, File, Picker},
    keep::InForce,
    surroundings::{Addresses, Surroundings},
};

/// Bare model names of the vendors.
const OPENAI_MODELS: &[&str] =
    &["gpt-*", "chatgpt-*", "o1*", "o3*", "o4*", "text-embedding-*", "codex-*", "ft:*"];
const ANTHROPIC_MODELS: &[&str] = &["claude-*"];
const GEMINI_MODELS: &[&str] = &["gemini-*", "gemma-*", "gemini-embedding-*", "embedding-*", "learnlm-*"];

/// More names of models than anybody has. Each group has breakers and series of its own, and a name is
/// looked for among the patterns of every provider.
const MOST_MODELS: usize = 10_000;

/// The providers and groups of a file; the simulated provider, where it names none.
pub(crate) fn models(
    file: &File,
    addresses: &Addresses,
    around: &Surroundings,
    before: Option<&InForce<'_>>,
) -> Result<Models, ConfigError> {
    if file.groups.len() > MOST_MODELS {
        return Err(ConfigError::new("groups", format!("there must be at most {MOST_MODELS}")));
    }
    let breaker = breaker_settings(file)?;
    let mut models = Models::default();
    for (name, provider) in &file.providers {
        let made = self::provider(name, provider, file, &breaker, addresses, around)?;
        match before.and_then(|before| before.provider(file, &made)) {
            Some(kept) => models.add_provider(kept),
            None => models.add_provider(made),
        }
    }
    if file.providers.is_empty() {
        let made = simulated(&breaker, around)?;
        match before.and_then(|before| before.provider(file, &made)) {
            Some(kept) => models.add_provider(kept),
            None => models.add_provider(made),
        }
    }
    for (name, group) in &file.groups {
        let made = self::group(name, group, &models, file, &breaker)?;
        models.add_group(before.and_then(|before| before.group(file, &models, &made)).unwrap_or(made));
    }
    Ok(models)
}

fn breaker_settings(file: &File) -> Result<breaker::Settings, ConfigError> {
    let given = &file.breaker;
    let settings = breaker::Settings {
        window: given.window.0,
        minimum_calls: given.minimum_calls,
        failure_rate: given.failure_rate,
        slow_call: given.slow_call.map(|slow| slow.0),
        slow_call_rate: given.slow_call_rate,
        consecutive_failures: given.consecutive_failures,
        open_base: given.open_base.0,
        open_max: given.open_max.0,
        probes: given.probes,
        ..breaker::Settings::default()
    };
    if settings.slow_call.is_some_and(|slow| slow.is_zero()) {
        return Err(ConfigError::new("breaker.slow_call", "it must be above zero"));
    }
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
    if given.min_in_flight.is_some_and(|least| least == 0 || least > given.max_in_flight) {
        return Err(ConfigError::new(at("min_in_flight"), "it must be 1 to max_in_flight"));
    }
    if given.models.len() > MOST_MODELS {
        return Err(ConfigError::new(at("models"), format!("it must hold at most {MOST_MODELS} names")));
    }
    if given.models.iter().any(String::is_empty) {
        return Err(ConfigError::new(at("models"), "a model name is empty"));
    }
    let mut settings = ProviderSettings::new(name, target);
    settings.credentials = credentials(name, given)?;
    settings.max_connections = given.max_connections;
    settings.min_idle = given.min_idle;
    settings.idle_timeout = given.idle_timeout.0;
    settings.connect_timeout = file.timeouts.connect.0;
    settings.requests_per_minute = given.requests_per_minute;
    settings.tokens_per_minute = given.tokens_per_minute;
    settings.learn_limits = given.learn_limits;
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
        group: own_group(&provider, breaker, deployment_settings(Some(given))),
        provider,
        dialects: match (dialect, given.responses) {
            (DialectId::OpenAi, true) => vec![dialect, DialectId::Responses],
            _ => vec![dialect],
        },
        patterns,
        ask_usage: given.ask_usage,
        drain_for_usage: given.drain_for_usage.0,
    })
}

fn own_group(
    provider: &Arc<Provider>,
    breaker: &breaker::Settings,
    settings: DeploymentSettings,
) -> Arc<Group> {
    let (name, breaker) = (provider.name(), new_breaker(breaker, provider.name()));
    let deployment = Deployment::with_settings(name, provider.clone(), None, breaker, &settings);
    Group::new(name, vec![deployment], Arc::new(InOrder), Failover::default())
}

/// What a provider's section says of each deployment of it.
fn deployment_settings(given: Option<&config::Provider>) -> DeploymentSettings {
    let default = DeploymentSettings { max_in_flight: 16_384, ..DeploymentSettings::default() };
    given.map_or(default, |given| DeploymentSettings {
        max_in_flight: given.max_in_flight,
        max_waiting: given.max_waiting,
        wait_target: given.wait_target.0,
        adaptive_floor: given.min_in_flight,
        ..DeploymentSettings::default()
    })
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

pub(crate) fn roots(path: &str) -> Result<Arc<rustls::ClientConfig>, String> {
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
        let given = file.providers.get(&deployment.provider);
        let breaker = new_breaker(breaker, &label);
        let model = Some(deployment.model.clone());
        let settings = DeploymentSettings {
            priority: deployment.priority,
            weight: deployment.weight,
            ..deployment_settings(given)
        };
        let provider = provider.provider.clone();
        deployments.push(Deployment::with_settings(label, provider, model, breaker, &settings));
    }
    Ok(Group::with_settings(name, deployments, picker(given.picker), group_settings(given, at)?))
}

fn picker(given: Picker) -> SharedPicker {
    match given {
        Picker::InOrder => Arc::new(InOrder),
        Picker::RoundRobin => Arc::new(RoundRobin::default()),
        Picker::Weighted => Arc::new(Weighted::default()),
        Picker::LeastLatency => Arc::new(LeastLatency::default()),
    }
}

fn group_settings(
    given: &config::Group,
    at: impl Fn(String) -> String,
) -> Result<GroupSettings, ConfigError> {
    for (key, value, most) in [
        ("retry_percent", given.retry_percent, 100),
        ("retry_floor", given.retry_floor, 10_000),
        ("retries", given.retries, 10),
    ] {
        if value > most {
            return Err(ConfigError::new(at(key.into()), format!("it must be at most {most}")));
        }
    }
    let failover = Failover {
        refused: given.failover_refused,
        broken: given.failover_broken,
        retry_percent: given.retry_percent,
        retry_floor: given.retry_floor,
        retries: given.retries,
        backoff: given.retry_backoff.0,
        max_pause: given.retry_max_pause.0,
    };
    if given.first_event_timeout.is_some_and(|timeout| timeout.0.is_zero()) {
        return Err(ConfigError::new(at("first_event_timeout".into()), "it must be above zero"));
    }
    if given.hedge_percentile.is_some_and(|percentile| !(50..=99).contains(&percentile)) {
        return Err(ConfigError::new(at("hedge_percentile".into()), "it must be 50 to 99"));
    }
    let affinity_prefix = given.affinity_prefix.map(|size| usize::try_from(size.0).unwrap_or(usize::MAX));
    if affinity_prefix == Some(0) {
        return Err(ConfigError::new(at("affinity_prefix".into()), "it must be above zero"));
    }
    Ok(GroupSettings {
        failover,
        affinity_prefix,
        first_event: given.first_event_timeout.map(|timeout| timeout.0),
        hold_streams: given.hold_streams,
        hedge_percentile: given.hedge_percentile,
        ..GroupSettings::default()
    })
}

/// The provider inside this process: it answers when no other is configured.
fn simulated(breaker: &breaker::Settings, around: &Surroundings) -> Result<ModelProvider, ConfigError> {
    let wrong = |error: chimera_provider_pool::SettingsError| ConfigError::new("sim", error.to_string());
    let target = Target::parse("http://sim.internal").map_err(wrong)?;
    let provider = Provider::new(ProviderSettings::new("sim", target), around.sim.clone(), around.workers)
        .map_err(wrong)?;
    Ok(ModelProvider {
        group: own_group(&provider, breaker, deployment_settings(None)),
        provider,
        dialects: vec![DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini],
        patterns: vec!["sim-*".into()],
        ask_usage: true,
        drain_for_usage: Duration::ZERO,
    })
}
