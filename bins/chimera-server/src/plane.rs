//! The admin listener as a whole: who may ask, then the console, the reports, and the gateway's own plane.

use std::{fmt::Display, future::ready};

use bytes::Bytes;
use chimera_console::{Answer, Asked, Console};
use chimera_gateway::{Admin, Answering, Body, KeyDigest};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use crate::reports::Reports;

const REPORTS: &str = "/api/v1/load-reports";

/// The key that is asked for at this moment.
pub(crate) type Key = std::sync::Arc<dyn Fn() -> Option<KeyDigest> + Send + Sync>;

/// What the admin listener serves.
#[derive(Clone)]
pub(crate) struct Plane {
    pub(crate) admin: Admin,
    pub(crate) console: Option<Console>,
    pub(crate) reports: Reports,
    pub(crate) key: Key,
}

impl Plane {
    /// Answers one request.
    pub(crate) fn handle<B>(&self, request: Request<B>) -> Answering
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Display,
    {
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        let public = self.console.is_some() && Console::is_public(path);
        if let Some(refusal) = self.admin.refusal(method, request.uri(), headers, public) {
            return Box::pin(ready(refusal));
        }
        let asked = Asked { method, path, headers, key: (self.key)() };
        if let Some(answer) = self.console.as_ref().and_then(|console| console.answer(&asked)) {
            return Box::pin(ready(answer.map(body)));
        }
        match path.strip_prefix(REPORTS) {
            Some("") if *method == Method::GET => Box::pin(list(self.reports.clone())),
            Some(name) if *method == Method::GET && name.starts_with('/') => {
                Box::pin(read(self.reports.clone(), name.trim_start_matches('/').to_owned()))
            }
            _ => self.admin.answer(request),
        }
    }
}

fn body(answer: Answer) -> Body {
    match answer {
        Answer::Whole(bytes) => Body::whole(bytes),
        Answer::Live(feed) => Body::lines(Box::pin(feed)),
    }
}

/// Files are read beside the event loop.
async fn list(reports: Reports) -> Response<Body> {
    let listed = tokio::task::spawn_blocking(move || reports.list()).await;
    match listed.map_err(std::io::Error::other).and_then(|listed| listed) {
        Ok(list) => json(StatusCode::OK, list.to_string()),
        Err(error) => {
            tracing::warn!(%error, "console.load_reports cannot be read");
            let why = r#"{"error":"the folder of console.load_reports cannot be read"}"#;
            json(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
        }
    }
}

async fn read(reports: Reports, name: String) -> Response<Body> {
    match tokio::task::spawn_blocking(move || reports.read(&name)).await {
        Ok(Some(report)) => json(StatusCode::OK, report),
        _ => json(StatusCode::NOT_FOUND, r#"{"error":"there is no such report"}"#.to_owned()),
    }
}

fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
