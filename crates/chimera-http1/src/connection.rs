//! One connection of a client, from its first byte to its last.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    answer::{self, Asked, Framing},
    body::RequestBody,
    outbox::LAST_CHUNK,
    scratch,
    wire::{Attended, Came, Wire},
};

/// From a request to its answer.
pub trait Service {
    /// The answer's body.
    type Body: Body<Data = Bytes> + Unpin;
    /// The answer on its way. Dropped when the client leaves.
    type Future: Future<Output = Response<Self::Body>>;

    /// Answers a request. Called for one at a time.
    fn call(&mut self, request: Request<RequestBody>) -> Self::Future;

    /// What a client is answered whose head cannot be read, and who deserves this status for it; the connection
    /// closes behind it. Without anything it is told the status alone.
    fn refuse(&mut self, status: StatusCode) -> Option<Response<Self::Body>> {
        let _ = status;
        None
    }
}

impl<F, Fut, B> Service for F
where
    F: FnMut(Request<RequestBody>) -> Fut,
    Fut: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    type Body = B;
    type Future = Fut;

    fn call(&mut self, request: Request<RequestBody>) -> Fut {
        self(request)
    }
}

/// How a connection ended.
#[derive(Debug)]
pub enum Ended<T> {
    /// It is over: either side closed it, or it failed.
    Closed,
    /// It begins with the preface of HTTP/2.
    Http2 {
        /// The pipe.
        io: T,
        /// What was read from it, the preface first.
        read: Bytes,
    },
}

pin_project_lite::pin_project! {
    /// A connection being served. A future of its end; dropping it closes the connection.
    #[must_use = "futures do nothing unless polled"]
    pub struct Connection<T, S: Service> {
        wire: Wire<T>,
        service: S,
        draining: bool,
        phase: Phase<S::Body>,
        // In a box, so that a connection that waits or streams holds no room for it.
        answering: Option<Pin<Box<S::Future>>>,
    }
}

enum Phase<B> {
    /// A request is awaited.
    Head,
    /// The service has it.
    Answering { asked: Asked, keeps: bool },
    /// Its answer goes out.
    Sending(Sending<B>),
    /// The last bytes go out, and the client gets to read them.
    Closing,
}

struct Sending<B> {
    /// `None` when all of it is in the outbox.
    body: Option<B>,
    framing: Framing,
    keeps: bool,
    failed: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Puts the head of an answer into the outbox. `keeps` is whether the connection may be kept.
    fn begin<T>(response: Response<B>, asked: Asked, keeps: bool, wire: &mut Wire<T>) -> Self {
        let (framing, keeps) = answer::write(&response, asked, keeps, wire.outbox.gathered());
        let (parts, body) = response.into_parts();
        scratch::give_back_headers(parts.headers);
        Self { body: Some(body), framing, keeps, failed: false }
    }

    /// Moves what the body has ready into the outbox; false if it has more to say later.
    fn fill<T>(&mut self, wire: &mut Wire<T>, cx: &mut Context<'_>) -> bool {
        while !wire.outbox.has_enough()
            && let Some(body) = &mut self.body
        {
            if matches!(self.framing, Framing::Nothing | Framing::Length(0)) {
                self.body = None;
                break;
            }
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else { return false };
            match frame {
                Some(Ok(frame)) => self.put(wire, frame.into_data().unwrap_or_default()),
                Some(Err(_)) => self.fail(),
                None => match self.framing {
                    Framing::Length(_) => self.fail(),
                    Framing::Chunked => {
                        self.body = None;
                        wire.outbox.gathered().extend_from_slice(LAST_CHUNK);
                    }
                    Framing::Nothing | Framing::UntilClose => self.body = None,
                },
            }
        }
        true
    }

    fn put<T>(&mut self, wire: &mut Wire<T>, data: Bytes) {
        match &mut self.framing {
            Framing::Nothing => {}
            Framing::Chunked => wire.outbox.chunk(data),
            Framing::UntilClose => wire.outbox.plain(data),
            Framing::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(after) => {
                    *left = after;
                    wire.outbox.plain(data);
                    if after == 0 {
                        self.body = None;
                    }
                }
                None => self.fail(),
            },
        }
    }

    fn fail(&mut self) {
        (self.body, self.failed) = (None, true);
    }
}

