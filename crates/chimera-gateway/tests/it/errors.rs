//! What an error that the gateway makes itself tells, besides its code.

use chimera_gateway::DialectId;
use chimera_provider_pool::Failover;

use crate::support::{
    ANSWER, Act, CHAT, ROLE, Script, Scripted, call, chat, chunk, delta, duo, gateway, post, stream, unary,
    unary_with,
};

#[tokio::test(start_paused = true)]
async fn an_error_behind_attempts_tells_how_many_there_were() {
    let html = || Scripted::answering(unary(200, "<html>"));
    let cut = || Scripted::new([Script::Acts(vec![Act::Read, Act::Write(b"HTTP/1.1 200 OK\r\n".to_vec())])]);
    let silent = || Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    let refused = || Scripted::answering(unary(503, "<html>"));
    let key = || Scripted::answering(unary(401, "{}"));
    let error = "data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    let failing = || Scripted::answering(stream(&[ROLE, error]));
    let dead = || Scripted::new([Script::Refuse]);
    let broken = Failover { broken: true, ..Failover::default() };
    for (one, two, failover, streams, status, attempts) in [
        (html(), html(), Failover::default(), false, 502, "1"),
        (cut(), cut(), broken, false, 502, "2"),
        (dead(), silent(), Failover::default(), false, 504, "2"),
        (dead(), dead(), Failover::default(), true, 502, "2"),
        (refused(), refused(), Failover::default(), false, 503, "2"),
        (key(), key(), Failover::default(), false, 502, "2"),
        (failing(), failing(), Failover::default(), true, 500, "2"),
    ] {
        let answer = call(&duo(&one, &two, failover), chat("duo", "x", streams)).await;
        let told = answer.header("x-chimera-attempts");
        assert_eq!((answer.status, told), (status, attempts), "{}", answer.body);
    }
    // Where none was made, none is told of.
    let gateway = gateway(DialectId::OpenAi, &dead());
    let unknown = call(&gateway, chat("nobody", "x", false)).await;
    assert!(unknown.headers.get("x-chimera-attempts").is_none());
    for _ in 0..5 {
        call(&gateway, chat("gpt-x", "x", false)).await;
    }
    let open = call(&gateway, chat("gpt-x", "x", false)).await;
    assert_eq!((open.code().as_str(), open.headers.get("x-chimera-attempts")), ("circuit_open", None));
}

/// A caller who waits for less long than the call may take is told what was done until then.
#[tokio::test(start_paused = true)]
async fn an_error_of_a_caller_who_would_not_wait_tells_how_many_attempts_there_were() {
    let dead = Scripted::new([Script::Refuse]);
    let silent = Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    for streams in [false, true] {
        for cache in ["max-age=60", "no-store"] {
            let mut hasty = chat("duo", "x", streams);
            hasty.headers_mut().insert("x-chimera-timeout-ms", "500".parse().unwrap());
            hasty.headers_mut().insert("x-chimera-cache", cache.parse().unwrap());
            let answer = call(&duo(&dead, &silent, Failover::default()), hasty).await;
            let told = answer.header("x-chimera-attempts");
            assert_eq!((answer.status, told), (504, "2"), "{streams} {cache} {}", answer.body);
        }
    }
}

