//! The cache as the admin listener shows it, and what it can be asked to forget.

use std::time::Instant;

use chimera_cache::{Coherence, Purge, TierSnapshot};
use serde_json::{Value, json};

use crate::{gateway::Gateway, route};

/// All tiers, what moves between them, and how they are.
pub(crate) fn metrics(gateway: &Gateway) -> Value {
    let shared = &gateway.shared;
    let seen = shared.cache.snapshot(Instant::now());
    let mut near = tier(&seen.near);
    if let Some(near) = near.as_object_mut() {
        let sizes = [
            ("entries", seen.near.entries),
            ("bytes", seen.near.bytes),
            ("capacity_bytes", seen.near.capacity_bytes),
        ];
        near.extend(sizes.map(|(name, size)| (name.to_owned(), size.into())));
    }
    let tiers: Vec<_> = std::iter::once(near).chain(seen.far.as_ref().map(tier)).collect();
    let tracking = match seen.coherence {
        Coherence::Tracked => "on",
        Coherence::Lost => "lost",
        _ => "none",
    };
    let writes = seen.writes;
    json!({
        "tiers": tiers,
        "moves": { "promote": seen.promoted, "demote": seen.demoted },
        "writes": {
            "stored": writes.stored, "refused": writes.refused, "failed": writes.failed,
            "dropped": writes.dropped, "queued": writes.queued,
        },
        "tracking": { "state": tracking, "l1_emptied": seen.distrusted },
        "flights": shared.flights.len(),
    })
}

fn tier(tier: &TierSnapshot) -> Value {
    json!({
        "tier": tier.tier, "up": tier.up, "why": tier.why_down, "hits": tier.hits, "misses": tier.misses,
        "hit_rate": {
            "1m": tier.hit_rate.last_1m, "5m": tier.hit_rate.last_5m, "1h": tier.hit_rate.last_1h,
            "total": tier.hit_rate.total,
        },
        "evictions": {
            "room": tier.evictions.room, "expired": tier.evictions.expired,
            "invalidated": tier.evictions.invalidated, "refused": tier.evictions.refused,
        },
        "bad_values": tier.flawed,
        "latency_seconds": {
            "get": { "p50": tier.get.p50, "p99": tier.get.p99 },
            "put": { "p50": tier.put.p50, "p99": tier.put.p99 },
        },
    })
}

/// What a purge's query selects: everything, a tenant's answers, or a model's.
pub(crate) fn asked(query: Option<&str>) -> Result<Purge, &'static str> {
    let known = |pair: &&str| pair.starts_with("tenant=") || pair.starts_with("model=");
    let pairs: Vec<_> = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    if pairs.len() > 1 || !pairs.iter().all(known) {
        return Err("a purge takes nothing, or one of tenant=NAME and model=NAME");
    }
    let decoded = |value| route::percent_decode(value).ok_or("the name is not well formed");
    if let Some(tenant) = route::query_value(query, "tenant") {
        return Ok(Purge::Scope(decoded(tenant)?.into()));
    }
    if let Some(model) = route::query_value(query, "model") {
        return Ok(Purge::Tag(decoded(model)?.into()));
    }
    Ok(Purge::All)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_that_is_not_understood_is_not_a_purge_of_everything() {
        assert_eq!(asked(None), Ok(Purge::All));
        assert_eq!(asked(Some("tenant=acme")), Ok(Purge::Scope("acme".into())));
        assert_eq!(asked(Some("model=gpt-x")), Ok(Purge::Tag("gpt-x".into())));
        assert_eq!(asked(Some("model=meta%2Fllama")), Ok(Purge::Tag("meta/llama".into())));
        for query in ["tenat=acme", "tenant=a&model=b", "x", "model=%zz"] {
            assert!(asked(Some(query)).is_err(), "{query}");
        }
    }
}
