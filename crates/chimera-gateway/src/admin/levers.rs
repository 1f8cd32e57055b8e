//! What the admin listener can be asked to do: forget answers, hold a breaker, take a configuration in.

use std::time::Instant;

use bytes::Bytes;
use chimera_circuit_breaker::Forced;
use http::{Response, StatusCode, request::Parts};
use http_body::Body as HttpBody;
use serde::Deserialize;
use serde_json::json;

use super::{Admin, BREAKER, json_answer};
use crate::{body::Body, cache_page, intake, route::percent_decode, settings::SizeLimits};

/// The most that a lever is told.
const MOST: usize = 4096;

/// What `POST /api/v1/circuit-breakers/DEPLOYMENT` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Force {
    force: Hold,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Hold {
    Open,
    Closed,
    None,
}

impl Admin {
    pub(super) async fn purge(&self, query: Option<&str>) -> Response<Body> {
        let purge = match cache_page::asked(query) {
            Ok(purge) => purge,
            Err(why) => return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": why })),
        };
        let cache = &self.gateway.shared.cache;
        match cache.purge(&purge).await {
            Ok((near, far)) if cache.has_far() => {
                json_answer(StatusCode::OK, &json!({ "purged": near, "purged_l2": far }))
            }
            Ok((near, _)) => json_answer(StatusCode::OK, &json!({ "purged": near })),
            Err(error) => json_answer(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({ "error": "memory was purged, the second tier was not", "why": error.why() }),
            ),
        }
    }

    pub(super) fn reload(&self) -> Response<Body> {
        match (self.hooks.reload)() {
            Ok(()) => json_answer(StatusCode::OK, &json!({ "reloaded": true })),
            Err(why) => json_answer(
                StatusCode::UNPROCESSABLE_ENTITY,
                &json!({ "reloaded": false, "error": why, "note": "the old configuration is still in force" }),
            ),
        }
    }

    pub(super) fn check(&self) -> Response<Body> {
        match (self.hooks.check)() {
            Ok(()) => json_answer(StatusCode::OK, &json!({ "valid": true })),
            Err(why) => {
                json_answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "valid": false, "error": why }))
            }
        }
    }

    /// Holds a breaker open or closed, or lets it go. A reload that leaves the deployment as it is leaves this, too.
    pub(super) async fn force<B>(&self, parts: &Parts, body: B) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let wrong = |status, why: &str| json_answer(status, &json!({ "error": why }));
        let wanted = "send {\"force\": \"open\"}, \"closed\" or \"none\"";
        let (sizes, timeouts) = self.gateway.with_settings(|settings| (settings.sizes, settings.timeouts));
        let sizes = SizeLimits { request: MOST, ..sizes };
        let body = intake::read(body, &parts.headers, &self.gateway.shared, &sizes, &timeouts).await;
        let asked = body.ok().and_then(|(body, _in_flight)| serde_json::from_slice::<Force>(&body).ok());
        let Some(Force { force }) = asked else { return wrong(StatusCode::BAD_REQUEST, wanted) };
        let forced = match force {
            Hold::Open => Some(Forced::Open),
            Hold::Closed => Some(Forced::Closed),
            Hold::None => None,
        };
        let now = Instant::now();
        let name = parts.uri.path().strip_prefix(BREAKER).and_then(percent_decode).unwrap_or_default();
        let told = self.gateway.with_models(|models| {
            let mut all = models.deployments();
            all.retain(|deployment| deployment.name() == name);
            all.iter().for_each(|deployment| deployment.breaker().force(forced, now));
            all.first().map(|deployment| super::told::seen(deployment, now))
        });
        match told {
            Some(told) => {
                tracing::warn!(deployment = name, ?forced, "an operator holds a breaker, or lets it go");
                json_answer(StatusCode::OK, &told)
            }
            None => wrong(StatusCode::NOT_FOUND, "there is no such deployment"),
        }
    }
}

/// A purge is asked for by its query alone.
pub(super) fn no_body() -> Response<Body> {
    let why = "a purge takes no body, only a query: ?tenant=, ?model=, ?tag=, ?key= or ?prefix=, or none for everything";
    json_answer(StatusCode::BAD_REQUEST, &json!({ "error": why }))
}
