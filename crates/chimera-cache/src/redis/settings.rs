//! Where Redis is, and what is asked of it.

use std::{fmt, sync::Arc, time::Duration};

use fred::types::config::{Config, ServerConfig, TlsConfig, TlsConnector};
use tokio_rustls::rustls::ClientConfig;

use crate::error::SettingsError;

/// Where Redis is, and how values lie in it.
#[derive(Clone)]
pub struct RedisSettings {
    pub(crate) config: Config,
    /// What values are sealed under: the same for all processes that share them, and known to no other.
    pub(crate) secret: [u8; 32],
    /// What every name in Redis begins with. Default `cache:`.
    pub prefix: String,
    /// Connections that read. Default 2.
    pub readers: usize,
    /// The largest value kept, before compression. Default 1 MiB.
    pub max_value: usize,
    /// Values of so many bytes are compressed, if that saves an eighth of them. Default 4 KiB: to unpack a value
    /// of 2 KiB costs half as much as to get it.
    pub compress_over: usize,
    /// One attempt to connect. Default 2 s.
    pub connect: Duration,
    /// Whether changes by others are asked for. Without them, an entry that was purged elsewhere is
    /// served from memory until it expires.
    pub tracking: bool,
    /// How often the telling of changes is put to the proof. Default 500 ms.
    pub proof: Duration,
    /// Changes told and not yet read; with more, all of the near tier is distrusted. Default 4,096.
    pub most_told: usize,
}

/// The text is not the URL of a Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a Redis URL: redis://[user:password@]host[:port][/db], rediss:// for TLS, redis-cluster:// or \
     redis-sentinel://host:port?sentinelServiceName=NAME&node=host:port"
)]
pub struct RedisUrlError;

impl RedisSettings {
    /// Settings with their defaults for the Redis at a URL. Values are sealed under `secret`.
    pub fn new(url: &str, secret: [u8; 32]) -> Result<Self, RedisUrlError> {
        let known =
            ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !known.contains(&scheme) {
            return Err(RedisUrlError);
        }
        // The error may hold the password, so it is not passed on.
        let config = Config::from_url(url).map_err(|_| RedisUrlError)?;
        Ok(Self {
            config,
            secret,
            prefix: "cache:".to_owned(),
            readers: 2,
            max_value: 1 << 20,
            compress_over: 4 << 10,
            connect: Duration::from_secs(2),
            tracking: true,
            proof: Duration::from_millis(500),
            most_told: 4096,
        })
    }

    /// Uses TLS with a client configuration of the caller's: a private authority, a client certificate.
    pub fn tls(mut self, config: Arc<ClientConfig>) -> Self {
        let connector = TlsConnector::Rustls(tokio_rustls::TlsConnector::from(config));
        self.config.tls = Some(TlsConfig::from(connector));
        self
    }

    /// Uses these credentials in place of the URL's.
    pub fn credentials(mut self, user: Option<String>, password: Option<String>) -> Self {
        self.config.username = user;
        self.config.password = password;
        self
    }

    /// Host and port, without credentials: for logs and pages.
    pub fn address(&self) -> String {
        let hosts = match &self.config.server {
            ServerConfig::Centralized { server } => vec![server],
            ServerConfig::Clustered { hosts, .. } | ServerConfig::Sentinel { hosts, .. } => {
                hosts.iter().collect()
            }
        };
        let hosts: Vec<_> =
            hosts.into_iter().map(|server| format!("{}:{}", server.host, server.port)).collect();
        hosts.join(",")
    }

    /// Checks the ranges; the error names the field.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let wrong = |field, want| Err(SettingsError { field, want });
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.is_ascii() {
            return wrong("prefix", "1 to 64 ASCII characters");
        }
        if !(1..=16).contains(&self.readers) {
            return wrong("readers", "1 to 16");
        }
        if self.max_value == 0 || self.max_value > 256 << 20 {
            return wrong("max_value", "above zero and at most 256 MiB");
        }
        if self.connect.is_zero() {
            return wrong("connect", "above zero");
        }
        if self.most_told == 0 {
            return wrong("most_told", "above zero");
        }
        if self.proof < Duration::from_millis(10) {
            return wrong("proof", "at least 10 ms");
        }
        Ok(())
    }
}

/// Without credentials and secret.
impl fmt::Debug for RedisSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSettings")
            .field("address", &self.address())
            .field("prefix", &self.prefix)
            .field("readers", &self.readers)
            .field("max_value", &self.max_value)
            .field("compress_over", &self.compress_over)
            .field("connect", &self.connect)
            .field("tracking", &self.tracking)
            .field("proof", &self.proof)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_every_kind_are_understood() {
        for (url, address) in [
            ("redis://127.0.0.1", "127.0.0.1:6379"),
            ("rediss://user:pass@redis.test:6380/2", "redis.test:6380"),
            ("redis-cluster://a.test:1?node=b.test:2", "b.test:2,a.test:1"),
            ("redis-sentinel://a.test:26379?sentinelServiceName=main", "a.test:26379"),
        ] {
            assert_eq!(RedisSettings::new(url, [0; 32]).unwrap().address(), address, "{url}");
        }
        for url in ["", "http://127.0.0.1", "redis://", "127.0.0.1:6379", "redis-sentinel://a.test:1"] {
            assert_eq!(RedisSettings::new(url, [0; 32]).unwrap_err(), RedisUrlError, "{url}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = RedisSettings::new("redis://me:canary@127.0.0.1", [0xca; 32]).unwrap();
        let shown = format!("{settings:?}");
        assert!(!shown.contains("canary") && !shown.contains("202"), "{shown}");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let good = RedisSettings::new("redis://127.0.0.1", [0; 32]).unwrap();
        good.validate().unwrap();
        let field = |settings: RedisSettings| settings.validate().unwrap_err().field;
        assert_eq!(field(RedisSettings { prefix: String::new(), ..good.clone() }), "prefix");
        assert_eq!(field(RedisSettings { readers: 0, ..good.clone() }), "readers");
        assert_eq!(field(RedisSettings { max_value: 0, ..good.clone() }), "max_value");
        assert_eq!(field(RedisSettings { proof: Duration::ZERO, ..good }), "proof");
    }
}
