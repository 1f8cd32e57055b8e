//! The body of a request: at hand, or read from the connection as it is asked for.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::decoder::Decoder;

/// Why there is no more of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The client left, or the connection was dropped.
    #[error("the connection ended before the body did")]
    Incomplete,
    /// Its chunks cannot be read.
    #[error("the body is not validly chunked")]
    Chunks,
}

/// The body of a request. It may be polled in the service's future, in the answer's body, or anywhere else.
#[derive(Debug)]
pub struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    /// It came with the head, or there is none.
    Whole(Option<Bytes>),
    /// It is still on its way.
    Coming(Arc<Pipe>),
}

impl RequestBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Coming(pipe) => pipe.poll_take(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Coming(pipe) => pipe.lock().is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Kind::Coming(pipe) => pipe.lock().hint(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Kind::Coming(pipe) = &self.0 {
            let mut state = pipe.lock();
            (state.wanted, state.data, state.reader) = (false, Bytes::new(), None);
        }
    }
}

/// Between a connection and the body of the request that it is answering.
#[derive(Debug)]
pub(crate) struct Pipe(Mutex<State>);

#[derive(Debug)]
struct State {
    data: Bytes,
    /// Bytes that have not come yet, where the head states them.
    left: Option<u64>,
    end: Option<Result<(), BodyError>>,
    /// Whether somebody waits for more.
    wanted: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
}

impl State {
    fn is_over(&self) -> bool {
        self.data.is_empty() && self.end == Some(Ok(()))
    }

    fn hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left + self.data.len() as u64),
            None => SizeHint::default(),
        }
    }
}

impl Pipe {
    /// A pipe for a body that ends as the decoder says.
    pub(crate) fn new(decoder: &Decoder) -> Arc<Self> {
        let left = match decoder {
            Decoder::Length(left) => Some(*left),
            _ => None,
        };
        Arc::new(Self(Mutex::new(State {
            data: Bytes::new(),
            left,
            end: None,
            wanted: false,
            reader: None,
            connection: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.lock();
        if !state.data.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut state.data)))));
        }
        match state.end {
            Some(Ok(())) => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {}
        }
        state.wanted = true;
        if !state.reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        // Inside the connection's own task it is being polled right now, and will look.
        let elsewhere = state.connection.take_if(|waker| !waker.will_wake(cx.waker()));
        drop(state);
        if let Some(connection) = elsewhere {
            connection.wake();
        }
        Poll::Pending
    }

    /// Whether somebody waits for more. If not yet, the connection is woken when somebody does.
    pub(crate) fn is_wanted(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.lock();
        if !state.wanted && !state.connection.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.connection = Some(cx.waker().clone());
        }
        state.wanted
    }

    /// Hands over what was read, and whether that was the last or the end of it. The reader is woken unless
    /// it is the task that is doing this.
    pub(crate) fn push(&self, data: Bytes, end: Option<Result<(), BodyError>>, cx: &mut Context<'_>) {
        let mut state = self.lock();
        state.left = state.left.map(|left| left.saturating_sub(data.len() as u64));
        if !data.is_empty() {
            state.data = data;
        }
        (state.end, state.wanted) = (end, false);
        let reader = state.reader.take_if(|reader| !reader.will_wake(cx.waker()));
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The connection's end of a pipe. When it goes, nothing more will come.
#[derive(Debug)]
pub(crate) struct Feed(Arc<Pipe>);

impl Feed {
    /// The two ends of a body that ends as the decoder says.
    pub(crate) fn new(decoder: &Decoder) -> (Self, RequestBody) {
        let pipe = Pipe::new(decoder);
        (Self(pipe.clone()), RequestBody(Kind::Coming(pipe)))
    }

    /// Whether the other end is gone.
    pub(crate) fn is_unread(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl std::ops::Deref for Feed {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        &self.0
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.lock();
        state.end.get_or_insert(Err(BodyError::Incomplete));
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }
}
