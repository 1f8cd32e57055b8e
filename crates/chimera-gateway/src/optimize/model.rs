//! A model as an optimisation job sees it: a call of the gateway like any other, made from inside.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use chimera_optimizer::{
    CallError, CallErrorKind, LanguageModel, ModelAnswer, ModelRequest, Price, SharedModel, Spend,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use serde_json::{Map, Value, json};

use crate::gateway::{Gateway, Shared};

/// A model of the gateway, for a tenant.
struct Inside {
    /// Jobs lie in what they call: they must not hold it.
    shared: Weak<Shared>,
    worker: usize,
    tenant: Arc<str>,
    name: String,
    price: Price,
}

/// A model by the name that calls know it by.
pub(crate) fn model(gateway: &Gateway, tenant: &str, name: &str) -> Result<SharedModel, String> {
    let price = gateway.with_settings(|settings| {
        let served = settings.models.resolve(name).is_some();
        served.then(|| settings.optimizer.prices.get(name).copied().unwrap_or_default())
    });
    Ok(SharedModel::new(Inside {
        price: price.ok_or_else(|| "no provider serves this model".to_owned())?,
        shared: Arc::downgrade(&gateway.shared),
        worker: gateway.worker_index(),
        tenant: tenant.into(),
        name: name.to_owned(),
    }))
}

impl LanguageModel for Inside {
    async fn ask(&self, request: ModelRequest) -> Result<ModelAnswer, CallError> {
        let shared = self.shared.upgrade().ok_or_else(|| CallError::unusable("the gateway has ended"))?;
        let gateway = Gateway::of(shared, self.worker);
        let request = self.request(request).map_err(|error| CallError::refused(error.to_string()))?;
        let tenant = gateway.with_settings(|settings| settings.tenants.tenant(&self.tenant).cloned());
        let tenant = tenant.ok_or_else(|| CallError::unusable("the client of the job is gone"))?;
        let response = Box::pin(gateway.handle_behind(tenant, request)).await;
        let body = response.body().as_bytes().unwrap_or_default();
        if response.status() != StatusCode::OK {
            return Err(failed(response.status(), response.headers(), body));
        }
        let mut answer = answer(body)?;
        let cached = response.headers().get("x-chimera-cache").map(HeaderValue::as_bytes);
        let is_paid = cached.is_none_or(|said| said.starts_with(b"miss") || said.starts_with(b"bypass"));
        answer.spend = if is_paid { answer.spend.at(self.price) } else { answer.spend };
        Ok(answer)
    }
}

impl Inside {
    fn request(&self, asked: ModelRequest) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut messages = Vec::new();
        if !asked.system.is_empty() {
            messages.push(json!({ "role": "system", "content": asked.system }));
        }
        messages.push(json!({ "role": "user", "content": asked.user }));
        let mut body = Map::new();
        body.insert("model".into(), self.name.as_str().into());
        body.insert("messages".into(), messages.into());
        for (name, value) in [
            ("temperature", asked.temperature.map(Value::from)),
            ("max_tokens", asked.max_output_tokens.map(Value::from)),
            // Seeds of providers are signed numbers.
            ("seed", asked.seed.map(|seed| Value::from(seed >> 1))),
        ] {
            if let Some(value) = value {
                body.insert(name.into(), value);
            }
        }
        Request::post("/v1/chat/completions")
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(Value::Object(body).to_string())))
    }
}

fn answer(body: &[u8]) -> Result<ModelAnswer, CallError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| CallError::transient(format!("the answer is no JSON: {error}")))?;
    let text = value.pointer("/choices/0/message/content").and_then(Value::as_str).unwrap_or_default();
    let tokens = |name: &str| value.pointer(name).and_then(Value::as_u64).unwrap_or(0);
    let spend = Spend::tokens(tokens("/usage/prompt_tokens"), tokens("/usage/completion_tokens"));
    Ok(ModelAnswer { text: text.to_owned(), spend })
}

/// What a refusal means for the calls that follow.
fn failed(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> CallError {
    let error: Value = serde_json::from_slice(body).unwrap_or_default();
    let said = error.pointer("/error/message").and_then(Value::as_str).unwrap_or("no reason was given");
    let kind = match status.as_u16() {
        401 | 403 | 404 => CallErrorKind::Unusable,
        408 | 425 | 429 | 500.. => CallErrorKind::Transient,
        _ => CallErrorKind::Refused,
    };
    let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let error = match kind {
        CallErrorKind::Unusable => CallError::unusable(format!("{}: {said}", status.as_u16())),
        CallErrorKind::Transient => CallError::transient(format!("{}: {said}", status.as_u16())),
        _ => CallError::refused(format!("{}: {said}", status.as_u16())),
    };
    CallError { retry_after: after.map(Duration::from_secs), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_whether_it_is_worth_trying_again() {
        let body = br#"{"error":{"message":"why"}}"#;
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("3"));
        for (status, kind) in [
            (429, CallErrorKind::Transient),
            (503, CallErrorKind::Transient),
            (401, CallErrorKind::Unusable),
            (404, CallErrorKind::Unusable),
            (400, CallErrorKind::Refused),
            (422, CallErrorKind::Refused),
        ] {
            let error = failed(StatusCode::from_u16(status).unwrap(), &headers, body);
            assert_eq!((error.kind, error.retry_after), (kind, Some(Duration::from_secs(3))));
            assert_eq!(error.message, format!("{status}: why"));
        }
    }
}
