//! Answers to callers: stored ones, whole ones and streams, with the headers that say what happened.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chimera_cache::{Found, Place};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use tokio::time::Instant;

use crate::{
    aside::{LARGE_ANSWER, aside},
    body::Body,
    books::Books,
    compress::{self, Encoding, StreamEncoder},
    context::Context,
    entry::{Entry, UNARY},
    following::Following,
    load::{Answer, Provenance},
    look::Looked,
    metrics::RequestOutcome,
    mixed::Asking,
    plan,
    respond::{self, names},
    route::Call,
    translate::Foreign,
    upstream::Framing,
};

/// Room for the headers of an answer: growing the map would hash them all again.
pub(crate) const HEADERS: usize = 12;

/// Tokens that were counted here.
pub(crate) fn counted(body: &Bytes, dropped: Option<&HeaderValue>, books: &mut Books) -> Response<Body> {
    let mut response = Response::new(Body::whole(body.clone()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, respond::JSON);
    headers.insert(header::CACHE_CONTROL, respond::PRIVATE);
    headers.insert(&names::CACHE, HeaderValue::from_static("bypass"));
    if let Some(dropped) = dropped {
        headers.insert(&names::DROPPED, dropped.clone());
    }
    let total = books.ended(RequestOutcome::Success);
    respond::timing(headers, &[("total", total)]);
    response
}

/// A stored answer in the form that the caller asked for; `None` when it cannot be put into it.
pub(crate) async fn hit(
    context: &Context<'_>,
    found: &Found<Arc<Entry>>,
    asking: &Asking,
    parts: &Parts,
    books: &mut Books,
) -> Option<Response<Body>> {
    let (entry, form) = (&found.value, asking.looked.form);
    if found.is_negative {
        return refusal(context, found, asking, parts, books).await;
    }
    let foreign = asking.foreign_of(entry.dialect(), &entry.model).ok()?;
    let mut response = match (&foreign, form.framing) {
        (Some(foreign), _) => foreign.hit(context, entry, parts).await.ok()?,
        (None, Framing::Unary) => whole(context, entry, parts).await?,
        (None, framing) => {
            entry.prepare(form, None).await;
            let mut response = Response::new(Body::whole(entry.body(form)?.clone()));
            response.headers_mut().reserve(HEADERS);
            stream_headers(response.headers_mut(), framing);
            response
        }
    };
    weigh_again(context, entry, &asking.looked);
    let headers = response.headers_mut();
    if context.state.settings.cache.tells_max_age && form.framing == Framing::Unary {
        headers.insert(header::CACHE_CONTROL, max_age(found));
    }
    headers.insert(&names::CACHE, said_of(found));
    headers.insert(header::AGE, HeaderValue::from(found.age.as_secs()));
    headers.insert(&names::PROVIDER, entry.provider.clone());
    headers.insert(&names::MODEL, entry.model.clone());
    let total = books.ended(RequestOutcome::Success);
    respond::timing(headers, &[("cache", total), ("total", total)]);
    Some(response)
}

/// What `x-chimera-cache` says of an answer that was stored.
fn said_of(found: &Found<Arc<Entry>>) -> HeaderValue {
    HeaderValue::from_static(match found.place {
        _ if !plan::is_fresh(found) => "stale",
        Place::Far => "l2",
        _ => "l1",
    })
}

/// How long the caller itself may take the answer for fresh, counted from its `age`.
fn max_age(found: &Found<Arc<Entry>>) -> HeaderValue {
    let text = format!("private, max-age={}", found.ttl.as_secs());
    HeaderValue::from_str(&text).unwrap_or(respond::PRIVATE)
}

/// A refusal that was stored, as the provider's own would be told.
async fn refusal(
    context: &Context<'_>,
    found: &Found<Arc<Entry>>,
    asking: &Asking,
    parts: &Parts,
    books: &mut Books,
) -> Option<Response<Body>> {
    let (entry, now) = (&found.value, Instant::now());
    let answer = Arc::new(Answer {
        status: entry.refused_with()?,
        body: entry.origin().clone(),
        entry: None,
        retry_after: None,
        provenance: Provenance {
            dialect: entry.dialect(),
            provider: entry.provider.clone(),
            model: entry.model.clone(),
            attempts: 0,
            upstream: Duration::ZERO,
            headers: Vec::new(),
        },
    });
    let said = said_of(found);
    let mut response = match asking.foreign(&answer.provenance).ok()? {
        Some(foreign) => foreign.respond(context, &answer, said, parts, books).await.ok()?,
        None => {
            let total = books.ended_at(RequestOutcome::of_status(answer.status), now);
            unary(context, &asking.looked, &answer, said, parts, total).await
        }
    };
    response.headers_mut().insert(header::AGE, HeaderValue::from(found.age.as_secs()));
    Some(response)
}

/// An entry that got another form takes more of the cache.
pub(crate) fn weigh_again(context: &Context<'_>, entry: &Entry, looked: &Looked) {
    if entry.has_grown() {
        context.gateway.shared.cache.reweigh(&looked.fingerprint);
    }
}

/// A unary answer, in the encoding that the caller prefers.
pub(crate) async fn whole(
    context: &Context<'_>,
    entry: &Arc<Entry>,
    parts: &Parts,
) -> Option<Response<Body>> {
    entry.prepare(UNARY, None).await;
    let plain = entry.body(UNARY)?;
    let (encoding, compressible) = encoding_for(context, plain, parts);
    entry.prepare(UNARY, encoding).await;
    let encoded = encoding.and_then(|encoding| Some((encoding, entry.encoded(encoding)?)));
    if let Some((encoding, encoded)) = encoded {
        context.gateway.shared.metrics.compressed(encoding, plain.len(), encoded.len());
    }
    Some(whole_of(plain, encoded, compressible))
}

/// The encoding in which a caller wants a body, if one pays; and whether another caller might get one.
pub(crate) fn encoding_for(context: &Context<'_>, plain: &Bytes, parts: &Parts) -> (Option<Encoding>, bool) {
    let settings = &context.state.settings.compression;
    let compressible = settings.enabled && plain.len() >= settings.min_size;
    (if compressible { compress::negotiate(&parts.headers) } else { None }, compressible)
}

/// A whole body as a response, encoded where it got smaller by that.
pub(crate) fn whole_of(
    plain: &Bytes,
    encoded: Option<(Encoding, &Bytes)>,
    compressible: bool,
) -> Response<Body> {
    let mut response = Response::new(Body::whole(encoded.map_or(plain, |(_, encoded)| encoded).clone()));
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    headers.insert(header::CONTENT_TYPE, respond::JSON);
    headers.insert(header::CACHE_CONTROL, respond::PRIVATE);
    if compressible {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some((encoding, _)) = encoded {
        headers.insert(header::CONTENT_ENCODING, encoding.header());
    }
    response
}

/// A provider's unary answer: its own bytes, its own status.
pub(crate) async fn unary(
    context: &Context<'_>,
    looked: &Looked,
    answer: &Arc<Answer>,
    said: HeaderValue,
    parts: &Parts,
    total: Duration,
) -> Response<Body> {
    let mut encoded = None;
    if let Some(entry) = &answer.entry {
        encoded = whole(context, entry, parts).await;
        weigh_again(context, entry, looked);
    }
    let mut response = encoded.unwrap_or_else(|| {
        let mut response = Response::new(Body::whole(answer.body.clone()));
        response.headers_mut().insert(header::CONTENT_TYPE, respond::JSON);
        response.headers_mut().insert(header::CACHE_CONTROL, respond::PRIVATE);
        response
    });
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let headers = response.headers_mut();
    headers.insert(&names::CACHE, said);
    respond::origin(headers, &answer.provenance, total);
    let asks = matches!(answer.status, 429 | 503 | 529);
    if let Some(wait) = answer.retry_after.or(asks.then_some(Duration::from_secs(1))) {
        respond::retry_after(headers, wait);
    }
    response
}

pub(crate) fn streaming(
    context: &Context<'_>,
    looked: &Looked,
    foreign: Option<&Foreign>,
    following: Following,
    call: &Call<'_>,
    parts: &Parts,
) -> Response<Body> {
    let id = context.arrival.request_id.clone();
    let (following, framing) = match foreign {
        Some(foreign) => (foreign.follow(following, context, &id), foreign.form.framing),
        None => (following, looked.form.framing),
    };
    let mut response = Response::new(Body::events(following, call.dialect, framing, id));
    response.headers_mut().reserve(HEADERS);
    stream_headers(response.headers_mut(), framing);
    encode_stream(context, parts, &mut response);
    response
}

/// Puts a stream into the encoding that its caller prefers, where the settings want streams compressed.
pub(crate) fn encode_stream(context: &Context<'_>, parts: &Parts, response: &mut Response<Body>) {
    let settings = &context.state.settings.compression;
    if !settings.enabled || !settings.event_streams {
        return;
    }
    if let Some(encoding) = compress::negotiate(&parts.headers)
        && let Ok(encoder) = StreamEncoder::new(encoding)
    {
        response.body_mut().encode(encoder);
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding.header());
    }
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
}

/// Puts a whole answer that was made for one caller into the encoding that it prefers.
pub(crate) async fn encode_whole(
    context: &Context<'_>,
    parts: &Parts,
    plain: Bytes,
    headers: &mut HeaderMap,
) -> Bytes {
    let (encoding, compressible) = encoding_for(context, &plain, parts);
    if compressible {
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    let Some(encoding) = encoding else { return plain };
    let source = plain.clone();
    let encoded = match plain.len() > LARGE_ANSWER {
        true => aside(move || encoding.encode(&source)).await.ok().and_then(Result::ok),
        false => encoding.encode(&plain).ok(),
    };
    match encoded.filter(|encoded| encoded.len() < plain.len()) {
        Some(encoded) => {
            context.gateway.shared.metrics.compressed(encoding, plain.len(), encoded.len());
            headers.insert(header::CONTENT_ENCODING, encoding.header());
            encoded.into()
        }
        None => plain,
    }
}

pub(crate) fn stream_headers(headers: &mut HeaderMap, framing: Framing) {
    let (name, value) = stream_type(framing);
    headers.insert(name, value);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache, no-store"));
    headers.insert(&names::ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// The content type of a stream.
fn stream_type(framing: Framing) -> (HeaderName, HeaderValue) {
    let kind = match framing {
        Framing::Events => HeaderValue::from_static("text/event-stream"),
        _ => HeaderValue::from_static("application/json"),
    };
    (header::CONTENT_TYPE, kind)
}
