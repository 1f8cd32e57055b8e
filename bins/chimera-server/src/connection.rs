//! One client connection: what is read and written on it is watched, so that a client which stalls is
//! dropped.
//!
//! hyper can time out the head of a request, at the price of a timer per request. Here one timer per
//! connection ticks once a second and looks at three numbers that the connection leaves behind; it also
//! lets a draining server and a stream past its time be noticed.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Interval, MissedTickBehavior},
};

use chimera_gateway::Body;

use crate::stream::{Stream, Streams};

/// How often a connection is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Something that began since the last tick.
const UNSEEN: u64 = u64::MAX;

/// How long a client may stall.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    pub(crate) write_stall: Duration,
}

/// What a connection leaves behind for the look at it. Times are milliseconds after `opened`.
#[derive(Debug)]
pub(crate) struct Activity {
    opened: Instant,
    /// Requests being answered.
    answering: AtomicU32,
    /// Whether bytes of a head have come that is not whole yet.
    reading: AtomicBool,
    /// Whether it speaks HTTP/2, where bytes between requests are frames such as pings, and no head.
    http2: AtomicBool,
    /// When that, or the idleness between requests, began; `UNSEEN` until a tick has seen it. Asking the
    /// clock is left to the tick: a request does not pay for it.
    since: AtomicU64,
    /// When a write first found the client not reading; 0 while it reads.
    blocked: AtomicU64,
    /// Where it speaks HTTP/2, its streams.
    streams: Streams,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            answering: AtomicU32::new(0),
            reading: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            since: AtomicU64::new(UNSEEN),
            blocked: AtomicU64::new(0),
            streams: Streams::default(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A whole head has come.
    pub(crate) fn request(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Relaxed);
        self.reading.store(false, Relaxed);
        Answering(self.clone())
    }

    /// Whether nothing is being answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.answering.load(Relaxed) == 0
    }

    /// Since when it is idle, or has been sending a head, as far as was looked.
    pub(crate) fn used(&self) -> Instant {
        match self.since.load(Relaxed) {
            UNSEEN => Instant::now(),
            since => self.opened + Duration::from_millis(since),
        }
    }

    fn is_stalled(&self, patience: &Patience) -> bool {
        let over =
            |since: u64, limit: Duration| u128::from(self.now().saturating_sub(since)) > limit.as_millis();
        let blocked = self.blocked.load(Relaxed);
        if blocked > 0 {
            return over(blocked, patience.write_stall);
        }
        if !self.is_idle() {
            return false;
        }
        let since = match self.since.load(Relaxed) {
            UNSEEN => {
                self.since.store(self.now(), Relaxed);
                return false;
            }
            since => since,
        };
        let is_head = self.reading.load(Relaxed) && !self.http2.load(Relaxed);
        let limit = if is_head { patience.header } else { patience.idle };
        over(since, limit)
    }
}

/// A request being answered, to the last byte of its body.
#[derive(Debug)]
pub(crate) struct Answering(Arc<Activity>);

impl Answering {
    /// Watches the body of its answer as a stream of the connection.
    pub(crate) fn stream(self, body: Body) -> Stream {
        let activity = self.0.clone();
        activity.streams.watch(body, self)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.since.store(UNSEEN, Relaxed);
        self.0.answering.fetch_sub(1, Relaxed);
    }
}

/// A pipe whose reads and writes are noted.
pub(crate) struct Watched<T> {
    io: T,
    activity: Arc<Activity>,
    /// Read before, to be read again.
    unread: Bytes,
}

impl<T> Watched<T> {
    pub(crate) fn new(io: T, activity: Arc<Activity>) -> Self {
        Self { io, activity, unread: Bytes::new() }
    }

    /// Has bytes that were read from it read again.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    fn note_write<R>(&self, polled: &Poll<R>) {
        let blocked = &self.activity.blocked;
        if polled.is_ready() {
            if blocked.load(Relaxed) != 0 {
                blocked.store(0, Relaxed);
            }
            // The last of an answer is written when nothing is being answered any more: that is not
            // idleness. On HTTP/2 these may be pings.
            if self.activity.answering.load(Relaxed) == 0 && !self.activity.http2.load(Relaxed) {
                self.activity.since.store(UNSEEN, Relaxed);
            }
        } else if blocked.load(Relaxed) == 0 {
            blocked.store(self.activity.now().max(1), Relaxed);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let length = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let activity = &self.activity;
        if buf.filled().len() > before
            && activity.answering.load(Relaxed) == 0
            && !activity.reading.swap(true, Relaxed)
        {
            activity.since.store(UNSEEN, Relaxed);
            // The first bytes of HTTP/2 are those of no method of HTTP/1.
            if buf.filled().get(before..).is_some_and(|read| read.starts_with(b"PRI")) {
                activity.http2.store(true, Relaxed);
            }
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.note_write(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// A connection that can be asked to finish what it is doing and then close.
pub(crate) trait Graceful: Future {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

/// What open connections are told of the server's end.
#[derive(Clone, Default)]
pub(crate) struct Farewell(Arc<AtomicU8>);

impl Farewell {
    /// Another process serves who comes next. Those of HTTP/1 are told with their next answer, and those of HTTP/2 now:
    /// only these can be told without cutting off a request that is on its way.
    const LEAVING: u8 = 1;
    /// All are told: no more requests are wanted.
    const DRAINING: u8 = 2;

    pub(crate) fn leaving(&self) {
        self.0.store(Self::LEAVING, Relaxed);
    }

    pub(crate) fn draining(&self) {
        self.0.store(Self::DRAINING, Relaxed);
    }

    fn is_for(&self, http2: bool) -> bool {
        self.0.load(Relaxed) >= if http2 { Self::LEAVING } else { Self::DRAINING }
    }
}

/// Drives a connection until it ends or its client stalls.
pub(crate) struct Guarded<C> {
    connection: Pin<Box<C>>,
    activity: Arc<Activity>,
    patience: Patience,
    farewell: Farewell,
    told: bool,
    tick: Interval,
}

impl<C: Graceful> Guarded<C> {
    pub(crate) fn new(
        connection: C,
        activity: Arc<Activity>,
        patience: Patience,
        farewell: Farewell,
    ) -> Self {
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { connection: Box::pin(connection), activity, patience, farewell, told: false, tick }
    }
}

impl<C: Graceful> Future for Guarded<C> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.connection.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.tick.poll_tick(cx).is_pending() {
                return Poll::Pending;
            }
            self.activity.streams.look(self.patience.write_stall);
            if self.activity.is_stalled(&self.patience) {
                return Poll::Ready(());
            }
            if !self.told && self.farewell.is_for(self.activity.http2.load(Relaxed)) {
                self.told = true;
                self.connection.as_mut().graceful_shutdown();
            }
        }
    }
}
