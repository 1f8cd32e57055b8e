//! The admin listener: what the gateway is doing, and a few levers.

mod gate;
mod levers;
mod through;
mod told;

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use serde_json::{Value, json};

pub use gate::Proof;

use crate::{auth::KeyDigest, body::Body, cache_page, failure::Failure, gateway::Gateway};

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
    /// Whether a reload would be taken; the error names the key at fault.
    pub check: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// What the headers of a request prove of a browser. Where nobody gives sessions and tokens out, nothing: no
    /// page can then change anything.
    pub proof: Box<dyn Fn(&HeaderMap) -> Proof + Send + Sync>,
}

impl Default for AdminHooks {
    /// No key, nothing to show, and a configuration that cannot be loaded.
    fn default() -> Self {
        let none = || Err("there is no configuration to load".to_owned());
        Self {
            key: Box::new(|| None),
            metrics: Box::new(String::new),
            config: Box::new(|| Value::Null),
            reload: Box::new(none),
            check: Box::new(none),
            proof: Box::new(|_| Proof::default()),
        }
    }
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
    pub fn handle<B>(&self, request: Request<B>) -> Answering
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: fmt::Display,
    {
        match self.refusal(request.method(), request.uri(), request.headers(), false) {
            Some(refusal) => Box::pin(ready(refusal)),
            None => self.answer(request),
        }
    }

    /// Answers one that was looked at by [`Admin::refusal`].
    pub fn answer<B>(&self, request: Request<B>) -> Answering
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: fmt::Display,
    {
        let path = request.uri().path();
        let admin = self.clone();
        if path.strip_prefix(through::DATA).is_some_and(|rest| rest.starts_with('/')) {
            return Box::pin(through::through(admin, request));
        }
        if *request.method() != Method::POST {
            return Box::pin(ready(self.read(request.method(), path)));
        }
        match path {
            // What a body asks for is not read: to purge everything instead would be worse than a refusal.
            "/api/v1/cache/purge" if !request.body().is_end_stream() => Box::pin(ready(levers::no_body())),
            "/api/v1/cache/purge" => Box::pin(async move { admin.purge(request.uri().query()).await }),
            "/api/v1/reload" => Box::pin(ready(self.reload())),
            "/api/v1/config/check" => Box::pin(ready(self.check())),
            _ if path.starts_with(BREAKER) => Box::pin(async move {
                let (parts, body) = request.into_parts();
                admin.force(&parts, body).await
            }),
            _ => Box::pin(ready(nothing(path))),
        }
    }

    /// Answers a request whose head cannot be read, with the status that says why.
    pub fn refuse(status: StatusCode) -> Response<Body> {
        json_answer(status, &json!({ "error": Failure::unreadable(status.as_u16()).message }))
    }

    fn read(&self, method: &Method, path: &str) -> Response<Body> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return nothing(path);
        }
        match path {
            "/" => text(StatusCode::OK, INDEX),
            "/metrics" => {
                self.gateway.maintain();
                let mut response = Response::new(Body::whole((self.hooks.metrics)()));
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                response
            }
            "/health/live" | "/health" => json_answer(StatusCode::OK, &json!({ "status": "live" })),
            "/health/ready" if self.gateway.is_ready() => {
                json_answer(StatusCode::OK, &json!({ "status": "ready" }))
            }
            "/health/ready" => json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "draining" })),
            "/api/v1/cache/metrics" => json_answer(StatusCode::OK, &cache_page::metrics(&self.gateway)),
            "/api/v1/providers" => json_answer(StatusCode::OK, &told::providers(&self.gateway)),
            "/api/v1/circuit-breakers" => json_answer(StatusCode::OK, &told::breakers(&self.gateway)),
            "/api/v1/worker-pool" => json_answer(StatusCode::OK, &told::worker_pool(&self.gateway)),
            "/api/v1/config" => json_answer(StatusCode::OK, &(self.hooks.config)()),
            _ => nothing(path),
        }
    }

    /// What the pages of providers, cache and worker pool tell, together with whether the gateway is ready, whether
    /// it runs optimization jobs, and the names that a caller may use: of clients, pipelines and groups.
    pub fn overview(&self) -> Value {
        let (clients, pipelines) = self.gateway.with_settings(|settings| {
            (settings.tenants.names(), settings.transforms.names().map(str::to_owned).collect::<Vec<_>>())
        });
        json!({
            "ready": self.gateway.is_ready(),
            "optimizer": self.gateway.shared.jobs.are_worked_on(),
            "providers": told::providers(&self.gateway),
            "cache": cache_page::metrics(&self.gateway),
            "worker_pool": told::worker_pool(&self.gateway),
            "clients": clients,
            "pipelines": pipelines,
        })
    }
}

const KNOWN: [&str; 10] = [
    "/",
    "/metrics",
    "/health",
    "/health/live",
    "/health/ready",
    "/api/v1/cache/metrics",
    "/api/v1/providers",
    "/api/v1/circuit-breakers",
    "/api/v1/worker-pool",
    "/api/v1/config",
];

/// Paths that change something, and what the path of a breaker begins with.
const LEVERS: [&str; 3] = ["/api/v1/cache/purge", "/api/v1/reload", "/api/v1/config/check"];
const BREAKER: &str = "/api/v1/circuit-breakers/";

const INDEX: &str = "\
chimera admin

GET  /                          with a browser: the console
GET  /metrics                   Prometheus
GET  /api/v1/cache/metrics      the cache's tiers
POST /api/v1/cache/purge        forget every cached answer; or one of ?tenant=NAME ?model=NAME ?tag=NAME
                                ?key=HEX ?prefix=HEX (x-chimera-cache: show-key tells it)
GET  /api/v1/providers          connections and keys
GET  /api/v1/circuit-breakers   one per deployment
POST /api/v1/circuit-breakers/DEPLOYMENT
                                hold it: {\"force\": \"open\"}, \"closed\", or \"none\" to let it go
GET  /api/v1/worker-pool        threads and queue for transforms
GET  /api/v1/config             the configuration in force, secrets redacted
POST /api/v1/config/check       whether a reload would be taken
POST /api/v1/reload             load the configuration anew
ANY  /api/v1/data/PATH          a call of the data listener, as the client that x-chimera-tenant names
GET  /health/live, /health/ready
";

fn json_answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::whole(value.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, crate::respond::JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    guard(headers);
    response
}

/// A browser that is led here shows nothing, runs nothing, and guesses at no content type.
fn guard(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, nothing);
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
}

/// What there is at a path that was asked in another way; or nothing.
fn nothing(path: &str) -> Response<Body> {
    let allow = match path {
        _ if KNOWN.contains(&path) => "GET, HEAD",
        _ if LEVERS.contains(&path) || path.starts_with(BREAKER) => "POST",
        _ => {
            let why =
                "there is nothing at this path of the admin listener; model calls go to the data listener";
            return json_answer(StatusCode::NOT_FOUND, &json!({ "error": why }));
        }
    };
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
