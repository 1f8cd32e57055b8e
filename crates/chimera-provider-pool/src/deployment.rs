//! A provider, and one place of it that serves a model.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chimera_circuit_breaker::{Breaker, Holders};
use http::HeaderValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    adaptive::Adaptive,
    affinity,
    budget::RetryBudget,
    connect::SharedConnect,
    error::SettingsError,
    hedge::Hedging,
    keys::{KeyIndex, KeyRing, Resting},
    latency::PeakEwma,
    metrics::{DeploymentMetrics, RetryMetrics},
    parking::{ModelRests, RestingKey},
    picker::{SharedPicker, Tried},
    pool::ConnectionPool,
    queue::{Caller, Queue, Shed},
    random::Random,
    settings::{DeploymentSettings, Failover, GroupSettings, ProviderSettings},
    tiers::Tiers,
};

/// One vendor account: its connections and its credentials.
pub struct Provider {
    name_value: HeaderValue,
    /// Whether its headers say when a key rests.
    pub(crate) learns: bool,
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
        let keys = KeyRing::new(&settings, Instant::now().into_std());
        let learns = settings.learn_limits || settings.credentials.len() > 1;
        let name_value =
            HeaderValue::from_str(&settings.name).unwrap_or_else(|_| HeaderValue::from_static("?"));
        Ok(Arc::new(Self {
            name_value,
            learns,
            keys,
            pool: ConnectionPool::new(settings, connector, workers),
        }))
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

    /// Opens connections until the worker has `min_idle` of them, on the event loop that this runs on. A
    /// provider that does not accept one is left until the next call.
    pub async fn warm(&self, worker: usize) {
        self.pool.warm(worker).await;
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
    /// The provider's keys that rest for its model alone, or for one of those that callers name.
    pub(crate) key_rests: ModelRests,
    pub(crate) holders: Holders,
    /// Slots in existence, those in use included.
    capacity: AtomicUsize,
    /// Slots in use that are not to come back, because the bound was lowered.
    surplus: AtomicUsize,
    adaptive: Option<Adaptive>,
    queue: Queue,
    epoch: Instant,
    /// Until when it is passed over, in milliseconds after `epoch`; 0 until it first was.
    rests_until: AtomicU64,
    max_waiting: Option<usize>,
    priority: u32,
    /// Its part of the requests; as a number to divide by, never nothing.
    shares: u32,
    weight: f64,
    name_hash: u64,
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
        let settings = DeploymentSettings { max_in_flight, ..DeploymentSettings::default() };
        Self::with_settings(name, provider, model, breaker, &settings)
    }

