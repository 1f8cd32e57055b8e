//! What a web page in somebody's browser may not do to a listener that asks for no key.
//!
//! A page can point a name of its own at this machine (DNS rebinding), and then reads and writes here as
//! if it were ours; the host that the browser names gives it away. And a page can make a browser send a
//! request to another site blindly; the browser says where that comes from. Tools name the host they
//! connect to and say nothing of sites.

use http::{HeaderMap, HeaderValue, Uri, header, request::Parts};

use crate::failure::Failure;

/// Headers with which a browser says where a request comes from.
#[cfg(test)]
pub(crate) const HEADERS: [&str; 2] = ["sec-fetch-site", "origin"];

/// Refuses what a web page had sent. `has_site` says whether any of the headers above is there.
pub(crate) fn refuse(parts: &Parts, has_site: bool) -> Result<(), Failure> {
    if !is_for_this_machine(&parts.headers, &parts.uri) {
        let why = "the host is not this machine; configure client keys to serve others";
        return Err(Failure::invalid(why).param("host").status(421).close());
    }
    if has_site && is_cross_site(&parts.headers) {
        let why = "requests from web pages of other sites are refused; configure client keys to allow them";
        return Err(Failure::invalid(why).status(403).close());
    }
    Ok(())
}

/// Whether the host that a request names is this machine. One that names none comes from no browser.
pub(crate) fn is_for_this_machine(headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default());
    host.or(uri.authority().map(|authority| authority.as_str())).is_none_or(is_local)
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether a page of another site had the request sent.
pub(crate) fn is_cross_site(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    site.is_some_and(|site| !matches!(site, b"same-origin" | b"none"))
        || (site.is_none() && headers.contains_key(header::ORIGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_few_names_and_no_others() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1", "127.9.9.9:1", "[::1]:8080", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        let foreign = [
            "evil.test",
            "localhost.evil.test:8080",
            "127.0.0.1.evil.test",
            "10.0.0.1",
            "[::2]:80",
            "[",
            ":80",
            "",
            "localhost@evil.test",
        ];
        for host in foreign {
            assert!(!is_local(host), "{host}");
        }
        // HTTP/2 names the host in the target.
        let uri = Uri::from_static("http://evil.test/v1/models");
        assert!(!is_for_this_machine(&HeaderMap::new(), &uri));
        assert!(is_for_this_machine(&HeaderMap::new(), &Uri::from_static("/v1/models")));
    }
}
