//! The way of a request: match, authenticate, read, look, cache, call, respond.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use chimera_cache::{Found, Place, Role};
use chimera_protocol::DialectId;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body::Body as HttpBody;
use tokio::time::Instant;

use crate::{
    alias::RawRequest,
    asked::{Asked, KeepFor, load_of},
    auth::{KeyDigest, Tenant, Tenants},
    body::Body,
    books::Books,
    context::{Arrival, Context},
    directives,
    entry::Entry,
    failure::{Code, Failure},
    following::Following,
    gateway::Gateway,
    generate, intake, limits,
    load::{Load, Piece},
    look::{self, Apart, Language},
    metrics::RequestOutcome,
    mixed::Asking,
    models_list, optimize,
    plan::{self, Plan},
    renew, reply,
    respond::{self, names},
    route::{self, Call, Route, Wanted},
    transforms,
    upstream::{Framing, forwarded},
    web_page,
};

/// Answers a request of the data listener.
pub(crate) async fn handle<B>(
    gateway: &Gateway,
    parts: &Parts,
    body: B,
    arrival: &Arrival<'_>,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut books = Books::new(gateway.shared.clone(), arrival);
    // Here and below futures are pinned where they are made: awaited as they are, each is copied first, and they are large.
    let dispatched = pin!(dispatch(gateway, parts, body, arrival, &mut books)).await;
    let mut response = match dispatched {
        Ok(response) => response,
        Err(failure) => {
            let response = respond::failure(arrival.dialect, &failure, &arrival.request_id);
            books.failed(response.status().as_u16(), &failure);
            response
        }
    };
    if let Some(tenant) = books.limited.take() {
        respond::rate_limit_headers(arrival.dialect, &tenant, response.headers_mut());
    }
    if let Some(tracing) = &mut books.tracing {
        tracing.answered(&response);
    }
    if response.body().as_bytes().is_some() {
        drop(books);
    } else {
        response.body_mut().attach(books);
    }
    stamp(gateway, response.headers_mut(), arrival);
    response
}

/// Answers a request whose head cannot be read, in words of no dialect in particular: OpenAI's.
pub(crate) fn refuse(gateway: &Gateway, status: StatusCode, arrival: &Arrival<'_>) -> Response<Body> {
    let failure = Failure::unreadable(status.as_u16());
    let mut response = respond::failure(arrival.dialect, &failure, &arrival.request_id);
    Books::new(gateway.shared.clone(), arrival).failed(status.as_u16(), &failure);
    stamp(gateway, response.headers_mut(), arrival);
    response
}

