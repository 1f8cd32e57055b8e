//! What the admin listener tells of providers, breakers and the worker pool.

use std::{collections::HashSet, sync::Arc, time::Instant};

use chimera_circuit_breaker::Forced;
use chimera_provider_pool::{Deployment, Headroom, Left, Provider, RestingKey, Told};
use serde_json::{Value, json};

use crate::gateway::Gateway;

/// Providers with their connections and keys, and the names of groups.
pub(super) fn providers(gateway: &Gateway) -> Value {
    let now = Instant::now();
    gateway.with_models(|models| {
        let deployments = models.deployments();
        let providers: Vec<_> = models
            .providers()
            .iter()
            .map(|model_provider| {
                let provider = &model_provider.provider;
                let connections = provider.connections();
                let of = || {
                    deployments.iter().filter(|deployment| deployment.provider().name() == provider.name())
                };
                let resting = resting_keys(provider, of(), now);
                let parked: HashSet<_> = resting.iter().map(|(key, _)| key.index).collect();
                let headroom: Vec<_> = provider.keys().headroom(now).iter().map(room).collect();
                let dialects: Vec<_> = model_provider.dialects.iter().map(|d| d.as_str()).collect();
                json!({
                    "name": provider.name(), "dialects": dialects,
                    "base_url": format!("{:?}", provider.settings().target),
                    "connections": {
                        "open": connections.open, "idle": connections.idle, "waiting": connections.waiting,
                    },
                    "keys": {
                        "configured": provider.keys().len(), "parked": parked.len(),
                        "resting": resting.iter().map(resting_key).collect::<Vec<_>>(), "headroom": headroom,
                    },
                    "deployments": of().map(|deployment| seen(deployment, now)).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({ "providers": providers, "groups": models.group_names() })
    })
}

/// The worker pool.
pub(super) fn worker_pool(gateway: &Gateway) -> Value {
    let seen = gateway.worker_pool();
    json!({
        "threads": seen.threads, "busy": seen.busy, "queued": seen.queued, "capacity": seen.capacity,
        "oldest_seconds": seen.oldest.map(|age| age.as_secs_f64()),
        "done": seen.done, "rejected": seen.rejected, "cancelled": seen.cancelled, "panicked": seen.panicked,
    })
}

/// A breaker for each deployment.
pub(super) fn breakers(gateway: &Gateway) -> Value {
    let now = Instant::now();
    gateway.with_models(|models| {
        let breakers: Vec<_> = models.deployments().iter().map(|deployment| seen(deployment, now)).collect();
        json!({ "circuit_breakers": breakers })
    })
}

/// How a deployment is: its breaker's state, why, since when, and when it is tried again; and its slots.
pub(super) fn seen(deployment: &Deployment, now: Instant) -> Value {
    let seen = deployment.breaker().snapshot(now);
    json!({
        "deployment": deployment.name(), "state": seen.state.as_str(),
        "forced": seen.forced.map(forced_as_str),
        "since_seconds": seen.since.as_secs_f64(), "why": seen.why.map(|why| why.as_str()),
        "window": { "calls": seen.calls, "failures": seen.failures, "slow": seen.slow },
        "probes_in_flight": seen.probes_in_flight,
        "next_probe_seconds": seen.next_probe.map(|wait| wait.as_secs_f64()),
        "in_flight": deployment.in_flight(), "limit": deployment.limit(), "waiting": deployment.waiting(),
    })
}

/// The keys of a provider that rest for all models, and those that rest for one, each such model once.
fn resting_keys<'a>(
    provider: &Provider,
    deployments: impl Iterator<Item = &'a Arc<Deployment>>,
    now: Instant,
) -> Vec<(RestingKey, Option<&'a str>)> {
    let mut resting: Vec<_> = provider.keys().resting(now).into_iter().map(|key| (key, None)).collect();
    let mut names = HashSet::new();
    for deployment in deployments.filter(|deployment| names.insert(deployment.name())) {
        let here = deployment.resting_keys(now).into_iter();
        resting.extend(here.map(|key| (key, Some(deployment.name()))));
    }
    resting
}

/// A key by its place, never by itself, and the one deployment that it rests for.
fn resting_key((key, of): &(RestingKey, Option<&str>)) -> Value {
    let remaining = key.remaining.as_secs_f64();
    json!({ "key": key.index + 1, "why": key.why.as_str(), "deployment": of, "remaining_seconds": remaining })
}

/// What is left of a key.
fn room(room: &Headroom) -> Value {
    let left = |left: Left| json!({ "left": left.now, "most": left.most, "per_minute": left.per_minute });
    let told = |told: Told| json!({ "left": told.left, "most": told.most });
    json!({
        "key": room.index + 1, "requests": room.requests.map(left), "tokens": room.tokens.map(left),
        "told_requests": room.told_requests.map(told), "told_tokens": room.told_tokens.map(told),
    })
}

fn forced_as_str(forced: Forced) -> &'static str {
    match forced {
        Forced::Open => "open",
        Forced::Closed => "closed",
    }
}