    /// The same with all its knobs.
    pub fn with_settings(
        name: impl Into<String>,
        provider: Arc<Provider>,
        model: Option<String>,
        breaker: Arc<Breaker>,
        settings: &DeploymentSettings,
    ) -> Arc<Self> {
        let name = name.into();
        let most = settings.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let adaptive = settings.adaptive_floor.map(|floor| Adaptive::new(floor.min(most), most));
        let capacity = adaptive.as_ref().map_or(most, Adaptive::limit);
        Arc::new(Self {
            metrics: DeploymentMetrics::new(&name),
            latency: PeakEwma::new(Instant::now().into_std()),
            name_hash: affinity::fingerprint(name.as_bytes()),
            name,
            key_rests: ModelRests::new(model.as_deref(), |served| provider.keys.rests_for(served)),
            provider,
            model,
            holders: Holders::new(breaker),
            capacity: AtomicUsize::new(capacity),
            surplus: AtomicUsize::new(0),
            adaptive,
            queue: Queue::new(settings.wait_target),
            epoch: Instant::now(),
            rests_until: AtomicU64::new(0),
            max_waiting: settings.max_waiting,
            priority: settings.priority,
            shares: settings.weight,
            weight: f64::from(settings.weight).max(1e-6),
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

    /// The keys of its provider that rest for its model alone, or for one that callers name, and why: each once, with its
    /// longest rest.
    pub fn resting_keys(&self, now: std::time::Instant) -> Vec<RestingKey> {
        let mut resting: Vec<_> =
            self.key_rests.all().flat_map(|rests| self.provider.keys.told(rests, now)).collect();
        resting.sort_by_key(|key| (key.index, Reverse(key.remaining)));
        resting.dedup_by_key(|key| key.index);
        resting
    }

    /// A key for a request that names a model.
    pub(crate) fn pick_key(&self, model: u64, now: Instant) -> Result<Option<KeyIndex>, Resting> {
        self.provider.keys.pick(self.key_rests.of(model), now.into_std())
    }

    pub(crate) fn look_for_key(&self, model: u64, now: Instant) -> Result<(), Resting> {
        self.provider.keys.look(self.key_rests.of(model), now.into_std())
    }

    /// Its circuit breaker.
    pub fn breaker(&self) -> &Arc<Breaker> {
        self.holders.breaker()
    }

    /// Its tier: those of the lowest number are asked first.
    pub fn priority(&self) -> u32 {
        self.priority
    }

    /// Its weight as configured.
    pub(crate) fn shares(&self) -> u32 {
        self.shares
    }

    /// Its weight to divide by: tiny where it is configured as 0.
    pub(crate) fn weight(&self) -> f64 {
        self.weight
    }

    pub(crate) fn name_hash(&self) -> u64 {
        self.name_hash
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.capacity.load(Relaxed).saturating_sub(self.slots.available_permits())
    }

    /// Requests that may be in flight now.
    pub fn limit(&self) -> usize {
        self.capacity.load(Relaxed).saturating_sub(self.surplus.load(Relaxed))
    }

    /// Requests that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// For how long it is passed over still, because it was throttled and others can stand in.
    pub(crate) fn rests(&self, now: Instant) -> Option<Duration> {
        match self.rests_until.load(Relaxed) {
            0 => None,
            until => match until.saturating_sub(self.millis(now)) {
                0 => None,
                rest => Some(Duration::from_millis(rest)),
            },
        }
    }

    /// Passes it over for a while.
    pub(crate) fn rest(&self, rest: Duration, now: Instant) {
        let until = self.millis(now).saturating_add(rest.as_millis() as u64);
        self.rests_until.fetch_max(until, Relaxed);
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// A slot where one is free.
    pub(crate) fn free_slot(&self) -> Option<OwnedSemaphorePermit> {
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        Some(slot)
    }

    /// Waits for a slot, in the caller's lane.
    pub(crate) async fn wait(&self, caller: Caller, longest: Duration) -> Result<OwnedSemaphorePermit, Shed> {
        // No more than are in flight: that doubles the time at most.
        let most = self.max_waiting.unwrap_or_else(|| self.limit());
        let slot = self.queue.wait(&self.slots, caller, most, longest).await;
        if let Err(shed) = slot {
            self.metrics.shed(shed);
        }
        slot
    }

    /// Takes a slot back, and hands it on.
    pub(crate) fn release(&self, slot: OwnedSemaphorePermit) {
        let surplus = self.surplus.load(Relaxed) > 0
            && self.surplus.fetch_update(Relaxed, Relaxed, |surplus| surplus.checked_sub(1)).is_ok();
        if surplus {
            slot.forget();
            self.capacity.fetch_sub(1, Relaxed);
        } else {
            drop(slot);
            self.queue.hand_on(&self.slots);
        }
    }

    /// An answer began after `took`.
    pub(crate) fn answer_began(&self, took: Duration, now: Instant) {
        if let Some(adaptive) = &self.adaptive {
            self.bound(adaptive.began(took, self.in_flight(), now));
        }
    }

    /// The provider refused or failed.
    pub(crate) fn answer_failed(&self, now: Instant) {
        if let Some(adaptive) = &self.adaptive {
            self.bound(adaptive.failed(now));
        }
    }

    /// Makes or takes away slots until there are so many.
    fn bound(&self, limit: usize) {
        let now = self.limit();
        if limit > now {
            let mut more = limit - now;
            // Slots that were not to come back may.
            while more > 0
                && self.surplus.fetch_update(Relaxed, Relaxed, |surplus| surplus.checked_sub(1)).is_ok()
            {
                more -= 1;
            }
            if more > 0 {
                self.capacity.fetch_add(more, Relaxed);
                self.slots.add_permits(more);
            }
            self.queue.hand_on(&self.slots);
        } else if limit < now {
            let gone = self.slots.forget_permits(now - limit);
            self.capacity.fetch_sub(gone, Relaxed);
            self.surplus.fetch_add(now - limit - gone, Relaxed);
        }
    }

    /// Refreshes the gauges.
    pub fn publish(&self) {
        self.metrics.publish(self.slots.available_permits(), self.in_flight(), self.waiting(), self.limit());
    }
}

/// Deployments that can stand in for each other, and the policy among them.
pub struct Group {
    pub(crate) name: String,
    pub(crate) deployments: Vec<Arc<Deployment>>,
    pub(crate) picker: SharedPicker,
    pub(crate) failover: Failover,
    pub(crate) settings: GroupSettings,
    pub(crate) retries: RetryMetrics,
    pub(crate) budget: RetryBudget,
    pub(crate) random: Random,
    pub(crate) hedging: Option<Box<Hedging>>,
    tiers: Tiers,
}

impl Group {
    /// A group that asks `picker` for each attempt. At most 64 deployments are considered.
    pub fn new(
        name: impl Into<String>,
        deployments: Vec<Arc<Deployment>>,
        picker: SharedPicker,
        failover: Failover,
    ) -> Arc<Self> {
        Self::with_settings(name, deployments, picker, GroupSettings { failover, ..GroupSettings::default() })
    }

    /// The same with all its knobs.
    pub fn with_settings(
        name: impl Into<String>,
        deployments: Vec<Arc<Deployment>>,
        picker: SharedPicker,
        settings: GroupSettings,
    ) -> Arc<Self> {
        let (name, failover) = (name.into(), settings.failover);
        Arc::new(Self {
            retries: RetryMetrics::new(&name),
            hedging: settings.hedge_percentile.map(|percentile| Box::new(Hedging::new(percentile))),
            name,
            tiers: Tiers::of(&deployments),
            deployments,
            picker,
            failover,
            settings,
            budget: RetryBudget::new(failover.retry_percent, failover.retry_floor, Instant::now().into_std()),
            random: Random::default(),
        })
    }

    /// How it was set up.
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// The number that stands for how a body begins: `None` where the group does not go by it, and for
    /// bodies that are shorter than what it goes by, which no provider keeps anyway.
    pub fn affinity(&self, body: &[u8]) -> Option<u64> {
        Some(affinity::fingerprint(body.get(..self.settings.affinity_prefix?)?))
    }

    /// The next deployment to try.
    pub(crate) fn pick(&self, tried: Tried, affinity: Option<u64>, now: Instant) -> Option<usize> {
        let tried = self.tiers.narrow(tried);
        match affinity {
            Some(fingerprint) => affinity::pick(fingerprint, &self.deployments, tried),
            None => self.picker.pick(&self.deployments, tried, now.into_std()),
        }
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
