//! One connection to a provider, driven by the request that uses it.
//!
//! hyper hands out a connection as two halves: a handle that sends requests and a future that moves
//! the bytes. The usual way is to spawn the future; then every chunk of an answer costs a task switch
//! and a wake, and a caller that leaves must reach another task to stop it. Here an HTTP/1.1
//! connection's future lives in the same value as its handle and is polled by the request itself:
//! whatever one read of the socket brought is passed on at once, and dropping the request closes the
//! socket on the spot. HTTP/2 shares a connection, so there the future runs in a task that the
//! connection owns and aborts.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    task::AbortHandle,
    time::Instant,
};

use crate::{
    connect::{Connected, Transport},
    error::ConnectError,
    relay::Relay,
};

/// The request body type of every attempt: bytes at hand, cheap to clone for the next attempt.
pub(crate) type RequestBody = Full<Bytes>;

/// Bytes of one answer passed on in one piece at most; what is ready beyond it follows in the next.
const MAX_PIECE: usize = 64 * 1024;
/// The most that hyper buffers of one connection.
const MAX_BUFFER: usize = 64 * 1024;

/// A request that was not answered.
pub(crate) struct Unanswered {
    /// Whether the request certainly never left: hyper handed it back.
    pub(crate) unsent: bool,
    pub(crate) error: hyper::Error,
}

impl From<TrySendError<Request<RequestBody>>> for Unanswered {
    fn from(mut error: TrySendError<Request<RequestBody>>) -> Self {
        Self { unsent: error.take_message().is_some(), error: error.into_error() }
    }
}

/// What was met behind data that had to be passed on first.
#[derive(Default)]
enum After {
    #[default]
    More,
    Failed(hyper::Error),
    Ended,
}

/// One exclusive HTTP/1.1 connection.
pub(crate) struct Http1 {
    sender: http1::SendRequest<RequestBody>,
    driver: http1::Connection<TokioIo<Transport>, RequestBody>,
    relay: Relay,
    closed: bool,
    /// Whether all inside had nothing to do at the end of the last poll.
    settled: bool,
    after: After,
    pub(crate) idle_since: Instant,
    _open: OwnedSemaphorePermit,
}

impl Http1 {
    pub(crate) async fn handshake(
        transport: Transport,
        open: OwnedSemaphorePermit,
    ) -> Result<Self, ConnectError> {
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(transport))
            .await
            .map_err(ConnectError::Http)?;
        let idle_since = Instant::now();
        Ok(Self {
            sender,
            driver,
            relay: Relay::new(),
            closed: false,
            settled: false,
            after: After::More,
            idle_since,
            _open: open,
        })
    }

    /// Looks whether an idle connection is still good: not closed by the provider, and nothing
    /// unasked for has arrived on it.
    pub(crate) fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        if self.closed {
            return false;
        }
        if !(self.settled && self.relay.is_quiet(&mut cx)) {
            let Self { driver, relay, .. } = self;
            let driven: Poll<()> = relay.poll(&mut cx, |cx| Pin::new(&mut *driver).poll(cx).map(|_| ()));
            self.closed = driven.is_ready();
            self.settled = true;
        }
        !self.closed && self.sender.is_ready()
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let Self { sender, driver, relay, closed, settled, .. } = self;
        *settled = false;
        let mut answer = std::pin::pin!(sender.try_send_request(request));
        std::future::poll_fn(|cx| {
            relay.poll(cx, |cx| {
                // The driver goes first: it writes the request and reads the answer, and only what
                // it did can make the answer ready.
                if !*closed {
                    *closed = Pin::new(&mut *driver).poll(cx).is_ready();
                }
                answer.as_mut().poll(cx)
            })
        })
        .await
        .map_err(Unanswered::from)
    }

    /// Gathers everything that is ready of the body into one piece, up to 64 KiB. What came before an
    /// error is passed on before it.
    pub(crate) fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        match std::mem::take(&mut self.after) {
            After::More => {}
            After::Failed(error) => return Poll::Ready(Some(Err(error))),
            After::Ended => return Poll::Ready(None),
        }
        let Self { driver, relay, closed, settled, after, .. } = self;
        if *settled && relay.is_quiet(cx) {
            return Poll::Pending;
        }
        *settled = false;
        relay.poll(cx, |cx| {
            let mut piece = Piece::default();
            let mut driven = false;
            loop {
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        driven = false;
                        if let Ok(data) = frame.into_data() {
                            piece.push(data);
                        }
                        if piece.len() >= MAX_PIECE {
                            return piece.ready_or_pending();
                        }
                    }
                    Poll::Ready(Some(Err(error))) if piece.len() > 0 => {
                        *after = After::Failed(error);
                        return piece.ready_or_pending();
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) => {
                        if piece.len() > 0 {
                            *after = After::Ended;
                        }
                        return Poll::Ready(piece.take().map(Ok));
                    }
                    Poll::Pending if driven || *closed => {
                        *settled = true;
                        return piece.ready_or_pending();
                    }
                    Poll::Pending => {
                        *closed = Pin::new(&mut *driver).poll(cx).is_ready();
                        driven = true;
                    }
                }
            }
        })
    }
}

