//! The admin listener: what the gateway is doing, and a few levers.

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use chimera_provider_pool::{Deployment, RestingKey};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as HttpBody;
use serde_json::{Value, json};

use crate::{
    auth::{KeyDigest, key_digest},
    body::Body,
    cache_page,
    gateway::Gateway,
    web_page::{is_cross_site, is_for_this_machine},
};

/// An answer of the admin plane on its way.
pub type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What the server around the gateway answers for.
pub struct AdminHooks {
    /// The digest of the key that is asked for, at this moment; `None` asks for none.
    pub key: Box<dyn Fn() -> Option<KeyDigest> + Send + Sync>,
    /// The metrics in Prometheus' text format.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The configuration in force, secrets redacted.
    pub config: Box<dyn Fn() -> Value + Send + Sync>,
    /// Loads the configuration anew; the error names the key at fault.
    pub reload: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

/// The admin plane of one gateway.
#[derive(Clone)]
pub struct Admin {
    gateway: Gateway,
    hooks: Arc<AdminHooks>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// An admin plane over a gateway.
    pub fn new(gateway: Gateway, hooks: AdminHooks) -> Self {
        Self { gateway, hooks: Arc::new(hooks) }
    }

    /// Answers one request of the admin listener.
    pub fn handle<B: HttpBody<Data = Bytes>>(&self, request: &Request<B>) -> Answering {
        if request.uri().path() == "/api/v1/cache/purge"
            && *request.method() == Method::POST
            && self.refusal(request.uri(), request.headers()).is_none()
        {
            return self.purge(request.headers(), request.uri().query());
        }
        Box::pin(ready(self.answer(request)))
    }

    fn answer<B: HttpBody<Data = Bytes>>(&self, request: &Request<B>) -> Response<Body> {
        let path = request.uri().path();
        if let Some(refusal) = self.refusal(request.uri(), request.headers()) {
            return refusal;
        }
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        match (path, get) {
            ("/", true) => text(StatusCode::OK, INDEX),
            ("/metrics", true) => {
                self.gateway.maintain();
                let mut response = Response::new(Body::whole((self.hooks.metrics)()));
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            ("/health/live" | "/health", true) => json_answer(StatusCode::OK, &json!({ "status": "live" })),
            ("/health/ready", true) if self.gateway.is_ready() => {
                json_answer(StatusCode::OK, &json!({ "status": "ready" }))
            }
            ("/health/ready", true) => {
                json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "draining" }))
            }
            ("/api/v1/cache/metrics", true) => {
                json_answer(StatusCode::OK, &cache_page::metrics(&self.gateway))
            }
            ("/api/v1/providers", true) => json_answer(StatusCode::OK, &self.providers()),
            ("/api/v1/circuit-breakers", true) => json_answer(StatusCode::OK, &self.breakers()),
            ("/api/v1/worker-pool", true) => json_answer(StatusCode::OK, &self.worker_pool()),
            ("/api/v1/config", true) => json_answer(StatusCode::OK, &(self.hooks.config)()),
            ("/api/v1/reload", false) if *request.method() == Method::POST => self.reload(request.headers()),
            _ if KNOWN.contains(&path) => another_method(path),
            _ => json_answer(
                StatusCode::NOT_FOUND,
                &json!({ "error": "there is nothing at this path of the admin listener; model calls go to the data listener" }),
            ),
        }
    }

    /// Host names other than our own are refused, so that no web page reaches us by rebinding its
    /// name; then the key, where there is one. Liveness and readiness need none.
    fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<Response<Body>> {
        let Some(key) = (self.hooks.key)() else {
            let local = is_for_this_machine(headers, uri);
            let why = "the host is not this machine; set admin.key_sha256 to allow others";
            return (!local).then(|| json_answer(StatusCode::MISDIRECTED_REQUEST, &json!({ "error": why })));
        };
        let sent = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .map(|sent| key_digest(sent.trim()));
        if uri.path().starts_with("/health") || sent == Some(key) {
            return None;
        }
        Some(json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "the admin key is missing or wrong" })))
    }

    fn purge(&self, headers: &HeaderMap, query: Option<&str>) -> Answering {
        if is_cross_site(headers) {
            return Box::pin(ready(cross_site()));
        }
        let purge = match cache_page::asked(query) {
            Ok(purge) => purge,
            Err(why) => {
                let refused = json_answer(StatusCode::BAD_REQUEST, &json!({ "error": why }));
                return Box::pin(ready(refused));
            }
        };
        let gateway = self.gateway.clone();
        Box::pin(async move {
            match gateway.shared.cache.purge(&purge).await {
                Ok((near, far)) if gateway.shared.cache.has_far() => {
                    json_answer(StatusCode::OK, &json!({ "purged": near, "purged_l2": far }))
                }
                Ok((near, _)) => json_answer(StatusCode::OK, &json!({ "purged": near })),
                Err(error) => json_answer(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &json!({ "error": "memory was purged, the second tier was not", "why": error.why() }),
                ),
            }
        })
    }

    fn reload(&self, headers: &HeaderMap) -> Response<Body> {
        if is_cross_site(headers) {
            return cross_site();
        }
        match (self.hooks.reload)() {
            Ok(()) => json_answer(StatusCode::OK, &json!({ "reloaded": true })),
            Err(why) => json_answer(
                StatusCode::UNPROCESSABLE_ENTITY,
                &json!({ "reloaded": false, "error": why, "note": "the old configuration is still in force" }),
            ),
        }
    }

    fn providers(&self) -> Value {
        let now = std::time::Instant::now();
        self.gateway.with_models(|models| {
            let deployments: Vec<_> = models
                .deployments()
                .iter()
                .map(|deployment| (deployment.provider().name().to_owned(), seen(deployment, now)))
                .collect();
            let providers: Vec<_> = models
                .providers()
                .iter()
                .map(|model_provider| {
                    let provider = &model_provider.provider;
                    let connections = provider.connections();
                    let (keys, parked) = provider.keys().counts(now);
                    let resting: Vec<_> = provider.keys().resting(now).iter().map(resting_key).collect();
                    let dialects: Vec<_> = model_provider.dialects.iter().map(|d| d.as_str()).collect();
                    json!({
                        "name": provider.name(), "dialects": dialects,
                        "base_url": format!("{:?}", provider.settings().target),
                        "connections": {
                            "open": connections.open, "idle": connections.idle, "waiting": connections.waiting,
                        },
                        "keys": { "configured": keys, "parked": parked, "resting": resting },
                        "deployments": deployments.iter().filter(|(of, _)| *of == provider.name()).map(|(_, seen)| seen).collect::<Vec<_>>(),
                    })
                })
                .collect();
            json!({ "providers": providers, "groups": models.group_names() })
        })
    }

    fn worker_pool(&self) -> Value {
        let seen = self.gateway.worker_pool();
        json!({
            "threads": seen.threads, "busy": seen.busy, "queued": seen.queued, "capacity": seen.capacity,
            "oldest_seconds": seen.oldest.map(|age| age.as_secs_f64()),
            "done": seen.done, "rejected": seen.rejected, "cancelled": seen.cancelled, "panicked": seen.panicked,
        })
    }

    fn breakers(&self) -> Value {
        let now = std::time::Instant::now();
        self.gateway.with_models(|models| {
            let breakers: Vec<_> =
                models.deployments().iter().map(|deployment| seen(deployment, now)).collect();
            json!({ "circuit_breakers": breakers })
        })
    }
}

