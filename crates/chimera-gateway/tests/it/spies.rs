//! Pain 15: what a provider sees of others' keys, whatever way a request takes to it: nothing.

use std::sync::Arc;

use bytes::Bytes;
use chimera_gateway::DialectId;
use chimera_provider_pool::Failover;
use http::Request;
use http_body_util::Full;

use crate::{
    dialects::{CALLERS, PROVIDERS, ask, stream_answer, unary_answer},
    support::{Act, KEY, Script, Scripted, call, chunk, duo_of, post, unary},
};

const CLIENT: &str = "chim-client-canary";

/// The request with the caller's key in every place where one may stand, and in some where none should.
fn keyed(mut request: Request<Full<Bytes>>) -> Request<Full<Bytes>> {
    let headers = request.headers_mut();
    headers.insert("authorization", format!("Bearer {CLIENT}").parse().unwrap());
    for name in ["x-api-key", "x-goog-api-key", "api-key", "cookie", "proxy-authorization", "x-forwarded-for"]
    {
        headers.insert(name, CLIENT.parse().unwrap());
    }
    let uri = request.uri().to_string();
    let mark = if uri.contains('?') { '&' } else { '?' };
    *request.uri_mut() = format!("{uri}{mark}key={CLIENT}").parse().unwrap();
    request
}

/// What a spy saw: its own key in every request, and nobody else's in any.
fn check(spy: &Scripted, own: &str, calls: usize, way: &str) {
    assert_eq!(spy.count(), calls, "{way}");
    for index in 0..calls {
        let seen = spy.request(index);
        assert!(seen.contains(&format!("{KEY}-{own}\r\n")), "{way}: {seen}");
        assert_eq!(seen.matches("canary").count(), 1, "{way}: {seen}");
    }
}

/// A fault by which a request moves on from the first provider, and how often that one is asked.
fn faults() -> [(&'static str, Script, usize); 5] {
    // A provider that echoes its key in what it says of its fault.
    let no = |status| {
        let body = format!(r#"{{"error":{{"message":"no, {KEY}-one"}}}}"#);
        Script::Acts(vec![Act::Read, Act::Write(unary(status, &body)), Act::Again])
    };
    let cut = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{".to_vec();
    [
        ("500", no(500), 1),
        ("429", no(429), 1),
        ("401", no(401), 1),
        ("refused", Script::Refuse, 0),
        ("cut", Script::Acts(vec![Act::Read, Act::Write(cut)]), 1),
    ]
}

#[tokio::test]
async fn pain_15_the_second_provider_sees_neither_the_firsts_key_nor_the_callers() {
    let failover = Failover { broken: true, ..Failover::default() };
    for first in PROVIDERS {
        for second in PROVIDERS {
            for (caller, is_stream) in
                CALLERS.into_iter().flat_map(|caller| [(caller, false), (caller, true)])
            {
                for (fault, script, asked) in faults() {
                    let way = format!("{caller:?} {is_stream}, {first:?} {fault}, {second:?}");
                    let one = Scripted::new([script]);
                    let answer = if is_stream { stream_answer(second) } else { unary_answer(second) };
                    let two = Scripted::answering(answer);
                    let gateway = duo_of([(first, &one), (second, &two)], failover);
                    let answer = call(&gateway, keyed(ask(caller, "duo", is_stream))).await;
                    assert_eq!((answer.status, answer.aborted), (200, false), "{way}: {}", answer.body);
                    assert_eq!(answer.header("x-chimera-provider"), "two", "{way}");
                    check(&one, "one", asked, &way);
                    check(&two, "two", 1, &way);
                    let told = format!("{:?} {}", answer.headers, answer.body);
                    assert!(!told.contains("canary"), "{way}: {told}");
                }
            }
        }
    }
}

/// The same where a stream says that it fails before it has said anything.
#[tokio::test]
async fn pain_15_moving_on_from_a_begun_stream_takes_no_key_along() {
    let error = format!("data: {{\"error\":{{\"message\":\"overloaded, {KEY}-one\"}}}}\n\n");
    let failing = [crate::support::SSE_HEAD.as_bytes(), &chunk(&error), crate::support::END].concat();
    for second in PROVIDERS {
        for caller in CALLERS {
            let (one, two) =
                (Scripted::answering(failing.clone()), Scripted::answering(stream_answer(second)));
            let gateway = duo_of([(DialectId::OpenAi, &one), (second, &two)], Failover::default());
            let answer = call(&gateway, keyed(ask(caller, "duo", true))).await;
            assert_eq!((answer.status, answer.header("x-chimera-attempts")), (200, "2"), "{caller:?}");
            check(&one, "one", 1, "a begun stream");
            check(&two, "two", 1, "a begun stream");
            assert!(!answer.body.contains("canary"), "{}", answer.body);
        }
    }
}

/// Beside chats: embeddings, counts of tokens, and what is asked of both at once.
#[tokio::test]
async fn pain_15_other_paths_take_no_key_along_either() {
    let embedding = r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"model":"m","usage":{"prompt_tokens":1,"total_tokens":1}}"#;
    let no = || Scripted::answering(unary(500, r#"{"error":{"message":"no"}}"#));
    let refusing = || Scripted::new([Script::Refuse]);
    let cases: [(DialectId, Request<Full<Bytes>>, &str); 3] = [
        (DialectId::OpenAi, post("/v1/embeddings", r#"{"model":"duo","input":"a"}"#), embedding),
        (
            DialectId::Anthropic,
            post(
                "/v1/messages/count_tokens",
                r#"{"model":"duo","messages":[{"role":"user","content":"a"}]}"#,
            ),
            r#"{"input_tokens":5}"#,
        ),
        (
            DialectId::Gemini,
            post(
                "/v1beta/models/duo:countTokens",
                r#"{"contents":[{"role":"user","parts":[{"text":"a"}]}]}"#,
            ),
            r#"{"totalTokens":5}"#,
        ),
    ];
    for (dialect, request, answer) in cases {
        for (one, asked) in [(no(), 1), (refusing(), 0)] {
            let two = Scripted::answering(unary(200, answer));
            let gateway = duo_of([(dialect, &one), (dialect, &two)], Failover::default());
            let answer = call(&gateway, keyed(request.clone())).await;
            assert_eq!(answer.status, 200, "{dialect:?}: {}", answer.body);
            check(&one, "one", asked, "beside chats");
            check(&two, "two", 1, "beside chats");
        }
    }
    let list = r#"{"object":"list","data":[{"id":"gpt-a","object":"model","owned_by":"x"}]}"#;
    let spies: [Arc<Scripted>; 2] = [(); 2].map(|()| Scripted::answering(unary(200, list)));
    let gateway =
        duo_of([(DialectId::OpenAi, &spies[0]), (DialectId::Anthropic, &spies[1])], Failover::default());
    let request = Request::get("/v1/models").header("host", "localhost").body(Full::default()).unwrap();
    assert_eq!(call(&gateway, keyed(request)).await.status, 200);
    check(&spies[0], "one", 1, "models");
    check(&spies[1], "two", 1, "models");
}
