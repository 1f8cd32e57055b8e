//! HTTP/2 connections to a provider: shared by many requests, so each has a task that drives it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};
use std::{
    error::Error as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, response};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit},
    task::AbortHandle,
    time::Instant,
};

use crate::{connect::Transport, error::ConnectError, http1::Unanswered};

/// The most that is buffered of one stream on its way out.
const MAX_BUFFER: usize = 64 * 1024;
/// Streams put on one connection before another is opened; below the 100 that providers commonly
/// allow, because hyper queues silently above their limit.
const STREAMS_PER_CONNECTION: usize = 80;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_PATIENCE: Duration = Duration::from_secs(5);

impl From<TrySendError<Request<Full<Bytes>>>> for Unanswered<hyper::Error> {
    fn from(mut error: TrySendError<Request<Full<Bytes>>>) -> Self {
        let kept = error.take_message().is_some();
        let error = error.into_error();
        Self { unsent: kept || was_not_processed(&error), error }
    }
}

/// Whether the provider says that it has not looked at the request: it refused the stream, or is leaving
/// in peace and had not come to it (RFC 9113, section 8.7). One that leaves because it is asked for too
/// much may have.
fn was_not_processed(error: &hyper::Error) -> bool {
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else {
        return false;
    };
    let reason = error.reason();
    error.is_remote()
        && ((error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM))
            || (error.is_go_away() && reason == Some(h2::Reason::NO_ERROR)))
}

/// One shared HTTP/2 connection. Clones share it; the last one dropped ends its task.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    shared: Arc<Shared>,
}

struct Shared {
    streams: AtomicUsize,
    /// When its last stream ended.
    idle_since: Mutex<Instant>,
    /// Told when a full connection has room again.
    returned: Arc<Notify>,
    driver: AbortHandle,
    _open: OwnedSemaphorePermit,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Http2 {
    pub(crate) async fn handshake(
        transport: Transport,
        open: OwnedSemaphorePermit,
        returned: Arc<Notify>,
    ) -> Result<Self, ConnectError> {
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_PATIENCE)
            .max_send_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(transport))
            .await
            .map_err(|error| ConnectError::Http(error.into()))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "an HTTP/2 connection ended");
            }
        })
        .abort_handle();
        let idle_since = Mutex::new(Instant::now());
        let shared = Shared { streams: AtomicUsize::new(0), idle_since, returned, driver, _open: open };
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
        Http2Stream { body: None, connection: self.clone() }
    }
}

/// One stream's place on a shared connection. Dropping it resets the stream.
pub(crate) struct Http2Stream {
    body: Option<Incoming>,
    connection: Http2,
}

impl Http2Stream {
    /// Sends a request with an absolute URI and reads the head of its answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Bytes>,
    ) -> Result<response::Parts, Unanswered<hyper::Error>> {
        let response = self.connection.sender.try_send_request(request.map(Full::new)).await?;
        let (parts, body) = response.into_parts();
        self.body = Some(body);
        Ok(parts)
    }

    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    // A copy: what comes is a slice of a buffer that all streams share.
                    Ok(data) => return Poll::Ready(Some(Ok(Bytes::copy_from_slice(&data)))),
                    Err(_trailers) => {}
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
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
