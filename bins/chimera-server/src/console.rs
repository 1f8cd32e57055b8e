//! The operator's console over this gateway: its settings checked, and what it shows.

use std::time::{SystemTime, UNIX_EPOCH};

use chimera_console::{Console, Price, Settings, Source, Targets};
use chimera_gateway::{Admin, AdminHooks, Gateway, KeyDigest, Proof};
use http::HeaderMap;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value};

use crate::{
    config::{ConfigError, File},
    random,
    reports::Reports,
    run::Error,
};

/// The settings of the console; `None` where there is none.
pub(crate) fn settings(file: &File) -> Result<Option<Settings>, ConfigError> {
    let console = &file.console;
    let wrong = |key: &str, why: &str| Err(ConfigError::new(format!("console.{key}"), why));
    if let Some(prefix) = &console.asset_prefix
        && !is_prefix(prefix)
    {
        return wrong("asset_prefix", "it must be an https:// or http:// URL without query, or a path");
    }
    let targets = &console.targets;
    for (key, share) in [("availability", targets.availability), ("hit_rate", targets.hit_rate)] {
        if !(0.0..1.0).contains(&share) {
            return wrong(&format!("targets.{key}"), "it must be a share: at least 0 and below 1");
        }
    }
    for (name, price) in &console.prices {
        let all = [price.input, price.output, price.cached_input.unwrap_or(0.0)];
        if all.iter().any(|price| !price.is_finite() || *price < 0.0) {
            return wrong(&format!("prices.{name}"), "a price must be zero or more");
        }
    }
    let prices = console.prices.iter().map(|(name, price)| {
        let cached_input = price.cached_input.unwrap_or(price.input);
        (name.clone(), Price { input: price.input, output: price.output, cached_input })
    });
    Ok(console.enabled.then(|| Settings {
        asset_prefix: console.asset_prefix.clone(),
        targets: Targets {
            availability: targets.availability,
            latency_p95: targets.latency_p95.0.as_secs_f64(),
            overhead_p99: targets.overhead_p99.0.as_secs_f64(),
            hit_rate: targets.hit_rate,
        },
        prices: prices.collect(),
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// What may stand in a policy and in markup as it is.
fn is_prefix(prefix: &str) -> bool {
    let rest = prefix.strip_prefix("https://").or_else(|| prefix.strip_prefix("http://"));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:".contains(c);
    match rest {
        Some(rest) => !rest.is_empty() && !rest.starts_with('/') && rest.chars().all(plain),
        None => prefix.starts_with('/') && !prefix.starts_with("//") && prefix.chars().all(plain),
    }
}

/// The console over a gateway, if there is to be one, and the reports that it shows.
pub(crate) fn start(
    file: &File,
    gateway: &Gateway,
    metrics: &PrometheusHandle,
) -> Result<(Option<Console>, Reports), Error> {
    let reports = Reports::new(file.console.load_reports.as_deref());
    let Some(settings) = settings(file)? else { return Ok((None, reports)) };
    let admin = Admin::new(gateway.clone(), AdminHooks::default());
    let source = OfGateway { admin, metrics: metrics.clone() };
    Ok((Some(Console::new(settings, source, random::seed()?)), reports))
}

/// Looks at the gateway for the console, without end.
pub(crate) async fn look(console: Option<Console>) {
    match console {
        Some(console) => console.run().await,
        None => std::future::pending().await,
    }
}

/// What the headers of a request prove, where `key` is asked for.
pub(crate) fn proof(console: Option<&Console>, headers: &HeaderMap, key: Option<KeyDigest>) -> Proof {
    let proof = console.map(|console| console.proof(headers, key)).unwrap_or_default();
    Proof { session: proof.session, token: proof.token }
}

/// What a gateway shows.
struct OfGateway {
    admin: Admin,
    metrics: PrometheusHandle,
}

impl Source for OfGateway {
    fn metrics(&self) -> String {
        crate::metrics::render(&self.metrics)
    }

    fn state(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        state(self.admin.overview(), now)
    }
}

/// What the admin listener tells, by name instead of one after the other, and with times that stand still while
/// nothing happens: what did not change is then not told again.
fn state(overview: Value, now: f64) -> Value {
    let Value::Object(mut topics) = overview else { return Value::Null };
    let mut told = topics.remove("providers").unwrap_or_default();
    let mut take = |name: &str| told.get_mut(name).map(Value::take).unwrap_or_default();
    let (providers, groups) = (take("providers"), take("groups"));
    let mut providers = by_name(providers, "name");
    for provider in providers.values_mut() {
        if let Some(deployments) = provider.get_mut("deployments") {
            *deployments = Value::Object(by_name(deployments.take(), "deployment"));
        }
    }
    topics.insert("providers".to_owned(), Value::Object(providers));
    topics.insert("groups".to_owned(), groups);
    if let Some(tiers) = topics.get_mut("cache").and_then(|cache| cache.get_mut("tiers")) {
        *tiers = Value::Object(by_name(tiers.take(), "tier"));
    }
    let mut state = Value::Object(topics);
    fix_times(&mut state, now);
    state
}

fn by_name(elements: Value, key: &str) -> Map<String, Value> {
    let Value::Array(elements) = elements else { return Map::new() };
    let named = |mut element: Value| {
        let name = element.as_object_mut()?.shift_remove(key)?;
        Some((name.as_str()?.to_owned(), element))
    };
    elements.into_iter().filter_map(named).collect()
}

/// Puts the second of the day in the place of "so many seconds ago" and "in so many seconds".
fn fix_times(value: &mut Value, now: f64) {
    const TIMES: [(&str, &str, f64); 3] = [
        ("since_seconds", "since", -1.0),
        ("next_probe_seconds", "next_probe", 1.0),
        ("remaining_seconds", "until", 1.0),
    ];
    match value {
        Value::Object(members) => {
            for (relative, absolute, sign) in TIMES {
                if let Some(seconds) = members.remove(relative).and_then(|seconds| seconds.as_f64()) {
                    members.insert(absolute.to_owned(), (now + sign * seconds).round().into());
                }
            }
            members.values_mut().for_each(|member| fix_times(member, now));
        }
        Value::Array(elements) => elements.iter_mut().for_each(|element| fix_times(element, now)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config;

    #[test]
    fn p04_the_consoles_keys_are_checked() {
        let refused = |text: &str| settings(&config::parse(text, []).unwrap()).unwrap_err().key;
        let section = |rest: &str| format!("[console]\n{rest}");
        for prefix in
            ["ftp://x", "https://", "//cdn.test", "x", "https://a.test/\\\"><script>", "/a b", "https://a;b"]
        {
            assert_eq!(refused(&section(&format!("asset_prefix = \"{prefix}\""))), "console.asset_prefix");
        }
        assert_eq!(refused("[console.targets]\navailability = 1.0"), "console.targets.availability");
        assert_eq!(refused("[console.targets]\nhit_rate = -0.1"), "console.targets.hit_rate");
        assert_eq!(refused("[console.prices.x]\ninput = -1\noutput = 1"), "console.prices.x");
        let good =
            section("asset_prefix = \"https://cdn.test/chimera\"\n[console.prices.x]\ninput = 1\noutput = 2");
        let good = settings(&config::parse(&good, []).unwrap()).unwrap().unwrap();
        assert_eq!(good.prices["x"], Price { input: 1.0, output: 2.0, cached_input: 1.0 });
        assert!(settings(&config::parse("[console]\nenabled = false", []).unwrap()).unwrap().is_none());
    }

    #[test]
    fn what_did_not_change_is_told_alike() {
        let told = |since: f64, probe: f64| {
            json!({
                "providers": { "groups": ["g"], "providers": [
                    { "name": "p", "deployments": [
                        { "deployment": "d", "since_seconds": since, "next_probe_seconds": probe, "why": null }
                    ] },
                ] },
                "cache": { "tiers": [ { "tier": "l1", "hits": 3 } ] },
            })
        };
        let first = state(told(10.0, 5.0), 1000.0);
        assert_eq!(first, state(told(12.5, 2.5), 1002.5));
        let deployment = &first["providers"]["p"]["deployments"]["d"];
        assert_eq!(
            (deployment["since"].as_f64(), deployment["next_probe"].as_f64()),
            (Some(990.0), Some(1005.0))
        );
        assert_eq!((&first["cache"]["tiers"]["l1"]["hits"], &first["groups"]), (&json!(3), &json!(["g"])));
    }
}
