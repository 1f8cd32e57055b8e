//! The body of an answer on a stream of HTTP/2.
//!
//! Such a stream can stall alone: a client that never opens its window leaves the socket free, so that
//! the look at the connection's writes sees nothing, while the stream keeps its upstream call. And what
//! is handed to HTTP/2 whole waits in its buffers for as long as the client likes. So a body is given out
//! in small pieces, and one that has more to give and is not asked for it is let go of.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use chimera_gateway::{Aborted, Body};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use crate::connection::Answering;

/// The largest piece given out at once.
const PIECE: usize = 16 * 1024;

/// A body that is watched while it is sent.
pub(crate) struct Stream(Arc<Mutex<State>>);

struct State {
    /// `None` once the body was let go of.
    source: Option<(Body, Answering)>,
    /// What the body gave and was not given out yet.
    rest: Bytes,
    /// Whether it is the client's turn: there may be more to give, and nobody has asked.
    waits: bool,
    /// Since when, as far as a look has seen. Asking the clock is left to the look.
    since: Option<Instant>,
    /// Who asked for more when there was none.
    asked: Option<Waker>,
}

impl State {
    fn turn(&mut self, is_clients: bool) {
        (self.waits, self.since) = (is_clients, None);
    }

    /// Gives out the next piece of what is at hand.
    fn piece(&mut self) -> Frame<Bytes> {
        self.turn(true);
        let length = self.rest.len().min(PIECE);
        Frame::data(self.rest.split_to(length))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let Some((body, _)) = &mut self.source else { return Poll::Ready(Some(Err(Aborted))) };
        self.waits = false;
        let polled = Pin::new(body).poll_frame(cx);
        if polled.is_pending() && !self.asked.as_ref().is_some_and(|asked| asked.will_wake(cx.waker())) {
            self.asked = Some(cx.waker().clone());
        }
        match ready!(polled) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    Poll::Ready(Some(Ok(self.piece())))
                }
                Err(other) => Poll::Ready(Some(Ok(other))),
            },
            end => Poll::Ready(end),
        }
    }

    /// Lets go of the body when the client's turn has lasted for longer than `limit`. When it is the body's, has it
    /// asked again: it may have to end, although nothing comes of it.
    fn look(&mut self, now: Instant, limit: Duration) {
        if !self.waits
            && let Some(asked) = &self.asked
        {
            asked.wake_by_ref();
        }
        if self.waits && now - *self.since.get_or_insert(now) > limit {
            self.source = None;
            self.rest = Bytes::new();
            self.turn(false);
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        lock(&self.0).poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.0);
        state.rest.is_empty() && state.source.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // It is asked for once, before the first piece.
        lock(&self.0).source.as_ref().map_or_else(SizeHint::default, |(body, _)| body.size_hint())
    }
}

/// The streams of one connection.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Vec<Weak<Mutex<State>>>>);

/// More than a client may have open: beyond it those that ended are forgotten.
const MANY: usize = 128;

impl Streams {
    /// Watches a body from now on.
    pub(crate) fn watch(&self, body: Body, answering: Answering) -> Stream {
        let state = State {
            source: Some((body, answering)),
            rest: Bytes::new(),
            waits: true,
            since: None,
            asked: None,
        };
        let state = Arc::new(Mutex::new(state));
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= MANY {
            streams.retain(|stream| stream.strong_count() > 0);
        }
        streams.push(Arc::downgrade(&state));
        Stream(state)
    }

    /// Lets go of every body that was not asked for more for longer than `limit`. To be called now and
    /// then: the time counts from the first call that finds it waiting.
    pub(crate) fn look(&self, limit: Duration) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.is_empty() {
            return;
        }
        let now = Instant::now();
        streams.retain(|stream| {
            stream.upgrade().is_some_and(|state| {
                lock(&state).look(now, limit);
                true
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::connection::Activity;

    async fn next(stream: &mut Stream) -> Option<Result<Bytes, Aborted>> {
        let frame = poll_fn(|cx| Pin::new(&mut *stream).poll_frame(cx)).await?;
        Some(frame.map(|frame| frame.into_data().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_given_out_in_pieces_and_let_go_of_when_nobody_asks() {
        let (streams, limit) = (Streams::default(), Duration::from_secs(10));
        let whole: Bytes = (0..40_000_u32).map(|n| n as u8).collect();
        let watch = || streams.watch(Body::whole(whole.clone()), Activity::new().request());
        let (mut read, mut left) = (watch(), watch());
        assert_eq!(read.size_hint().exact(), Some(40_000));
        let mut all = Vec::new();
        for length in [16_384, 16_384, 7_232] {
            assert!(!read.is_end_stream());
            let piece = next(&mut read).await.unwrap().unwrap();
            assert_eq!(piece.len(), length);
            all.extend_from_slice(&piece);
            // Slow, and never for too long.
            streams.look(limit);
            tokio::time::sleep(Duration::from_secs(8)).await;
            streams.look(limit);
        }
        assert!(read.is_end_stream() && next(&mut read).await.is_none());
        assert_eq!(all, whole);
        assert!(matches!(next(&mut left).await, Some(Err(Aborted))), "nobody had asked for it for 24 s");
    }
}
