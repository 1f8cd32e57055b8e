//! Where a provider lives: scheme, host and port, and nothing a caller can change.

use std::fmt;

use http::{HeaderValue, Uri};

use crate::error::SettingsError;

/// The fixed address of a provider, parsed once from its configured base URL.
///
/// Requests take their path from the caller's route and everything else from here, so no byte of a
/// request can choose another host.
#[derive(Clone)]
pub struct Target {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    host_header: HeaderValue,
}

impl Target {
    /// Parses `http://host[:port][/path]` or `https://…`. User info, queries and fragments are refused.
    pub fn parse(url: &str) -> Result<Self, SettingsError> {
        let bad = |why: &'static str| SettingsError::BaseUrl { why };
        let uri: Uri = url.trim_end_matches('/').parse().map_err(|_| bad("it is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("its scheme must be http or https")),
        };
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("it must not carry credentials; use api_key"));
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(bad("it must not carry a query or a fragment"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(bad("it names no host"));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host_header =
            HeaderValue::from_str(authority.as_str()).map_err(|_| bad("its host is not valid"))?;
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { tls, host, port, path, host_header })
    }

    /// Whether the connection is made with TLS.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path prefix of the base URL, without a trailing slash; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of the `host` header.
    pub fn host_header(&self) -> &HeaderValue {
        &self.host_header
    }

    /// The absolute URI of `path_and_query` at this target, as HTTP/2 wants it.
    pub(crate) fn absolute(&self, path_and_query: &str) -> Result<Uri, http::Error> {
        Uri::builder()
            .scheme(if self.tls { "https" } else { "http" })
            .authority(self.host_header.as_bytes())
            .path_and_query(path_and_query)
            .build()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_host_port_and_prefix() {
        let target = Target::parse("https://api.example.com/v1/").unwrap();
        assert!(target.is_tls());
        assert_eq!((target.host(), target.port(), target.path()), ("api.example.com", 443, "/v1"));
        let target = Target::parse("http://[::1]:8000").unwrap();
        assert_eq!((target.host(), target.port(), target.path()), ("::1", 8000, ""));
    }

    #[test]
    fn refuses_what_could_leak_or_mislead() {
        for url in ["ftp://a", "a.example", "http://u:p@a", "http://a/?q=1", "http://a/#x", "http://"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
