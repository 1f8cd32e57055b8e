//! The call behind a miss, as a source of pieces that one or many callers follow.

use std::{
    future::Future,
    hash::BuildHasher,
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicU32},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chimera_cache::Source;
use chimera_protocol::{DialectId, Operation, Usage, translate::ErrorFacts};
use chimera_provider_pool::{AtLimit, Bounds, Classify, Group, Reply, SendError};
use foldhash::fast::FixedState;
use futures_core::Stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::{
    auth::Tenant,
    entry::Entry,
    failure::{Code, Failure},
    gateway::{Shared, State},
    judge::Judge,
    keep::{CallLease, Keep, Stored},
    mixed::Mixed,
    passing::EventSource,
    reading, refusal,
    set_aside::SetAside,
    traces::Calling,
    upstream::{Framing, Outgoing},
};

/// One piece of what a call brings. Cheap to clone: each follower gets its own.
#[derive(Clone)]
pub(crate) enum Piece {
    /// A whole unary answer, or a refusal of the provider's.
    Answer(Arc<Answer>),
    /// What another gateway has been answered meanwhile, whole. The last piece.
    Stored(Stored),
    /// A stream begins.
    Head(Arc<Provenance>),
    /// Whole events of a stream.
    Events(Bytes),
    /// The call failed. The last piece.
    Failed(Arc<Failure>),
}

impl Piece {
    /// Bytes that the piece holds.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Answer(answer) => answer.body.len(),
            Self::Events(events) => events.len(),
            Self::Stored(found) => found.value.origin().len(),
            Self::Head(_) | Self::Failed(_) => 64,
        }
    }
}

/// Who answered, and how long it took.
pub(crate) struct Provenance {
    /// What the answer is in.
    pub(crate) dialect: DialectId,
    pub(crate) provider: HeaderValue,
    pub(crate) model: HeaderValue,
    pub(crate) attempts: u32,
    /// From the request's first attempt to the first content.
    pub(crate) upstream: Duration,
    /// Headers of the provider that callers see, rate limits among them.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// A unary answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// The cached form, when the answer is one that may be cached: it holds the encodings.
    pub(crate) entry: Option<Arc<Entry>>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) provenance: Provenance,
}

/// Everything that a call needs, owned: it may outlive the request that started it.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<State>,
    pub(crate) tenant: Arc<Tenant>,
    /// Whether nobody waits for the answer.
    pub(crate) background: bool,
    pub(crate) group: Arc<Group>,
    pub(crate) outgoing: Outgoing,
    /// Where deployments speak different dialects; `outgoing` is for those that speak the caller's.
    pub(crate) mixed: Option<Arc<Mixed>>,
    pub(crate) operation: Operation,
    pub(crate) framing: Framing,
    /// Whether usage was asked for on the caller's behalf and is taken out again.
    pub(crate) strip_usage: bool,
    pub(crate) keep: Option<Keep>,
    /// Held while the call is made, where gateways make one between them.
    pub(crate) lease: Option<CallLease>,
    /// What its tenant's limit is debited with until it ends.
    pub(crate) set_aside: SetAside,
    /// Where it is traced.
    pub(crate) calling: Option<Calling>,
    /// Counts its attempts, where who began it may not wait for its end.
    pub(crate) tries: Option<Arc<AtomicU32>>,
    pub(crate) deadline: Instant,
    pub(crate) shortened: bool,
    pub(crate) tier: &'static str,
    pub(crate) worker: usize,
    /// When the wait for providers began.
    pub(crate) began: Instant,
}

