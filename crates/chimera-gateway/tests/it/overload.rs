//! M01: at the bound of what is held in memory new work is turned away, and what is under way goes on.

use std::{convert::Infallible, pin::Pin, sync::Arc, task::Poll};

use bytes::Bytes;
use chimera_gateway::{DialectId, Gateway, Models, Settings};
use http::Request;
use tokio::sync::mpsc;

use crate::support::{ANSWER, CHAT, Scripted, call, chat, finish, provider, settle, unary};

/// A body that comes as it is fed.
struct Fed(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
    }
}

fn fed() -> (mpsc::UnboundedSender<Bytes>, Request<Fed>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let request = Request::post(CHAT).header("host", "localhost").body(Fed(receiver)).unwrap();
    (sender, request)
}

/// A gateway that holds so many bytes of requests.
fn holding(bytes: usize) -> (Gateway, Arc<Scripted>) {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &upstream));
    let mut settings = Settings::new(models);
    settings.sizes.requests_in_flight = bytes;
    (Gateway::new(settings, [7; 32]).unwrap(), upstream)
}

/// A body of so many bytes, in two halves.
fn halves(bytes: usize) -> (Bytes, Bytes) {
    let frame = r#"{"model":"gpt-x","messages":[{"role":"user","content":""}]}"#;
    let content = "x".repeat(bytes - frame.len());
    let mut body = Bytes::from(frame.replace("\"\"", &format!("\"{content}\"")));
    assert_eq!(body.len(), bytes);
    let first = body.split_to(bytes / 2);
    (first, body)
}

#[tokio::test(start_paused = true)]
async fn m01_bodies_beyond_the_bound_are_refused_and_the_others_are_served() {
    let (gateway, upstream) = holding(1000);
    let (first, second) = halves(900);
    let (feed, request) = fed();
    let mut under_way = Box::pin(gateway.handle(request));
    feed.send(first).unwrap();
    assert!(at_rest(&mut under_way).await);
    // 450 bytes are held: 600 more are too many, and a small one is not.
    let (head, tail) = halves(600);
    let whole = Bytes::from([head, tail].concat());
    let large = || {
        let (feed, request) = fed();
        feed.send(whole.clone()).unwrap();
        request
    };
    for _ in 0..3 {
        let refused = finish(gateway.handle(large()).await).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"), "{}", refused.body);
        assert_eq!((refused.header("retry-after"), refused.header("connection")), ("1", "close"));
        assert_eq!(call(&gateway, chat("gpt-x", "small", false)).await.status, 200);
    }
    assert_eq!(upstream.count(), 1, "nothing of what was refused went on");
    feed.send(second).unwrap();
    drop(feed);
    assert_eq!(finish(under_way.await).await.status, 200);
    // What was refused is no longer counted, nor what was served.
    assert_eq!(finish(gateway.handle(large()).await).await.status, 200);
    assert_eq!(upstream.count(), 3);
}

/// The last twentieth is for requests that have begun to come.
#[tokio::test(start_paused = true)]
async fn m01_close_to_the_bound_new_work_is_shed_and_what_is_under_way_ends() {
    let (gateway, upstream) = holding(10_000);
    for (bytes, sheds) in [(9_400, false), (9_520, true)] {
        let (feed, request) = fed();
        let mut under_way = Box::pin(gateway.handle(request));
        let (first, second) = halves(bytes);
        feed.send(first).unwrap();
        feed.send(second.slice(..second.len() - 2)).unwrap();
        assert!(at_rest(&mut under_way).await);
        let new = call(&gateway, chat("gpt-x", &bytes.to_string(), false)).await;
        assert_eq!(new.status, if sheds { 503 } else { 200 }, "{bytes}: {}", new.body);
        assert_eq!(new.header("retry-after"), if sheds { "1" } else { "" });
        feed.send(Bytes::from_static(b" ".repeat(300).leak())).unwrap();
        feed.send(second.slice(second.len() - 2..)).unwrap();
        drop(feed);
        assert_eq!(finish(under_way.await).await.status, 200, "{bytes}");
        assert_eq!(call(&gateway, chat("gpt-x", &format!("after {bytes}"), false)).await.status, 200);
    }
    assert_eq!(upstream.count(), 5);
}

/// Lets a request come as far as it can; whether it still waits.
async fn at_rest(request: &mut (impl Future + Unpin)) -> bool {
    tokio::select! {
        biased;
        _ = request => false,
        () = settle() => true,
    }
}
