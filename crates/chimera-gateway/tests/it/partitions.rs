//! Callers who keep their answers apart from their own other ones.

use chimera_gateway::DialectId;
use http_body_util::Full;

use crate::support::{ANSWER, CHAT, Scripted, call, chat, gateway, post, unary};

type Request = http::Request<Full<bytes::Bytes>>;

fn with(headers: &[(&'static str, &str)]) -> Request {
    let mut request = chat("gpt-x", "x", false);
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn pain_17_a_namespace_and_an_addition_to_the_key_set_answers_apart() {
    const NAMESPACE: &str = "x-chimera-cache-namespace";
    const EXTRA: &str = "x-chimera-cache-key-extra";
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let named = |name: &str| {
        let body =
            r#"{"model":"gpt-x","messages":[{"role":"user","content":"x"}],"cache":{"namespace":NAME}}"#;
        post(CHAT, &body.replace("NAME", name))
    };
    let apart: [&dyn Fn() -> Request; 10] = [
        &|| with(&[]),
        &|| with(&[(NAMESPACE, "a")]),
        &|| with(&[(NAMESPACE, "b")]),
        &|| with(&[(EXTRA, "a")]),
        &|| with(&[(NAMESPACE, "a"), (EXTRA, "a")]),
        &|| with(&[(NAMESPACE, "a"), (NAMESPACE, "b")]),
        &|| with(&[(NAMESPACE, "ab")]),
        &|| named(r#""c""#),
        &|| named(r#""c\n(extra):a""#),
        &|| named("1"),
    ];
    for (number, request) in apart.iter().enumerate() {
        let miss = call(&gateway, request()).await;
        assert_eq!((miss.header("x-chimera-cache"), upstream.count()), ("miss; reason=cold", number + 1));
    }
    for request in apart {
        assert_eq!(call(&gateway, request()).await.header("x-chimera-cache"), "l1");
    }
    assert_eq!(call(&gateway, named("null")).await.header("x-chimera-cache"), "l1");
    let peers = call(&gateway, with(&[("x-portkey-cache-namespace", "a")])).await;
    assert_eq!(peers.header("x-chimera-cache"), "l1");
    assert!((0..upstream.count()).all(|n| !upstream.request(n).contains("namespace")), "it stays here");
}

#[tokio::test]
async fn a_body_that_says_use_cache_false_is_neither_answered_from_it_nor_kept() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let body = r#"{"model":"gpt-x","messages":[],"cache":{"use-cache":false}}"#;
    for _ in 0..2 {
        assert_eq!(call(&gateway, post(CHAT, body)).await.header("x-chimera-cache"), "bypass");
    }
    assert_eq!(upstream.count(), 2);
}
