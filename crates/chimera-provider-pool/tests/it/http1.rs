//! The client's half of HTTP/1.1 against hyper's server, over pipes of all widths.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use chimera_provider_pool::{
    AtLimit, Bounds, Connect, Connected, Connecting, Deployment, Group, Reply, SendError, Target, Transport,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Duration, Instant},
};

use crate::support::{Whole, group, settings};

/// Hands out pipes of a width, and their other ends to `serve`.
struct Pipes<F> {
    width: usize,
    opened: Arc<AtomicUsize>,
    serve: F,
}

impl<F: Fn(DuplexStream) + Send + Sync> Connect for Pipes<F> {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(self.width);
            self.opened.fetch_add(1, SeqCst);
            (self.serve)(theirs);
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: false })
        })
    }
}

fn piped(
    width: usize,
    serve: impl Fn(DuplexStream) + Send + Sync + 'static,
) -> (Arc<Group>, Arc<AtomicUsize>) {
    let opened = Arc::new(AtomicUsize::new(0));
    let pipes = Pipes { width, opened: opened.clone(), serve };
    (group(settings("http://pipe"), Arc::new(pipes)), opened)
}

async fn post(group: &Group, body: Bytes) -> Result<Reply, SendError> {
    let bounds = Bounds {
        deadline: Instant::now() + Duration::from_secs(10),
        shortened: false,
        body_deadline: None,
        idle: None,
        hold_limit: 1 << 24,
        at_limit: AtLimit::Refuse,
        worker: 0,
    };
    let build = move |_: &Deployment| Request::post("/x").header("x-a", "b").body(body.clone());
    group.send(&bounds, &mut Whole, &build).await
}

/// A body that is ready piece by piece and does not tell its length.
struct Pieces(VecDeque<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

/// Answers with what it got, in pieces of a size: of stated length, or in chunks.
fn echo(pipe: DuplexStream, piece: usize, chunked: bool) {
    let service = service_fn(move |request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let length = body.len();
        let pieces = body.chunks(piece).map(Bytes::copy_from_slice).collect();
        let mut response = Response::new(Pieces(pieces));
        if !chunked {
            response.headers_mut().insert("content-length", length.into());
        }
        Ok::<_, Infallible>(response)
    });
    tokio::spawn(async move {
        // How it ends is the client's affair.
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(pipe), service).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is sent comes back, through a pipe of any width, in pieces of any size; and the connection
    /// is used again.
    #[test]
    fn u21_what_is_sent_comes_back_however_it_is_cut(
        width in 1_usize..200,
        piece in 1_usize..5000,
        chunked in any::<bool>(),
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..4000), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (group, opened) = piped(width, move |pipe| echo(pipe, piece, chunked));
            for body in bodies {
                let body = Bytes::from(body);
                let reply = post(&group, body.clone()).await.unwrap();
                assert_eq!(reply.held, body);
            }
            assert_eq!(opened.load(SeqCst), 1);
        });
    }
}

/// A server that reads what it wants, writes what it wants, and does as it likes with the connection.
fn scripted(
    read: usize,
    answer: &'static [u8],
    stays: bool,
) -> impl Fn(DuplexStream) + Send + Sync + 'static {
    move |mut pipe| {
        tokio::spawn(async move {
            let mut request = vec![0; read];
            let _ = pipe.read_exact(&mut request).await;
            let _ = pipe.write_all(answer).await;
            while stays && pipe.read(&mut request).await.is_ok_and(|read| read > 0) {}
        });
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// RFC 9112, section 9.3: a connection is kept only where both sides know where it stands.
#[tokio::test]
async fn u09_a_connection_in_doubt_is_not_used_again() {
    let cases: [(&'static [u8], usize); 6] = [
        (OK, 1),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello", 2),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 2),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n", 2),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n?", 2),
        (b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 1),
    ];
    for (answer, connections) in cases {
        // A server that answers each request in turn.
        let (group, opened) = piped(4096, move |mut pipe| {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while pipe.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let _ = pipe.write_all(answer).await;
                }
            });
        });
        for _ in 0..2 {
            let reply = post(&group, Bytes::from_static(b"hi")).await.unwrap();
            assert_eq!(reply.held, "hello", "{}", answer.escape_ascii());
        }
        assert_eq!(opened.load(SeqCst), connections, "{}", answer.escape_ascii());
    }
}

/// A provider may refuse a request before it has read all of it: its word is passed on, the rest is not
/// sent, and the connection is not used again.
#[tokio::test]
async fn u25_an_answer_before_the_end_of_the_request_counts() {
    let refusal = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge";
    for stays in [true, false] {
        let (group, opened) = piped(256, scripted(100, refusal, stays));
        for _ in 0..2 {
            let reply = post(&group, Bytes::from(vec![b'x'; 100_000])).await.unwrap();
            assert_eq!((reply.parts.status.as_u16(), &reply.held[..]), (413, &b"large"[..]));
        }
        assert_eq!(opened.load(SeqCst), 2);
    }
}

/// One that accepts may begin its answer before it has read the request, and waits for the rest of it.
#[tokio::test(start_paused = true)]
async fn the_rest_of_a_request_is_sent_while_its_answer_is_read() {
    const BODY: usize = 100_000;
    let (group, opened) = piped(256, |mut pipe| {
        tokio::spawn(async move {
            let mut head = [0; 100];
            pipe.read_exact(&mut head).await.unwrap();
            pipe.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nof\r\n")
                .await
                .unwrap();
            let end = head.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            let (mut read, mut chunk) = (head.len() - end, [0; 1000]);
            while read < BODY {
                read += pipe.read(&mut chunk).await.unwrap();
            }
            pipe.write_all(b"4\r\n all\r\n0\r\n\r\n").await.unwrap();
            // It stays open.
            let _ = pipe.read(&mut chunk).await;
        });
    });
    for _ in 0..2 {
        let reply = post(&group, Bytes::from(vec![b'x'; BODY])).await.unwrap();
        assert_eq!(reply.held, "of all");
    }
    assert_eq!(opened.load(SeqCst), 2, "it was not known in time that all had gone");
}

#[tokio::test]
async fn a_body_until_close_ends_with_the_connection() {
    let (group, opened) = piped(16, scripted(20, b"HTTP/1.1 200 OK\r\n\r\nhello and goodbye", false));
    for connections in 1..3 {
        assert_eq!(post(&group, Bytes::from_static(b"hi")).await.unwrap().held, "hello and goodbye");
        assert_eq!(opened.load(SeqCst), connections);
    }
}

#[tokio::test]
async fn u05_u09_what_ends_too_soon_or_is_no_http_is_broken_and_not_sent_again() {
    let cases: [&'static [u8]; 7] = [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ];
    for answer in cases {
        let (group, opened) = piped(4096, scripted(20, answer, false));
        match post(&group, Bytes::from_static(b"hi")).await {
            Err(SendError::Broken(_) | SendError::InvalidAnswer { .. }) => {}
            other => panic!("{}: {:?}", answer.escape_ascii(), other.map(|reply| reply.held)),
        }
        assert_eq!(opened.load(SeqCst), 1);
    }
}
