//! The validated knobs of a provider and of a group.

use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;

use crate::{error::SettingsError, keys::Credential, target::Target};

/// How one provider is reached.
#[derive(Clone)]
pub struct ProviderSettings {
    /// The provider's name: a label, so it comes from configuration only.
    pub name: String,
    /// Where it lives.
    pub target: Target,
    /// The credentials used in rotation; empty for a provider that wants none.
    pub credentials: Vec<Credential>,
    /// How TLS is spoken; `None` means the public web roots.
    pub tls: Option<Arc<ClientConfig>>,
    /// The most connections open at once. Default 1,024.
    pub max_connections: usize,
    /// The most idle connections kept by each worker. Default 256.
    pub max_idle: usize,
    /// How long a connection may idle before it is closed; below what the provider allows, so that a
    /// request seldom meets a connection that is just being closed. Default 20 s.
    pub idle_timeout: Duration,
    /// How long one connection attempt may take, TLS included. Default 2 s.
    pub connect_timeout: Duration,
    /// How many requests may wait for a connection. Default 4,096.
    pub max_waiting: usize,
}

impl ProviderSettings {
    /// Settings with the defaults named at each field.
    pub fn new(name: impl Into<String>, target: Target) -> Self {
        Self {
            name: name.into(),
            target,
            credentials: Vec::new(),
            tls: None,
            max_connections: 1024,
            max_idle: 256,
            idle_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(2),
            max_waiting: 4096,
        }
    }

    /// Checks the ranges; the error names the field.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let out_of_range = |field, want| Err(SettingsError::OutOfRange { field, want });
        if self.max_connections == 0 {
            return out_of_range("max_connections", "at least 1");
        }
        if self.connect_timeout.is_zero() {
            return out_of_range("connect_timeout", "above zero");
        }
        if self.idle_timeout.is_zero() {
            return out_of_range("idle_timeout", "above zero");
        }
        Ok(())
    }
}

/// Which failures a group may answer by trying its next deployment.
///
/// What was never sent always moves on. The rest costs money or time, so it is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failover {
    /// The provider said no before any content: 429, 5xx, 529, or a 200 whose first event is an
    /// error. Default on.
    pub refused: bool,
    /// The request was sent and the connection broke, or the answer was not valid, before any
    /// content was passed on. The provider may bill it. Default off; at most one further attempt.
    pub broken: bool,
    /// The share of requests that may be attempted once more for one of these reasons, in percent.
    /// Default 10: when everything fails, providers see at most a tenth more than they are asked.
    pub retry_percent: u32,
    /// Further attempts a second that are free, ten seconds of them at once. Default 3.
    pub retry_floor: u32,
}

impl Default for Failover {
    fn default() -> Self {
        Self { refused: true, broken: false, retry_percent: 10, retry_floor: 3 }
    }
}
