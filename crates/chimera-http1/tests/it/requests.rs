//! What is read of requests.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use chimera_http1::{Connection, Ended, RequestBody, Service};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, bodies, echo};

#[tokio::test]
async fn a_request_is_answered_and_the_next_one_too() {
    let mut client = Client::new(echo);
    client.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let wanted = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nGET /a ";
    assert_eq!(client.some(7).await, wanted);
    client.send("POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello").await;
    assert!(client.some(13).await.ends_with("POST /b hello"));
    client.send("GET /c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(client.rest().await.contains("connection: close\r\n\r\nGET /c "));
    assert!(matches!(client.served.await.unwrap(), Ended::Closed));
}

#[tokio::test]
async fn c06_pipelined_requests_are_answered_in_order() {
    let mut client = Client::new(echo);
    let mut all = String::new();
    for n in 0..50 {
        all += &match n % 3 {
            0 => format!("GET /{n} HTTP/1.1\r\nhost: x\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"),
            _ => format!(
                "POST /{n} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
            ),
        };
    }
    all += "GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    client.send(all).await;
    let bodies = bodies(&client.rest().await);
    for (n, body) in bodies.iter().take(50).enumerate() {
        assert_eq!(*body, if n % 3 == 0 { format!("GET /{n} ") } else { format!("POST /{n} hi") });
    }
    assert_eq!((bodies.len(), &*bodies[50]), (51, "GET /last "));
}

#[tokio::test]
async fn c17_leave_to_send_a_body_is_given_when_it_is_read_and_only_then() {
    let mut client = Client::new(echo);
    client.send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").await;
    let mut leave = [0; 25];
    client.io.read_exact(&mut leave).await.unwrap();
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert!(client.some(12).await.ends_with("POST / hello"));
    // Not when the body is here already.
    client.send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello").await;
    assert!(client.some(12).await.starts_with("HTTP/1.1 200"));
    // Nor when nobody reads it: then the place of the next request is not known.
    let refuse = |_| async { Response::builder().status(417).body(Full::<Bytes>::default()).unwrap() };
    let mut client = Client::new(refuse);
    client.send("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n").await;
    let wanted = "HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    assert_eq!(client.rest().await, wanted);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_the_client_gets_to_read_that() {
    let wanted =
        |status: &str| format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let refused = async |bytes: Vec<u8>| {
        // A pipe that holds less than is sent: the rest is read and dropped.
        let client = Client::with_room(1024, echo);
        let (mut reading, mut writing) = tokio::io::split(client.io);
        let writing = tokio::spawn(async move {
            let _ = writing.write_all(&bytes).await;
            let _ = writing.shutdown().await;
        });
        let mut all = Vec::new();
        reading.read_to_end(&mut all).await.unwrap();
        writing.await.unwrap();
        client.served.await.unwrap();
        let text = String::from_utf8(all).unwrap();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect::<String>()
    };
    assert_eq!(refused(b"garbage\r\n\r\n".to_vec()).await, wanted("400 Bad Request"));
    let large = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(200_000));
    assert_eq!(refused(large.into()).await, wanted("431 Request Header Fields Too Large"));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "b".repeat(40_000));
    assert_eq!(refused(long.into()).await, wanted("414 URI Too Long"));
    let smuggled = "POST / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
    assert_eq!(refused(smuggled.into()).await, wanted("400 Bad Request"));
}

/// Says in a body why a head is refused.
struct Telling;

impl Service for Telling {
    type Body = Full<Bytes>;
    type Future = std::future::Ready<Response<Self::Body>>;

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        std::future::ready(Response::new(Full::from(request.uri().to_string())))
    }

    fn refuse(&mut self, status: StatusCode) -> Option<Response<Self::Body>> {
        let body = Full::from(format!("it is {}", status.as_u16()));
        Some(Response::builder().status(status).header("a", "b").body(body).unwrap())
    }
}

#[tokio::test]
async fn c04_a_service_says_what_a_client_is_told_whose_head_cannot_be_read() {
    for (head, wanted) in [
        ("garbage\r\n\r\n".to_owned(), "400 Bad Request"),
        (format!("GET / HTTP/1.1\r\na: {}", "b".repeat(70_000)), "431 Request Header Fields Too Large"),
    ] {
        let (mut client, far) = tokio::io::duplex(1 << 20);
        let served = tokio::spawn(Connection::new(far, Telling));
        client.write_all(format!("GET /a HTTP/1.1\r\nhost: x\r\n\r\n{head}").as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = String::new();
        client.read_to_string(&mut all).await.unwrap();
        served.await.unwrap();
        let (first, second) = all.split_once("/aHTTP/1.1 ").unwrap();
        assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{all}");
        let (head, body) = second.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(wanted) && head.contains("a: b\r\n"), "{head}");
        assert!(head.contains("content-length: 9\r\n") && head.contains("connection: close"), "{head}");
        assert_eq!(body, format!("it is {}", &wanted[..3]));
    }
}

#[tokio::test]
async fn chunks_that_cannot_be_read_fail_the_body_and_close_the_connection() {
    let mut client = Client::new(echo);
    client.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\nGET / HTTP/1.1\r\n\r\n").await;
    client.io.shutdown().await.unwrap();
    let text = client.rest().await;
    assert!(text.ends_with("POST / the body is not validly chunked"), "{text}");
    assert!(text.contains("connection: close") && text.matches("HTTP/1.1").count() == 1);
}

