//! Requests seen before, byte for byte: what the look at them found, without looking again.
//!
//! A repeated request is found by its raw bytes. The whole bytes are compared, so two requests are
//! never taken for one; the digest that finds them needs to be fast, not strong.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chimera_cache::{MemorySettings, MemoryTier};

use crate::{auth::Tenant, look::Looked, route::RouteLabel};

/// Requests larger than this are looked at anew each time.
const MAX_BODY: usize = 64 * 1024;
/// A look-up table of what was computed from the same bytes never goes stale; this only bounds how
/// long unused memory is kept.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// All that the look depends on.
#[derive(Clone)]
pub(crate) struct RawRequest {
    /// The number of the configuration: one that is under way while it changes was looked at with the old one.
    pub(crate) configuration: u64,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) label: RouteLabel,
    /// Path, query and forwarded headers, where the look depends on them.
    pub(crate) extra: Bytes,
    pub(crate) body: Bytes,
}

impl PartialEq for RawRequest {
    fn eq(&self, other: &Self) -> bool {
        self.configuration == other.configuration
            && Arc::ptr_eq(&self.tenant, &other.tenant)
            && self.label == other.label
            && self.extra == other.extra
            && self.body == other.body
    }
}

impl Eq for RawRequest {}

impl std::hash::Hash for RawRequest {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write_usize(Arc::as_ptr(&self.tenant) as usize ^ self.label as usize);
        state.write(&self.extra);
        state.write(&self.body);
    }
}

fn weigh(key: &RawRequest, looked: &Arc<Looked>) -> usize {
    let facts = size_of_val(&**looked) + looked.model.len() + looked.translation();
    key.body.len() + key.extra.len() + facts
}

pub(crate) struct Aliases(MemoryTier<RawRequest, Arc<Looked>>);

impl Aliases {
    pub(crate) fn new(capacity: u64) -> Result<Self, chimera_cache::SettingsError> {
        // A body, what it became in another dialect, and the facts.
        let largest = (2 * MAX_BODY as u64 + 8192).min(capacity / 2);
        Ok(Self(MemoryTier::new(MemorySettings::new("alias", capacity, largest), weigh)?))
    }

    pub(crate) fn get(&self, request: &RawRequest, now: Instant) -> Option<Arc<Looked>> {
        if request.body.len() > MAX_BODY {
            return None;
        }
        self.0.get(request, now).map(|hit| hit.value)
    }

    /// Remembers a request that was answered from the cache: it is likely to come again. Its bytes are
    /// copied: what came is a slice of a connection's read buffer, and would keep all of it.
    pub(crate) fn put(&self, request: RawRequest, looked: Arc<Looked>, now: Instant) {
        if request.body.len() <= MAX_BODY {
            let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
            let request = RawRequest { extra: own(&request.extra), body: own(&request.body), ..request };
            self.0.put(request, looked, KEPT_FOR, now);
        }
    }

    /// Brings the metrics up to date.
    pub(crate) fn publish(&self, now: Instant) {
        self.0.publish(now);
    }

    pub(crate) fn clear(&self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use chimera_protocol::{DialectId, Fingerprint, Scope, json};

    use super::*;
    use crate::{entry::Form, limits::Limits, look::Language, upstream::Framing};

    #[test]
    fn what_is_remembered_holds_no_buffer_of_a_connection() {
        let document = json::Document::parse(b"{}").unwrap();
        let scope = Scope::new("t", DialectId::OpenAi);
        let buffer = Bytes::from(vec![b'x'; 8192]);
        let request = RawRequest {
            configuration: 0,
            tenant: Tenant::new("t", Limits::default()),
            label: RouteLabel::ChatCompletions,
            extra: buffer.slice(..10),
            body: buffer.slice(10..20),
        };
        let looked = Looked {
            fingerprint: Fingerprint::compute(&[0; 32], &scope, &document, &mut Vec::new()),
            form: Form { framing: Framing::Unary, include_usage: false },
            model: "m".to_owned(),
            model_range: None,
            edits: Vec::new(),
            strip_usage: false,
            deterministic: false,
            cache_member: None,
            language: Language::Own,
        };
        let (aliases, now) = (Aliases::new(1 << 20).unwrap(), Instant::now());
        aliases.put(request.clone(), Arc::new(looked), now);
        assert!(aliases.get(&request, now).is_some());
        drop(request);
        assert!(buffer.is_unique());
    }
}
