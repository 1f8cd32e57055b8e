//! Clients that leave, and connections that are told to end.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use chimera_http1::{Connection, Ended, RequestBody};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, Script, echo};

struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A service that never answers, and how many of its futures live.
fn never() -> (Arc<AtomicUsize>, Client) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let client = Client::new(move |_| {
        counted.fetch_add(1, SeqCst);
        let alive = Alive(counted.clone());
        async move {
            std::future::pending::<()>().await;
            drop(alive);
            Response::new(Full::<Bytes>::default())
        }
    });
    (count, client)
}

#[tokio::test]
async fn c05_a_client_that_leaves_takes_the_service_with_it() {
    for request in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi",
        // Another request behind it makes no difference.
        "GET / HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let (alive, mut client) = never();
        client.send(request).await;
        while alive.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        drop(client.io);
        assert!(matches!(client.served.await.unwrap(), Ended::Closed));
        assert_eq!(alive.load(SeqCst), 0);
    }
}

#[tokio::test]
async fn c05_a_client_that_leaves_takes_the_stream_with_it() {
    let script = Arc::new(Script::default());
    let said = script.clone();
    let mut client = Client::new(move |_| std::future::ready(Response::new(said.body(None))));
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    script.data("one");
    client.some(8).await;
    drop(client.io);
    client.served.await.unwrap();
    assert_eq!(script.alive.load(SeqCst), 0);
}

/// Whether it closed the whole connection shows when it is written to.
#[tokio::test]
async fn a_client_that_says_no_more_gets_all_of_an_answer_that_is_at_hand() {
    let whole = "x".repeat(200_000);
    let body = Bytes::from(whole.clone());
    let service = move |_| std::future::ready(Response::new(Full::new(body.clone())));
    let mut client = Client::with_room(1024, service.clone());
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.io.shutdown().await.unwrap();
    let text = client.rest().await;
    assert_eq!(text.split_once("\r\n\r\n").unwrap().1.len(), whole.len());
    client.served.await.unwrap();

    let mut client = Client::with_room(1024, service);
    client.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    client.some(10).await;
    drop(client.io);
    assert!(matches!(client.served.await.unwrap(), Ended::Closed));
}

#[tokio::test]
async fn c05_a_client_that_leaves_in_its_body_ends_the_read_of_it_wherever_that_is() {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let mut client = Client::new(move |request: Request<RequestBody>| {
        let sender = sender.lock().unwrap().take().unwrap();
        tokio::spawn(async move {
            let _ = sender.send(request.into_body().collect().await.map(|_| ()));
        });
        async {
            std::future::pending::<()>().await;
            Response::new(Full::<Bytes>::default())
        }
    });
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe").await;
    client.io.shutdown().await.unwrap();
    let error = receiver.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the connection ended before the body did");
    client.served.await.unwrap();
}

#[tokio::test]
async fn a_connection_told_to_end_finishes_what_it_is_doing() {
    let (mut client, far) = tokio::io::duplex(1024);
    let mut connection = pin!(Connection::new(far, echo));
    client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe").await.unwrap();
    assert!(futures_now(connection.as_mut()).await.is_none());
    connection.as_mut().graceful_shutdown();
    assert!(futures_now(connection.as_mut()).await.is_none());
    client.write_all(b"llo").await.unwrap();
    assert!(matches!(connection.await, Ended::Closed));
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("connection: close") && text.ends_with("POST / hello"));

    let (_client, far) = tokio::io::duplex(1024);
    let mut idle = pin!(Connection::new(far, echo));
    assert!(futures_now(idle.as_mut()).await.is_none());
    idle.as_mut().graceful_shutdown();
    assert!(matches!(idle.await, Ended::Closed));
}

/// Polls once.
async fn futures_now<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
