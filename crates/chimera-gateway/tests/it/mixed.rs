//! Groups whose deployments speak different dialects: whoever answers, each caller is handed its own.

use std::sync::Arc;

use chimera_gateway::{DialectId, Gateway};
use chimera_provider_pool::Failover;
use serde_json::json;

use crate::{
    dialects::{CALLERS, PROVIDERS, ask, events, folded, said, stream_answer, unary_answer},
    support::{Act, CHAT, SSE_HEAD, Script, Scripted, call, chunk, duo_of, post, stream, unary, unary_with},
};

const RATE: &str = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
const DOWN: &str = r#"{"error":{"message":"down","type":"server_error"}}"#;
const FIRST_EVENT: &str = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";

/// An OpenAI provider that says no in each way in which another may be asked instead.
fn refusing() -> [Arc<Scripted>; 3] {
    [unary(500, DOWN), unary_with(429, "retry-after: 7\r\n", RATE), stream(&[FIRST_EVENT])]
        .map(Scripted::answering)
}

fn group(first: (DialectId, &Arc<Scripted>), second: (DialectId, &Arc<Scripted>)) -> Gateway {
    duo_of([first, second], Failover::default())
}

fn refused_then(second: DialectId, one: &Arc<Scripted>, two: &Arc<Scripted>) -> Gateway {
    group((DialectId::OpenAi, one), (second, two))
}

#[tokio::test]
async fn pain_1_a_group_fails_over_to_a_provider_of_another_dialect() {
    for caller in CALLERS {
        for second in [DialectId::Anthropic, DialectId::Gemini] {
            for (index, one) in refusing().iter().enumerate() {
                // The third speaks only in streams.
                for is_stream in [false, true].into_iter().filter(|is_stream| *is_stream || index < 2) {
                    let two = Scripted::answering(match is_stream {
                        true => stream_answer(second),
                        false => unary_answer(second),
                    });
                    let gateway = refused_then(second, one, &two);
                    let answer = call(&gateway, ask(caller, "duo", is_stream)).await;
                    let what = format!("{caller:?} {second:?} {index} {is_stream}: {}", answer.body);
                    assert_eq!((answer.status, answer.aborted), (200, false), "{what}");
                    assert_eq!(answer.header("x-chimera-provider"), "two", "{what}");
                    assert_eq!(answer.header("x-chimera-model"), "m-two", "{what}");
                    assert_eq!(answer.header("x-chimera-attempts"), "2", "{what}");
                    let whole = if is_stream { folded(caller, &answer) } else { answer.json() };
                    assert_eq!(said(caller, &whole), ("hello there", 2), "{what}");
                    assert!(one.request(0).starts_with("POST /v1/chat/completions "), "{what}");
                    assert!(two.request(0).contains("m-two"), "{what}");
                }
            }
        }
    }
}

/// Where the deployment speaks the caller's dialect, nothing of the call or its answer is touched but the
/// model's name.
#[tokio::test]
async fn pain_3_a_native_attempt_of_a_mixed_group_is_untouched() {
    for native in PROVIDERS {
        let other = if native == DialectId::OpenAi { DialectId::Anthropic } else { DialectId::OpenAi };
        for is_stream in [false, true] {
            let bytes = if is_stream { stream_answer(native) } else { unary_answer(native) };
            let two = Scripted::answering(Vec::new());
            let mixed = Scripted::answering(bytes.clone());
            let pure = Scripted::answering(bytes.clone());
            let request = || {
                let mut request = ask(native, "duo", is_stream);
                request.headers_mut().insert("anthropic-beta", "b".parse().unwrap());
                request
            };
            let told = call(&group((native, &mixed), (other, &two)), request()).await;
            let alone = call(&group((native, &pure), (native, &two)), request()).await;
            assert_eq!((told.status, &told.body), (200, &alone.body));
            assert_eq!(mixed.request(0), pure.request(0));
            let own = if is_stream { events(native).concat() } else { told.body.clone() };
            assert_eq!(told.body, own);
            assert_eq!(two.count(), 0);

            // As the second, too.
            let one = Scripted::answering(unary(500, DOWN));
            let second = Scripted::answering(bytes);
            let told = call(&group((other, &one), (native, &second)), request()).await;
            assert_eq!(told.body, alone.body);
            assert_eq!(second.body(0), pure.body(0).replace("m-one", "m-two"));
        }
    }
}

