//! What is written of answers.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::io::AsyncReadExt;

use crate::support::{Client, Script};

const ASK: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

fn streaming(length: Option<u64>) -> (Arc<Script>, Client) {
    let script = Arc::new(Script::default());
    let said = script.clone();
    (script, Client::new(move |_| std::future::ready(Response::new(said.body(length)))))
}

#[tokio::test]
async fn what_a_stream_has_ready_leaves_at_once_and_in_one_write() {
    let (script, mut client) = streaming(None);
    client.send(ASK).await;
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(client.some(0).await, head);
    script.data("one");
    let mut piece = [0; 8];
    client.io.read_exact(&mut piece).await.unwrap();
    assert_eq!(&piece, b"3\r\none\r\n");
    for n in 0..10 {
        script.data(format!("{n}"));
    }
    let mut piece = [0; 256];
    let read = client.io.read(&mut piece).await.unwrap();
    assert_eq!(read, 60, "ten chunks of six bytes at once");
    script.end();
    let mut end = [0; 5];
    client.io.read_exact(&mut end).await.unwrap();
    assert_eq!(&end, b"0\r\n\r\n");
    script.gone().await;
    // And the connection goes on.
    script.end();
    client.send(ASK).await;
    assert!(client.some(5).await.ends_with("\r\n\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn large_pieces_and_small_ones_arrive_whole_and_in_order() {
    let (script, mut client) = streaming(None);
    let mut wanted = Vec::new();
    for n in 0..40_usize {
        let piece = vec![b'a' + (n % 26) as u8; [1, 300, 8192, 8193, 70_000][n % 5]];
        wanted.extend_from_slice(&piece);
        script.data(piece);
    }
    script.end();
    client.send(ASK.replace("host", "connection: close\r\nhost")).await;
    let text = client.rest().await;
    let (_, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let mut read = Vec::new();
    loop {
        let (size, after) = rest.split_once("\r\n").unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let (data, after) = after.split_at(size);
        read.extend_from_slice(data.as_bytes());
        rest = after.strip_prefix("\r\n").unwrap();
        if size == 0 {
            break;
        }
    }
    assert!(read == wanted && rest.is_empty());
}

#[tokio::test]
async fn c03_a_client_that_does_not_read_is_not_asked_for() {
    let script = Arc::new(Script::default());
    let said = script.clone();
    let mut client = Client::with_room(1024, move |_| std::future::ready(Response::new(said.body(None))));
    for _ in 0..10_000 {
        script.data("x".repeat(100));
    }
    client.send(ASK).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let asked = script.polls.load(SeqCst);
    assert!(asked < 300, "{asked} pieces were taken for a client that read none");
}

#[tokio::test]
async fn pain_07_an_answer_that_breaks_is_cut_off_and_not_ended() {
    for length in [None, Some(10)] {
        let (script, mut client) = streaming(length);
        script.data("hello");
        script.fault();
        client.send(ASK).await;
        let text = client.rest().await;
        assert!(text.contains("hello") && !text.ends_with("0\r\n\r\n"), "{text}");
    }
    // Shorter or longer than it stated to be.
    for said in ["hello", "hello, world"] {
        let (script, mut client) = streaming(Some(10));
        script.data(said);
        script.end();
        client.send(ASK).await;
        let text = client.rest().await;
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(body.len() < 10, "{body}");
    }
}

#[tokio::test]
async fn head_and_bodiless_statuses_send_no_body() {
    let mut client = Client::new(async |request: http::Request<_>| {
        let status = request.uri().path().trim_start_matches('/').parse().unwrap();
        Response::builder().status::<u16>(status).body(Full::new(Bytes::from_static(b"hello"))).unwrap()
    });
    client.send("HEAD /200 HTTP/1.1\r\nhost: x\r\n\r\nGET /304 HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.send("GET /204 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert_eq!(
        client.rest().await,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n\
         HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
    );
}
