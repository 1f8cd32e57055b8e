//! The call behind a miss, as a source of pieces that one or many callers follow.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chimera_cache::{Item, Lifetime, Source, Ticket};
use chimera_protocol::{DialectId, Fingerprint, Observed, Operation, Shape, StreamWatch, Usage};
use chimera_provider_pool::{
    AtLimit, AttemptOutcome, Bounds, Classify, Group, RefusalKind, Reply, SendError,
};
use futures_core::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::time::{Instant, Sleep};

use crate::{
    auth::Tenant,
    entry::Entry,
    failure::{Code, Failure},
    gateway::{Shared, State},
    mixed::Mixed,
    upstream::{self, Frames, Framing, Judge, Outgoing},
};

/// One piece of what a call brings. Cheap to clone: each follower gets its own.
#[derive(Clone)]
pub(crate) enum Piece {
    /// A whole unary answer, or a refusal of the provider's.
    Answer(Arc<Answer>),
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

/// Where the answer is kept, if it is.
#[derive(Clone, Copy)]
pub(crate) struct Keep {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) lifetime: Lifetime,
    /// What was known of the cache when the call began: an answer that was purged meanwhile is not kept.
    pub(crate) ticket: Ticket,
}

/// Everything that a call needs, owned: it may outlive the request that started it.
pub(crate) struct Load {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<State>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) group: Arc<Group>,
    pub(crate) outgoing: Outgoing,
    /// Where deployments speak different dialects; `outgoing` is for those that speak the caller's.
    pub(crate) mixed: Option<Arc<Mixed>>,
    pub(crate) operation: Operation,
    pub(crate) framing: Framing,
    /// Whether usage was asked for on the caller's behalf and is taken out again.
    pub(crate) strip_usage: bool,
    pub(crate) keep: Option<Keep>,
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
            Framing::Unary => Box::pin(Once { future: Some(self.unary()) }),
            _ => Box::pin(EventSource::new(self)),
        }
    }

    fn bounds(&self) -> Bounds {
        let sizes = &self.state.settings.sizes;
        let (hold_limit, at_limit) = match self.framing {
            Framing::Unary => (sizes.answer, AtLimit::Refuse),
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

    /// Sends the request; the judge comes back with what it had to decode.
    async fn send(&self) -> Sent {
        let (dialect, sizes) = (self.outgoing.dialect, &self.state.settings.sizes);
        let mut judge = Judge::new(dialect, self.operation, self.framing, self.mixed.clone(), sizes);
        if let Some(mixed) = &self.mixed {
            mixed.prepare(self.group.deployments()).await;
        }
        let build = |deployment: &_| match &self.mixed {
            None => self.outgoing.build(deployment),
            Some(mixed) => mixed.build(&self.outgoing, deployment),
        };
        match self.group.send(&self.bounds(), &mut judge, &build).await {
            Ok(reply) => {
                // The reply may be an earlier one than the last that was judged.
                judge.may_try(&reply.deployment);
                Ok((reply, judge))
            }
            Err(error) => Err((error, judge.attempts)),
        }
    }

    async fn unary(self) -> Piece {
        match self.send().await {
            Ok((reply, judge)) => self.answer(reply, judge),
            Err((error, attempts)) => self.failed(&error, attempts),
        }
    }

    fn failed(&self, error: &SendError, attempts: u32) -> Piece {
        tracing::debug!(error = %crate::log::chain(error), group = self.group.name(), "no answer");
        let refused = match (error, &self.mixed) {
            (SendError::NoDeployment, Some(mixed)) => mixed.refused(),
            _ => None,
        };
        let failure = refused.unwrap_or_else(|| Failure::unsent(error, self.tier).attempts(attempts));
        Piece::Failed(Arc::new(failure))
    }

    /// A whole answer: the provider's own bytes, whether it said yes or no.
    fn answer(&self, mut reply: Reply, judge: Judge) -> Piece {
        let status = reply.parts.status.as_u16();
        // What a reply holds owns its memory, and no more than it needs: it is kept as it is.
        let decoded = judge.decoded.filter(|_| reply.refusal.is_none()).map(exact);
        let body = decoded.unwrap_or_else(|| std::mem::take(&mut reply.held));
        let provenance = self.provenance(&reply, judge.dialect);
        if reply.parts.status.is_success() {
            self.used(&reply, judge.usage);
            let (provider, model) = (provenance.provider.clone(), provenance.model.clone());
            let entry = Entry::unary(judge.dialect, self.tenant.name.clone(), body.clone(), provider, model);
            self.keep(&entry, reply.judged);
            return Piece::Answer(Arc::new(Answer {
                status,
                body,
                entry: Some(entry),
                retry_after: None,
                provenance,
            }));
        }
        let refusal = reply.refusal.as_ref();
        if refusal.is_some_and(|refusal| refusal.kind == RefusalKind::Credentials) {
            return Piece::Failed(Arc::new(Failure::credentials().attempts(reply.attempts)));
        }
        let retry_after = refusal
            .and_then(|refusal| refusal.retry_after)
            .or_else(|| upstream::retry_after(&reply.parts.headers, std::time::SystemTime::now()));
        if chimera_protocol::json::Document::parse(&body).is_err() {
            // A page of a load balancer's, not a word of the provider's: callers get an error object.
            let code = if status == 429 { Code::RateLimited } else { Code::UpstreamInvalidResponse };
            let mut failure = Failure::new(code, "the provider answered with an error").status(status);
            failure.retry_after = retry_after;
            return Piece::Failed(Arc::new(failure.attempts(reply.attempts)));
        }
        let body = scrubbed(body, &reply);
        Piece::Answer(Arc::new(Answer { status, body, entry: None, retry_after, provenance }))
    }

    fn provenance(&self, reply: &Reply, dialect: DialectId) -> Provenance {
        let model = reply.deployment.model().unwrap_or(&self.outgoing.model);
        let headers = passed_back(&reply.parts.headers, self.tenant.limits.is_unlimited());
        Provenance {
            dialect,
            provider: reply.deployment.provider().name_value().clone(),
            model: header_text(model),
            attempts: reply.attempts,
            upstream: reply.judged - self.began,
            headers,
        }
    }

    fn used(&self, reply: &Reply, usage: Option<Usage>) {
        let Some(usage) = usage else { return };
        self.state.tokens.used(reply.deployment.name(), &usage);
        self.tenant.limits.debit_tokens(usage.total());
    }

    fn may_keep(&self, answer: &Bytes) -> bool {
        answer.len() as u64 <= self.state.settings.cache.max_entry
    }

    fn keep(&self, entry: &Arc<Entry>, now: Instant) {
        if let Some(Keep { fingerprint, lifetime, ticket }) = self.keep
            && self.may_keep(entry.origin())
        {
            let item = Item::new(entry.clone(), lifetime, Duration::ZERO);
            self.shared.cache.put(fingerprint, item, Some(ticket), now.into_std());
        }
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
fn scrubbed(body: Bytes, reply: &Reply) -> Bytes {
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

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What sending a request came to; beside an error, after how many attempts.
type Sent = Result<(Reply, Judge), (SendError, u32)>;

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

/// How long the provider has to close its stream after the event that ends it; then the connection is
/// not kept.
const END_GRACE: Duration = Duration::from_millis(100);

/// A streamed call: from the request to the last event.
struct EventSource {
    phase: Phase,
}

enum Phase {
    Sending(Pending<(Arc<Load>, Sent)>),
    /// The head was passed on; `held` was read while the answer was judged.
    Passing(Box<Passing>),
    Over,
}

struct Passing {
    load: Arc<Load>,
    reply: Reply,
    frames: Frames,
    watch: StreamWatch,
    shape: Shape,
    passed: Passed,
    dialect: DialectId,
    /// Whether the caller did not ask for the usage that passes by.
    strip_usage: bool,
    /// Whether what it cost is in the books.
    billed: bool,
    /// Set once the terminal event was passed on.
    grace: Option<Pin<Box<Sleep>>>,
}

/// What was passed on of a stream, and all of it for the cache.
///
/// Events are copied out of the connection's read buffer: a slice of it that waits for a slow caller, or
/// for the end of the stream, would keep all of the buffer, and the connection would need another for
/// its next read. The copies of many events share one chunk.
struct Passed {
    chunk: BytesMut,
    /// `None` when the stream is not kept, or has become too large to be.
    log: Option<Vec<Bytes>>,
    weight: u64,
    most: u64,
}

/// Room for some dozens of events.
const CHUNK: usize = 4096;

impl Passed {
    /// `most` is the largest stream that is kept; `None` keeps none.
    fn new(most: Option<u64>) -> Self {
        let log = most.map(|_| Vec::new());
        Self { chunk: BytesMut::new(), log, weight: 0, most: most.unwrap_or(0) }
    }

    /// Copies an event.
    fn push(&mut self, event: &[u8]) {
        if self.chunk.capacity() < event.len() {
            self.chunk.reserve(event.len().max(CHUNK));
        }
        self.chunk.extend_from_slice(event);
    }

    /// Everything copied since the last time, to be passed on.
    fn take(&mut self) -> Option<Bytes> {
        if self.chunk.is_empty() {
            return None;
        }
        let piece = self.chunk.split().freeze();
        self.log(piece.clone());
        Some(piece)
    }

    /// Copies an event that is kept and not passed on.
    fn keep(&mut self, event: &[u8]) {
        self.log(Bytes::copy_from_slice(event));
    }

    fn log(&mut self, piece: Bytes) {
        let Some(log) = &mut self.log else { return };
        self.weight += piece.len() as u64;
        if self.weight > self.most {
            self.log = None;
        } else {
            log.push(piece);
        }
    }

    /// Passes on a piece as it is: it is no slice of anything larger.
    fn whole(&mut self, piece: Bytes) -> Bytes {
        self.log(piece.clone());
        piece
    }

    /// All that was passed on and kept.
    fn logged(&mut self) -> Option<Bytes> {
        self.log.take().map(|log| log.concat().into())
    }
}

impl EventSource {
    fn new(mut load: Load) -> Self {
        let call = Box::pin(async move {
            let result = load.send().await;
            // It is not sent again, and a stream goes on for minutes.
            load.outgoing.body = Bytes::new();
            if result.is_ok() {
                load.mixed = None;
            }
            (Arc::new(load), result)
        });
        Self { phase: Phase::Sending(call) }
    }
}

impl Stream for EventSource {
    type Item = Piece;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        match &mut self.phase {
            Phase::Sending(call) => {
                let (load, result) = ready!(call.as_mut().poll(cx));
                let (piece, phase) = begin(load, result);
                self.phase = phase;
                Poll::Ready(Some(piece))
            }
            Phase::Passing(passing) => {
                let piece = ready!(passing.poll_piece(cx));
                if matches!(piece, None | Some(Piece::Failed(_))) {
                    self.phase = Phase::Over;
                }
                Poll::Ready(piece)
            }
            Phase::Over => Poll::Ready(None),
        }
    }
}

impl Drop for EventSource {
    /// Everybody has left. Some providers bill the whole answer all the same: of those, how much it was
    /// may be worth hearing.
    fn drop(&mut self) {
        if let Phase::Passing(passing) = std::mem::replace(&mut self.phase, Phase::Over) {
            passing.drain();
        }
    }
}

/// What a call that was sent begins with: a stream's head, or one last piece.
fn begin(load: Arc<Load>, result: Sent) -> (Piece, Phase) {
    let (mut reply, judge) = match result {
        Ok(sent) => sent,
        Err((error, attempts)) => return (load.failed(&error, attempts), Phase::Over),
    };
    if !reply.parts.status.is_success() {
        return (load.answer(reply, judge), Phase::Over);
    }
    if reply.refusal.is_some() {
        // An error event after a 200: there is no status of the provider's to pass on.
        let failure = Failure::new(
            Code::UpstreamInvalidResponse,
            "the provider began its stream with an error instead of content",
        );
        return (Piece::Failed(Arc::new(failure.attempts(reply.attempts))), Phase::Over);
    }
    let dialect = judge.dialect;
    let head = Piece::Head(Arc::new(load.provenance(&reply, dialect)));
    let sizes = &load.state.settings.sizes;
    let mut frames = Frames::new(judge.framing, sizes.event);
    frames.push(std::mem::take(&mut reply.held));
    let passing = Passing {
        frames,
        watch: StreamWatch::new(dialect),
        dialect,
        // An answer in another dialect is put into the caller's without its usage.
        strip_usage: load.strip_usage && dialect == load.outgoing.dialect,
        shape: Shape::default(),
        passed: Passed::new(load.keep.map(|_| load.state.settings.cache.max_entry)),
        billed: false,
        grace: None,
        reply,
        load,
    };
    (head, Phase::Passing(Box::new(passing)))
}

impl Passing {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            if self.watch.is_over() {
                return self.poll_end(cx);
            }
            match self.whole_events() {
                Ok(Some(events)) => return Poll::Ready(Some(Piece::Events(events))),
                Ok(None) => {}
                Err(failure) => return Poll::Ready(Some(self.fail(failure))),
            }
            if self.watch.is_over() {
                continue;
            }
            let piece = match self.reply.rest.as_mut() {
                Some(rest) => ready!(rest.poll_piece(cx)),
                None => None,
            };
            match piece {
                // The usual piece is one event that is as the last one but for its text.
                Some(Ok(bytes)) if self.frames.is_empty() && self.shape.fits(&bytes) => {
                    return Poll::Ready(Some(Piece::Events(self.passed.whole(bytes))));
                }
                Some(Ok(bytes)) => self.frames.push(bytes),
                Some(Err(error)) => return Poll::Ready(Some(self.fail(Failure::broken_stream(&error)))),
                None => match self.ended() {
                    Some(piece) => return Poll::Ready(Some(piece)),
                    None => continue,
                },
            }
        }
    }

    /// Everything that is whole, in one piece.
    fn whole_events(&mut self) -> Result<Option<Bytes>, Failure> {
        while !self.watch.is_over() {
            let Some(event) = self.frames.next().map_err(|_| {
                Failure::new(Code::UpstreamInvalidResponse, "an event of the provider's stream is too large")
            })?
            else {
                break;
            };
            if self.shape.fits(&event) {
                self.passed.push(&event);
                continue;
            }
            let observed = self.frames.watch(&mut self.watch, &event);
            if observed == Observed::Content && !self.watch.may_end_here() {
                self.shape.learn(&event);
            }
            if observed == Observed::Usage && self.strip_usage {
                let before = self.passed.take();
                self.passed.keep(&event);
                if before.is_some() {
                    return Ok(before);
                }
            } else {
                self.passed.push(&event);
            }
        }
        Ok(self.passed.take())
    }

    /// The provider's bytes ended: well, if its protocol says so.
    fn ended(&mut self) -> Option<Piece> {
        if let Some(last) = self.frames.finish() {
            self.frames.watch(&mut self.watch, &last);
            self.passed.push(&last);
            return self.passed.take().map(Piece::Events);
        }
        if !self.watch.may_end_here() {
            let cut = "the provider's stream ended before its end";
            return Some(self.fail(Failure::new(Code::UpstreamUnreachable, cut)));
        }
        let missing = self.watch.missing_terminal();
        self.watch.end();
        self.passed.push(missing?);
        self.passed.take().map(Piece::Events)
    }

    /// The terminal event was passed on. The connection is worth a moment's wait for its clean end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        if let Some(rest) = self.reply.rest.as_mut() {
            let grace = self.grace.get_or_insert_with(|| Box::pin(tokio::time::sleep(END_GRACE)));
            match rest.poll_piece(cx) {
                Poll::Pending => ready!(grace.as_mut().poll(cx)),
                Poll::Ready(_) => {}
            }
        }
        self.finish();
        self.reply.rest = None;
        Poll::Ready(None)
    }

    /// The stream is complete: books, usage, cache.
    fn finish(&mut self) {
        if let Some(rest) = self.reply.rest.as_mut() {
            let outcome =
                if self.watch.error_seen() { AttemptOutcome::Failure } else { AttemptOutcome::Success };
            rest.settle(outcome);
        }
        self.bill();
        if let Some(stream) = self.passed.logged()
            && !self.watch.error_seen()
            && let Some(events) = self.frames.as_sse(stream)
        {
            let load = &self.load;
            let provenance = load.provenance(&self.reply, self.dialect);
            let (provider, model) = (provenance.provider, provenance.model);
            let entry = Entry::stream(self.dialect, load.tenant.name.clone(), events, provider, model);
            load.keep(&entry, Instant::now());
        }
    }

    /// Reads the rest for its usage, as long as the provider's setting says; what is complete is kept like
    /// any other answer. It holds its place among the requests in flight meanwhile.
    fn drain(mut self: Box<Self>) {
        let provider = self.load.state.settings.models.of(&self.reply.deployment);
        let patience = provider.map_or(Duration::ZERO, |provider| provider.drain_for_usage);
        if patience.is_zero() || self.billed {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let rest = async {
                loop {
                    match std::future::poll_fn(|cx| self.poll_piece(cx)).await {
                        None => return true,
                        Some(Piece::Failed(_)) => return false,
                        Some(_) => {}
                    }
                }
            };
            let ended = tokio::time::timeout(patience, rest).await.unwrap_or(false);
            let metrics = &self.load.shared.metrics;
            if ended { metrics.drained.increment(1) } else { metrics.drained_in_vain.increment(1) }
        });
    }

    fn bill(&mut self) {
        if !std::mem::replace(&mut self.billed, true) {
            self.load.used(&self.reply, self.watch.usage());
        }
    }

    fn fail(&mut self, failure: Failure) -> Piece {
        self.bill();
        if let Some(mut rest) = self.reply.rest.take() {
            rest.settle(AttemptOutcome::Failure);
        }
        Piece::Failed(Arc::new(failure))
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // The caller left: what the stream told of its usage so far was used.
        self.bill();
    }
}

/// The content type of a stream.
pub(crate) fn stream_type(framing: Framing) -> (HeaderName, HeaderValue) {
    let kind = match framing {
        Framing::Events => HeaderValue::from_static("text/event-stream"),
        _ => HeaderValue::from_static("application/json"),
    };
    (header::CONTENT_TYPE, kind)
}
