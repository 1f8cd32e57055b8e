//! A response body that plays a script: bytes, each when its time has come, and an end.
//!
//! Faults are edits of the script (see `inject.rs`), so that the player knows
//! none of them: it waits, yields, and ends in one of four ways.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use crate::{connection::Control, error::BodyError, seen::Flight};

/// What an event is for, so that faults can find their place in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Before the first token: `message_start`, the chunk that names the role.
    Opening,
    /// Carries tokens.
    Content,
    /// After the last token: finish reason, usage.
    Closing,
    /// The event that ends the stream by the dialect's grammar.
    Terminal,
}

/// Bytes, and how long after the previous ones they come.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) after: Duration,
    pub(crate) bytes: Bytes,
    pub(crate) role: Role,
}

impl Step {
    pub(crate) fn now(role: Role, bytes: impl Into<Bytes>) -> Self {
        Self { after: Duration::ZERO, bytes: bytes.into(), role }
    }
}

/// How the script ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    Reset,
    Truncated,
    Hang,
}

/// The whole body, before it is played.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) steps: VecDeque<Step>,
    pub(crate) end: End,
    /// A unary body announces its length; a stream does not.
    pub(crate) sized: bool,
    /// Bytes that follow the body on the wire, outside its framing.
    pub(crate) trailing: Bytes,
}

impl Script {
    /// A body of one piece.
    pub(crate) fn unary(bytes: impl Into<Bytes>) -> Self {
        Self {
            steps: VecDeque::from([Step::now(Role::Content, bytes)]),
            end: End::Clean,
            sized: true,
            trailing: Bytes::new(),
        }
    }

    /// A stream of events.
    pub(crate) fn stream(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), end: End::Clean, sized: false, trailing: Bytes::new() }
    }

    /// All bytes in one piece, for faults that rewrite the whole body.
    pub(crate) fn concat(&self) -> Bytes {
        if let (1, Some(step)) = (self.steps.len(), self.steps.front()) {
            return step.bytes.clone();
        }
        let mut all = Vec::new();
        for step in &self.steps {
            all.extend_from_slice(&step.bytes);
        }
        all.into()
    }
}

/// The body of a simulated answer.
///
/// Dropping it before its end counts as a client that left.
#[derive(Debug)]
pub struct SimBody {
    script: Script,
    timer: Option<Pin<Box<Sleep>>>,
    // An error must not overtake the bytes before it: the player yields once, so that they are flushed.
    yielded: bool,
    flight: Option<Flight>,
    control: Option<Arc<Control>>,
}

impl SimBody {
    pub(crate) fn new(script: Script, flight: Flight, control: Option<Arc<Control>>) -> Self {
        Self { script, timer: None, yielded: false, flight: Some(flight), control }
    }

    fn finish(&mut self) {
        if let Some(flight) = self.flight.take() {
            flight.finish();
        }
    }

    /// Waits for the front step's time; `Ready(None)` when no step is left.
    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(timer) = &mut self.timer {
                std::task::ready!(timer.as_mut().poll(cx));
                self.timer = None;
            }
            let Some(step) = self.script.steps.front_mut() else {
                return Poll::Ready(None);
            };
            let after = std::mem::take(&mut step.after);
            if after.is_zero() {
                return Poll::Ready(self.script.steps.pop_front().map(|step| step.bytes));
            }
            self.timer = Some(Box::pin(tokio::time::sleep(after)));
        }
    }

    /// Ends a script whose last step has been played and that ends well.
    fn settle_if_over(&mut self) {
        if !self.script.steps.is_empty() || self.script.end != End::Clean {
            return;
        }
        if let (Some(control), false) = (&self.control, self.script.trailing.is_empty()) {
            control.trail(std::mem::take(&mut self.script.trailing));
        }
        self.finish();
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<BodyError>> {
        let error = match self.script.end {
            End::Clean => None,
            End::Hang => return Poll::Pending,
            End::Reset => Some(BodyError::Reset),
            End::Truncated => Some(BodyError::Truncated),
        };
        if error.is_some() && !std::mem::replace(&mut self.yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let (Some(control), Some(BodyError::Reset)) = (&self.control, error) {
            control.reset();
        }
        self.finish();
        // An error is told once; after it the body is over.
        self.script.end = End::Clean;
        Poll::Ready(error)
    }
}

impl Body for SimBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Some(bytes) = std::task::ready!(this.poll_step(cx)) {
            this.settle_if_over();
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        this.poll_end(cx).map(|error| error.map(Err))
    }

    fn is_end_stream(&self) -> bool {
        self.script.steps.is_empty() && self.script.end == End::Clean && self.flight.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if !self.script.sized {
            return SizeHint::default();
        }
        let left = self.script.steps.iter().map(|step| step.bytes.len() as u64);
        SizeHint::with_exact(left.sum())
    }
}
