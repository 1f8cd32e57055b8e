//! A request of 2 KB and an answer of 1.5 KB over a pipe, and a stream of 64 events at hand: this crate and
//! hyper, the same client and service.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::VecDeque, convert::Infallible};

use bytes::Bytes;
use chimera_http1::Connection;
use criterion::{Criterion, criterion_group, criterion_main};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

struct Events(VecDeque<Bytes>);

impl futures_core::Stream for Events {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front().map(|event| Ok(Frame::data(event))))
    }
}

type Body = Either<Full<Bytes>, StreamBody<Events>>;

async fn answer<B>(request: http::Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let streams = request.uri().path() == "/stream";
    request.into_body().collect().await.unwrap();
    let body = match streams {
        true => {
            let event = Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n");
            Either::Right(StreamBody::new(Events(vec![event; 64].into())))
        }
        false => Either::Left(Full::new(Bytes::from_static(&[b'x'; 1500]))),
    };
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}

fn request(path: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nauthorization: Bearer x\r\n\
         accept: */*\r\nuser-agent: bench\r\ncontent-length: 2048\r\n\r\n"
    );
    [head.into_bytes(), vec![b'y'; 2048]].concat()
}

async fn exchange(client: &mut DuplexStream, request: &[u8], buffer: &mut Vec<u8>) {
    client.write_all(request).await.unwrap();
    buffer.clear();
    loop {
        client.read_buf(buffer).await.unwrap();
        if buffer.ends_with(b"xx") || buffer.ends_with(b"0\r\n\r\n") {
            return;
        }
    }
}

fn connection(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (name, path) in [("whole", "/"), ("stream", "/stream")] {
        let mut group = criterion.benchmark_group(name);
        let request = request(path);
        for server in ["chimera-http1", "hyper"] {
            let (mut client, far) = tokio::io::duplex(256 * 1024);
            let served = runtime.spawn(async move {
                if server == "hyper" {
                    let service = service_fn(async |request| Ok::<_, Infallible>(answer(request).await));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
                } else {
                    Connection::new(far, answer).await;
                }
            });
            let mut buffer = Vec::with_capacity(64 * 1024);
            group.bench_function(server, |bencher| {
                bencher.iter(|| runtime.block_on(exchange(&mut client, &request, &mut buffer)));
            });
            served.abort();
        }
        group.finish();
    }
}

criterion_group!(benches, connection);
criterion_main!(benches);