#[tokio::test]
async fn pain_8_what_a_second_vendor_answered_is_stored_for_every_dialect() {
    for second in [DialectId::Anthropic, DialectId::Gemini] {
        for first in CALLERS {
            let one = Scripted::answering(unary(500, DOWN));
            let two = Scripted::answering(stream_answer(second));
            let gateway = refused_then(second, &one, &two);
            let answer = call(&gateway, ask(first, "duo", true)).await;
            assert_eq!(answer.header("x-chimera-cache"), "miss; reason=cold");
            for caller in CALLERS {
                for is_stream in [true, false] {
                    let answer = call(&gateway, ask(caller, "duo", is_stream)).await;
                    let what = format!("{first:?} {caller:?} {second:?} {is_stream}: {}", answer.body);
                    assert_eq!(answer.header("x-chimera-cache"), "l1", "{what}");
                    assert_eq!(answer.header("x-chimera-provider"), "two");
                    assert_eq!(answer.header("x-chimera-model"), "m-two");
                    let whole = if is_stream { folded(caller, &answer) } else { answer.json() };
                    assert_eq!(said(caller, &whole), ("hello there", 2), "{what}");
                }
            }
            assert_eq!((one.count(), two.count()), (1, 1));
        }
    }
}

/// One call serves callers of different dialects that ask at the same time.
#[tokio::test]
async fn callers_of_different_dialects_follow_one_call() {
    for first in CALLERS {
        let one = Scripted::answering(stream(&[FIRST_EVENT]));
        let two = Scripted::answering(stream_answer(DialectId::Anthropic));
        let gateway = refused_then(DialectId::Anthropic, &one, &two);
        let mut callers = vec![first];
        callers.extend(CALLERS.into_iter().filter(|caller| *caller != first));
        let asked = |caller: DialectId| call(&gateway, ask(caller, "duo", true));
        let [a, b, c, d] = [callers[0], callers[1], callers[2], callers[3]];
        let answers = tokio::join!(asked(a), asked(b), asked(c), asked(d));
        for (caller, answer) in [(a, answers.0), (b, answers.1), (c, answers.2), (d, answers.3)] {
            assert_eq!(said(caller, &folded(caller, &answer)), ("hello there", 2), "{first:?} {caller:?}");
        }
        assert_eq!((one.count(), two.count()), (1, 1));
    }
}

/// Usage that an OpenAI caller did not ask for is kept from it, whoever answers, and from nobody else.
#[tokio::test]
async fn pain_5_usage_is_told_to_those_who_asked() {
    let quiet = json!({"model": "duo", "stream": true, "max_completion_tokens": 50,
        "messages": [{"role": "user", "content": "hi"}]});
    for answering in [DialectId::OpenAi, DialectId::Anthropic] {
        let one = Scripted::answering(match answering {
            DialectId::OpenAi => stream_answer(DialectId::OpenAi),
            _ => unary(500, DOWN),
        });
        let two = Scripted::answering(stream_answer(DialectId::Anthropic));
        let gateway = refused_then(DialectId::Anthropic, &one, &two);
        let (silent, told) = tokio::join!(
            call(&gateway, post(CHAT, &quiet.to_string())),
            call(&gateway, ask(DialectId::Anthropic, "duo", true))
        );
        assert!(!silent.body.contains("prompt_tokens") && silent.body.contains("[DONE]"), "{}", silent.body);
        assert_eq!(said(DialectId::Anthropic, &folded(DialectId::Anthropic, &told)).1, 2);
        let again = call(&gateway, ask(DialectId::OpenAi, "duo", true)).await;
        assert_eq!(again.header("x-chimera-cache"), "l1");
        assert_eq!(said(DialectId::OpenAi, &folded(DialectId::OpenAi, &again)).1, 2);
    }
}