/// The headers of every answer.
fn stamp(gateway: &Gateway, headers: &mut HeaderMap, arrival: &Arrival<'_>) {
    let id = arrival.request_id.value();
    if arrival.dialect == DialectId::Anthropic {
        headers.insert(&names::ANTHROPIC_REQUEST_ID, id.clone());
    }
    headers.insert(&names::REQUEST_ID, id);
    // A client that is told so does not send its next request on a connection that is about to close.
    if arrival.head.is_chunked || !gateway.is_ready() {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

async fn dispatch<B>(
    gateway: &Gateway,
    parts: &Parts,
    body: B,
    arrival: &Arrival<'_>,
    books: &mut Books,
) -> Result<Response<Body>, Failure>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    intake::check_head(parts)?;
    let route = route::route(&parts.method, parts.uri.path(), arrival.dialect);
    if !route.is_for_tenants() {
        let answered = aside(gateway, &route, &parts.method);
        let status = answered.as_ref().map_or(404, |response| response.status().as_u16());
        match route {
            Route::Live | Route::Ready => books.probed(),
            _ => _ = books.ended(RequestOutcome::of_status(status)),
        }
        return answered;
    }
    let state = gateway.shared.state.load_full();
    let (tenant, key) = tenant_of(&state.settings.tenants, parts, arrival)?;
    books.admitted = key.map(|key| (key, state.number));
    if let Some(tracer) = &state.settings.tracer {
        books.tracing = tracer.begin(parts);
        if let Some(tracing) = &mut books.tracing {
            tracing.trace.tenant = Some(tenant.name.clone());
        }
    }
    books.limited = (!tenant.limits.is_unlimited()).then(|| tenant.clone());
    books.admission = Some(limits::admit(&tenant, arrival.at.into_std()).map_err(Failure::exceeded)?);
    let context = Context { gateway, state, tenant, arrival, pipeline: None };
    match route {
        Route::Models { dialect, model } => {
            books.label = route::RouteLabel::Models;
            models_list::respond(&context, dialect, model.as_deref(), books).await
        }
        Route::Generate => {
            let call = route::generate_call();
            books.label = call.label;
            let (bytes, _in_flight) = read(&context, parts, body).await?;
            let bytes = generate::chat(bytes, transforms::is_possible(&context)).await?;
            around(&context, &call, parts, bytes, books).await
        }
        Route::Call(call) => {
            books.label = call.label;
            let (bytes, _in_flight) = pin!(read(&context, parts, body)).await?;
            pin!(around(&context, &call, parts, bytes, books)).await
        }
        Route::Transform { batch } => {
            books.label = route::RouteLabel::Transform;
            let (bytes, in_flight) = read(&context, parts, body).await?;
            match batch {
                true => transforms::batch(&context, &parts.headers, bytes, in_flight).await,
                false => transforms::one(&context, bytes, books).await,
            }
        }
        Route::Optimizations(Wanted::Start) => {
            books.label = route::RouteLabel::Optimizations;
            let (bytes, _in_flight) = read(&context, parts, body).await?;
            optimize::start(&context, bytes, books).await
        }
        Route::Optimizations(wanted) => {
            books.label = route::RouteLabel::Optimizations;
            optimize::look(&context, wanted, books)
        }
        _ => Err(Failure::new(Code::Internal, "an unmatched route")),
    }
}

/// Whose a request is, and by which key.
fn tenant_of(
    tenants: &Tenants,
    parts: &Parts,
    arrival: &Arrival<'_>,
) -> Result<(Arc<Tenant>, Option<KeyDigest>), Failure> {
    if let Some(caller) = &arrival.caller {
        return Ok((caller.clone(), None));
    }
    if !tenants.require_key() {
        web_page::refuse(parts, arrival.head.has_site)?;
    }
    let (tenant, key) = tenants.authenticate(&parts.headers, parts.uri.query()).map_err(Failure::denied)?;
    Ok((tenant.clone(), key))
}

/// Routes that need neither a key nor a provider.
fn aside(gateway: &Gateway, route: &Route<'_>, method: &Method) -> Result<Response<Body>, Failure> {
    match route {
        Route::Live => Ok(plain(StatusCode::OK, r#"{"status":"live"}"#)),
        Route::Ready if gateway.is_ready() => Ok(plain(StatusCode::OK, r#"{"status":"ready"}"#)),
        Route::Ready => Ok(plain(StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"draining"}"#)),
        Route::Admin => Err(Failure::invalid(
            "this path is served by the admin listener (default 127.0.0.1:8081), not by this one",
        )
        .status(404)),
        Route::MethodNotAllowed { allow, .. } => {
            if *method == Method::OPTIONS {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
                return Ok(response);
            }
            Err(Failure::invalid(format!("this path takes {allow}")).allow(allow))
        }
        Route::BadPath { .. } => Err(Failure::invalid("the path is not well formed")),
        _ => Err(Failure::invalid("there is nothing at this path").status(404)),
    }
}

fn plain(status: StatusCode, body: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, respond::JSON);
    response
}

async fn read<B>(context: &Context<'_>, parts: &Parts, body: B) -> Result<(Bytes, intake::InFlight), Failure>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    intake::check_kind(&parts.headers)?;
    let settings = &context.state.settings;
    intake::read(body, &parts.headers, &context.gateway.shared, &settings.sizes, &settings.timeouts).await
}

/// What is passed on of a call's query.
fn passed_query(call: &Call<'_>, query: Option<&str>) -> (&'static str, bool) {
    let sse = route::query_value(query, "alt") == Some("sse");
    match call.dialect {
        DialectId::Gemini if call.stream => (if sse { "?alt=sse" } else { "" }, !sse),
        DialectId::Anthropic if route::query_value(query, "beta") == Some("true") => ("?beta=true", false),
        _ => ("", false),
    }
}

/// Serves a call, through a pipeline if it has one.
async fn around(
    context: &Context<'_>,
    call: &Call<'_>,
    parts: &Parts,
    body: Bytes,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    if transforms::is_possible(context)
        && let Some(pipeline) = transforms::choose(context, call.label, context.arrival.head.pipeline)?
    {
        return Box::pin(transforms::through(pipeline, context, call, parts, body, books)).await;
    }
    pin!(serve(context, call, parts, body, books)).await
}

/// Answers a call from its whole body: from the cache, from a call under way, or from a provider.
pub(crate) async fn serve(
    context: &Context<'_>,
    call: &Call<'_>,
    parts: &Parts,
    body: Bytes,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    let shared = &context.gateway.shared;
    let (query, array) = passed_query(call, parts.uri.query());
    let mut headers = match context.arrival.head.has_forwarded {
        true => forwarded(call.dialect, &parts.headers),
        false => Vec::new(),
    };
    let now = context.arrival.at.into_std();
    let partition = match context.arrival.head.has_directives {
        true => directives::partition(&parts.headers).into(),
        false => Bytes::new(),
    };
    let apart = Apart { versions: versions(&headers), partition };
    let raw = RawRequest {
        configuration: context.state.number,
        tenant: context.tenant.clone(),
        label: call.label,
        extra: extra(call, query, &apart, context.pipeline.as_deref()),
        body: body.clone(),
    };
    let known = shared.aliases.get(&raw, now);
    let is_known = known.is_some();
    let (looked, resolved) = match known {
        Some(looked) => (looked, None),
        None => {
            let (looked, resolved) = look::look(context, call, &body, &apart, array).await?;
            (Arc::new(looked), Some(resolved))
        }
    };
    // Before the headers go anywhere: whichever provider is asked is told of the trace.
    let calling = books.tracing.as_mut().map(|tracing| {
        let kind = (call.dialect, call.operation, looked.form.framing != Framing::Unary);
        tracing.calls(kind, &looked.model, &body, &mut headers)
    });
    let asking = Asking::new(&context.state, looked, &headers, &body);
    let looked = &*asking.looked;
    if let Language::Counted { body, dropped } = &looked.language {
        return Ok(reply::counted(body, dropped.as_ref(), books));
    }
    let plan = Plan::new(context, call, parts, looked)?;
    let mut found = plan.lookup(context, looked);
    if found.is_none() && plan.reads && shared.cache.has_far() {
        found = plan.look_far(context, looked).await;
    }
    let asked = Asked { query, headers, body, resolved, calling };
    // What is too old to be served at once waits for whether a provider answers.
    let (served, stale) = match found {
        Some(found) if plan::is_served(&found) => (Some(found), None),
        other => (None, other),
    };
    let stale = stale.map(|found| (seen_at(&found, context), found));
    if let Some(found) = served {
        if !is_known {
            shared.aliases.put(raw, asking.looked.clone(), now);
        }
        if let Some(mut response) = reply::hit(context, &found, &asking, parts, books).await {
            if plan.renews(&found) {
                shared.cache.served(found.freshness);
                renew::begin(shared, (looked.fingerprint, looked.form), || {
                    load_of(context, call, &plan, &asking, asked, KeepFor::Renewal).ok()
                });
            }
            plan.show_key(looked, response.headers_mut());
            return Ok(response);
        }
    }
    if plan.directives.only_if_cached {
        return Err(Failure::new(
            Code::NotCached,
            "the answer is not cached and only-if-cached was asked for",
        ));
    }
    let keep_for = if stale.is_some() { KeepFor::StaleCaller } else { KeepFor::Caller };
    let load = load_of(context, call, &plan, &asking, asked, keep_for)?;
    let answered = pin!(follow(context, call, &plan, &asking, load, parts, books)).await;
    let stale = stale.filter(|_| is_none(&answered));
    let mut answered = match stale.and_then(|(seen, found)| plan.stands_in(found, seen.elapsed())) {
        Some(stale) => match reply::hit(context, &stale, &asking, parts, books).await {
            Some(response) => {
                shared.cache.served(stale.freshness);
                response
            }
            None => answered?,
        },
        None => answered?,
    };
    plan.show_key(looked, answered.headers_mut());
    Ok(answered)
}

/// As of when the age of what was found is told.
fn seen_at(found: &Found<Arc<Entry>>, context: &Context<'_>) -> Instant {
    match found.place {
        Place::Near => context.arrival.at,
        _ => Instant::now(),
    }
}

/// Whether no provider answered: none was reached, or the last one refused for reasons that are not the request's.
fn is_none(answered: &Result<Response<Body>, Failure>) -> bool {
    match answered {
        Ok(response) => {
            let status = response.status();
            status.is_server_error()
                || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
        }
        Err(failure) => failure.is_upstreams(),
    }
}

/// Forwarded headers that the answer may depend on.
fn versions(headers: &[(http::HeaderName, HeaderValue)]) -> Bytes {
    if headers.is_empty() {
        return Bytes::new();
    }
    let mut versions = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| !name.as_str().starts_with("trace")) {
        versions.push(b'\n');
        versions.extend_from_slice(name.as_str().as_bytes());
        versions.push(b':');
        versions.extend_from_slice(value.as_bytes());
    }
    versions.into()
}

/// The parts of a request besides its body that the look depends on. The path and the query of a Gemini
/// call name its model and its form; the answer itself depends on the versions alone.
fn extra(call: &Call<'_>, query: &str, apart: &Apart, pipeline: Option<&str>) -> Bytes {
    let (model, versions) = (call.model.as_deref(), apart.all());
    if model.is_none() && pipeline.is_none() {
        return versions;
    }
    let (model, pipeline) = (model.unwrap_or_default(), pipeline.unwrap_or_default());
    let query = if call.model.is_some() { query } else { "" };
    let separator: &[u8] = if pipeline.is_empty() { b"" } else { b"\0" };
    [model.as_bytes(), query.as_bytes(), &versions, separator, pipeline.as_bytes()].concat().into()
}

/// Follows the call to its first piece and answers with it.
async fn follow(
    context: &Context<'_>,
    call: &Call<'_>,
    plan: &Plan,
    asking: &Asking,
    load: Load,
    parts: &Parts,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    let (shared, looked) = (&context.gateway.shared, &*asking.looked);
    let began = load.began;
    let mut said = plan.miss();
    // Set where the caller waits for less long than the call may take.
    let tries = load.tries.clone();
    let mut own_deadline = tries.is_some();
    let mut following = if plan.shares(shared.cache.has_leases()) {
        let key = (looked.fingerprint, looked.form);
        let follow = shared.flights.join(key, || load.source());
        match follow.role() {
            Role::Follower => {
                own_deadline = true;
                shared.metrics.coalesced.increment(1);
                said = HeaderValue::from_static("coalesced");
            }
            // Another call may have ended between the look-up and here.
            Role::Leader => {
                if let Some(found) = plan.look_again(context, looked)
                    && let Some(response) = reply::hit(context, &found, asking, parts, books).await
                {
                    return Ok(response);
                }
            }
        }
        Following::Shared(follow)
    } else {
        Following::Alone(load.source())
    };
    books.waits(began);
    let first = poll_fn(|cx| following.poll_next(cx));
    // The call minds its own deadline; a timer of the caller's is needed only where that is another.
    let first = if own_deadline {
        tokio::time::timeout_at(plan.deadline, first).await.map_err(|_| {
            let made = tries.map_or(0, |tries| tries.load(Relaxed));
            Failure::timeout(plan.tier, &"waiting for the provider's first content").attempts(made)
        })?
    } else {
        first.await
    };
    let now = Instant::now();
    books.heard(now);
    match first {
        Some(Piece::Answer(answer)) => {
            if let Some(foreign) = asking.foreign(&answer.provenance)? {
                let response = foreign.respond(context, &answer, said, parts, books).await;
                if let Some(entry) = &answer.entry {
                    reply::weigh_again(context, entry, looked);
                }
                return response;
            }
            let total = books.ended_at(RequestOutcome::of_status(answer.status), now);
            Ok(reply::unary(context, looked, &answer, said, parts, total).await)
        }
        Some(Piece::Stored(found)) => {
            reply::hit(context, &found, asking, parts, books).await.ok_or_else(|| {
                Failure::new(Code::Internal, "the answer of another gateway cannot be told to this caller")
            })
        }
        Some(Piece::Head(provenance)) => {
            books.streams(now);
            let foreign = asking.foreign(&provenance)?;
            let mut response = reply::streaming(context, looked, foreign.as_deref(), following, call, parts);
            let headers = response.headers_mut();
            headers.insert(&names::CACHE, said);
            respond::origin(headers, &provenance, now - context.arrival.at);
            if let Some(dropped) = foreign.as_ref().and_then(|foreign| foreign.dropped.as_ref()) {
                headers.insert(&names::DROPPED, dropped.clone());
            }
            Ok(response)
        }
        Some(Piece::Failed(failure)) => Err(Failure::clone(&failure)),
        Some(Piece::Events(_)) | None => {
            let without = || Failure::new(Code::Internal, "the call ended without an answer");
            Err(following.cut().unwrap_or_else(without))
        }
    }
}
