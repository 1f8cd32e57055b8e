//! The data listener's calls for an operator: `/api/v1/data/PATH` is handed to the gateway as `PATH`.
//!
//! A page of the admin listener may not call another origin, and must not need a client's key: so the call is made
//! here, in this process, for a tenant that is named. Where clients have keys, that takes the admin key: without one
//! it would be a way around them.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri};
use http_body::Body as HttpBody;
use serde_json::json;

use super::{Admin, guard, json_answer};
use crate::body::Body;

/// What such paths begin with.
pub(super) const DATA: &str = "/api/v1/data";

/// The header that names the tenant.
const TENANT: &str = "x-chimera-tenant";

/// Headers that go along. Nothing of a browser's does: no cookie, no origin.
const ALLOWED: [&str; 13] = [
    "accept",
    "accept-encoding",
    "anthropic-beta",
    "anthropic-version",
    "cache-control",
    "content-length",
    "content-type",
    "openai-beta",
    "traceparent",
    "x-chimera-cache",
    "x-chimera-pipeline",
    "x-chimera-timeout-ms",
    "x-request-id",
];

/// Hands a request to the data path.
pub(super) async fn through<B>(admin: Admin, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + Unpin,
    B::Error: std::fmt::Display,
{
    let refused = |status, why: &str| json_answer(status, &json!({ "error": why }));
    let keyed = admin.gateway.with_settings(|settings| settings.tenants.require_key());
    let named = request.headers().get(TENANT).map(|name| name.to_str().unwrap_or_default().to_owned());
    let tenant = match named {
        _ if keyed && (admin.hooks.key)().is_none() => {
            let why = "clients have keys here, and this would go around them: set admin.key_sha256";
            return refused(StatusCode::FORBIDDEN, why);
        }
        Some(name) if !name.is_empty() => name,
        _ if keyed => {
            return refused(StatusCode::BAD_REQUEST, "x-chimera-tenant: name the client to call as");
        }
        _ => "open".to_owned(),
    };
    let found = admin.gateway.with_settings(|settings| settings.tenants.tenant(&tenant).cloned());
    let Some(found) = found else {
        return refused(StatusCode::NOT_FOUND, "x-chimera-tenant: there is no such client");
    };
    let (mut parts, body) = request.into_parts();
    let Some(uri) = inner(&parts.uri) else {
        return refused(StatusCode::NOT_FOUND, "there is no path behind /api/v1/data");
    };
    parts.uri = uri;
    let known = |(name, value): (&HeaderName, &http::HeaderValue)| {
        ALLOWED.contains(&name.as_str()).then(|| (name.clone(), value.clone()))
    };
    let mut headers: HeaderMap = parts.headers.iter().filter_map(known).collect();
    headers.insert(http::header::HOST, http::HeaderValue::from_static("localhost"));
    parts.headers = headers;
    let mut response = admin.gateway.handle_as(found, Request::from_parts(parts, body)).await;
    guard(response.headers_mut());
    response
}

/// The target without the beginning that is ours, and without a host.
fn inner(uri: &Uri) -> Option<Uri> {
    let target = uri.path_and_query()?.as_str().strip_prefix(DATA)?;
    target.starts_with('/').then(|| target.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_target_is_what_stands_behind_ours() {
        let of = |uri: &'static str| inner(&Uri::from_static(uri)).map(|uri| uri.to_string());
        assert_eq!(of("/api/v1/data/v1/models?a=b").as_deref(), Some("/v1/models?a=b"));
        assert_eq!(of("http://h/api/v1/data/v1/models").as_deref(), Some("/v1/models"));
        for none in ["/api/v1/data", "/api/v1/database/v1/models", "/v1/models"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
