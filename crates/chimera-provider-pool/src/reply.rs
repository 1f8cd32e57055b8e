//! An answer on its way to the caller.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chimera_circuit_breaker::{Hold, Outcome, Permit};
use http::response;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep},
};

use crate::{
    classify::Refusal,
    connection::{AnyError, Lease},
    deployment::Deployment,
    error::BodyError,
    keys::KeyIndex,
    metrics::AttemptOutcome,
};

/// An answer whose first content has arrived.
pub struct Reply {
    /// Status and headers as the provider sent them.
    pub parts: response::Parts,
    /// The body as far as it was read while the answer was judged. Like every piece of the rest it owns
    /// its memory: keeping it keeps no connection's buffer.
    pub held: Bytes,
    /// The rest of the body; `None` when `held` is all of it, or all that there is of a refusal after
    /// which somebody else was asked.
    pub rest: Option<ReplyBody>,
    /// Who answered.
    pub deployment: Arc<Deployment>,
    /// The key that it was asked with, where there are keys.
    pub key: Option<KeyIndex>,
    /// Attempts made for this request, this one included.
    pub attempts: u32,
    /// Set when the provider said no and nobody else said yes.
    pub refusal: Option<Refusal>,
    /// When the attempt that answered began.
    pub started: Instant,
    /// When its first content, or for a unary answer all of it, was there.
    pub judged: Instant,
}

/// One attempt's books: settled once, on every path.
pub(crate) struct Attempt {
    deployment: Arc<Deployment>,
    permit: Option<Permit<Hold>>,
    started: Instant,
    /// When it had its slot: the wait before that says nothing of the provider.
    admitted: Instant,
    first_content: Option<Duration>,
    settled: bool,
    slot: Option<OwnedSemaphorePermit>,
}

impl Attempt {
    pub(crate) fn new(
        deployment: Arc<Deployment>,
        permit: Permit<Hold>,
        slot: OwnedSemaphorePermit,
        [started, admitted]: [Instant; 2],
    ) -> Self {
        Self {
            deployment,
            permit: Some(permit),
            started,
            admitted,
            first_content: None,
            settled: false,
            slot: Some(slot),
        }
    }

    /// Notes the first content. A probe has its answer here: a stream may last for minutes, and the
    /// breaker must not stay half-open for so long.
    pub(crate) fn content_began(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.started);
        self.first_content = Some(elapsed);
        self.deployment.metrics.first_chunk.record(elapsed.as_secs_f64());
        self.deployment.latency.observe(elapsed, now.into_std());
        self.deployment.answer_began(now.duration_since(self.admitted), now);
        if let Some(permit) = self.permit.take_if(|permit| permit.is_probe()) {
            permit.record(Outcome::Success, elapsed, now.into_std());
        }
    }

    /// Closes the books; later calls change nothing.
    pub(crate) fn settle(&mut self, outcome: AttemptOutcome, now: Instant) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let elapsed = now.duration_since(self.started);
        self.deployment.metrics.attempt(outcome, elapsed.as_secs_f64());
        if matches!(outcome, AttemptOutcome::Failure | AttemptOutcome::Throttled) {
            self.deployment.latency.penalize(now.into_std());
            self.deployment.answer_failed(now);
        }
        let outcome = match outcome {
            AttemptOutcome::Success => Outcome::Success,
            AttemptOutcome::Failure => Outcome::Failure,
            AttemptOutcome::Throttled => Outcome::Throttled,
            AttemptOutcome::Cancelled => Outcome::Cancelled,
        };
        if let Some(permit) = self.permit.take() {
            // Slow means late to begin, never long to end.
            permit.record(outcome, self.first_content.unwrap_or(elapsed), now.into_std());
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(AttemptOutcome::Cancelled, Instant::now());
        }
        if let Some(slot) = self.slot.take() {
            self.deployment.release(slot);
        }
    }
}

/// The rest of an answer.
///
/// Dropping it before its end closes the connection (HTTP/1.1) or resets the stream (HTTP/2) at once.
/// Reading it to its end gives the connection back to its pool.
pub struct ReplyBody {
    attempt: Attempt,
    lease: Option<Lease>,
    worker: usize,
    idle: Option<Duration>,
    last_piece: Instant,
    deadline: Option<Instant>,
    timer: Option<Timer>,
}

