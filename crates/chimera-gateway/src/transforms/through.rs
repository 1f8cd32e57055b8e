//! A call through its pipeline: transformed, served, restored.

use std::time::Instant;

use bytes::Bytes;
use chimera_transform::{Done, Pipeline, PoolError, Priority, Seed, Stopped};
use http::{HeaderValue, Response, request::Parts};

use super::{
    Chosen,
    back::{self, Way},
};
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
    Chosen { pipeline, moderator }: Chosen,
    context: &Context<'_>,
    call: &Call<'_>,
    parts: &Parts,
    body: Bytes,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    let shared = &context.gateway.shared;
    let seed = seed(shared, &context.tenant.name);
    let deadline = (context.arrival.at + context.state.settings.timeouts.llm).into_std();
    let (running, source, dialect) = (pipeline.clone(), body.clone(), call.dialect);
    let done = pooled(shared, &pipeline, body.len(), context.priority(), deadline, move || {
        running.run_request(dialect, &source, &seed)
    })
    .await?
    .map_err(|stopped| refused(&stopped))?;
    let Done { text, way_back, report } = done;
    let mut flagged = report.iter().any(|step| step.notes.get("flagged") > 0);
    let body = text.map_or(body, Bytes::from);
    if let Some(moderator) = moderator {
        flagged |= moderator.judge(context, &body, books).await?;
    }
    let inner = Context {
        gateway: context.gateway,
        state: context.state.clone(),
        tenant: context.tenant.clone(),
        arrival: context.arrival,
        pipeline: Some(pipeline.version().into()),
    };
    let mut response = if way_back.is_empty() {
        serve(&inner, call, parts, body, books).await?
    } else {
        back::served(Way::new(&inner, call, parts, way_back, deadline), body, books).await?
    };
    let flagged = if flagged { "; flagged" } else { "" };
    let said = format!("{}; {}{flagged}", pipeline.name(), pipeline.described());
    if let Ok(said) = HeaderValue::from_str(&said) {
        response.headers_mut().insert(&names::TRANSFORMS, said);
    }
    Ok(response)
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
