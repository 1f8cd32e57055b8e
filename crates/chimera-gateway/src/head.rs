//! One look at a request's head: which of the rarer headers that mean something here it has.
//!
//! Most requests have none of them. Names are compared once, in one pass, and what reads a header by
//! its name does so only when it is there.

use chimera_protocol::DialectId;
use http::{HeaderMap, HeaderValue};

use crate::route;

/// What the names of a request's headers tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    /// The id that the caller gave its request.
    pub(crate) request_id: Option<&'a HeaderValue>,
    /// Some header says how to use the cache.
    pub(crate) has_directives: bool,
    /// The caller shortens the timeout.
    pub(crate) has_timeout: bool,
    /// The pipeline that the caller asks for.
    pub(crate) pipeline: Option<&'a HeaderValue>,
    /// Some header may go on to a provider.
    pub(crate) has_forwarded: bool,
    /// The body comes in chunks. hyper takes a stated length beside that out unseen, so that the next
    /// bytes on the connection cannot be trusted (RFC 9112, section 6.3): it is closed after the answer.
    pub(crate) is_chunked: bool,
    /// Some header says where the request comes from, as only browsers do.
    pub(crate) has_site: bool,
    has_google_key: bool,
    has_anthropic_version: bool,
}

impl<'a> Head<'a> {
    pub(crate) fn of(headers: &'a HeaderMap) -> Self {
        let mut head = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "x-request-id" => head.request_id = head.request_id.or(Some(value)),
                "cache-control"
                | "x-chimera-cache"
                | "x-chimera-cache-ttl"
                | "x-chimera-cache-tags"
                | "x-chimera-cache-namespace"
                | "x-chimera-cache-key-extra"
                | "x-portkey-cache-namespace"
                | "cf-aig-cache-ttl"
                | "cf-aig-skip-cache"
                | "x-portkey-cache-force-refresh"
                | "x-bf-cache-no-store" => head.has_directives = true,
                "x-chimera-pipeline" => head.pipeline = head.pipeline.or(Some(value)),
                "x-chimera-timeout-ms" | "cf-aig-request-timeout" => head.has_timeout = true,
                "openai-beta" | "anthropic-beta" | "traceparent" | "tracestate" => head.has_forwarded = true,
                "anthropic-version" => {
                    head.has_forwarded = true;
                    head.has_anthropic_version = true;
                }
                "sec-fetch-site" | "origin" => head.has_site = true,
                "transfer-encoding" => head.is_chunked = true,
                "x-goog-api-key" => head.has_google_key = true,
                _ => {}
            }
        }
        head
    }

    /// The dialect in which the request wants its errors, as far as its head tells.
    pub(crate) fn dialect(&self, path: &str) -> DialectId {
        if path.starts_with("/v1/chat/") || path == "/v1/embeddings" || path.starts_with("/api/v1/") {
            DialectId::OpenAi
        } else if route::is_gemini(path) {
            DialectId::Gemini
        } else if path.starts_with("/v1/messages") {
            DialectId::Anthropic
        } else if self.has_google_key {
            DialectId::Gemini
        } else if self.has_anthropic_version {
            DialectId::Anthropic
        } else {
            DialectId::OpenAi
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{directives::Directives, upstream};

    #[test]
    fn what_is_read_by_name_elsewhere_is_seen_here() {
        let one = |name: &str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            headers
        };
        for name in crate::directives::HEADERS {
            for value in ["true", "60", "no-store"] {
                let headers = one(name, value);
                let says = Directives::of(&headers) != Directives::default();
                assert!(!says || Head::of(&headers).has_directives, "{name}");
            }
            assert!(Head::of(&one(name, "60")).has_directives, "{name}");
        }
        for name in crate::web_page::HEADERS {
            assert!(Head::of(&one(name, "x")).has_site, "{name}");
        }
        for dialect in [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini] {
            for name in upstream::forwarded_names(dialect) {
                assert!(Head::of(&one(name.as_str(), "x")).has_forwarded, "{name}");
            }
        }
        assert_eq!(Head::of(&one("accept", "*/*")), Head::default());
    }

    #[test]
    fn the_dialect_of_an_error_is_known_before_the_body() {
        let with = |name: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static("x"))])
        };
        assert_eq!(Head::of(&with("x-goog-api-key")).dialect("/nowhere"), DialectId::Gemini);
        assert_eq!(Head::of(&with("anthropic-version")).dialect("/v1/models"), DialectId::Anthropic);
        assert_eq!(Head::default().dialect("/v1/messages"), DialectId::Anthropic);
        assert_eq!(Head::default().dialect("/v1/chat/completions"), DialectId::OpenAi);
        // A path that is one vendor's decides, whichever headers a caller sends along.
        for stray in ["x-goog-api-key", "anthropic-version"] {
            assert_eq!(Head::of(&with(stray)).dialect("/v1/chat/completions"), DialectId::OpenAi);
        }
        assert_eq!(Head::of(&with("x-goog-api-key")).dialect("/v1/messages"), DialectId::Anthropic);
    }
}
