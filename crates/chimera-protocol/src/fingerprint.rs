//! The key of a cached answer: 256 bits over everything that the answer depends on.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use crate::{canonical::canonical, dialect::DialectId, json::Document};

/// Changes when what is hashed changes, so that old and new entries never meet.
const SCHEMA: &[u8] = b"chimera fingerprint 2";

/// What BLAKE3 hashes in one piece, in bytes.
const CHUNK: usize = 1024;

/// Members that do not change an answer's meaning. `model` is part of the scope.
fn skipped(dialect: DialectId) -> &'static [&'static str] {
    match dialect {
        DialectId::OpenAi => &["model", "stream", "stream_options", "user", "metadata", "cache"],
        DialectId::Anthropic => &["model", "stream", "metadata", "cache"],
        DialectId::Gemini => &["cache"],
        DialectId::Responses => &["model", "stream", "stream_options", "user", "metadata", "cache"],
    }
}

/// A keyed 256-bit digest of a request's meaning and of who asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// A key for the fingerprints of requests that something named by its version stands around: they meet
/// no others.
pub fn derived_key(key: &[u8; 32], version: &str) -> [u8; 32] {
    *blake3::keyed_hash(key, version.as_bytes()).as_bytes()
}

/// Whose request it is and where it goes. There is no scope without a tenant.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Whose request it is: answers are never shared beyond it.
    pub tenant: &'a str,
    /// The dialect of the request.
    pub dialect: DialectId,
    /// The operation, as the provider's path names it.
    pub operation: &'a str,
    /// Who may answer.
    pub route: &'a str,
    /// The model.
    pub model: &'a str,
    /// Forwarded headers and parameters that may change the answer.
    pub versions: &'a [u8],
}

impl<'a> Scope<'a> {
    /// The scope of a tenant's requests in a dialect; the rest is empty until set.
    pub fn new(tenant: &'a str, dialect: DialectId) -> Self {
        Self { tenant, dialect, operation: "", route: "", model: "", versions: b"" }
    }
}

impl Fingerprint {
    /// The fingerprint of a request. `key` keeps outsiders from aiming at an entry; `buffer` is memory
    /// to reuse.
    pub fn compute(key: &[u8; 32], scope: &Scope<'_>, document: &Document<'_>, buffer: &mut Vec<u8>) -> Self {
        buffer.clear();
        for part in [
            SCHEMA,
            scope.tenant.as_bytes(),
            scope.dialect.as_str().as_bytes(),
            scope.operation.as_bytes(),
            scope.route.as_bytes(),
            scope.model.as_bytes(),
            scope.versions,
        ] {
            buffer.extend_from_slice(&(part.len() as u64).to_le_bytes());
            buffer.extend_from_slice(part);
        }
        canonical(document, skipped(scope.dialect), buffer);
        // BLAKE3 takes chunks side by side only where there are two or four of them: filled up, 1.9 KB cost half.
        // What was appended says itself where it ends, so that filling it up makes nothing alike.
        if (CHUNK..4 * CHUNK).contains(&buffer.len()) {
            buffer.resize(buffer.len().next_power_of_two(), 0);
        }
        Self(*blake3::keyed_hash(key, buffer).as_bytes())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A keyed digest is as good as random: tables need no more than its first word.
impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let word = self.0.first_chunk().copied().unwrap_or_default();
        state.write_u64(u64::from_le_bytes(word));
    }
}

/// The fingerprint of which these are the bytes, as it comes back from where it was stored.
impl From<[u8; 32]> for Fingerprint {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scope: &Scope<'_>, body: &str) -> String {
        let document = Document::parse(body.as_bytes()).unwrap();
        format!("{:?}", Fingerprint::compute(&[7; 32], scope, &document, &mut Vec::new()))
    }

    fn scope(tenant: &str) -> Scope<'_> {
        Scope {
            operation: "/chat/completions",
            route: "openai",
            model: "gpt-4o",
            ..Scope::new(tenant, DialectId::OpenAi)
        }
    }

    const BODY: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"temperature":0.5}"#;

    /// Golden vectors: a change here means that every cache goes cold.
    #[test]
    fn pain_17_the_key_of_a_request_is_what_it_has_always_been() {
        assert_eq!(of(&scope("acme"), BODY), GOLDEN);
        let respelled = r#"{ "temperature":5e-1, "stream":true, "messages":[{"content":"h\u0069","role":"user"}], "model":"gpt-4o", "user":"u"}"#;
        assert_eq!(of(&scope("acme"), respelled), GOLDEN);
    }

    const GOLDEN: &str = "664861aa83538bc2e9cb02d2f1e9006ffe2d9500632cb2e44f66742fbfb62b70";

    #[test]
    fn pain_7_every_part_of_the_scope_counts() {
        let base = scope("acme");
        let others = [
            scope("acme2"),
            Scope { dialect: DialectId::Anthropic, ..base },
            Scope { operation: "/embeddings", ..base },
            Scope { route: "openai2", ..base },
            Scope { model: "gpt-4o-mini", ..base },
            Scope { versions: b"x", ..base },
            // The same bytes, divided in another way.
            Scope { route: "openaigpt", model: "-4o", ..base },
        ];
        for other in others {
            assert_ne!(of(&other, BODY), of(&base, BODY), "{other:?}");
        }
        let long = |text: &str| of(&base, &BODY.replace("hi", &text.repeat(900)));
        assert_ne!(long("a"), long("b"));
        assert_ne!(long("a"), of(&base, &BODY.replace("hi", &"a".repeat(901))));
        assert_ne!(of(&base, BODY), of(&base, &BODY.replace("0.5", "0.6")));
        assert_ne!(of(&base, BODY), of(&base, &BODY.replace("{\"model", "{\"unknown\":1,\"model")));
    }
}