/// What a step of a connection leads to.
enum Step {
    On,
    Wait,
    End,
}

impl<T, S> Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    /// Serves a client on a pipe.
    pub fn new(io: T, service: S) -> Self {
        Self { wire: Wire::new(io), service, draining: false, phase: Phase::Head, answering: None }
    }

    /// Lets the answer under way be the last; without one, the connection ends when it is next polled.
    pub fn graceful_shutdown(self: Pin<&mut Self>) {
        *self.project().draining = true;
    }

    /// A step of the exchange under way.
    fn step(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Step {
        let this = self.project();
        match this.phase {
            Phase::Head => Step::On,
            Phase::Answering { asked, keeps } => {
                let Some(answering) = this.answering else { return Step::End };
                let Poll::Ready(response) = answering.as_mut().poll(cx) else {
                    return match this.wire.attend(cx) {
                        Attended::Again => Step::On,
                        Attended::Waits => Step::Wait,
                        Attended::Left => Step::End,
                    };
                };
                *this.answering = None;
                let keeps = this.wire.finish_body() && *keeps && !*this.draining;
                *this.phase = Phase::Sending(Sending::begin(response, *asked, keeps, this.wire));
                Step::On
            }
            Phase::Sending(sending) => {
                let has_more = !sending.fill(this.wire, cx);
                if !this.wire.outbox.is_empty() {
                    match this.wire.poll_write(cx) {
                        Poll::Ready(Ok(())) if !has_more => return Step::On,
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Step::End,
                        // All of it is here: a client that says no more may still be reading.
                        Poll::Pending if sending.body.is_none() => return Step::Wait,
                        Poll::Pending => return this.wire.attend(cx).to_step(),
                    }
                } else if sending.body.is_none() {
                    match (sending.failed, sending.keeps) {
                        (true, _) => return Step::End,
                        (false, true) => *this.phase = Phase::Head,
                        (false, false) => *this.phase = Phase::Closing,
                    }
                    return Step::On;
                }
                this.wire.attend(cx).to_step()
            }
            Phase::Closing => match this.wire.poll_close(!*this.draining, cx) {
                Poll::Ready(()) => Step::End,
                Poll::Pending => Step::Wait,
            },
        }
    }
}

impl Attended {
    fn to_step(self) -> Step {
        match self {
            Self::Again => Step::On,
            Self::Waits => Step::Wait,
            Self::Left => Step::End,
        }
    }
}

impl<T, S> Future for Connection<T, S>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service,
{
    type Output = Ended<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<T>> {
        loop {
            let this = self.as_mut().project();
            if matches!(this.phase, Phase::Head) {
                if *this.draining && this.wire.is_idle() {
                    return Poll::Ready(Ended::Closed);
                }
                match this.wire.poll_head(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Came::Closed) => return Poll::Ready(Ended::Closed),
                    Poll::Ready(Came::Http2(read)) => {
                        return Poll::Ready(match this.wire.take_io() {
                            Some(io) => Ended::Http2 { io, read },
                            None => Ended::Closed,
                        });
                    }
                    Poll::Ready(Came::Refused(status)) => {
                        let asked = Asked::new(&Method::GET, Version::HTTP_11);
                        *this.phase = match this.service.refuse(status) {
                            Some(response) => {
                                Phase::Sending(Sending::begin(response, asked, false, this.wire))
                            }
                            None => {
                                answer::refuse(status, this.wire.outbox.gathered());
                                Phase::Closing
                            }
                        };
                    }
                    Poll::Ready(Came::Request(request, keeps)) => {
                        let asked = Asked::new(request.method(), request.version());
                        *this.phase = Phase::Answering { asked, keeps };
                        // Made in its box: it may have kilobytes, nearly all of them room for later.
                        let answering = Box::write(Box::new_uninit(), this.service.call(request));
                        *this.answering = Some(Box::into_pin(answering));
                    }
                }
            }
            match self.as_mut().step(cx) {
                Step::On => {}
                Step::Wait => return Poll::Pending,
                Step::End => return Poll::Ready(Ended::Closed),
            }
        }
    }
}