/// Google's SDKs read the wait from the body, and nowhere else.
#[tokio::test(start_paused = true)]
async fn pain_20_a_gemini_refusal_of_ours_tells_the_wait_in_its_body() {
    let no = unary_with(429, "retry-after: 7\r\n", r#"{"error":{"code":429}}"#);
    let gateway = gateway(DialectId::Gemini, &Scripted::answering(no));
    let ask = || call(&gateway, post("/v1beta/models/gemini-x:generateContent", r#"{"contents":[]}"#));
    ask().await;
    let ours = ask().await;
    assert_eq!((ours.status, ours.header("retry-after")), (429, "7"));
    let details = ours.json()["error"]["details"].clone();
    let info = details
        .as_array()
        .unwrap()
        .iter()
        .find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.RetryInfo");
    let delay = info.unwrap()["retryDelay"].as_str().unwrap();
    let seconds: f64 = delay.strip_suffix('s').unwrap().parse().unwrap();
    assert!(seconds > 6.0 && seconds <= 7.0, "{delay}");
}

/// Which account the operator has with a provider is not the tenants' to know.
#[tokio::test]
async fn headers_that_name_the_operators_account_stay_here() {
    let account = "anthropic-organization-id: org-canary\r\nopenai-organization: org-canary\r\n\
                   openai-project: org-canary\r\nset-cookie: org-canary\r\nopenai-version: 1\r\n";
    let upstream = Scripted::answering(unary_with(200, account, ANSWER));
    let answer = call(&gateway(DialectId::OpenAi, &upstream), chat("gpt-x", "x", false)).await;
    assert_eq!((answer.status, answer.header("openai-version")), (200, "1"));
    assert!(!format!("{:?}", answer.headers).contains("canary"), "{:?}", answer.headers);
}

/// What a provider says in mid-stream is passed on as it is, and nothing is said in its place.
#[tokio::test]
async fn u06_an_error_of_the_providers_own_in_mid_stream_is_the_only_one() {
    let anthropic = [
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
    ];
    let gemini = [
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n\n",
        "data: {\"error\":{\"code\":503,\"message\":\"busy\",\"status\":\"UNAVAILABLE\"}}\n\n",
    ];
    let openai = [&*delta("a"), "data: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\"}}\n\n"];
    let chat = r#"{"model":"gpt-x","messages":[],"stream":true}"#;
    let message = r#"{"model":"claude-x","max_tokens":5,"messages":[],"stream":true}"#;
    for (dialect, path, body, events) in [
        (DialectId::OpenAi, CHAT, chat, openai),
        (DialectId::Anthropic, "/v1/messages", message, anthropic),
        (
            DialectId::Gemini,
            "/v1beta/models/gemini-x:streamGenerateContent?alt=sse",
            r#"{"contents":[]}"#,
            gemini,
        ),
    ] {
        let upstream = Scripted::answering(stream(&events));
        let gateway = gateway(dialect, &upstream);
        let answer = call(&gateway, post(path, body)).await;
        assert_eq!((answer.body.as_str(), answer.aborted), (events.concat().as_str(), true), "{path}");
        call(&gateway, post(path, body)).await;
        assert_eq!(upstream.count(), 2, "it is not kept");
    }
}

/// An error that only its event's name tells is none in another dialect's words: the caller is told of the cut.
#[tokio::test]
async fn u06_an_error_without_words_is_told_to_a_caller_of_another_dialect() {
    let events = [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-x\",\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
        "event: error\ndata: {\"message\":\"busy\"}\n\n",
    ];
    let gateway = gateway(DialectId::Anthropic, &Scripted::answering(stream(&events)));
    let answer = call(&gateway, chat("claude-x", "x", true)).await;
    assert!(answer.aborted && answer.body.contains(r#""content":"a""#), "{}", answer.body);
    assert!(answer.body.contains(r#"data: {"error":{"#), "{}", answer.body);
}

/// Whoever reads a stream in an array as a whole can read what went wrong in it.
#[tokio::test]
async fn u06_an_array_that_is_cut_ends_with_its_error() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let element = r#"[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#;
    let bytes = [head.as_bytes(), &chunk(element), &chunk(",\r\n{\"half")].concat();
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::Write(bytes)])]);
    let path = "/v1beta/models/gemini-x:streamGenerateContent";
    let answer = call(&gateway(DialectId::Gemini, &upstream), post(path, r#"{"contents":[]}"#)).await;
    assert!(answer.aborted);
    let elements = answer.json();
    assert_eq!(elements[0]["candidates"][0]["content"]["parts"][0]["text"], "a");
    assert_eq!((elements[1]["error"]["code"].as_u64(), elements.as_array().unwrap().len()), (Some(502), 2));
}

/// An array ends with its bracket, whatever the last element says.
#[tokio::test]
async fn u06_an_array_that_lacks_its_end_is_cut() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    let element = r#"[{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#;
    let bytes = [head.as_bytes(), &chunk(element), b"0\r\n\r\n"].concat();
    let path = "/v1beta/models/gemini-x:streamGenerateContent";
    let gateway = gateway(DialectId::Gemini, &Scripted::answering(bytes));
    let answer = call(&gateway, post(path, r#"{"contents":[]}"#)).await;
    assert!(answer.aborted, "{}", answer.body);
    assert_eq!(answer.json()[1]["error"]["code"].as_u64(), Some(502));
}

/// SDKs wait as long as they are told before they ask again.
#[tokio::test]
async fn a_refusal_for_want_of_capacity_says_when_to_ask_again() {
    let error = r#"{"error":{"message":"busy","type":"overloaded_error"}}"#;
    for (status, dialect, path, model) in [
        (503, DialectId::OpenAi, CHAT, "gpt-x"),
        (429, DialectId::OpenAi, CHAT, "gpt-x"),
        (529, DialectId::Anthropic, "/v1/messages", "claude-x"),
    ] {
        let gateway = gateway(dialect, &Scripted::answering(unary(status, error)));
        let body = format!(r#"{{"model":"{model}","max_tokens":5,"messages":[]}}"#);
        let answer = call(&gateway, post(path, &body)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, "1"));
    }
}
