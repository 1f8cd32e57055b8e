//! The gateway as a value: what all workers share, and the entry of every request.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use chimera_cache::{FlightSettings, Flights};
use chimera_optimizer::SharedModel;
use chimera_protocol::DialectId;
use chimera_transform::{PoolSnapshot, WorkerPool};
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use tokio::time::Instant;

use crate::{
    alias::Aliases,
    auth::Tenant,
    body::{Body, FlightKey},
    call,
    context::Arrival,
    failure::{Code, Failure},
    head::Head,
    load::Piece,
    metrics::{GatewayMetrics, Tokens},
    models::{ModelProvider, Models},
    models_list::ModelLists,
    optimize::{self, Jobs},
    renew::Renewals,
    request_id::{RequestId, RequestIds},
    respond,
    second_tier::{self, Behind, Cache, DiskCache, SecondTier},
    settings::Settings,
};

/// What every request may use, whichever worker it is on.
pub(crate) struct Shared {
    pub(crate) state: ArcSwap<State>,
    pub(crate) cache: Cache,
    pub(crate) aliases: Aliases,
    pub(crate) flights: Flights<FlightKey, Piece>,
    pub(crate) renewals: Renewals,
    pub(crate) metrics: GatewayMetrics,
    pub(crate) lists: ModelLists,
    pub(crate) jobs: Jobs,
    /// Threads for what would hold up the event loops.
    pub(crate) pool: WorkerPool,
    /// Keys the fingerprints of this process, and of those that share its second tier: nobody outside can
    /// aim at an entry.
    pub(crate) fingerprint_key: [u8; 32],
    request_ids: RequestIds,
    /// Configurations that took the place of another.
    reloads: AtomicU64,
    /// Bytes of request bodies in flight.
    pub(crate) bodies: AtomicUsize,
    /// Bytes of streams under way that are held for the cache.
    pub(crate) logged: AtomicUsize,
    ready: AtomicBool,
    /// Set when the server's patience with open streams is over.
    ending: AtomicBool,
}

impl Shared {
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Relaxed)
    }

    pub(crate) fn panicked(&self, request_id: &RequestId) {
        self.metrics.panics.increment(1);
        tracing::error!(%request_id, "a request was ended by a panic");
    }
}

/// One configuration in force, with what is derived from it.
pub(crate) struct State {
    /// Which it is of those that this process has had.
    pub(crate) number: u64,
    pub(crate) settings: Settings,
    pub(crate) tokens: Arc<Tokens>,
}

impl State {
    fn new(settings: Settings, number: u64) -> Arc<Self> {
        let deployments = settings.models.deployments();
        let tokens = Tokens::new(deployments.iter().map(|deployment| deployment.name()));
        Arc::new(Self { number, settings, tokens: Arc::new(tokens) })
    }
}

/// Why a gateway cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The cache's settings cannot be used.
    #[error("cache: {0}")]
    Cache(#[from] chimera_cache::SettingsError),
    /// The file of the cache cannot be used.
    #[error("cache.disk.path: {0}")]
    Disk(#[from] chimera_cache::DiskError),
}

/// An LLM gateway: a service from request to response, over any body. Clones share everything.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) shared: Arc<Shared>,
    worker: usize,
}

impl Gateway {
    /// A gateway over settings. `seed` keys its cache fingerprints: random, and kept secret.
    pub fn new(settings: Settings, seed: [u8; 32]) -> Result<Self, GatewayError> {
        Self::build(settings, seed, Behind::Nothing)
    }

    /// A gateway whose cached answers are shared through a Redis. It connects in the background, in the
    /// runtime in which this is called: give it one of its own. That Redis is not there is no error.
    pub fn with_second_tier(settings: Settings, second: &SecondTier) -> Result<Self, GatewayError> {
        Self::build(settings, second.seed(), Behind::Redis(second))
    }

    /// A gateway whose cached answers are in a file, too. Its writes run in the runtime in which this is
    /// called: give it one of its own.
    pub fn with_disk(settings: Settings, disk: &DiskCache) -> Result<Self, GatewayError> {
        Self::build(settings, disk.seed(), Behind::Disk(disk))
    }

    fn build(settings: Settings, seed: [u8; 32], behind: Behind<'_>) -> Result<Self, GatewayError> {
        let cache = second_tier::cache(settings.cache.capacity, settings.cache.max_entry, behind)?;
        let max_log = usize::try_from(settings.cache.max_entry).unwrap_or(usize::MAX).saturating_mul(4);
        let shared = Shared {
            cache,
            aliases: Aliases::new(settings.cache.capacity / 16)?,
            flights: Flights::new(
                FlightSettings { max_log_bytes: max_log, max_held_bytes: settings.sizes.streams_in_flight },
                Piece::weight,
            ),
            renewals: Renewals::default(),
            metrics: GatewayMetrics::new(),
            lists: ModelLists::default(),
            jobs: Jobs::default(),
            pool: WorkerPool::new(settings.worker_pool),
            fingerprint_key: seed,
            request_ids: RequestIds::new(),
            bodies: AtomicUsize::new(0),
            logged: AtomicUsize::new(0),
            ready: AtomicBool::new(true),
            ending: AtomicBool::new(false),
            reloads: AtomicU64::new(0),
            state: ArcSwap::new(State::new(settings, 0)),
        };
        Ok(Self { shared: Arc::new(shared), worker: 0 })
    }

    /// The handle of one worker thread: its requests use its own idle connections first.
    pub fn worker(&self, index: usize) -> Self {
        Self { shared: self.shared.clone(), worker: index }
    }

    pub(crate) fn of(shared: Arc<Shared>, worker: usize) -> Self {
        Self { shared, worker }
    }

