//! Where load goes: a base URL and the key for it.

use std::{fmt, net::IpAddr};

use http::HeaderValue;

use crate::ScenarioError;

/// A place that answers, taken apart once.
#[derive(Clone)]
pub struct Target {
    /// Whether it is reached over TLS.
    pub(crate) tls: bool,
    /// Name or address, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What goes into the `host` header.
    pub(crate) authority: HeaderValue,
    /// What stands before every path, without a slash at its end.
    prefix: String,
    /// Certificates to trust instead of the public ones, in PEM.
    pub(crate) authorities: Option<String>,
    key: Option<String>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("url", &self.url()).field("key", &self.key.is_some()).finish()
    }
}

impl Target {
    /// Reads a base URL. One beyond this machine must be meant: load is not sent to strangers by a slip.
    pub fn new(url: &str, remote: bool) -> Result<Self, ScenarioError> {
        let wrong = |why: &str| ScenarioError::new("target.url", why);
        let uri: http::Uri = url.parse().map_err(|_| wrong("it is not a URL"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("keys go into target.api_key_env, not into the URL"));
        }
        if uri.query().is_some() {
            return Err(wrong("a base URL has no query"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        if !local && !remote {
            let why = format!("{host} is not this machine; remote = true says that it may be loaded");
            return Err(ScenarioError::new("target.remote", why));
        }
        Ok(Self {
            tls,
            host,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("its host is not one"))?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            authorities: None,
            key: None,
        })
    }

    /// The same, with a key that it asks for.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same over TLS with these certificates, in PEM, trusted instead of the public ones.
    #[must_use]
    pub fn with_authorities(mut self, pem: impl Into<String>) -> Self {
        self.authorities = Some(pem.into());
        self
    }

    /// The base URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority.to_str().unwrap_or_default(), self.prefix)
    }

    pub(crate) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The whole path of a vendor's endpoint. Base URLs come with a version at their end and without; endpoints
    /// bring their own.
    pub(crate) fn path(&self, endpoint: &str) -> String {
        let versions = ["/v1", "/v1beta"].iter();
        let shorter = versions.filter_map(|version| self.prefix.strip_suffix(version)).next();
        format!("{}{endpoint}", shorter.unwrap_or(&self.prefix))
    }

    /// The base URL's path with another behind it.
    pub(crate) fn below(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let target = Target::new("http://localhost:8080/v1/", false).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.tls), ("localhost", 8080, false));
        assert_eq!(target.path("/v1/messages"), "/v1/messages");
        assert_eq!(target.path("/v1beta/models"), "/v1beta/models");
        assert_eq!(target.below("/models"), "/v1/models");
        let target = Target::new("https://[::1]/openai", false).unwrap();
        assert_eq!((target.host.as_str(), target.port, target.tls), ("::1", 443, true));
        assert_eq!(target.path("/v1/messages"), "/openai/v1/messages");
    }

    #[test]
    fn what_is_no_base_url_is_refused_by_key() {
        for url in ["ftp://localhost", "localhost:80", "http://u:p@localhost", "http://localhost/?a=1"] {
            assert_eq!(Target::new(url, false).unwrap_err().key(), "target.url", "{url}");
        }
        assert_eq!(Target::new("https://example.com", false).unwrap_err().key(), "target.remote");
        assert!(Target::new("https://example.com", true).is_ok());
    }

    #[test]
    fn a_key_is_not_printed() {
        let target = Target::new("http://localhost", false).unwrap().with_key("sk-canary");
        assert!(!format!("{target:?}").contains("canary"));
    }
}