/// Headers of a provider that callers see; everything else stays here. A provider's rate limits are the
/// caller's only where the gateway has none of its own for it.
fn passed_back(headers: &HeaderMap, unlimited: bool) -> Vec<(HeaderName, HeaderValue)> {
    let passes = |name: &HeaderName| match name.as_str() {
        "retry-after-ms" | "x-should-retry" | "openai-processing-ms" | "openai-version" => true,
        name => unlimited && (name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")),
    };
    headers
        .iter()
        .filter(|(name, _)| passes(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

impl Load {
    /// Starts nothing yet: the first poll does.
    pub(crate) fn source(self) -> Source<Piece> {
        match self.framing {
            Framing::Unary => {
                // Made in its box: it has five kilobytes, nearly all of them room for later.
                let made: Box<_> = Box::write(Box::new_uninit(), Once { future: Some(self.unary()) });
                Box::into_pin(made)
            }
            _ => Box::pin(EventSource::new(self)),
        }
    }

    fn bounds(&self) -> Bounds {
        let sizes = &self.state.settings.sizes;
        let (hold_limit, at_limit) = match self.framing {
            Framing::Unary => (sizes.answer, AtLimit::Refuse),
            _ if self.group.settings().hold_streams => (sizes.answer, AtLimit::Refuse),
            _ => (sizes.hold, AtLimit::PassOn),
        };
        let idle = (self.framing != Framing::Unary).then_some(self.state.settings.timeouts.stream_idle);
        Bounds {
            deadline: self.deadline,
            shortened: self.shortened,
            body_deadline: None,
            idle,
            hold_limit,
            at_limit,
            worker: self.worker,
        }
    }

    /// What ends the call before it is sent: an answer that another gateway was given, or its tenant's limit.
    pub(crate) async fn before(&mut self) -> Option<Piece> {
        if let Some(piece) = self.leased().await {
            return Some(piece);
        }
        let (asked, now) = (&self.outgoing, self.began.into_std());
        match SetAside::new(&self.tenant, asked.dialect, self.operation, &asked.body, now) {
            Ok(set_aside) => self.set_aside = set_aside,
            Err(exceeded) => return Some(Piece::Failed(Arc::new(Failure::exceeded(exceeded)))),
        }
        None
    }

    /// Sends the request; the judge comes back with what it had to decode.
    pub(crate) async fn send(&self) -> Sent {
        let (dialect, sizes) = (self.outgoing.dialect, &self.state.settings.sizes);
        let mut judge = Judge::new(dialect, self.operation, self.framing, self.mixed.clone(), sizes);
        if let Some(mixed) = &self.mixed {
            mixed.prepare(self.group.deployments()).await;
        }
        judge.affinity = self.group.affinity(&self.outgoing.body);
        judge.tenant = Arc::as_ptr(&self.tenant) as usize as u64;
        judge.model = FixedState::default().hash_one(&*self.outgoing.model);
        judge.background = self.background;
        judge.whole = self.group.settings().hold_streams;
        judge.calling.clone_from(&self.calling);
        judge.tries.clone_from(&self.tries);
        if let Some(calling) = &self.calling {
            calling.begins();
        }
        let build = |deployment: &_| match &self.mixed {
            None => self.outgoing.build(deployment),
            Some(mixed) => mixed.build(&self.outgoing, deployment),
        };
        let bounds = self.bounds();
        let sent = pin!(self.group.send(&bounds, &mut judge, &build)).await;
        match sent {
            Ok(reply) => {
                // The reply may be an earlier one than the last that was judged.
                judge.may_try(&reply.deployment);
                Ok((reply, judge))
            }
            Err(error) => Err((error, judge.attempts)),
        }
    }

    async fn unary(mut self) -> Piece {
        if let Some(piece) = self.before().await {
            return piece;
        }
        let sent = pin!(self.send()).await;
        match sent {
            Ok((reply, judge)) => self.answer(reply, judge),
            Err((error, attempts)) => self.failed(&error, attempts),
        }
    }

    pub(crate) fn failed(&self, error: &SendError, attempts: u32) -> Piece {
        tracing::debug!(error = %crate::log::chain(error), group = self.group.name(), "no answer");
        let refused = match (error, &self.mixed) {
            (SendError::NoDeployment, Some(mixed)) => mixed.refused(),
            _ => None,
        };
        let failure = refused.unwrap_or_else(|| Failure::unsent(error, self.tier).attempts(attempts));
        Piece::Failed(Arc::new(failure))
    }

    /// A whole answer: the provider's own bytes, whether it said yes or no.
    pub(crate) fn answer(&self, mut reply: Reply, judge: Judge) -> Piece {
        let status = reply.parts.status.as_u16();
        // What a reply holds owns its memory, and no more than it needs: it is kept as it is.
        let decoded = match reply.parts.status.is_success() {
            true => judge.decoded.map(exact),
            // It may be an earlier one than the last that was judged.
            false => reading::decoded_refusal(reading::encoding(&reply.parts.headers), &reply.held),
        };
        let body = decoded.unwrap_or_else(|| std::mem::take(&mut reply.held));
        if reply.parts.status.is_success() {
            let provenance = self.provenance(&reply, judge.dialect);
            self.used(&reply, judge.usage);
            let (provider, model) = (provenance.provider.clone(), provenance.model.clone());
            let entry = Entry::unary(judge.dialect, self.tenant.name.clone(), body.clone(), provider, model);
            let entry = Entry::tagged(entry, self.tags());
            self.keep(&entry, reply.judged);
            return Piece::Answer(Arc::new(Answer {
                status,
                body,
                entry: Some(entry),
                retry_after: None,
                provenance,
            }));
        }
        self.refused(status, body, &reply, judge.dialect)
    }

    /// An error event in place of content, told with the status that it would have had without the 200 before it.
    pub(crate) fn refused_by_event(&self, mut reply: Reply, judge: &Judge) -> Piece {
        let error = judge.error_in(std::mem::take(&mut reply.held)).unwrap_or_default();
        let facts = ErrorFacts::of_event(judge.dialect, &error);
        let body = match judge.dialect {
            // Its events put an error into other words than its refusals.
            DialectId::Responses => facts.body(judge.dialect, "").into(),
            _ => error,
        };
        self.refused(facts.status(judge.dialect), body, &reply, judge.dialect)
    }

    fn refused(&self, status: u16, body: Bytes, reply: &Reply, dialect: DialectId) -> Piece {
        let provenance = self.provenance(reply, dialect);
        let refusal = reply.refusal.as_ref();
        if refusal.is_some_and(|refusal| refusal.kind.is_ours_to_mend()) {
            return Piece::Failed(Arc::new(Failure::credentials().attempts(reply.attempts)));
        }
        let retry_after = refusal
            .and_then(|refusal| refusal.retry_after)
            .or_else(|| refusal::retry_after(&reply.parts.headers, std::time::SystemTime::now()));
        if chimera_protocol::json::Document::parse(&body).is_err() {
            // A page of a load balancer's, not a word of the provider's: callers get an error object.
            let code = if status == 429 { Code::RateLimited } else { Code::UpstreamInvalidResponse };
            let mut failure = Failure::new(code, "the provider answered with an error").status(status);
            failure.retry_after = retry_after;
            return Piece::Failed(Arc::new(failure.attempts(reply.attempts)));
        }
        let body = scrubbed(body, reply);
        self.keep_refusal(status, &body, &provenance, reply.judged);
        Piece::Answer(Arc::new(Answer { status, body, entry: None, retry_after, provenance }))
    }

    pub(crate) fn provenance(&self, reply: &Reply, dialect: DialectId) -> Provenance {
        let model = reply.deployment.model().unwrap_or(&self.outgoing.model);
        let headers = passed_back(&reply.parts.headers, self.tenant.limits.is_unlimited());
        let (provider, model) = (reply.deployment.provider().name_value().clone(), header_text(model));
        if let Some(calling) = &self.calling {
            calling.heard(&provider, &model);
        }
        Provenance {
            dialect,
            provider,
            model,
            attempts: reply.attempts,
            upstream: reply.judged - self.began,
            headers,
        }
    }

    pub(crate) fn used(&self, reply: &Reply, usage: Option<Usage>) {
        let Some(usage) = usage else { return };
        if let Some(calling) = &self.calling {
            calling.costs(usage);
        }
        self.state.tokens.used(reply.deployment.name(), &usage);
        self.set_aside.settle(&usage);
        let keys = reply.deployment.provider().keys();
        keys.debit(reply.key, usage.total(), reply.judged.into_std());
    }

    pub(crate) fn may_keep(&self, answer: &Bytes) -> bool {
        answer.len() as u64 <= self.state.settings.cache.max_entry
    }
}

/// Decoders leave room to spare, which would be held as long as the entry.
fn exact(decoded: Bytes) -> Bytes {
    Vec::from(decoded).into_boxed_slice().into()
}

fn header_text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("?"))
}

/// Takes the provider's keys out of an error that echoes them.
pub(crate) fn scrubbed(body: Bytes, reply: &Reply) -> Bytes {
    let mut body = body;
    for credential in reply.deployment.provider().keys().credentials() {
        let secret = credential.secret().expose().as_bytes();
        if secret.is_empty() || memchr::memmem::find(&body, secret).is_none() {
            continue;
        }
        let mut clean = BytesMut::with_capacity(body.len());
        let mut rest = &body[..];
        while let Some(at) = memchr::memmem::find(rest, secret) {
            let (before, found) = rest.split_at(at);
            clean.extend_from_slice(before);
            clean.extend_from_slice(b"[redacted]");
            rest = found.get(secret.len()..).unwrap_or_default();
        }
        clean.extend_from_slice(rest);
        body = clean.freeze();
    }
    body
}

/// What sending a request came to; beside an error, after how many attempts.
pub(crate) type Sent = Result<(Reply, Judge), (SendError, u32)>;

pin_project_lite::pin_project! {
    /// A stream of the one piece that a future brings.
    struct Once<F> {
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future<Output = Piece>> Stream for Once<F> {
    type Item = Piece;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let piece = ready!(future.poll(cx));
        this.future.set(None);
        Poll::Ready(Some(piece))
    }
}
