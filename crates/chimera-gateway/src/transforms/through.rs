//! A call through its pipeline: transformed, served, restored.

use std::time::Instant;

use bytes::Bytes;
use chimera_transform::{
    Done, Pipeline, PoolError, Priority, Seed, StepError, StepErrorKind, Stopped, WayBack,
};
use http::{HeaderValue, Response, header, request::Parts};

use super::restore;
use crate::{
    body::Body,
    books::Books,
    call::serve,
    context::Context,
    failure::{Code, Failure},
    gateway::Shared,
    respond::names,
    route::Call,
};

/// Bodies above this are worked on by the pool. The way there and back takes some microseconds, while a
/// pipeline of every step takes about a hundred for so many bytes: below, the event loop is not missed.
pub(crate) const INLINE: usize = 32 * 1024;

/// The seed of a tenant: placeholders and hashes of one are nothing to another.
pub(crate) fn seed(shared: &Shared, tenant: &str) -> Seed {
    Seed::derive(&shared.fingerprint_key, tenant)
}

/// Serves a call through a pipeline.
pub(crate) async fn through(
    pipeline: Pipeline,
    context: &Context<'_>,
    call: &Call<'_>,
    parts: &Parts,
    body: Bytes,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    let shared = &context.gateway.shared;
    let seed = seed(shared, &context.tenant.name);
    let deadline = (context.arrival.at + context.state.settings.timeouts.llm).into_std();
    let (running, source) = (pipeline.clone(), body.clone());
    let done = pooled(shared, &pipeline, body.len(), Priority::Interactive, deadline, move || {
        running.run_body(&source, &seed)
    })
    .await?
    .map_err(|stopped| refused(&stopped))?;
    let Done { text, way_back, .. } = done;
    let inner = Context {
        gateway: context.gateway,
        state: context.state.clone(),
        tenant: context.tenant.clone(),
        arrival: context.arrival,
        pipeline: Some(pipeline.version().into()),
    };
    let body = text.map_or(body, Bytes::from);
    let mut parts = parts.clone();
    // What is to be restored cannot come compressed.
    parts.headers.remove(header::ACCEPT_ENCODING);
    let response = serve(&inner, call, &parts, body, books).await?;
    let mut response = restored(shared, call, context, response, way_back, deadline).await?;
    let said = format!("{}; {}", pipeline.name(), pipeline.described());
    if let Ok(said) = HeaderValue::from_str(&said) {
        response.headers_mut().insert(&names::TRANSFORMS, said);
    }
    Ok(response)
}

/// A response on its way back: what is at hand at once, a stream as it passes.
async fn restored(
    shared: &Shared,
    call: &Call<'_>,
    context: &Context<'_>,
    mut response: Response<Body>,
    way_back: WayBack,
    deadline: Instant,
) -> Result<Response<Body>, Failure> {
    if way_back.is_empty() {
        return Ok(response);
    }
    let most = context.state.settings.sizes.event;
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_events = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
    let array = call.stream && !is_events && response.status().is_success();
    let framing = restore::framing(is_events, array);
    match response.body_mut().take_whole() {
        Some(whole) if is_events || array => {
            let mut restoring = restore::Restoring::new(way_back.events(call.dialect), framing, most);
            *response.body_mut() = Body::whole(restoring.whole(whole)?);
        }
        Some(whole) => {
            let source = whole.clone();
            let size = whole.len();
            let work = move || way_back.body(&source);
            let changed = if size <= INLINE {
                work()
            } else {
                on_pool(shared, Priority::Interactive, deadline, work).await?
            };
            let changed = changed.map_err(withheld)?;
            *response.body_mut() = Body::whole(changed.map_or(whole, Bytes::from));
        }
        None => {
            let events = way_back.events(call.dialect);
            response.body_mut().restore(restore::Restoring::new(events, framing, most));
        }
    }
    Ok(response)
}

/// Why an answer is not told.
pub(super) fn withheld(error: StepError) -> Failure {
    match error.kind {
        StepErrorKind::Refused => Failure::invalid(error.message).status(422),
        _ => Failure::new(Code::Internal, error.message),
    }
}

/// Runs work where a pipeline wants it.
pub(crate) async fn pooled<T: Send + 'static>(
    shared: &Shared,
    pipeline: &Pipeline,
    bytes: usize,
    priority: Priority,
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if pipeline.wants_pool(bytes, INLINE) {
        on_pool(shared, priority, deadline, work).await
    } else {
        Ok(work())
    }
}

pub(crate) async fn on_pool<T: Send + 'static>(
    shared: &Shared,
    priority: Priority,
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let job = shared.pool.submit(priority, Some(deadline), move |_| work());
    let done = match job {
        Ok(job) => job.await,
        Err(why) => Err(why),
    };
    done.map_err(unpooled)
}

/// Why a job came to nothing.
pub(crate) fn unpooled(why: PoolError) -> Failure {
    match why {
        PoolError::Late => Failure::new(Code::Timeout, "the deadline passed before a worker was free"),
        PoolError::Panicked => Failure::new(Code::Internal, "a transform failed"),
        _ => Failure::new(Code::Overloaded, "too much work waits for the worker pool"),
    }
}

/// Why a pipeline let a request not pass.
pub(crate) fn refused(stopped: &Stopped) -> Failure {
    let failure = match stopped {
        Stopped::NotJson(_) => return Failure::invalid(stopped.to_string()),
        _ if stopped.is_refusal() => Failure::invalid(stopped.to_string()).status(422),
        _ => Failure::new(Code::Internal, stopped.to_string()),
    };
    match stopped {
        Stopped::Step { step, .. } => failure.param(step.clone()),
        _ => failure,
    }
}
