//! The `[cache]` section: what may stand in it, its defaults, and what it comes to.

use std::{collections::BTreeMap, time::Duration};

use chimera_gateway::{CachePolicy, CacheSettings, RouteCaches};
use serde::{Deserialize, Serialize};

use crate::{
    config::{ConfigError, File, secs},
    units::{SecretSource, Size, Span},
};

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cache {
    pub(crate) policy: Policy,
    pub(crate) ttl: Span,
    pub(crate) stale_while_revalidate: Span,
    pub(crate) stale_if_error: Span,
    pub(crate) negative_ttl: Span,
    pub(crate) cache_control: CacheControl,
    pub(crate) capacity: Size,
    pub(crate) max_entry: Size,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) routes: BTreeMap<String, RouteCache>,
    pub(crate) redis: Redis,
    pub(crate) disk: Disk,
}

/// A file behind memory. Without a path there is none.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Disk {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    pub(crate) max_bytes: Size,
    pub(crate) deadline: Span,
}

impl Default for Disk {
    fn default() -> Self {
        Self { path: None, max_bytes: Size(1 << 30), deadline: Span(Duration::from_millis(100)) }
    }
}

/// What answers from the cache say in `cache-control`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CacheControl {
    NoStore,
    MaxAge,
}

/// What is different on one route.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RouteCache {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<Policy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stale_while_revalidate: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stale_if_error: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) negative_ttl: Option<Span>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            policy: Policy::All,
            ttl: secs(3600),
            stale_while_revalidate: secs(0),
            stale_if_error: secs(0),
            negative_ttl: secs(0),
            cache_control: CacheControl::NoStore,
            capacity: Size(256 << 20),
            max_entry: Size(1 << 20),
            routes: BTreeMap::new(),
            redis: Redis::default(),
            disk: Disk::default(),
        }
    }
}

/// The second tier. Without a URL there is none.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Redis {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<SecretSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<SecretSource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<String>,
    pub(crate) prefix: String,
    pub(crate) deadline: Span,
    pub(crate) connect: Span,
    pub(crate) readers: usize,
    pub(crate) compress_over: Size,
    pub(crate) tracking: bool,
    pub(crate) lease: Span,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            ca_file: None,
            prefix: "chimera:".into(),
            deadline: Span(Duration::from_millis(25)),
            connect: secs(2),
            readers: 2,
            compress_over: Size(4 << 10),
            tracking: true,
            lease: secs(0),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Policy {
    All,
    Deterministic,
    Off,
}

/// What the section comes to. Errors name the key at fault.
pub(crate) fn settings(file: &File) -> Result<CacheSettings, ConfigError> {
    let cache = &file.cache;
    if cache.max_entry.0.saturating_mul(4) > cache.capacity.0 {
        return Err(ConfigError::new("cache.max_entry", "it must be at most a quarter of cache.capacity"));
    }
    let mut settings = CacheSettings {
        policy: policy(cache.policy),
        ttl: cache.ttl.0,
        stale_while_revalidate: cache.stale_while_revalidate.0,
        stale_if_error: cache.stale_if_error.0,
        negative_ttl: cache.negative_ttl.0,
        tells_max_age: cache.cache_control == CacheControl::MaxAge,
        routes: RouteCaches::default(),
        capacity: cache.capacity.0,
        max_entry: cache.max_entry.0,
    };
    bounded("cache.negative_ttl", settings.negative_ttl)?;
    for (name, own) in &cache.routes {
        let mut route = settings.everywhere();
        let span = |own: Option<Span>, common: Duration| own.map_or(common, |own| own.0);
        route.policy = own.policy.map_or(route.policy, policy);
        route.ttl = span(own.ttl, route.ttl);
        route.stale_while_revalidate = span(own.stale_while_revalidate, route.stale_while_revalidate);
        route.stale_if_error = span(own.stale_if_error, route.stale_if_error);
        route.negative_ttl = span(own.negative_ttl, route.negative_ttl);
        bounded(&format!("cache.routes.{name}.negative_ttl"), route.negative_ttl)?;
        if !settings.routes.set(name, route) {
            let known: Vec<_> = RouteCaches::names().collect();
            let why = format!("there is no such route; there are {}", known.join(", "));
            return Err(ConfigError::new(format!("cache.routes.{name}"), why));
        }
    }
    Ok(settings)
}

/// A refusal that was a passing one is not to be repeated for long.
const LONGEST_NEGATIVE: Duration = Duration::from_secs(300);

fn bounded(key: &str, negative: Duration) -> Result<(), ConfigError> {
    if negative > LONGEST_NEGATIVE {
        return Err(ConfigError::new(key, "it must be at most 5m"));
    }
    Ok(())
}

fn policy(policy: Policy) -> CachePolicy {
    match policy {
        Policy::All => CachePolicy::All,
        Policy::Deterministic => CachePolicy::Deterministic,
        Policy::Off => CachePolicy::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn of(text: &str) -> Result<CacheSettings, ConfigError> {
        settings(&config::parse(text, []).unwrap())
    }

    #[test]
    fn a_route_has_what_it_says_and_the_rest_of_what_holds_everywhere() {
        let text = "[cache]\nttl = \"2h\"\nstale_while_revalidate = \"1m\"\ncache_control = \"max-age\"\n\
                    [cache.routes.embeddings]\nttl = \"24h\"\npolicy = \"all\"";
        let settings = of(text).unwrap();
        let mut expected = settings;
        let embeddings =
            chimera_gateway::RouteCache { ttl: Duration::from_secs(24 * 3600), ..settings.everywhere() };
        expected.routes = RouteCaches::default();
        assert!(expected.routes.set("embeddings", embeddings));
        assert_eq!(settings, expected);
        assert_eq!((settings.ttl, settings.tells_max_age), (Duration::from_secs(7200), true));
        assert_eq!(embeddings.stale_while_revalidate, Duration::from_secs(60));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let key = |text: &str| of(text).unwrap_err().key;
        assert_eq!(key("[cache]\nnegative_ttl = \"1h\""), "cache.negative_ttl");
        assert_eq!(key("[cache.routes.nowhere]\nttl = \"1s\""), "cache.routes.nowhere");
        assert_eq!(key("[cache.routes.models]\nttl = \"1s\""), "cache.routes.models");
        assert_eq!(
            key("[cache.routes.messages]\nnegative_ttl = \"6m\""),
            "cache.routes.messages.negative_ttl"
        );
    }
}
