//! P09: work that would hold up the event loop is done beside it, above a threshold.

use std::{sync::mpsc, time::Duration};

use chimera_gateway::{DialectId, Gateway};
use tokio::time::timeout;

use crate::support::{ANSWER, Answer, Scripted, call, chat, gateway, post, unary};

/// Runs a test whose only helping thread is busy until it says so: what is done beside the event loop
/// waits, what is done on it does not.
fn with_busy_helper<F: Future<Output = ()>>(test: impl FnOnce(mpsc::Sender<()>) -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let (free, busy) = mpsc::channel::<()>();
    runtime.block_on(async {
        tokio::task::spawn_blocking(move || busy.recv());
        test(free).await;
    });
}

fn asking(gateway: &Gateway, stream: bool, accept: &str) -> impl Future<Output = Option<Answer>> {
    let mut request = chat("gpt-x", "x", stream);
    request.headers_mut().insert("accept-encoding", accept.parse().unwrap());
    let gateway = gateway.clone();
    async move {
        let response = timeout(Duration::from_secs(1), gateway.handle(request)).await.ok()?;
        // Encoded bodies are no text.
        let encoded = response.headers().contains_key("content-encoding");
        let response = if encoded { response.map(|_| chimera_gateway::Body::empty()) } else { response };
        Some(crate::support::finish(response).await)
    }
}

fn large() -> String {
    ANSWER.replace("hello there", &"some words ".repeat(40_000))
}

#[test]
fn p09_a_large_answer_is_read_beside_the_event_loop() {
    with_busy_helper(|free| async move {
        let answer = large();
        let gateway = gateway(DialectId::OpenAi, &Scripted::answering(unary(200, &answer)));
        assert!(asking(&gateway, false, "identity").await.is_none(), "it was read on the event loop");
        let small = crate::support::gateway(DialectId::OpenAi, &Scripted::answering(unary(200, ANSWER)));
        assert_eq!(call(&small, chat("gpt-x", "x", false)).await.body, ANSWER);
        drop(free);
        let read = asking(&gateway, false, "identity").await.unwrap();
        assert_eq!((read.status, read.body.len()), (200, answer.len()));
        // One that is no answer is still told from one that is.
        for not in [large().replace("choices", "chances"), large()[..400_000].to_owned()] {
            let upstream = Scripted::answering(unary(200, &not));
            let gateway = crate::support::gateway(DialectId::OpenAi, &upstream);
            let refused = call(&gateway, chat("gpt-x", "x", false)).await;
            assert_eq!(refused.code(), "upstream_invalid_response");
        }
    });
}

/// A compressed answer may be a hundred times as long as what came.
#[test]
fn p09_a_compressed_answer_is_decoded_beside_the_event_loop() {
    use std::io::Write;
    let answer = large();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(answer.as_bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        gzip.len()
    );
    let gateway = gateway(DialectId::OpenAi, &Scripted::answering([head.as_bytes(), &gzip].concat()));
    with_busy_helper(|free| async move {
        assert!(asking(&gateway, false, "identity").await.is_none());
        drop(free);
        assert_eq!(asking(&gateway, false, "identity").await.unwrap().body, answer);
    });
}

#[test]
fn p09_the_forms_of_a_large_answer_are_made_beside_the_event_loop_and_once() {
    let gateway = gateway(DialectId::OpenAi, &Scripted::answering(unary(200, &large())));
    with_busy_helper(|free| async {
        drop(free);
        assert!(asking(&gateway, false, "identity").await.is_some());
    });
    for (stream, accept) in [(false, "br"), (true, "identity")] {
        with_busy_helper(|free| async {
            assert!(asking(&gateway, stream, accept).await.is_none(), "{accept}");
            drop(free);
            assert_eq!(asking(&gateway, stream, accept).await.unwrap().header("x-chimera-cache"), "l1");
        });
        // It is at hand now.
        with_busy_helper(|_free| async {
            assert!(asking(&gateway, stream, accept).await.is_some(), "{accept}");
        });
    }
}

#[test]
fn pain_22_large_bodies_are_looked_at_off_the_event_loop() {
    with_busy_helper(|free| async move {
        let upstream = Scripted::answering(unary(200, ANSWER));
        let gateway = gateway(DialectId::OpenAi, &upstream);
        // Nobody serves this model: the answer is there as soon as the body was looked at.
        let ask = |length: usize| Box::pin(gateway.handle(chat("nobody", &"x".repeat(length), false)));
        assert_eq!(ask(1000).await.status(), 404);
        let mut large = ask(1 << 20);
        assert!(
            timeout(Duration::from_millis(300), &mut large).await.is_err(),
            "it was looked at on the loop"
        );
        drop(free);
        assert_eq!(large.await.status(), 404);
        let answer = call(&gateway, chat("gpt-x", &"x".repeat(1 << 20), false)).await;
        assert_eq!((answer.status, upstream.body(0).matches('x').count()), (200, (1 << 20) + 1));
        let broken = call(&gateway, post("/v1/chat/completions", &"[".repeat(1 << 20))).await;
        assert_eq!(broken.status, 400);
    });
}
