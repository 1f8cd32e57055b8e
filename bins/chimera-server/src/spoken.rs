//! The protocol that a client speaks: HTTP/1.1 by `chimera-http1`, HTTP/2 by hyper where it begins so.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use chimera_http1::{Connection, Ended, RequestBody, Service};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::oneshot};

use crate::connection::{Graceful, Watched};

/// The most that is buffered of one stream.
const MAX_BUFFER: usize = 64 * 1024;

/// The body of a request, whichever protocol it came by.
pub(crate) enum Asked {
    One(RequestBody),
    Two(Incoming),
}

impl Body for Asked {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(match self.get_mut() {
            Self::One(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Into::into)),
            Self::Two(body) => ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Into::into)),
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::One(body) => body.is_end_stream(),
            Self::Two(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::One(body) => body.size_hint(),
            Self::Two(body) => body.size_hint(),
        }
    }
}

/// The service, asked by HTTP/1.1, and what is said to a head that cannot be read.
pub(crate) struct ByOne<F, R> {
    service: F,
    refuse: R,
}

impl<F, R, Fut, B> Service for ByOne<F, R>
where
    F: Fn(Request<Asked>) -> Fut,
    R: Fn(StatusCode) -> Response<B>,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    type Body = B;
    type Future = Fut;

    fn call(&mut self, request: Request<RequestBody>) -> Fut {
        (self.service)(request.map(Asked::One))
    }

    fn refuse(&mut self, status: StatusCode) -> Option<Response<B>> {
        Some((self.refuse)(status))
    }
}

/// A client's socket.
type Client = Watched<TcpStream>;

pin_project_lite::pin_project! {
    /// A connection in the protocol that it turns out to speak.
    pub(crate) struct Spoken<F, R>
    where
        ByOne<F, R>: Service,
    {
        #[pin]
        one: Connection<Client, ByOne<F, R>>,
        service: F,
        two: Option<Two>,
    }
}

impl<F, R, Fut, B> Spoken<F, R>
where
    F: Fn(Request<Asked>) -> Fut + Clone,
    R: Fn(StatusCode) -> Response<B>,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    pub(crate) fn new(io: Client, service: F, refuse: R) -> Self {
        Self { one: Connection::new(io, ByOne { service: service.clone(), refuse }), service, two: None }
    }
}

impl<F, R, Fut, B> Future for Spoken<F, R>
where
    F: Fn(Request<Asked>) -> Fut + Clone + Send + 'static,
    R: Fn(StatusCode) -> Response<B>,
    Fut: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.two.is_none() {
            match ready!(this.one.poll(cx)) {
                Ended::Closed => return Poll::Ready(()),
                Ended::Http2 { mut io, read } => {
                    io.unread(read);
                    *this.two = Some(Two::new(io, this.service.clone()));
                }
            }
        }
        match this.two {
            Some(two) => two.running.as_mut().poll(cx),
            None => Poll::Ready(()),
        }
    }
}

impl<F, R> Graceful for Spoken<F, R>
where
    Self: Future,
    ByOne<F, R>: Service,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        let this = self.project();
        match this.two {
            Some(two) => two.goes_on = None,
            None => this.one.graceful_shutdown(),
        }
    }
}

/// A connection of HTTP/2 under way.
struct Two {
    running: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Dropped when it is to be the last.
    goes_on: Option<oneshot::Sender<()>>,
}

impl Two {
    /// Serves it, every limit set by hand.
    fn new<F, Fut, B>(io: Client, service: F) -> Self
    where
        F: Fn(Request<Asked>) -> Fut + Send + 'static,
        Fut: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let answered = move |request: Request<Incoming>| {
            let answering = service(request.map(Asked::Two));
            async move { Ok::<_, Infallible>(answering.await) }
        };
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(100)
            .max_header_list_size(16 * 1024)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(20)
            .max_send_buf_size(MAX_BUFFER)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let connection = builder.serve_connection(TokioIo::new(io), service_fn(answered));
        let (goes_on, mut gone) = oneshot::channel::<()>();
        let running = async move {
            let mut connection = pin!(connection);
            let mut is_told = false;
            // Errors here are clients that left, or broke the protocol.
            let _: hyper::Result<()> = poll_fn(|cx| {
                if !is_told && Pin::new(&mut gone).poll(cx).is_ready() {
                    is_told = true;
                    connection.as_mut().graceful_shutdown();
                }
                connection.as_mut().poll(cx)
            })
            .await;
        };
        Self { running: Box::pin(running), goes_on: Some(goes_on) }
    }
}
