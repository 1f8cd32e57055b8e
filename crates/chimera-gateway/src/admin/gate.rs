//! Who may ask the admin listener, and what a web page may not have a browser do.
//!
//! A client's key opens nothing here, not even what is open to all. Without an admin key the host must be this
//! machine, so that no page reaches us by rebinding its name. With one, the key comes as `authorization: Bearer` or,
//! from our own page, as the cookie of a session. Whatever changes something and comes from a browser must come from
//! a page of ours: the browser says so, and the page proves it with its token.

use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use serde_json::json;

use super::{Admin, json_answer};
use crate::{auth::key_digest, body::Body, intake::host_fault, web_page::is_for_this_machine};

/// What the headers of a request prove, as whoever gave them out knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof {
    /// A session that was opened with the key in force.
    pub session: bool,
    /// It comes from a page of ours.
    pub token: bool,
}

/// How a request proved that it may be asked.
#[derive(PartialEq, Eq)]
enum Shown {
    /// Nothing had to be shown.
    Nothing,
    Key,
    Session,
}

impl Admin {
    /// Why a request is not answered. `public`: whether everybody may have what it asks for.
    pub fn refusal(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        public: bool,
    ) -> Option<Response<Body>> {
        if let Some(why) = host_fault(uri, headers) {
            return Some(refused(StatusCode::BAD_REQUEST, why));
        }
        let key = (self.hooks.key)();
        let sent = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, sent)| key_digest(sent.trim()));
        let has_key = key.is_some() && sent == key;
        if !has_key && self.is_clients(uri, headers) {
            let why = "this is a client's key: it opens nothing on the admin listener";
            return Some(refused(StatusCode::FORBIDDEN, why));
        }
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let shown = if key.is_none() {
            if !is_for_this_machine(headers, uri) {
                let why = "the host is not this machine; set admin.key_sha256 to allow others";
                return Some(refused(StatusCode::MISDIRECTED_REQUEST, why));
            }
            Shown::Nothing
        } else if has_key {
            Shown::Key
        } else if reads && (public || uri.path().starts_with("/health")) {
            Shown::Nothing
        } else if (self.hooks.proof)(headers).session {
            Shown::Session
        } else {
            return Some(refused(StatusCode::UNAUTHORIZED, "the admin key is missing or wrong"));
        };
        if reads {
            return None;
        }
        if is_foreign(headers) {
            return Some(refused(StatusCode::FORBIDDEN, "requests from other sites are refused"));
        }
        // A page cannot be made to send the key; a cookie goes with whatever the browser sends.
        let must_prove = shown == Shown::Session || (shown == Shown::Nothing && is_browser(headers));
        let proved = !must_prove || (self.hooks.proof)(headers).token;
        (!proved).then(|| {
            let why = "a page must prove that it is the console's: x-chimera-token is missing or wrong";
            refused(StatusCode::FORBIDDEN, why)
        })
    }

    /// Whether a request bears the key of a client of the data listener.
    fn is_clients(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        self.gateway.with_settings(|settings| {
            let tenants = &settings.tenants;
            tenants.require_key() && tenants.authenticate(headers, uri.query()).is_ok()
        })
    }
}

fn refused(status: StatusCode, why: &str) -> Response<Body> {
    json_answer(status, &json!({ "error": why }))
}

/// Whether a browser sent it: nobody else says where a request comes from.
fn is_browser(headers: &HeaderMap) -> bool {
    ["sec-fetch-site", "sec-fetch-mode", "origin", "cookie"].iter().any(|name| headers.contains_key(*name))
}

/// Whether a page of another site had it sent. Over plain HTTP to another machine browsers name the origin alone.
fn is_foreign(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    !authority.is_some_and(|authority| host.is_some_and(|host| authority.eq_ignore_ascii_case(host)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_page_of_another_site_is_known_by_what_the_browser_says() {
        let host = ("host", "gateway.test:8081");
        for foreign in [
            headers(&[host, ("sec-fetch-site", "cross-site")]),
            headers(&[host, ("sec-fetch-site", "same-site"), ("origin", "http://gateway.test:8081")]),
            headers(&[host, ("origin", "http://evil.test")]),
            headers(&[host, ("origin", "http://gateway.test:80")]),
            headers(&[host, ("origin", "null")]),
            headers(&[("origin", "http://gateway.test:8081")]),
        ] {
            assert!(is_foreign(&foreign), "{foreign:?}");
        }
        for own in [
            headers(&[host]),
            headers(&[host, ("sec-fetch-site", "same-origin")]),
            headers(&[host, ("origin", "https://gateway.test:8081")]),
        ] {
            assert!(!is_foreign(&own), "{own:?}");
        }
        assert!(is_browser(&headers(&[("cookie", "a=b")])) && !is_browser(&headers(&[host])));
    }
}
