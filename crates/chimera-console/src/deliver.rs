//! How the page and its assets leave: encoded as the browser likes it, kept for good or asked about by tag.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{
    asset::{Asset, PAGE},
    console::Answer,
};

const FOR_GOOD: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const ASK_FIRST: HeaderValue = HeaderValue::from_static("no-cache");

/// An encoding that a browser takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Gzip,
    Plain,
}

/// The best of the encodings that are allowed: without a q-value of zero.
pub(crate) fn coding(headers: &HeaderMap) -> Coding {
    let mut best = Coding::Plain;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for part in value.to_str().unwrap_or_default().split(',') {
            let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
            let refused = parameters.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
            match name.trim() {
                "br" if !refused => best = Coding::Brotli,
                "gzip" if !refused && best == Coding::Plain => best = Coding::Gzip,
                _ => {}
            }
        }
    }
    best
}

/// Whether the browser has what the tag stands for.
pub(crate) fn has(headers: &HeaderMap, tag: &str) -> bool {
    let known = |value: &HeaderValue| {
        let mut tags = value.to_str().unwrap_or_default().split(',').map(str::trim);
        tags.any(|known| known == "*" || known.trim_start_matches("W/") == tag.trim_start_matches("W/"))
    };
    headers.get_all(header::IF_NONE_MATCH).iter().any(known)
}

/// The headers of everything that a browser may show: it loads nothing from elsewhere, runs nothing that is not a
/// file of ours, and stands in no frame.
pub(crate) fn protect(headers: &mut HeaderMap, policy: &HeaderValue) {
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
}

/// The policy of the page, with the origin of a CDN if there is one.
pub(crate) fn policy(origin: Option<&str>) -> HeaderValue {
    let from = origin.map(|origin| format!(" {origin}")).unwrap_or_default();
    let policy = format!(
        "default-src 'none'; script-src 'self'{from}; style-src 'self'{from}; img-src 'self'{from}; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    HeaderValue::from_str(&policy)
        .unwrap_or(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"))
}

/// Delivers an asset, for good.
pub(crate) fn asset(asset: &'static Asset, headers: &HeaderMap) -> Response<Answer> {
    let mut response = body_of(asset, headers);
    response.headers_mut().insert(header::CACHE_CONTROL, FOR_GOOD);
    response
}

/// The page, as it is where assets are elsewhere.
pub(crate) struct Page {
    /// With the prefix in place; `None` where assets are here.
    moved: Option<Bytes>,
    policy: HeaderValue,
}

impl Page {
    pub(crate) fn new(prefix: Option<&str>) -> Self {
        let Some(prefix) = prefix else { return Self { moved: None, policy: policy(None) } };
        let prefix = prefix.trim_end_matches('/');
        let page = String::from_utf8_lossy(&PAGE.plain()).replace("/assets/", &format!("{prefix}/assets/"));
        Self { moved: Some(page.into()), policy: policy(origin(prefix)) }
    }

    /// Delivers it; a browser asks each time whether it is still the one.
    pub(crate) fn deliver(&self, headers: &HeaderMap) -> Response<Answer> {
        let mut response = match &self.moved {
            None => body_of(&PAGE, headers),
            Some(page) => {
                let mut response = Response::new(Answer::Whole(page.clone()));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PAGE.kind));
                response
            }
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, ASK_FIRST);
        headers.append(header::VARY, HeaderValue::from_static("accept"));
        protect(headers, &self.policy);
        response
    }
}

/// Scheme, host and port of a URL; `None` of a path.
fn origin(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find('/').unwrap_or(rest.len());
    url.get(..scheme.len() + 3 + end)
}

fn body_of(asset: &'static Asset, headers: &HeaderMap) -> Response<Answer> {
    let tag = HeaderValue::from_static(asset.tag);
    let is_known = has(headers, asset.tag);
    let (bytes, encoding) = match coding(headers) {
        Coding::Brotli => (Bytes::from_static(asset.brotli), Some("br")),
        Coding::Gzip => (Bytes::from_static(asset.gzip), Some("gzip")),
        Coding::Plain => (asset.plain().into(), None),
    };
    let mut response = Response::new(Answer::Whole(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    *response.body_mut() = Answer::Whole(bytes);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_encoding_that_is_allowed_is_taken() {
        let of = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_str(accept).unwrap());
            coding(&headers)
        };
        assert_eq!(of("gzip, deflate, br, zstd"), Coding::Brotli);
        assert_eq!(of("br;q=0, gzip"), Coding::Gzip);
        assert_eq!(of("gzip;q=0.000"), Coding::Plain);
        assert_eq!(of("deflate"), Coding::Plain);
        assert_eq!(coding(&HeaderMap::new()), Coding::Plain);
    }

    #[test]
    fn an_origin_is_found_in_a_url_and_none_in_a_path() {
        assert_eq!(origin("https://cdn.test/chimera"), Some("https://cdn.test"));
        assert_eq!(origin("https://cdn.test:8443"), Some("https://cdn.test:8443"));
        assert_eq!(origin("/console"), None);
    }

    #[test]
    fn a_prefix_moves_every_asset_and_is_allowed_by_the_policy() {
        let page = Page::new(Some("https://cdn.test/chimera/"));
        let moved = String::from_utf8(page.moved.unwrap().to_vec()).unwrap();
        assert_eq!(
            moved.matches("/assets/").count(),
            moved.matches("https://cdn.test/chimera/assets/").count()
        );
        let policy = page.policy.to_str().unwrap();
        assert!(policy.contains("script-src 'self' https://cdn.test;"), "{policy}");
        assert!(policy.contains("connect-src 'self';") && !policy.contains("unsafe"), "{policy}");
    }
}