#[tokio::test]
async fn c11_behind_extensions_and_trailers_no_request_is_read() {
    for body in ["5;a=b\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nx: y\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n"]
    {
        let mut client = Client::new(echo);
        let head = "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        client.io.shutdown().await.unwrap();
        assert_eq!(bodies(&client.rest().await), ["POST / hello"]);
    }
}

#[tokio::test]
async fn a_body_may_be_read_by_another_task_and_while_the_answer_goes_out() {
    let elsewhere = |request: Request<RequestBody>| async {
        let read = tokio::spawn(async move { request.into_body().collect().await.unwrap().to_bytes() });
        Response::new(Full::new(read.await.unwrap()))
    };
    let client = Client::with_room(256, elsewhere);
    let body = "0123456789".repeat(5000);
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    let (mut reading, mut writing) = tokio::io::split(client.io);
    let sent = format!("{head}{body}");
    let write = async move { writing.write_all(sent.as_bytes()).await.unwrap() };
    let read = async move {
        let mut all = Vec::new();
        while !all.ends_with(body.as_bytes()) {
            assert!(reading.read_buf(&mut all).await.unwrap() > 0);
        }
    };
    tokio::join!(write, read);
    client.served.abort();

    // The answer's body is the request's.
    let mut client = Client::new(async |request: Request<RequestBody>| Response::new(request.into_body()));
    client.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for piece in ["one", "two"] {
        client.send(format!("3\r\n{piece}\r\n")).await;
        let mut chunk = vec![0; 8];
        if piece == "one" {
            assert!(client.some(8).await.ends_with("3\r\none\r\n"));
        } else {
            client.io.read_exact(&mut chunk).await.unwrap();
            assert_eq!(chunk, b"3\r\ntwo\r\n");
        }
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.rest().await, "0\r\n\r\n");
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_dropped_where_it_is_at_hand_and_else_closes() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let deaf = move |_| {
        counted.fetch_add(1, SeqCst);
        async { Response::new(Full::<Bytes>::default()) }
    };
    let mut client = Client::new(deaf.clone());
    client
        .send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .await;
    assert!(!client.some(0).await.contains("close"));
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe").await;
    assert!(client.some(0).await.contains("connection: close"));
    client.send("lloGET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.io.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "");
    assert_eq!(calls.load(SeqCst), 2, "what came behind was no request");
}

#[tokio::test]
async fn a_connection_of_http2_is_handed_back_with_what_was_read() {
    let mut client = Client::new(echo);
    client.send("PRI * HT").await;
    tokio::task::yield_now().await;
    client.send("TP/2.0\r\n\r\nSM\r\n\r\nmore").await;
    let Ended::Http2 { mut io, read } = client.served.await.unwrap() else { panic!("it is HTTP/2") };
    client.io.shutdown().await.unwrap();
    let mut all = read.to_vec();
    io.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore");
    // Only where it begins so.
    let mut client = Client::new(echo);
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.rest().await.contains("400 Bad Request"));
}

#[tokio::test]
async fn old_clients_are_answered_in_their_version() {
    let mut client = Client::new(echo);
    client.send("GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
    let wanted = "HTTP/1.0 200 OK\r\ncontent-length: 7\r\nconnection: keep-alive\r\n\r\nGET /a ";
    assert_eq!(client.some(7).await, wanted);
    client.send("GET /b HTTP/1.0\r\n\r\n").await;
    let wanted = "HTTP/1.0 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nGET /b ";
    assert_eq!(client.rest().await, wanted);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// However the bytes were cut on their way, the same requests are read.
    #[test]
    fn u21_requests_are_the_same_however_they_were_cut(
        sizes in prop::collection::vec((0_usize..3000, 0_u8..3), 1..6),
        cuts in prop::collection::vec(1_usize..700, 1..60),
    ) {
        let (mut wire, mut wanted) = (Vec::new(), Vec::new());
        for (n, (size, kind)) in sizes.iter().enumerate() {
            let body = "x".repeat(*size);
            let last = if n + 1 == sizes.len() { "connection: close\r\n" } else { "" };
            wire.extend_from_slice(format!("POST /{n} HTTP/1.1\r\nhost: x\r\n{last}").as_bytes());
            match kind {
                0 => wire.extend_from_slice(format!("content-length: {size}\r\n\r\n{body}").as_bytes()),
                _ => {
                    wire.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                    for piece in body.as_bytes().chunks(997) {
                        wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                        wire.extend_from_slice(piece);
                        wire.extend_from_slice(b"\r\n");
                    }
                    wire.extend_from_slice(b"0\r\n\r\n");
                }
            }
            wanted.push(format!("POST /{n} {body}"));
        }
        let read = runtime().block_on(async move {
            let client = Client::new(echo);
            let (mut reading, mut writing) = tokio::io::split(client.io);
            let write = async move {
                let mut rest = &wire[..];
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (piece, after) = rest.split_at((*cut).min(rest.len()));
                    writing.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = after;
                }
            };
            let read = async move {
                let mut all = String::new();
                reading.read_to_string(&mut all).await.unwrap();
                all
            };
            tokio::join!(write, read).1
        });
        prop_assert_eq!(bodies(&read), wanted);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), as_body in any::<bool>()) {
        runtime().block_on(async move {
            let mut client = Client::new(echo);
            if as_body {
                client.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
            }
            client.send(bytes).await;
            client.io.shutdown().await.unwrap();
            let mut all = Vec::new();
            client.io.read_to_end(&mut all).await.unwrap();
            client.served.await.unwrap();
        });
    }
}