/// A deployment that cannot be told a request is passed over; where none is left, the caller learns why.
#[tokio::test]
async fn pain_2_a_deployment_that_cannot_be_asked_is_passed_over() {
    // Two answers are more than Anthropic gives.
    let body = r#"{"model":"duo","messages":[{"role":"user","content":"hi"}],"n":2}"#;
    let anthropic = Scripted::answering(unary_answer(DialectId::Anthropic));
    let openai = Scripted::answering(unary_answer(DialectId::OpenAi));
    let gateway = group((DialectId::Anthropic, &anthropic), (DialectId::OpenAi, &openai));
    let answer = call(&gateway, post(CHAT, body)).await;
    assert_eq!((answer.status, answer.header("x-chimera-provider")), (200, "two"), "{}", answer.body);
    assert_eq!((anthropic.count(), answer.header("x-chimera-attempts")), (0, "1"));
    assert_eq!(call(&gateway, post(CHAT, body)).await.header("x-chimera-cache"), "l1");

    let down = Scripted::answering(unary(500, DOWN));
    let answer = call(&refused_then(DialectId::Anthropic, &down, &anthropic), post(CHAT, body)).await;
    assert_eq!((answer.status, answer.json()["error"]["message"].as_str()), (500, Some("down")));
    assert_eq!(anthropic.count(), 0);

    let gemini = Scripted::answering(unary_answer(DialectId::Gemini));
    let gateway = group((DialectId::Anthropic, &anthropic), (DialectId::Gemini, &gemini));
    let body = r#"{"model":"duo","messages":[{"role":"user","content":"hi"}],"frobnicate":1}"#;
    let answer = call(&gateway, post(CHAT, body)).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{}", answer.body);
    assert_eq!(answer.json()["error"]["param"], "frobnicate");
    assert_eq!(anthropic.count() + gemini.count(), 0);
}

#[tokio::test]
async fn what_was_dropped_for_the_one_that_answered_is_listed() {
    let body =
        r#"{"model":"duo","messages":[{"role":"user","content":"hi"}],"store":true,"presence_penalty":0}"#;
    let two = Scripted::answering(unary_answer(DialectId::Anthropic));
    let down = Scripted::answering(unary(500, DOWN));
    let gateway = refused_then(DialectId::Anthropic, &down, &two);
    for expected in ["miss; reason=cold", "l1"] {
        let answer = call(&gateway, post(CHAT, body)).await;
        assert_eq!(answer.header("x-chimera-cache"), expected);
        assert_eq!(answer.header("x-chimera-dropped"), "store, presence_penalty");
    }
    let one = Scripted::answering(unary_answer(DialectId::OpenAi));
    let answer = call(&refused_then(DialectId::Anthropic, &one, &two), post(CHAT, body)).await;
    assert_eq!(answer.header("x-chimera-dropped"), "");
}