/// A timer that is polled again only for another waker: events come far more often than it fires.
struct Timer {
    sleep: Pin<Box<Sleep>>,
    registered: Option<Waker>,
}

impl Timer {
    fn new(until: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(until)), registered: None }
    }

    fn reset(&mut self, until: Instant) {
        self.sleep.as_mut().reset(until);
        self.registered = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
            && !self.sleep.is_elapsed()
        {
            return Poll::Pending;
        }
        self.registered = Some(cx.waker().clone());
        self.sleep.as_mut().poll(cx)
    }
}

impl ReplyBody {
    pub(crate) fn new(attempt: Attempt, lease: Lease, worker: usize) -> Self {
        let last_piece = attempt.started;
        Self { attempt, lease: Some(lease), worker, idle: None, last_piece, deadline: None, timer: None }
    }

    /// Bounds the rest of the answer: by silence, and by an absolute deadline.
    pub(crate) fn bound(&mut self, idle: Option<Duration>, deadline: Option<Instant>, now: Instant) {
        (self.idle, self.deadline, self.last_piece) = (idle, deadline, now);
    }

    pub(crate) fn attempt(&mut self) -> &mut Attempt {
        &mut self.attempt
    }

    /// The next piece: everything that is ready, up to 64 KiB, so that events which arrived together
    /// leave together. `None` at the end. After an error the body is over.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.poll_read(cx) {
            Poll::Ready(Some(Ok(piece))) => {
                if self.idle.is_some() {
                    self.last_piece = Instant::now();
                }
                Poll::Ready(Some(Ok(piece)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail();
                Poll::Ready(Some(Err(BodyError::Broken(error))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let error = ready!(self.poll_bounds(cx));
                self.fail();
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    /// Reads without regard to the bounds: the caller has a deadline of its own.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnyError>>> {
        let Some(lease) = self.lease.as_mut() else { return Poll::Ready(None) };
        let piece = ready!(lease.poll_body(cx));
        if piece.is_none()
            && let Some(lease) = self.lease.take()
        {
            self.attempt.deployment.provider().pool.give_back(lease, self.worker);
        }
        Poll::Ready(piece)
    }

    /// Says how the attempt ended, as far as the caller's protocol can tell: a stream without its
    /// terminal event is a failure although its bytes ended well. The first word counts.
    pub fn settle(&mut self, outcome: AttemptOutcome) {
        self.attempt.settle(outcome, Instant::now());
    }

    fn fail(&mut self) {
        self.lease = None;
        self.attempt.settle(AttemptOutcome::Failure, Instant::now());
    }

    /// One timer serves both bounds and is moved only when it fires: events come far more often.
    fn poll_bounds(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        loop {
            let idle_until = self.idle.map(|idle| self.last_piece + idle);
            let Some(until) = [idle_until, self.deadline].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Timer::new(until));
            if until < timer.sleep.deadline() {
                timer.reset(until);
            }
            ready!(timer.poll(cx));
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(BodyError::Deadline);
            }
            if idle_until.is_some_and(|until| until <= now) {
                return Poll::Ready(BodyError::Idle(self.idle.unwrap_or_default()));
            }
            timer.reset(until);
        }
    }
}

/// Bytes held back; a single piece is kept as it came.
#[derive(Default)]
pub(crate) struct Held {
    first: Bytes,
    gathered: BytesMut,
}

impl Held {
    pub(crate) fn push(&mut self, piece: Bytes) {
        if self.first.is_empty() && self.gathered.is_empty() {
            self.first = piece;
            return;
        }
        if self.gathered.is_empty() {
            self.gathered.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.gathered.extend_from_slice(&piece);
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.gathered.is_empty() { &self.first } else { &self.gathered }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        // Gathered in memory that grew by doubling; what may be kept for hours is given its exact size.
        if self.gathered.is_empty() { self.first } else { Bytes::copy_from_slice(&self.gathered) }
    }
}