    pub(crate) fn worker_index(&self) -> usize {
        self.worker
    }

    /// Swaps the settings. Requests under way finish under the old ones; cached answers stay, and so do the
    /// connections, breakers and limits of providers, groups and tenants that are the same values as
    /// before. The cache's capacity is that of the start.
    pub fn reload(&self, settings: Settings) {
        let number = self.shared.reloads.fetch_add(1, Relaxed) + 1;
        self.shared.state.store(State::new(settings, number));
        self.shared.aliases.clear();
        self.shared.lists.clear();
        self.shared.metrics.reloads_ok.increment(1);
    }

    /// Counts a configuration that was refused.
    pub fn reload_failed(&self) {
        self.shared.metrics.reloads_failed.increment(1);
    }

    /// What `/health/ready` answers: false while the server drains.
    pub fn set_ready(&self, ready: bool) {
        self.shared.ready.store(ready, Relaxed);
    }

    /// Ends every open stream with an error event, as each is next polled. For the end of a drain.
    pub fn end_streams(&self) {
        self.shared.ending.store(true, Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.shared.ready.load(Relaxed)
    }

    /// Closes idle connections that are too old and refreshes gauges. Call it about once a second.
    pub fn maintain(&self) {
        let state = self.shared.state.load();
        for provider in state.settings.models.providers() {
            provider.provider.maintain();
        }
        for group in state.settings.models.every_group() {
            group.publish();
            group.deployments().iter().for_each(|deployment| deployment.publish());
        }
        let now = std::time::Instant::now();
        self.shared.cache.publish(now);
        self.shared.aliases.publish(now);
        self.shared.metrics.bodies_in_flight.set(self.shared.bodies.load(Relaxed) as f64);
        self.shared.metrics.flights.set(self.shared.flights.len() as f64);
    }

    /// Opens connections to providers that are to have some ready, for this worker and on its event loop.
    /// Call it about once a second on each worker.
    pub async fn warm(&self) {
        let wants = |provider: &&Arc<ModelProvider>| provider.provider.settings().min_idle > 0;
        let providers: Vec<_> =
            self.with_models(|models| models.providers().iter().filter(wants).cloned().collect());
        for provider in providers {
            provider.provider.warm(self.worker).await;
        }
    }

    /// What the worker pool is doing.
    pub fn worker_pool(&self) -> PoolSnapshot {
        self.shared.pool.snapshot()
    }

    /// Runs optimisation jobs, those that an earlier process had not finished first. Never ends; dropping it
    /// ends the calls of all jobs, which go on where they were when it is called again. Give it an event loop
    /// of its own: without it, jobs are refused.
    pub async fn run_jobs(&self) {
        optimize::run(self).await;
    }

    /// A model of this gateway for an optimisation job of a tenant: its calls go the way of all requests.
    pub fn model(&self, tenant: &str, name: &str) -> Result<SharedModel, String> {
        optimize::model(self, tenant, name)
    }

    /// Waits until the answers on their way to the second tier are there: for a clean end.
    pub async fn flush(&self) {
        self.shared.cache.flush().await;
    }

    /// The settings in force.
    pub fn with_settings<T>(&self, look: impl FnOnce(&Settings) -> T) -> T {
        look(&self.shared.state.load().settings)
    }

    /// The models in force.
    pub fn with_models<T>(&self, look: impl FnOnce(&Models) -> T) -> T {
        look(&self.shared.state.load().settings.models)
    }

    /// Answers one request of the data listener. Never fails: every fault is an answer in the caller's
    /// dialect. Dropping the future, or the body of its response, ends the upstream call at once.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        pin!(self.handle_for(None, false, request)).await
    }

    /// Answers a request whose head cannot be read, with the status that says why.
    pub fn refuse(&self, status: StatusCode) -> Response<Body> {
        let arrival = Arrival {
            at: Instant::now(),
            request_id: self.shared.request_ids.of(None),
            dialect: DialectId::OpenAi,
            head: Head::default(),
            caller: None,
            background: false,
        };
        call::refuse(self, status, &arrival)
    }

    /// The same for a tenant that is known already, whatever the request says.
    pub(crate) async fn handle_as<B>(&self, tenant: Arc<Tenant>, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        self.handle_for(Some(tenant), false, request).await
    }

    /// The same where nobody waits for the answer: in every queue, others go first.
    pub(crate) async fn handle_behind<B>(&self, tenant: Arc<Tenant>, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        self.handle_for(Some(tenant), true, request).await
    }

    async fn handle_for<B>(
        &self,
        caller: Option<Arc<Tenant>>,
        background: bool,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin,
        B::Error: std::fmt::Display,
    {
        let arrived = Instant::now();
        let (parts, body) = request.into_parts();
        let head = Head::of(&parts.headers);
        let arrival = Arrival {
            at: arrived,
            request_id: self.shared.request_ids.of(head.request_id),
            dialect: head.dialect(parts.uri.path()),
            head,
            caller,
            background,
        };
        let handled = pin!(CatchPanic { future: call::handle(self, &parts, body, &arrival) });
        handled.await.unwrap_or_else(|| {
            self.shared.panicked(&arrival.request_id);
            let failure = Failure::new(Code::Internal, "the gateway failed on this request").close();
            respond::failure(arrival.dialect, &failure, &arrival.request_id)
        })
    }
}

pin_project_lite::pin_project! {
    /// Polls a future and turns a panic in it into `None`, so that it ends one request and nothing else.
    pub(crate) struct CatchPanic<F> {
        #[pin]
        pub(crate) future: F,
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        // The future is dropped after a panic and never polled again, so nothing sees it half-done.
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    }
}
