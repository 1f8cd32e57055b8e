//! What a caller says about caching its request, and about its time.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, header};

use crate::failure::Failure;

/// The headers that are read here; [`Head`](crate::head::Head) tells whether any is there.
#[cfg(test)]
pub(crate) const HEADERS: [&str; 11] = [
    "cache-control",
    "x-chimera-cache",
    "x-chimera-cache-ttl",
    "x-chimera-cache-tags",
    "x-chimera-cache-namespace",
    "x-chimera-cache-key-extra",
    "x-portkey-cache-namespace",
    "cf-aig-cache-ttl",
    "cf-aig-skip-cache",
    "x-portkey-cache-force-refresh",
    "x-bf-cache-no-store",
];

/// The cache directives of one request, from `x-chimera-cache`, `cache-control`, and the spellings of
/// other gateways that cost nothing to understand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Directives {
    /// Do not answer from the cache.
    pub(crate) no_cache: bool,
    /// Do not keep the answer.
    pub(crate) no_store: bool,
    /// Answer from the cache or not at all.
    pub(crate) only_if_cached: bool,
    /// The oldest answer that is welcome.
    pub(crate) max_age: Option<Duration>,
    /// How long the answer may be kept, below the route's own.
    pub(crate) ttl: Option<Duration>,
    /// The bounds of what may be served past its time, below the route's own.
    pub(crate) while_revalidate: Option<Duration>,
    pub(crate) if_error: Option<Duration>,
    /// Say by which key the answer is kept.
    pub(crate) show_key: bool,
}

impl Directives {
    /// Reads the directives of a request's headers. Words that are not understood are ignored, as
    /// RFC 9111 section 5.2.3 asks.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        for name in [header::CACHE_CONTROL.as_str(), "x-chimera-cache"] {
            for value in headers.get_all(name) {
                for word in value.to_str().unwrap_or("").split(',') {
                    directives.word(word.trim());
                }
            }
        }
        directives.ttl =
            seconds(headers, "x-chimera-cache-ttl").or_else(|| seconds(headers, "cf-aig-cache-ttl"));
        directives.no_cache |=
            is_true(headers, "cf-aig-skip-cache") || is_true(headers, "x-portkey-cache-force-refresh");
        directives.no_store |=
            is_true(headers, "cf-aig-skip-cache") || is_true(headers, "x-bf-cache-no-store");
        directives
    }

    /// Adds what a `cache` member in the body says, in the shape that LiteLLM's callers send. Its `namespace` is part of
    /// the key.
    pub(crate) fn add_member(&mut self, member: &serde_json::Value) {
        let is_set = |name: &str| member.get(name).and_then(serde_json::Value::as_bool).unwrap_or(false);
        let secs = |name: &str| member.get(name).and_then(serde_json::Value::as_u64).map(Duration::from_secs);
        let is_off = member.get("use-cache").and_then(serde_json::Value::as_bool) == Some(false);
        self.no_cache |= is_set("no-cache") || is_off;
        self.no_store |= is_set("no-store") || is_off;
        self.ttl = secs("ttl").or(self.ttl);
        self.max_age = secs("s-maxage").or(secs("s-max-age")).or(self.max_age);
    }

    fn word(&mut self, word: &str) {
        match word.split_once('=') {
            Some((name, value)) => {
                let secs = || value.trim_matches('"').parse().ok().map(Duration::from_secs);
                if name.eq_ignore_ascii_case("max-age") {
                    self.max_age = secs();
                } else if name.eq_ignore_ascii_case("stale-while-revalidate") {
                    self.while_revalidate = secs();
                } else if name.eq_ignore_ascii_case("stale-if-error") {
                    self.if_error = secs();
                }
            }
            None if word.eq_ignore_ascii_case("no-cache") => self.no_cache = true,
            None if word.eq_ignore_ascii_case("no-store") => self.no_store = true,
            None if word.eq_ignore_ascii_case("only-if-cached") => self.only_if_cached = true,
            None if word.eq_ignore_ascii_case("show-key") => self.show_key = true,
            _ => {}
        }
    }

    /// Why a stored answer of this age is not welcome, if it is not.
    pub(crate) fn refuses(&self, age: Duration) -> bool {
        self.no_cache || self.max_age.is_some_and(|most| age > most)
    }
}

/// What the caller sets its answers apart from its other ones by: the same request with another namespace, or with
/// another addition to its key, is another. A line each, as forwarded headers are written that are part of the key.
pub(crate) fn partition(headers: &HeaderMap) -> Vec<u8> {
    let mut lines = Vec::new();
    for (name, spellings) in PARTITION {
        for value in spellings.iter().flat_map(|spelling| headers.get_all(*spelling)) {
            lines.extend([b"\n", name.as_bytes(), b":", value.as_bytes()].concat());
        }
    }
    lines
}

