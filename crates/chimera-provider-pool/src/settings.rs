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
    /// The idle connections that each worker keeps ready ([`Provider::warm`](crate::Provider::warm)), so
    /// that no request waits for a handshake. Default 0.
    pub min_idle: usize,
    /// The most idle connections kept by each worker. Default 256.
    pub max_idle: usize,
    /// How long a connection may idle before it is closed; below what the provider allows, so that a
    /// request seldom meets a connection that is just being closed. Default 20 s.
    pub idle_timeout: Duration,
    /// How long one connection attempt may take, TLS included. Default 2 s.
    pub connect_timeout: Duration,
    /// How many requests may wait for a connection. Default 4,096.
    pub max_waiting: usize,
    /// Requests that one key may send in a minute. Default none.
    pub requests_per_minute: Option<u64>,
    /// Tokens that one key may use in a minute; they are counted as answers tell them. Default none.
    pub tokens_per_minute: Option<u64>,
    /// Whether a key rests when the provider's headers say that its limits are nearly used up. A provider
    /// with several keys always does so. Default no.
    pub learn_limits: bool,
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
            min_idle: 0,
            max_idle: 256,
            idle_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(2),
            max_waiting: 4096,
            requests_per_minute: None,
            tokens_per_minute: None,
            learn_limits: false,
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
        if self.requests_per_minute == Some(0) {
            return out_of_range("requests_per_minute", "at least 1");
        }
        if self.tokens_per_minute == Some(0) {
            return out_of_range("tokens_per_minute", "at least 1");
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
    /// How often the same deployment is asked again after a refusal of it, before the next one is.
    /// Default 0: the next one at once.
    pub retries: u32,
    /// The wait before that is drawn from an interval that begins with this and doubles. Default 250 ms.
    pub backoff: Duration,
    /// The longest such wait; a provider that asks for a longer one is left for the next at once. Default
    /// 5 s.
    pub max_pause: Duration,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            refused: true,
            broken: false,
            retry_percent: 10,
            retry_floor: 3,
            retries: 0,
            backoff: Duration::from_millis(250),
            max_pause: Duration::from_secs(5),
        }
    }
}

/// The place of a deployment among the others of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentSettings {
    /// The most requests in flight at once. Default 256.
    pub max_in_flight: usize,
    /// Its tier: one is asked only when all of the tiers with lower numbers are out. Default 0.
    pub priority: u32,
    /// Its part of its tier's requests, for the pickers that go by it; 0 is asked last. Default 1.
    pub weight: u32,
    /// How many may wait for a slot. Default `None`: as many as may be in flight, which doubles the time of
    /// an answer at most.
    pub max_waiting: Option<usize>,
    /// Behind a request of the same tenant that has waited for longer, no other waits. Default 5 s.
    pub wait_target: Duration,
    /// The bound on requests in flight is found out between this and `max_in_flight`. Default `None`: it is
    /// `max_in_flight`.
    pub adaptive_floor: Option<usize>,
}

impl Default for DeploymentSettings {
    fn default() -> Self {
        Self {
            max_in_flight: 256,
            priority: 0,
            weight: 1,
            max_waiting: None,
            wait_target: Duration::from_secs(5),
            adaptive_floor: None,
        }
    }
}

/// The policy of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// What moves on to another deployment.
    pub failover: Failover,
    /// Requests whose bodies begin with the same so many bytes go to the same deployment, as far as its
    /// load allows. Default none.
    pub affinity_prefix: Option<usize>,
    /// How long a deployment may take to the first content of a stream, as long as there is another to be
    /// asked then; the first may bill what it was asked. Default none: to the request's deadline.
    pub first_event: Option<Duration>,
    /// Whether a stream is held back until its end, so that a break in its middle can still move on.
    /// Callers get it in one piece then. Default no.
    pub hold_streams: bool,
    /// A stream whose first content is later than so many of a hundred were is sent to a second deployment
    /// as well, and the first to begin is taken. Both may be billed. Default none.
    pub hedge_percentile: Option<u32>,
    /// How long one waits at most for a slot of one deployment, before the next one is tried. Default 10 s.
    pub max_wait: Duration,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            failover: Failover::default(),
            affinity_prefix: None,
            first_event: None,
            hold_streams: false,
            hedge_percentile: None,
            max_wait: Duration::from_secs(10),
        }
    }
}
