//! The validated knobs of a gateway. The server resolves its configuration file into these.

use std::{sync::Arc, time::Duration};

use chimera_transform::PoolSettings;

use crate::{
    auth::Tenants, models::Models, optimize::OptimizerSettings, route::RouteLabel, traces::Tracer,
    transforms::Transforms,
};

/// The timeout hierarchy: each an absolute deadline from the request's arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Every call that is not a generation. Default 30 s.
    pub standard: Duration,
    /// Generation: to the last byte of a unary answer, or to the first content of a stream. Default
    /// 2 min.
    pub llm: Duration,
    /// To the first content of a stream, when that is to differ from `llm`.
    pub first_event: Option<Duration>,
    /// Silence between the events of a stream. Default 60 s.
    pub stream_idle: Duration,
    /// A whole optimisation job. Default 10 min.
    pub optimization: Duration,
    /// Health checks and model lists. Default 5 s.
    pub health: Duration,
    /// Reading a request's body. Default 30 s.
    pub request_body: Duration,
    /// Silence while a request's body is read. Default 10 s.
    pub request_body_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            standard: Duration::from_secs(30),
            llm: Duration::from_secs(120),
            first_event: None,
            stream_idle: Duration::from_secs(60),
            optimization: Duration::from_secs(600),
            health: Duration::from_secs(5),
            request_body: Duration::from_secs(30),
            request_body_idle: Duration::from_secs(10),
        }
    }
}

/// Which requests may be answered from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CachePolicy {
    /// Every complete, successful answer.
    #[default]
    All,
    /// Only what asks for a deterministic answer: temperature 0, a seed, embeddings, token counts.
    Deterministic,
    /// None.
    Off,
}

/// How answers are cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheSettings {
    /// Which requests. Default all.
    pub policy: CachePolicy,
    /// How long an answer is fresh. Default 1 h.
    pub ttl: Duration,
    /// How long past that it is served at once, while one call renews it. Default not at all.
    pub stale_while_revalidate: Duration,
    /// How long past that it stands in when no provider answers. Default not at all.
    pub stale_if_error: Duration,
    /// How long a provider's refusal of the request itself (400, 404, 413, 422) is kept. Default not at
    /// all.
    pub negative_ttl: Duration,
    /// Whether answers from the cache tell in `cache-control` how long they are fresh, instead of that
    /// nobody is to keep them. Default no.
    pub tells_max_age: bool,
    /// What is different on some routes.
    pub routes: RouteCaches,
    /// Bytes of memory for answers, overhead included. Default 256 MiB.
    pub capacity: u64,
    /// The largest answer kept. Default 1 MiB.
    pub max_entry: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            policy: CachePolicy::All,
            ttl: Duration::from_secs(3600),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            negative_ttl: Duration::ZERO,
            tells_max_age: false,
            routes: RouteCaches::default(),
            capacity: 256 << 20,
            max_entry: 1 << 20,
        }
    }
}

impl CacheSettings {
    /// What holds on a route.
    pub(crate) fn on(&self, route: RouteLabel) -> RouteCache {
        self.routes.0.get(route as usize).copied().flatten().unwrap_or_else(|| self.everywhere())
    }

    /// What holds on routes that have nothing of their own.
    pub fn everywhere(&self) -> RouteCache {
        RouteCache {
            policy: self.policy,
            ttl: self.ttl,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            negative_ttl: self.negative_ttl,
        }
    }
}

/// How the answers of one route are cached; the fields are those of [`CacheSettings`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are those of CacheSettings")]
pub struct RouteCache {
    pub policy: CachePolicy,
    pub ttl: Duration,
    pub stale_while_revalidate: Duration,
    pub stale_if_error: Duration,
    pub negative_ttl: Duration,
}

/// What is different on some routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteCaches([Option<RouteCache>; RouteLabel::ALL.len()]);

impl RouteCaches {
    /// The routes that there are, by the names that metrics call them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        RouteLabel::ALL.into_iter().filter(|label| label.is_cached()).map(RouteLabel::as_str)
    }

    /// Sets what holds on a route; false if there is none of that name.
    pub fn set(&mut self, route: &str, cache: RouteCache) -> bool {
        let known = RouteLabel::ALL.into_iter().find(|label| label.is_cached() && label.as_str() == route);
        let slot = known.and_then(|label| self.0.get_mut(label as usize));
        slot.map(|slot| *slot = Some(cache)).is_some()
    }
}

/// How many bytes of anything are held at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimits {
    /// A request's body. Default 32 MiB.
    pub request: usize,
    /// The bodies of all requests in flight. Default 512 MiB.
    pub requests_in_flight: usize,
    /// A unary answer. Default 64 MiB.
    pub answer: usize,
    /// What is held back of a stream until its first content. Default 64 KiB.
    pub hold: usize,
    /// One event of a stream. Default 1 MiB.
    pub event: usize,
    /// What is held of all streams under way, for the cache and for those who may yet join them; the first
    /// 64 KiB of each are not counted. Beyond it long streams pass unremembered. Default 256 MiB.
    pub streams_in_flight: usize,
}

impl Default for SizeLimits {
    fn default() -> Self {
        Self {
            request: 32 << 20,
            requests_in_flight: 512 << 20,
            answer: 64 << 20,
            hold: 64 << 10,
            event: 1 << 20,
            streams_in_flight: 256 << 20,
        }
    }
}

/// Compression of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionSettings {
    /// Whether answers are compressed at all. Default yes.
    pub enabled: bool,
    /// The smallest body that is. Default 1 KiB.
    pub min_size: usize,
    /// Whether event streams are, each event flushed as it passes. It takes some hundred kilobytes per
    /// open stream. Streams replayed from the cache are sent as they are. Default no.
    pub event_streams: bool,
}

impl Default for CompressionSettings {
    fn default() -> Self {
        Self { enabled: true, min_size: 1024, event_streams: false }
    }
}

/// Everything that a reload may change, resolved.
pub struct Settings {
    /// Providers, deployments, groups, and how a model name finds one.
    pub models: Models,
    /// Who may call.
    pub tenants: Tenants,
    /// The timeout hierarchy.
    pub timeouts: Timeouts,
    /// The cache. Its capacity and largest entry are those of the start.
    pub cache: CacheSettings,
    /// Byte bounds.
    pub sizes: SizeLimits,
    /// Compression.
    pub compression: CompressionSettings,
    /// Pipelines, and which calls go through them.
    pub transforms: Transforms,
    /// Optimisation jobs.
    pub optimizer: OptimizerSettings,
    /// The worker pool. Its settings are those of the start.
    pub worker_pool: PoolSettings,
    /// How often whoever calls [`Gateway::probe`](crate::Gateway::probe) should; `None`: not at all.
    pub probe_every: Option<Duration>,
    /// Traces requests, if somebody wants that.
    pub tracer: Option<Arc<Tracer>>,
}

impl Settings {
    /// Defaults around a set of models, open to every caller.
    pub fn new(models: Models) -> Self {
        Self {
            models,
            tenants: Tenants::open(),
            timeouts: Timeouts::default(),
            cache: CacheSettings::default(),
            sizes: SizeLimits::default(),
            compression: CompressionSettings::default(),
            transforms: Transforms::default(),
            optimizer: OptimizerSettings::default(),
            worker_pool: PoolSettings::default(),
            probe_every: None,
            tracer: None,
        }
    }

    /// The same, behind the pointer that a gateway swaps.
    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}
