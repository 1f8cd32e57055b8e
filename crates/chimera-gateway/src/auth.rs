//! Who is calling: one key extractor for all dialects, and tenants known by the digest of their key.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use crate::{
    limits::{Limits, TenantLimits},
    route::{percent_decode, query_values},
};

/// SHA-256 of a client key.
pub type KeyDigest = [u8; 32];

/// The digest of a client key, as it is configured.
pub fn key_digest(key: &str) -> KeyDigest {
    Sha256::digest(key.as_bytes()).into()
}

/// One tenant: the scope of cached answers and the owner of limits.
pub struct Tenant {
    /// Its configured name.
    pub name: Arc<str>,
    /// What it has used of its limits.
    pub(crate) limits: TenantLimits,
}

impl Tenant {
    /// A tenant with limits of its own.
    pub fn new(name: impl Into<Arc<str>>, limits: Limits) -> Arc<Self> {
        Arc::new(Self { name: name.into(), limits: TenantLimits::new(limits, std::time::Instant::now()) })
    }
}

/// The tenants of a gateway.
pub struct Tenants {
    by_digest: HashMap<KeyDigest, Arc<Tenant>>,
    open: Option<Arc<Tenant>>,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// No key was sent.
    Missing,
    /// The key is not known. Unknown, revoked and malformed keys look the same from outside.
    Unknown,
    /// Two keys were sent and they differ.
    Conflict,
}

impl Tenants {
    /// No client keys: everybody is the tenant `open`. For loopback only; the server refuses another
    /// listener without keys.
    pub fn open() -> Self {
        Self { by_digest: HashMap::new(), open: Some(Tenant::new("open", Limits::default())) }
    }

    /// Callers known by the digests of their keys.
    pub fn keyed(keys: impl IntoIterator<Item = (KeyDigest, Arc<Tenant>)>) -> Self {
        Self { by_digest: keys.into_iter().collect(), open: None }
    }

    /// A tenant by its configured name.
    pub fn tenant(&self, name: &str) -> Option<&Arc<Tenant>> {
        self.open.iter().chain(self.by_digest.values()).find(|tenant| *tenant.name == *name)
    }

    /// Their configured names, in order.
    pub fn names(&self) -> Vec<String> {
        let all = self.open.iter().chain(self.by_digest.values());
        let names: std::collections::BTreeSet<_> = all.map(|tenant| tenant.name.to_string()).collect();
        names.into_iter().collect()
    }

    /// Whether callers need a key.
    pub fn require_key(&self) -> bool {
        self.open.is_none()
    }

    /// The tenant of a request, and the key that says so, where one is needed.
    pub(crate) fn authenticate(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Result<(&Arc<Tenant>, Option<KeyDigest>), Denied> {
        if let Some(open) = &self.open {
            return Ok((open, None));
        }
        let digest = key_digest(&presented_key(headers, query)?.ok_or(Denied::Missing)?);
        let tenant = self.by_digest.get(&digest).ok_or(Denied::Unknown)?;
        Ok((tenant, Some(digest)))
    }

    /// Whether a key opens anything still.
    pub(crate) fn admits(&self, key: &KeyDigest) -> bool {
        self.open.is_some() || self.by_digest.contains_key(key)
    }
}

/// The one key a request presents, in whichever of the four places; two that differ are a conflict.
fn presented_key(headers: &HeaderMap, query: Option<&str>) -> Result<Option<String>, Denied> {
    let mut key: Option<String> = None;
    let mut add = |found: String| match &key {
        Some(known) if *known != found => Err(Denied::Conflict),
        Some(_) => Ok(()),
        None => {
            key = Some(found);
            Ok(())
        }
    };
    for value in headers.get_all(header::AUTHORIZATION) {
        let value = value.to_str().map_err(|_| Denied::Unknown)?;
        let (scheme, token) = value.split_once(' ').ok_or(Denied::Unknown)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Denied::Unknown);
        }
        add(token.trim().to_owned())?;
    }
    for name in ["x-api-key", "x-goog-api-key"] {
        for value in headers.get_all(name) {
            add(value.to_str().map_err(|_| Denied::Unknown)?.to_owned())?;
        }
    }
    for value in query_values(query, "key") {
        add(percent_decode(value).ok_or(Denied::Unknown)?)?;
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn tenants() -> Tenants {
        Tenants::keyed([(key_digest("chim_test_1"), Tenant::new("one", Limits::default()))])
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn c15_every_place_is_read_and_two_that_differ_are_a_conflict() {
        let tenants = tenants();
        let all = headers(&[
            ("authorization", "Bearer chim_test_1"),
            ("x-api-key", "chim_test_1"),
            ("x-goog-api-key", "chim_test_1"),
        ]);
        assert!(tenants.authenticate(&all, Some("key=chim_test_1")).is_ok());
        for one in [
            headers(&[("authorization", "Bearer chim_test_1")]),
            headers(&[("x-api-key", "chim_test_1")]),
            headers(&[("x-goog-api-key", "chim_test_1")]),
        ] {
            assert!(tenants.authenticate(&one, None).is_ok());
            let differing = tenants.authenticate(&one, Some("alt=sse&key=other"));
            assert_eq!(differing.err(), Some(Denied::Conflict));
        }
        let none = headers(&[]);
        assert!(tenants.authenticate(&none, Some("key=chim_test_1&key=chim_test_1")).is_ok());
        let twice = tenants.authenticate(&none, Some("key=chim_test_1&key=other"));
        assert_eq!(twice.err(), Some(Denied::Conflict));
        let two = headers(&[("authorization", "Bearer chim_test_1"), ("x-api-key", "other")]);
        assert_eq!(tenants.authenticate(&two, None).err(), Some(Denied::Conflict));
    }

    #[test]
    fn unknown_and_missing_keys_are_told_apart_only_here() {
        let tenants = tenants();
        assert_eq!(tenants.authenticate(&headers(&[]), None).err(), Some(Denied::Missing));
        let unknown = headers(&[("x-api-key", "chim_test_2")]);
        assert_eq!(tenants.authenticate(&unknown, None).err(), Some(Denied::Unknown));
        let basic = headers(&[("authorization", "Basic abc")]);
        assert_eq!(tenants.authenticate(&basic, None).err(), Some(Denied::Unknown));
    }
}
