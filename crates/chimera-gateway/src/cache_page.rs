//! The cache as the admin listener shows it, and what it can be asked to forget.

use std::time::Instant;

use chimera_cache::{Coherence, Purge, TierSnapshot};
use serde_json::{Value, json};

use crate::{directives, gateway::Gateway, route};

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
        "old": { "early": seen.early, "stale": seen.stale, "error": seen.stale_on_error },
        "renewals": shared.renewals.len(),
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
        "breaker": tier.breakers.map(|stand| {
            json!({ "get": stand.reads.name(), "put": stand.writes.name() })
        }),
        "bad_values": tier.flawed,
        "latency_seconds": {
            "get": { "p50": tier.get.p50, "p99": tier.get.p99 },
            "put": { "p50": tier.put.p50, "p99": tier.put.p99 },
        },
    })
}

/// What a purge can be asked by.
const SELECTORS: [&str; 5] = ["tenant", "model", "tag", "key", "prefix"];

/// What a purge's query selects: everything, or the answers of a tenant, a model, a tag, a key, or of keys
/// that begin alike.
pub(crate) fn asked(query: Option<&str>) -> Result<Purge, &'static str> {
    let known = |pair: &&str| pair.split_once('=').is_some_and(|(name, _)| SELECTORS.contains(&name));
    let pairs: Vec<_> = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    if pairs.len() > 1 || !pairs.iter().all(known) {
        return Err(
            "a purge takes nothing, or one of tenant=NAME, model=NAME, tag=NAME, key=HEX and prefix=HEX",
        );
    }
    let decoded = |value| route::percent_decode(value).ok_or("the name is not well formed");
    if let Some(tenant) = route::query_value(query, "tenant") {
        return Ok(Purge::Scope(decoded(tenant)?.into()));
    }
    if let Some(model) = route::query_value(query, "model") {
        return Ok(Purge::Tag(decoded(model)?.into()));
    }
    if let Some(tag) = route::query_value(query, "tag") {
        let tag = decoded(tag)?;
        let what = "a tag is up to 64 letters, digits, and any of - _ . : /";
        return match directives::is_tag(&tag) {
            true => Ok(Purge::Tag(format!("{}{tag}", directives::TAG_SIGN).into())),
            false => Err(what),
        };
    }
    if let Some(key) = route::query_value(query, "key") {
        let key = unhex(key).filter(|key| key.len() == 32);
        return key
            .map(|key| Purge::Key(key.into()))
            .ok_or("a key is the 64 hex digits of x-chimera-cache-key");
    }
    if let Some(prefix) = route::query_value(query, "prefix") {
        let prefix = unhex(prefix).filter(|prefix| (1..=32).contains(&prefix.len()));
        return prefix
            .map(|prefix| Purge::Prefix(prefix.into()))
            .ok_or("a prefix is 2 to 64 hex digits, an even number");
    }
    Ok(Purge::All)
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
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
        assert_eq!(asked(Some("tag=team%2Fa")), Ok(Purge::Tag("#team/a".into())));
        assert_eq!(asked(Some(&format!("key={}", "0f".repeat(32)))), Ok(Purge::Key([15; 32].into())));
        assert_eq!(asked(Some("prefix=0Fa0")), Ok(Purge::Prefix([15, 160].into())));
        for query in [
            "tenat=acme",
            "tenant=a&model=b",
            "x",
            "model=%zz",
            "key=0f",
            "prefix=",
            "prefix=0",
            "prefix=zz",
            "tag=",
            "tag=a%20b",
        ] {
            assert!(asked(Some(query)).is_err(), "{query}");
        }
    }
}
