//! A call through its pipeline: transformed, served, restored.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use chimera_protocol::DialectId;
use chimera_transform::{
    Done, Events, Pipeline, PoolError, Priority, Role, Seed, StepError, StepErrorKind, Stopped, WayBack,
    answer_texts, with_turns,
};
use http::{HeaderValue, Response, header, request::Parts};

use super::{Chosen, restore};
use crate::{
    body::Body,
    books::Books,
    call::serve,
    context::Context,
    failure::{Code, Failure},
    gateway::Shared,
    reply,
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
    let done = pooled(shared, &pipeline, body.len(), Priority::Interactive, deadline, move || {
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
        let mut plain = parts.clone();
        // What is to be restored cannot come compressed.
        plain.headers.remove(header::ACCEPT_ENCODING);
        let way = Way { context, call, parts, way_back: Arc::new(way_back), deadline };
        let response = serve(&inner, call, &plain, body.clone(), books).await?;
        match way.restored(response).await {
            Err(Withheld::Unfit { answer, why }) => {
                let body = corrected(call.dialect, &body, &answer, &why)
                    .ok_or_else(|| withheld(StepError::correctable(why)))?;
                books.goes_on();
                let response = serve(&inner, call, &plain, body, books).await?;
                way.restored(response).await?
            }
            restored => restored?,
        }
    };
    let flagged = if flagged { "; flagged" } else { "" };
    let said = format!("{}; {}{flagged}", pipeline.name(), pipeline.described());
    if let Ok(said) = HeaderValue::from_str(&said) {
        response.headers_mut().insert(&names::TRANSFORMS, said);
    }
    Ok(response)
}

/// A request that asks once more: with the answer that did not fit, and why it did not.
fn corrected(dialect: DialectId, body: &[u8], answer: &[u8], why: &str) -> Option<Bytes> {
    let said = answer_texts(answer).concat();
    let ask = format!("{why}. Answer again with JSON alone that fits the schema.");
    let turns = [(Role::Assistant, said), (Role::User, ask)];
    with_turns(dialect, body, &turns).map(Bytes::from)
}

/// Why an answer is not told.
enum Withheld {
    /// It is not what was asked for, and may be asked for again.
    Unfit {
        answer: Bytes,
        why: String,
    },
    Failed(Failure),
}

impl From<Failure> for Withheld {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Withheld> for Failure {
    fn from(why: Withheld) -> Self {
        match why {
            Withheld::Unfit { why, .. } => withheld(StepError::correctable(why)),
            Withheld::Failed(failure) => failure,
        }
    }
}

/// The way back of one call.
struct Way<'c> {
    context: &'c Context<'c>,
    call: &'c Call<'c>,
    /// The caller's own head.
    parts: &'c Parts,
    way_back: Arc<WayBack>,
    deadline: Instant,
}

impl Way<'_> {
    /// A response on its way back: what is at hand at once, a stream as it passes.
    async fn restored(&self, mut response: Response<Body>) -> Result<Response<Body>, Withheld> {
        let (call, context) = (self.call, self.context);
        let most = context.state.settings.sizes.event;
        let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_events = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        let array = call.stream && !is_events && response.status().is_success();
        let framing = restore::framing(is_events, array);
        let restoring = || {
            let events = Events::new(self.way_back.clone(), call.dialect);
            restore::Restoring::new(events, framing, most)
        };
        match response.body_mut().take_whole() {
            Some(whole) if is_events || array => {
                *response.body_mut() = Body::whole(restoring().whole(whole)?);
            }
            Some(whole) => {
                let plain = self.whole(whole).await?;
                let encoded = reply::encode_whole(context, self.parts, plain, response.headers_mut()).await;
                *response.body_mut() = Body::whole(encoded);
            }
            None => {
                response.body_mut().restore(restoring());
                reply::encode_stream(context, self.parts, &mut response);
            }
        }
        Ok(response)
    }

    /// A whole answer, restored.
    async fn whole(&self, answer: Bytes) -> Result<Bytes, Withheld> {
        let (way_back, source) = (self.way_back.clone(), answer.clone());
        let work = move || way_back.body(&source);
        let changed = if answer.len() <= INLINE {
            work()
        } else {
            on_pool(&self.context.gateway.shared, Priority::Interactive, self.deadline, work).await?
        };
        match changed {
            Ok(changed) => Ok(changed.map_or(answer, Bytes::from)),
            Err(StepError { kind: StepErrorKind::Correctable, message: why }) => {
                Err(Withheld::Unfit { answer, why })
            }
            Err(error) => Err(withheld(error).into()),
        }
    }
}

/// Why an answer is not told.
pub(super) fn withheld(error: StepError) -> Failure {
    match error.kind {
        StepErrorKind::Refused | StepErrorKind::Correctable => Failure::invalid(error.message).status(422),
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
