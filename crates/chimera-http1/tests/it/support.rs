//! A client on a pipe, a service, and bodies that come in pieces.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use chimera_http1::{Connection, Ended, RequestBody};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

/// A connection being served, and its client.
pub(crate) struct Client {
    pub(crate) io: DuplexStream,
    pub(crate) served: JoinHandle<Ended<DuplexStream>>,
}

impl Client {
    pub(crate) fn new<F, Fut, B>(service: F) -> Self
    where
        F: FnMut(Request<RequestBody>) -> Fut + Send + 'static,
        Fut: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
    {
        Self::with_room(64 * 1024, service)
    }

    /// One whose pipe holds so many bytes in each direction.
    pub(crate) fn with_room<F, Fut, B>(room: usize, service: F) -> Self
    where
        F: FnMut(Request<RequestBody>) -> Fut + Send + 'static,
        Fut: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes> + Unpin + Send + 'static,
    {
        let (io, far) = tokio::io::duplex(room);
        Self { io, served: tokio::spawn(Connection::new(far, service)) }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Everything up to the end, dates aside.
    pub(crate) async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        self.io.read_to_end(&mut all).await.unwrap();
        undated(&all)
    }

    /// Reads until so many bytes have come behind the first head, or the end.
    pub(crate) async fn some(&mut self, behind: usize) -> String {
        let mut all = Vec::new();
        loop {
            let end = memchr::memmem::find(&all, b"\r\n\r\n").map(|at| at + 4);
            if end.is_some_and(|end| all.len() >= end + behind) {
                return undated(&all);
            }
            if self.io.read_buf(&mut all).await.unwrap() == 0 {
                return undated(&all);
            }
        }
    }
}

fn undated(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

/// A service that says what it was asked.
pub(crate) async fn echo(request: Request<RequestBody>) -> Response<http_body_util::Full<Bytes>> {
    let line = format!("{} {} ", request.method(), request.uri());
    let text = match request.into_body().collect().await {
        Ok(body) => [line.as_bytes(), &body.to_bytes()].concat(),
        Err(error) => format!("{line}{error}").into_bytes(),
    };
    Response::new(Bytes::from(text).into())
}

/// The bodies of answers of known length, one after the other.
pub(crate) fn bodies(text: &str) -> Vec<String> {
    let (mut rest, mut bodies) = (text, Vec::new());
    while let Some((head, after)) = rest.split_once("\r\n\r\n") {
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |text| text.split("\r\n").next().unwrap().parse().unwrap());
        let (body, next) = after.split_at(length);
        bodies.push(body.to_owned());
        rest = next;
    }
    assert_eq!(rest, "");
    bodies
}

/// What a body is told to say, and what became of it.
#[derive(Default)]
pub(crate) struct Script {
    pieces: Mutex<(VecDeque<Said>, Option<Waker>)>,
    /// How many bodies are alive.
    pub(crate) alive: AtomicUsize,
    pub(crate) polls: AtomicUsize,
}

enum Said {
    Data(Bytes),
    Fault,
    End,
}

impl Script {
    fn say(&self, said: Said) {
        let mut pieces = self.pieces.lock().unwrap();
        pieces.0.push_back(said);
        if let Some(waker) = pieces.1.take() {
            waker.wake();
        }
    }

    pub(crate) fn data(&self, bytes: impl Into<Bytes>) {
        self.say(Said::Data(bytes.into()));
    }

    pub(crate) fn fault(&self) {
        self.say(Said::Fault);
    }

    pub(crate) fn end(&self) {
        self.say(Said::End);
    }

    pub(crate) fn body(self: &Arc<Self>, length: Option<u64>) -> Pieces {
        self.alive.fetch_add(1, SeqCst);
        Pieces { script: self.clone(), length }
    }

    pub(crate) async fn gone(&self) {
        while self.alive.load(SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A body that says what its script does.
pub(crate) struct Pieces {
    script: Arc<Script>,
    length: Option<u64>,
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.script.alive.fetch_sub(1, SeqCst);
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        self.script.polls.fetch_add(1, SeqCst);
        let mut pieces = self.script.pieces.lock().unwrap();
        match pieces.0.pop_front() {
            Some(Said::Data(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Some(Said::Fault) => Poll::Ready(Some(Err("it broke"))),
            Some(Said::End) => Poll::Ready(None),
            None => {
                pieces.1 = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
