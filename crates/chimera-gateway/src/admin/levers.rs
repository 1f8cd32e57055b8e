//! What the admin listener can be asked to do: forget answers, hold a breaker, take a configuration in.

use std::{future::poll_fn, pin::Pin, time::Instant};

use bytes::{Bytes, BytesMut};
use chimera_circuit_breaker::Forced;
use http::{Response, StatusCode};
use http_body::Body as HttpBody;
use serde::Deserialize;
use serde_json::json;

use super::{Admin, json_answer};
use crate::{body::Body, cache_page, route::percent_decode};

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
    pub(super) async fn force<B>(&self, name: &str, body: B) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Unpin,
    {
        let wrong = |status, why: &str| json_answer(status, &json!({ "error": why }));
        let wanted = "send {\"force\": \"open\"}, \"closed\" or \"none\"";
        let asked = read(body).await.and_then(|body| serde_json::from_slice::<Force>(&body).ok());
        let Some(Force { force }) = asked else { return wrong(StatusCode::BAD_REQUEST, wanted) };
        let forced = match force {
            Hold::Open => Some(Forced::Open),
            Hold::Closed => Some(Forced::Closed),
            Hold::None => None,
        };
        let now = Instant::now();
        let name = percent_decode(name).unwrap_or_default();
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

/// A small body; `None` where it is larger or ends early.
async fn read<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) -> Option<Bytes> {
    let mut read = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame.ok()?.into_data() {
            if read.len() + data.len() > MOST {
                return None;
            }
            read.extend_from_slice(&data);
        }
    }
    Some(read.freeze())
}
