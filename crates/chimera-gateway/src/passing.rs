//! A streamed call on its way: event by event to those who follow it, and all of it into the cache.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chimera_protocol::{DialectId, Observed, Shape, StreamWatch};
use chimera_provider_pool::{AttemptOutcome, Reply};
use futures_core::Stream;
use tokio::time::{Instant, Sleep};

use crate::{
    entry::Entry,
    failure::{Code, Failure},
    gateway::Shared,
    load::{Load, Piece, Sent, scrubbed},
    upstream::Frames,
};

/// How long the provider has to close its stream after the event that ends it; then the connection is
/// not kept.
const END_GRACE: Duration = Duration::from_millis(100);

/// A streamed call: from the request to the last event.
pub(crate) struct EventSource {
    phase: Phase,
}

/// A call and what sending it came to, or the one piece that another gateway's answer is.
type Begun = (Arc<Load>, Result<Sent, Piece>);

enum Phase {
    Sending(Pin<Box<dyn Future<Output = Begun> + Send>>),
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
    is_too_large: bool,
    weight: u64,
    most: u64,
    /// What of it is counted among what all streams hold.
    counted: usize,
    shared: Arc<Shared>,
    /// What all streams may hold.
    limit: usize,
}

/// What a stream may hold before it is counted.
const FREE: u64 = 64 * 1024;

/// Room for some dozens of events.
const CHUNK: usize = 4096;

impl Passed {
    /// `most` is the largest stream that is kept; `None` keeps none.
    fn new(most: Option<u64>, load: &Load) -> Self {
        Self {
            chunk: BytesMut::new(),
            log: most.map(|_| Vec::new()),
            is_too_large: false,
            weight: 0,
            most: most.unwrap_or(0),
            counted: 0,
            shared: load.shared.clone(),
            limit: load.state.settings.sizes.streams_in_flight,
        }
    }

    /// Counts what is held beyond what is free; false when all streams together hold too much.
    fn count(&mut self) -> bool {
        let holds = if self.weight > FREE { usize::try_from(self.weight).unwrap_or(usize::MAX) } else { 0 };
        let more = holds.saturating_sub(std::mem::replace(&mut self.counted, holds));
        more == 0 || self.shared.logged.fetch_add(more, Relaxed).saturating_add(more) <= self.limit
    }

    fn forget(&mut self) {
        self.log = None;
        self.shared.logged.fetch_sub(std::mem::take(&mut self.counted), Relaxed);
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
        log.push(piece);
        if self.weight > self.most || !self.count() {
            self.is_too_large = true;
            self.forget();
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

impl Drop for Passed {
    fn drop(&mut self) {
        self.forget();
    }
}

impl EventSource {
    pub(crate) fn new(mut load: Load) -> Self {
        let call = Box::pin(async move {
            if let Some(piece) = load.before().await {
                return (Arc::new(load), Err(piece));
            }
            let result = load.send().await;
            // It is not sent again, and a stream goes on for minutes.
            load.outgoing.body = Bytes::new();
            if result.is_ok() {
                load.mixed = None;
            }
            (Arc::new(load), Ok(result))
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
                let (piece, phase) = match result {
                    Ok(sent) => begin(load, sent),
                    Err(piece) => (piece, Phase::Over),
                };
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
        return (load.refused_by_event(reply, &judge), Phase::Over);
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
        passed: Passed::new(load.keep.as_ref().map(|_| load.state.settings.cache.max_entry), &load),
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
            let event = if observed == Observed::Error { self.failed_with(event) } else { event };
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

    /// The provider said that it failed: it did, whether or not somebody waits for what follows. Its words are
    /// passed on without its keys.
    fn failed_with(&mut self, event: Bytes) -> Bytes {
        if let Some(rest) = self.reply.rest.as_mut() {
            rest.settle(AttemptOutcome::Failure);
        }
        scrubbed(event, &self.reply)
    }

    /// The provider's bytes ended: well, if its protocol says so.
    fn ended(&mut self) -> Option<Piece> {
        if let Some(last) = self.frames.finish() {
            let observed = self.frames.watch(&mut self.watch, &last);
            let last = if observed == Observed::Error { self.failed_with(last) } else { last };
            self.passed.push(&last);
            return self.passed.take().map(Piece::Events);
        }
        // An array ends with its bracket, and with nothing else.
        if !self.watch.may_end_here() || matches!(self.frames, Frames::Array(_)) {
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
        // What becomes of the connection says nothing of the answer.
        self.finish();
        if let Some(rest) = self.reply.rest.as_mut() {
            let grace = self.grace.get_or_insert_with(|| Box::pin(tokio::time::sleep(END_GRACE)));
            match rest.poll_piece(cx) {
                Poll::Pending => ready!(grace.as_mut().poll(cx)),
                Poll::Ready(_) => {}
            }
        }
        self.reply.rest = None;
        Poll::Ready(None)
    }

    /// The stream is complete: books, usage, cache. Once; later calls change nothing.
    fn finish(&mut self) {
        if let Some(rest) = self.reply.rest.as_mut() {
            let outcome =
                if self.watch.error_seen() { AttemptOutcome::Failure } else { AttemptOutcome::Success };
            rest.settle(outcome);
        }
        self.bill();
        if self.watch.error_seen() {
            return;
        }
        if std::mem::take(&mut self.passed.is_too_large) {
            self.load.keep_none();
        }
        if let Some(stream) = self.passed.logged()
            && let Some(events) = self.frames.as_sse(stream)
        {
            let load = &self.load;
            let provenance = load.provenance(&self.reply, self.dialect);
            let (provider, model) = (provenance.provider, provenance.model);
            let entry = Entry::stream(self.dialect, load.tenant.name.clone(), events, provider, model);
            let entry = Entry::tagged(entry, load.tags());
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
        let failure = if self.watch.error_seen() { failure.told() } else { failure };
        if let Some(mut rest) = self.reply.rest.take() {
            rest.settle(AttemptOutcome::Failure);
        }
        Piece::Failed(Arc::new(failure))
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // The caller left. Who leaves with the end in its hands leaves a complete stream; of another, what it told of
        // its usage so far was used.
        if self.watch.is_over() {
            self.finish();
        }
        self.bill();
    }
}