/// How a deployment is: its breaker's state, why, since when, and when it is tried again; and its slots.
fn seen(deployment: &Deployment, now: std::time::Instant) -> Value {
    let seen = deployment.breaker().snapshot(now);
    json!({
        "deployment": deployment.name(), "state": seen.state.as_str(),
        "since_seconds": seen.since.as_secs_f64(), "why": seen.why.map(|why| why.as_str()),
        "window": { "calls": seen.calls, "failures": seen.failures, "slow": seen.slow },
        "probes_in_flight": seen.probes_in_flight,
        "next_probe_seconds": seen.next_probe.map(|wait| wait.as_secs_f64()),
        "in_flight": deployment.in_flight(), "limit": deployment.limit(), "waiting": deployment.waiting(),
    })
}

/// A key by its place, never by itself.
fn resting_key(key: &RestingKey) -> Value {
    json!({ "key": key.index + 1, "why": key.why.as_str(), "remaining_seconds": key.remaining.as_secs_f64() })
}

const KNOWN: [&str; 12] = [
    "/",
    "/metrics",
    "/health",
    "/health/live",
    "/health/ready",
    "/api/v1/cache/metrics",
    "/api/v1/cache/purge",
    "/api/v1/providers",
    "/api/v1/circuit-breakers",
    "/api/v1/worker-pool",
    "/api/v1/config",
    "/api/v1/reload",
];

/// Paths that change something.
const LEVERS: [&str; 2] = ["/api/v1/cache/purge", "/api/v1/reload"];

const INDEX: &str = "\
chimera admin

GET  /metrics                   Prometheus
GET  /api/v1/cache/metrics      the cache's tiers
POST /api/v1/cache/purge        forget every cached answer; or one of ?tenant=NAME ?model=NAME ?tag=NAME
                                ?key=HEX ?prefix=HEX (x-chimera-cache: show-key tells it)
GET  /api/v1/providers          connections and keys
GET  /api/v1/circuit-breakers   one per deployment
GET  /api/v1/worker-pool        threads and queue for transforms
GET  /api/v1/config             the configuration in force, secrets redacted
POST /api/v1/reload             load the configuration anew
GET  /health/live, /health/ready
";

fn cross_site() -> Response<Body> {
    json_answer(StatusCode::FORBIDDEN, &json!({ "error": "requests from other sites are refused" }))
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::whole(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, crate::respond::JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn another_method(path: &str) -> Response<Body> {
    let allow = if LEVERS.contains(&path) { "POST" } else { "GET, HEAD" };
    let why = format!("this path takes {allow}");
    let mut response = json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": why }));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::whole(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
