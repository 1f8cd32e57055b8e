//! P09: work that would hold up the event loop is done beside it, above a threshold.

use std::{sync::mpsc, time::Duration};

use chimera_gateway::{DialectId, Gateway};
use chimera_provider_pool::Failover;
use tokio::time::timeout;

use crate::{
    dialects::{ask, folded, said},
    support::{ANSWER, Answer, Scripted, call, chat, duo_of, gateway, post, unary},
};

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

/// An answer to a caller of another dialect: put into it aside, whole and as a stream, and kept where
/// there is room for it.
#[test]
fn p09_a_large_answer_is_translated_beside_the_event_loop() {
    // Small enough to be read on the event loop.
    let answer = ANSWER.replace("hello there", &"some words ".repeat(10_000));
    let gateway = gateway(DialectId::OpenAi, &Scripted::answering(unary(200, &answer)));
    with_busy_helper(|free| async {
        drop(free);
        let native = call(&gateway, ask(DialectId::OpenAi, "gpt-x", false)).await;
        assert_eq!(native.body, answer);
    });
    for is_stream in [false, true] {
        let asking =
            || timeout(Duration::from_secs(1), gateway.handle(ask(DialectId::Anthropic, "gpt-x", is_stream)));
        with_busy_helper(|free| async {
            assert!(asking().await.is_err(), "it was translated on the event loop");
            drop(free);
            let told = crate::support::finish(asking().await.unwrap()).await;
            assert_eq!((told.status, told.header("x-chimera-cache")), (200, "l1"));
            let whole = if is_stream { folded(DialectId::Anthropic, &told) } else { told.json() };
            assert_eq!(said(DialectId::Anthropic, &whole).0, "some words ".repeat(10_000));
        });
        if !is_stream {
            with_busy_helper(|_free| async { assert!(asking().await.is_ok(), "it was not kept") });
        }
    }
}

/// Requests of a group whose deployments speak different dialects are translated when one is tried.
#[test]
fn pain_22_a_large_request_to_a_mixed_group_is_translated_off_the_event_loop() {
    with_busy_helper(|free| async move {
        let (one, two) = (Scripted::answering(unary(200, ANSWER)), Scripted::answering(unary(200, ANSWER)));
        let duo = duo_of([(DialectId::OpenAi, &one), (DialectId::Anthropic, &two)], Failover::default());
        let mut large = Box::pin(duo.handle(chat("duo", &"x".repeat(1 << 20), false)));
        assert!(timeout(Duration::from_millis(300), &mut large).await.is_err());
        drop(free);
        assert_eq!(large.await.status(), 200);
        assert_eq!((one.count(), two.count()), (1, 0));
    });
}

#[test]
fn pain_22_a_large_prompt_in_the_short_form_is_read_off_the_event_loop() {
    with_busy_helper(|free| async move {
        let gateway = gateway(DialectId::OpenAi, &Scripted::answering(unary(200, ANSWER)));
        // It holds no prompt: the refusal is there as soon as it was read.
        let ask = |length: usize| {
            let body = format!(r#"{{"model":"gpt-x","promt":"{}"}}"#, "x".repeat(length));
            Box::pin(gateway.handle(post("/api/v1/generate", &body)))
        };
        assert_eq!(ask(1000).await.status(), 400);
        let mut large = ask(1 << 20);
        assert!(timeout(Duration::from_millis(300), &mut large).await.is_err(), "it was read on the loop");
        drop(free);
        assert_eq!(large.await.status(), 400);
    });
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