/// Of two refusals the last is told, in the caller's words, though another attempt came after it.
#[tokio::test]
async fn the_last_refusal_is_told_in_the_callers_dialect() {
    let one = Scripted::answering(unary_with(429, "retry-after: 7\r\n", RATE));
    let two = Scripted::answering(unary(
        529,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#,
    ));
    let gateway = refused_then(DialectId::Anthropic, &one, &two);
    let answer = call(&gateway, ask(DialectId::Gemini, "duo", true)).await;
    assert_eq!((answer.status, answer.json()["error"]["status"].as_str()), (503, Some("UNAVAILABLE")));

    // The second one cannot be reached: what the first said stands.
    let nobody = Scripted::new([Script::Refuse]);
    let gateway = refused_then(DialectId::Anthropic, &one, &nobody);
    let answer = call(&gateway, ask(DialectId::Anthropic, "duo", false)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"), "{}", answer.body);
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
}

/// A caller of Gemini's without `alt=sse` gets one array, whoever answers.
#[tokio::test]
async fn an_array_is_an_array_whoever_answers() {
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let path = "/v1beta/models/duo:streamGenerateContent";
    let one = Scripted::answering(unary(500, DOWN));
    let two = Scripted::answering(stream_answer(DialectId::Anthropic));
    let answer = call(&refused_then(DialectId::Anthropic, &one, &two), post(path, body)).await;
    let elements: Vec<serde_json::Value> = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(elements.last().unwrap()["candidates"][0]["finishReason"], "STOP");

    let native = r#"[{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}]"#;
    let two = Scripted::answering(unary(200, native));
    let gateway = refused_then(DialectId::Gemini, &one, &two);
    let answer = call(&gateway, post(path, body)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, native));
    // Kept, and told to a caller of another dialect.
    let stored = call(&gateway, post(CHAT, r#"{"model":"duo","messages":[{"role":"user","content":"hi"}]}"#));
    let stored = stored.await;
    assert_eq!(stored.header("x-chimera-cache"), "l1");
    assert_eq!(stored.json()["choices"][0]["message"]["content"], "hi");
}

#[tokio::test]
async fn u06_a_stream_that_breaks_after_a_fail_over_ends_with_the_callers_error() {
    let mut cut = SSE_HEAD.as_bytes().to_vec();
    events(DialectId::Anthropic).iter().take(3).for_each(|event| cut.extend(chunk(event)));
    for caller in CALLERS {
        let one = Scripted::answering(unary(500, DOWN));
        let two = Scripted::new([Script::Acts(vec![Act::Read, Act::Write(cut.clone())])]);
        let answer = call(&refused_then(DialectId::Anthropic, &one, &two), ask(caller, "duo", true)).await;
        assert!(answer.aborted && answer.body.contains("hello") && answer.body.contains("error"));
        assert!(caller.dialect().fold(answer.body.as_bytes()).is_err());
    }
}

#[tokio::test]
async fn embeddings_of_different_vendors_do_not_stand_in_for_each_other() {
    let upstream = Scripted::answering(unary_answer(DialectId::OpenAi));
    let gateway = group((DialectId::OpenAi, &upstream), (DialectId::Gemini, &upstream));
    let answer = call(&gateway, post("/v1/embeddings", r#"{"model":"duo","input":"hi"}"#)).await;
    assert_eq!((answer.status, answer.json()["error"]["param"].as_str()), (400, Some("model")));
    assert_eq!(upstream.count(), 0);
}

/// Tokens are counted by a deployment that counts.
#[tokio::test]
async fn pain_19_tokens_are_counted_by_a_deployment_that_counts() {
    let one = Scripted::answering(unary_answer(DialectId::OpenAi));
    let two = Scripted::answering(unary(200, r#"{"input_tokens":9}"#));
    let gateway = refused_then(DialectId::Anthropic, &one, &two);
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let answer = call(&gateway, post("/v1beta/models/duo:countTokens", body)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"totalTokens":9}"#));
    assert_eq!((one.count(), answer.header("x-chimera-provider")), (0, "two"));
}

/// What an Anthropic deployment would see of a caller's headers is part of what its answer depends on,
/// though the question is kept in another dialect.
#[tokio::test]
async fn pain_7_betas_that_a_deployment_may_see_keep_answers_apart() {
    let one = Scripted::answering(unary_answer(DialectId::OpenAi));
    let two = Scripted::answering(unary_answer(DialectId::Anthropic));
    let gateway = refused_then(DialectId::Anthropic, &one, &two);
    let asked = |beta: Option<&'static str>| {
        let mut request = ask(DialectId::Anthropic, "duo", false);
        request.headers_mut().insert("anthropic-version", "2023-06-01".parse().unwrap());
        if let Some(beta) = beta {
            request.headers_mut().insert("anthropic-beta", beta.parse().unwrap());
        }
        call(&gateway, request)
    };
    for (beta, expected) in [
        (None, "miss; reason=cold"),
        (Some("a"), "miss; reason=cold"),
        (Some("b"), "miss; reason=cold"),
        (None, "l1"),
        (Some("a"), "l1"),
    ] {
        assert_eq!(asked(beta).await.header("x-chimera-cache"), expected, "{beta:?}");
    }
    assert_eq!(call(&gateway, ask(DialectId::OpenAi, "duo", false)).await.header("x-chimera-cache"), "l1");
}