/// The same from a `cache` member in the body. It is written as JSON, in which nothing ends a line.
pub(crate) fn namespace(member: &serde_json::Value) -> Option<String> {
    Some(format!("\n(body):{}", member.get("namespace").filter(|name| !name.is_null())?))
}

/// Names that no header has, and the headers that say it.
const PARTITION: [(&str, &[&str]); 2] = [
    ("(namespace)", &["x-chimera-cache-namespace", "x-portkey-cache-namespace"]),
    ("(extra)", &["x-chimera-cache-key-extra"]),
];

/// What the caller would have its answer purged by, a line each behind a sign that tells it from a model's
/// name. Tags that are no plain words are refused, for a purge by them would miss.
pub(crate) fn tags(headers: &HeaderMap) -> Result<Option<Arc<str>>, Failure> {
    let mut lines = String::new();
    for value in headers.get_all(TAGS) {
        let listed = value.to_str().unwrap_or("\u{0}");
        for tag in listed.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
            if !is_tag(tag) || lines.lines().count() == MOST_TAGS {
                return Err(Failure::invalid(
                    "tags are at most 8 words of 64 letters, digits, and any of - _ . : /",
                )
                .param(TAGS));
            }
            let separator = if lines.is_empty() { "" } else { "\n" };
            lines.extend([separator, TAG_SIGN, tag]);
        }
    }
    Ok((!lines.is_empty()).then(|| lines.into()))
}

const TAGS: &str = "x-chimera-cache-tags";
const MOST_TAGS: usize = 8;
/// What tags begin with as the cache knows them.
pub(crate) const TAG_SIGN: &str = "#";

pub(crate) fn is_tag(tag: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    (1..=64).contains(&tag.len()) && tag.bytes().all(is_plain)
}

/// The caller's own timeout: it may shorten the tier's, never lengthen it.
pub(crate) fn asked_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get("x-chimera-timeout-ms").or_else(|| headers.get("cf-aig-request-timeout"))
    else {
        return Ok(None);
    };
    let millis = value.to_str().ok().and_then(|text| text.parse::<u64>().ok()).filter(|millis| *millis > 0);
    millis.map(|millis| Some(Duration::from_millis(millis))).ok_or_else(|| {
        Failure::invalid("the timeout must be a whole number of milliseconds above zero")
            .param("x-chimera-timeout-ms")
    })
}

fn seconds(headers: &HeaderMap, name: &str) -> Option<Duration> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn is_true(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> Directives {
        let headers = pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        Directives::of(&headers)
    }

    #[test]
    fn both_headers_mean_the_same() {
        for name in ["x-chimera-cache", "cache-control"] {
            assert!(of(&[(name, "no-store")]).no_store);
            assert!(of(&[(name, "No-Cache, foo")]).no_cache);
            assert!(of(&[(name, "only-if-cached")]).only_if_cached);
            assert_eq!(of(&[(name, "max-age=5")]).max_age, Some(Duration::from_secs(5)));
        }
        assert_eq!(of(&[("cache-control", "max-age=x")]), Directives::default());
    }

    #[test]
    fn bounds_on_what_is_stale_are_understood() {
        let directives = of(&[("cache-control", "stale-while-revalidate=0, stale-if-error=60")]);
        assert_eq!(directives.while_revalidate, Some(Duration::ZERO));
        assert_eq!(directives.if_error, Some(Duration::from_secs(60)));
    }

    #[test]
    fn tags_are_plain_words_and_few() {
        let of = |value: &str| {
            tags(&HeaderMap::from_iter([(http::HeaderName::from_static(TAGS), value.parse().unwrap())]))
        };
        assert_eq!(of("a, team/b:1 ,").unwrap().as_deref(), Some("#a\n#team/b:1"));
        assert_eq!(of("").unwrap(), None);
        for wrong in ["a b", "#a", &"x".repeat(65), "1,2,3,4,5,6,7,8,9"] {
            assert_eq!(of(wrong).unwrap_err().param.as_deref(), Some(TAGS), "{wrong}");
        }
    }

    #[test]
    fn other_gateways_spellings_are_understood() {
        assert!(of(&[("cf-aig-skip-cache", "true")]).no_store);
        assert_eq!(of(&[("cf-aig-cache-ttl", "60")]).ttl, Some(Duration::from_secs(60)));
        let mut directives = Directives::default();
        directives.add_member(&serde_json::json!({"no-cache": true, "ttl": 9, "s-maxage": 4}));
        assert!(directives.no_cache);
        assert_eq!(
            (directives.ttl, directives.max_age),
            (Some(Duration::from_secs(9)), Some(Duration::from_secs(4)))
        );
    }

    #[test]
    fn an_answer_older_than_welcome_is_refused() {
        let directives = of(&[("cache-control", "max-age=5")]);
        assert!(!directives.refuses(Duration::from_secs(5)));
        assert!(directives.refuses(Duration::from_millis(5001)));
    }
}
