//! A provider, and one place of it that serves a model.

use std::{sync::Arc, time::Duration};

use chimera_circuit_breaker::Breaker;
use http::HeaderValue;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    budget::RetryBudget,
    connect::SharedConnect,
    error::SettingsError,
    keys::KeyRing,
    latency::PeakEwma,
    metrics::{DeploymentMetrics, RetryMetrics},
    picker::SharedPicker,
    pool::ConnectionPool,
    settings::{Failover, ProviderSettings},
};

/// One vendor account: its connections and its credentials.
pub struct Provider {
    name_value: HeaderValue,
    pub(crate) pool: ConnectionPool,
    pub(crate) keys: KeyRing,
}

impl Provider {
    /// A provider whose idle connections are kept per worker.
    pub fn new(
        settings: ProviderSettings,
        connector: SharedConnect,
        workers: usize,
    ) -> Result<Arc<Self>, SettingsError> {
        settings.validate()?;
        let keys = KeyRing::new(&settings.credentials, std::time::Instant::now());
        let name_value =
            HeaderValue::from_str(&settings.name).unwrap_or_else(|_| HeaderValue::from_static("?"));
        Ok(Arc::new(Self { name_value, keys, pool: ConnectionPool::new(settings, connector, workers) }))
    }

    /// The provider's configured name.
    pub fn name(&self) -> &str {
        &self.pool.settings().name
    }

    /// The name as a header's value, made once; `?` for a name that cannot be one.
    pub fn name_value(&self) -> &HeaderValue {
        &self.name_value
    }

    /// How it is reached.
    pub fn settings(&self) -> &ProviderSettings {
        self.pool.settings()
    }

    /// Its credentials.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// What its pool holds now.
    pub fn connections(&self) -> Connections {
        let (open, idle, waiting) = self.pool.counts();
        Connections { open, idle, waiting }
    }

    /// Closes idle connections that are too old or dead and refreshes the gauges. Call it about once
    /// a second.
    pub fn maintain(&self) {
        self.pool.maintain(Instant::now());
    }
}

/// The connections of one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// Connections open, idle ones included.
    pub open: usize,
    /// Connections kept for the next request.
    pub idle: usize,
    /// Requests waiting for the bound.
    pub waiting: usize,
}

/// One place that serves a model: a provider, the provider's name for the model, a breaker, and a
/// bound on requests in flight.
pub struct Deployment {
    name: String,
    provider: Arc<Provider>,
    model: Option<String>,
    breaker: Arc<Breaker>,
    capacity: usize,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) metrics: DeploymentMetrics,
    pub(crate) latency: PeakEwma,
}

impl Deployment {
    /// A deployment; `model` is `None` when the caller's own model name is sent on.
    pub fn new(
        name: impl Into<String>,
        provider: Arc<Provider>,
        model: Option<String>,
        breaker: Arc<Breaker>,
        max_in_flight: usize,
    ) -> Arc<Self> {
        let name = name.into();
        let capacity = max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            metrics: DeploymentMetrics::new(&name),
            latency: PeakEwma::new(Instant::now().into_std()),
            name,
            provider,
            model,
            breaker,
            capacity,
            slots: Arc::new(Semaphore::new(capacity)),
        })
    }

    /// The configured name, which is also its label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The provider behind it.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }

    /// The provider's name for the model; `None` sends the caller's.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Its circuit breaker.
    pub fn breaker(&self) -> &Arc<Breaker> {
        &self.breaker
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.capacity.saturating_sub(self.slots.available_permits())
    }

    /// Refreshes the gauges.
    pub fn publish(&self) {
        self.metrics.publish(self.slots.available_permits(), self.in_flight());
    }
}

/// Deployments that can stand in for each other, and the policy among them.
pub struct Group {
    pub(crate) name: String,
    pub(crate) deployments: Vec<Arc<Deployment>>,
    pub(crate) picker: SharedPicker,
    pub(crate) failover: Failover,
    pub(crate) retries: RetryMetrics,
    pub(crate) budget: RetryBudget,
    /// How many requests may wait for a slot of one deployment, and for how long one waits at most
    /// before the next deployment is tried.
    pub(crate) max_wait: Duration,
}

impl Group {
    /// A group that asks `picker` for each attempt. At most 64 deployments are considered.
    pub fn new(
        name: impl Into<String>,
        deployments: Vec<Arc<Deployment>>,
        picker: SharedPicker,
        failover: Failover,
    ) -> Arc<Self> {
        let name = name.into();
        Arc::new(Self {
            retries: RetryMetrics::new(&name),
            name,
            deployments,
            picker,
            failover,
            budget: RetryBudget::new(failover.retry_percent, failover.retry_floor, Instant::now().into_std()),
            max_wait: Duration::from_secs(10),
        })
    }

    /// The group's configured name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Refreshes the gauges.
    pub fn publish(&self) {
        self.retries.publish(self.budget.ratio(Instant::now().into_std()));
    }

    /// Its deployments in configured order.
    pub fn deployments(&self) -> &[Arc<Deployment>] {
        &self.deployments
    }
}
