//! What an error that the gateway makes itself tells, besides its code.

use chimera_gateway::DialectId;
use chimera_provider_pool::Failover;

use crate::support::{
    ANSWER, Act, ROLE, Script, Scripted, call, chat, duo, gateway, post, stream, unary, unary_with,
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
        (failing(), failing(), Failover::default(), true, 502, "2"),
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