/// Data gathered from one or more frames; a single frame is passed on without a copy.
#[derive(Default)]
struct Piece {
    first: Option<Bytes>,
    gathered: BytesMut,
}

impl Piece {
    fn len(&self) -> usize {
        self.first.as_ref().map_or(0, Bytes::len) + self.gathered.len()
    }

    fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        if self.gathered.is_empty() {
            match self.first.take() {
                None => self.first = Some(data),
                Some(first) => {
                    self.gathered.reserve((first.len() + data.len()) * 8);
                    self.gathered.extend_from_slice(&first);
                    self.gathered.extend_from_slice(&data);
                }
            }
        } else {
            self.gathered.extend_from_slice(&data);
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        self.first
            .take()
            .or_else(|| (!self.gathered.is_empty()).then(|| std::mem::take(&mut self.gathered).freeze()))
    }

    fn ready_or_pending(&mut self) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        match self.take() {
            Some(data) => Poll::Ready(Some(Ok(data))),
            None => Poll::Pending,
        }
    }
}

/// One shared HTTP/2 connection. Clones share it; the last one dropped ends its task.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: http2::SendRequest<RequestBody>,
    shared: Arc<Http2Shared>,
}

struct Http2Shared {
    streams: AtomicUsize,
    /// When its last stream ended.
    idle_since: Mutex<Instant>,
    /// Told when a full connection has room again.
    returned: Arc<Notify>,
    driver: AbortHandle,
    _open: OwnedSemaphorePermit,
}

impl Drop for Http2Shared {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Streams put on one HTTP/2 connection before another is opened; below the 100 that providers
/// commonly allow, because hyper queues silently above their limit.
const STREAMS_PER_CONNECTION: usize = 80;

impl Http2 {
    pub(crate) async fn handshake(
        transport: Transport,
        open: OwnedSemaphorePermit,
        returned: Arc<Notify>,
    ) -> Result<Self, ConnectError> {
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(hyper_util::rt::TokioTimer::new())
            .keep_alive_interval(std::time::Duration::from_secs(20))
            .keep_alive_timeout(std::time::Duration::from_secs(5))
            .max_send_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(transport))
            .await
            .map_err(ConnectError::Http)?;
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "an HTTP/2 connection ended");
            }
        })
        .abort_handle();
        let idle_since = Mutex::new(Instant::now());
        let shared = Http2Shared { streams: AtomicUsize::new(0), idle_since, returned, driver, _open: open };
        Ok(Self { sender, shared: Arc::new(shared) })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn streams(&self) -> usize {
        self.shared.streams.load(Relaxed)
    }

    /// Since when no stream has been open on it; `None` while one is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let since = self.shared.idle_since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.streams() == 0).then_some(*since)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.streams() < STREAMS_PER_CONNECTION
    }

    /// Takes a place on the connection; given back when the value drops.
    pub(crate) fn open_stream(&self) -> Http2Stream {
        self.shared.streams.fetch_add(1, Relaxed);
        Http2Stream { connection: self.clone() }
    }
}

/// One stream's place on a shared connection.
pub(crate) struct Http2Stream {
    connection: Http2,
}

impl Http2Stream {
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Unanswered> {
        self.connection.sender.try_send_request(request).await.map_err(Unanswered::from)
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        let shared = &self.connection.shared;
        match shared.streams.fetch_sub(1, Relaxed) {
            1 => *shared.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now(),
            STREAMS_PER_CONNECTION.. => shared.returned.notify_one(),
            _ => {}
        }
    }
}

/// A connection in use by one request.
pub(crate) enum Lease {
    Http1(Box<Http1>),
    Http2(Http2Stream),
}

impl Lease {
    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Unanswered> {
        match self {
            Self::Http1(connection) => connection.send(request).await,
            Self::Http2(stream) => stream.send(request).await,
        }
    }

    pub(crate) fn poll_body(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        match self {
            Self::Http1(connection) => connection.poll_body(body, cx),
            Self::Http2(_) => poll_shared(body, cx),
        }
    }
}

fn poll_shared(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
    loop {
        match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Poll::Ready(Some(Ok(data))),
                Err(_trailers) => {}
            },
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        }
    }
}

pub(crate) enum Opened {
    Http1(Box<Http1>),
    Http2(Http2),
}

pub(crate) async fn open(
    connected: Connected,
    permit: OwnedSemaphorePermit,
    returned: &Arc<Notify>,
) -> Result<Opened, ConnectError> {
    if connected.http2 {
        Http2::handshake(connected.transport, permit, returned.clone()).await.map(Opened::Http2)
    } else {
        Http1::handshake(connected.transport, permit).await.map(|c| Opened::Http1(Box::new(c)))
    }
}
