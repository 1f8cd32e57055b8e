//! What providers and networks do: rows U01 to U26 of the fault catalogue, and what users suffer from.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use chimera_gateway::{DialectId, Gateway, Models, Settings};
use chimera_provider_pool::Failover;
use tokio::time::Instant;

use crate::support::{
    ANSWER, Act, DONE, KEY, ROLE, SSE_HEAD, STOP, Script, Scripted, USAGE, call, chat, chunk, delta, duo,
    duo_of, finish, gateway, next, post, provider, stream, unary, unary_with,
};

fn good() -> std::sync::Arc<Scripted> {
    Scripted::answering(unary(200, ANSWER))
}

fn acts(acts: Vec<Act>) -> std::sync::Arc<Scripted> {
    Scripted::new([Script::Acts(acts)])
}

fn written(bytes: impl Into<Vec<u8>>) -> Act {
    Act::Write(bytes.into())
}

#[tokio::test]
async fn u01_a_refused_connection_moves_on_at_once() {
    let (dead, alive) = (Scripted::new([Script::Refuse]), good());
    let answer = call(&duo(&dead, &alive, Failover::default()), chat("duo", "x", false)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
    assert_eq!((answer.header("x-chimera-provider"), answer.header("x-chimera-model")), ("two", "m-two"));
    assert!(alive.body(0).contains(r#""model":"m-two""#));
    let gateway = gateway(DialectId::OpenAi, &dead);
    for _ in 0..5 {
        let answer = call(&gateway, chat("gpt-x", "x", false)).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"));
    }
    let open = call(&gateway, chat("gpt-x", "x", false)).await;
    assert_eq!((open.status, open.code().as_str()), (503, "circuit_open"));
    assert!(!open.header("retry-after").is_empty());
}

#[tokio::test(start_paused = true)]
async fn u02_a_black_hole_costs_the_connect_timeout_and_then_nothing() {
    let (hole, alive) = (Scripted::new([Script::Hang]), good());
    let gateway = duo(&hole, &alive, Failover::default());
    let began = Instant::now();
    for n in 0..5 {
        assert_eq!(call(&gateway, chat("duo", &n.to_string(), false)).await.status, 200);
    }
    assert_eq!(began.elapsed().as_secs(), 10);
    let began = Instant::now();
    assert_eq!(call(&gateway, chat("duo", "after", false)).await.status, 200);
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(hole.connects.load(SeqCst), 5);
}

/// Pain 11: every tier fires, on every dialect, against a provider that says nothing.
#[tokio::test(start_paused = true)]
async fn u03_pain_11_a_silent_provider_meets_the_deadline_of_its_tier() {
    let silent = || acts(vec![Act::Read, Act::AwaitClose]);
    let cases = [
        (DialectId::OpenAi, "/v1/chat/completions", r#"{"model":"gpt-x","messages":[]}"#, 120),
        (DialectId::OpenAi, "/v1/chat/completions", r#"{"model":"gpt-x","messages":[],"stream":true}"#, 120),
        (DialectId::OpenAi, "/v1/embeddings", r#"{"model":"gpt-x","input":"a"}"#, 30),
        (DialectId::Anthropic, "/v1/messages", r#"{"model":"claude-x","messages":[],"stream":true}"#, 120),
        (DialectId::Anthropic, "/v1/messages/count_tokens", r#"{"model":"claude-x","messages":[]}"#, 30),
        (DialectId::Gemini, "/v1beta/models/gemini-x:generateContent", r#"{"contents":[]}"#, 120),
        (DialectId::Gemini, "/v1beta/models/gemini-x:countTokens", r#"{"contents":[]}"#, 30),
    ];
    for (dialect, path, body, seconds) in cases {
        let upstream = silent();
        let began = Instant::now();
        let answer = call(&gateway(dialect, &upstream), post(path, body)).await;
        assert_eq!((answer.status, began.elapsed().as_secs()), (504, seconds), "{path} {body}");
        let tier = if seconds == 120 { "llm" } else { "standard" };
        assert!(answer.body.contains(&format!("the {tier} timeout")), "{}", answer.body);
        crate::support::settle().await;
        assert_eq!(upstream.closed.load(SeqCst), 1, "the upstream call is cancelled");
    }
    // It was sent: no other deployment is asked.
    let (one, two) = (silent(), good());
    let allowed = Failover { broken: true, ..Failover::default() };
    assert_eq!(call(&duo(&one, &two, allowed), chat("duo", "x", false)).await.status, 504);
    assert_eq!((one.count(), two.count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn callers_may_shorten_their_deadline_and_never_lengthen_it() {
    let gateway = gateway(DialectId::OpenAi, &acts(vec![Act::Read, Act::AwaitClose]));
    for (asked, seconds) in [("5000", 5), ("999999999", 120)] {
        let mut request = chat("gpt-x", asked, false);
        request.headers_mut().insert("x-chimera-timeout-ms", asked.parse().unwrap());
        let began = Instant::now();
        let answer = call(&gateway, request).await;
        assert_eq!((answer.status, answer.code().as_str()), (504, "timeout"));
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
    let mut request = chat("gpt-x", "x", false);
    request.headers_mut().insert("x-chimera-timeout-ms", "soon".parse().unwrap());
    assert_eq!(call(&gateway, request).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn u04_a_trickle_meets_the_deadline_and_comments_do_not_count_as_content() {
    let mut trickle = vec![
        Act::Read,
        written("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"),
    ];
    for _ in 0..1000 {
        trickle.extend([Act::Sleep(Duration::from_secs(10)), written("x")]);
    }
    let began = Instant::now();
    let answer = call(&gateway(DialectId::OpenAi, &acts(trickle)), chat("gpt-x", "x", false)).await;
    assert_eq!((answer.status, began.elapsed().as_secs()), (504, 120));

    let mut comments = vec![Act::Read, written(SSE_HEAD)];
    for _ in 0..1000 {
        comments.extend([Act::Sleep(Duration::from_secs(10)), written(chunk(": keep-alive\n\n"))]);
    }
    let began = Instant::now();
    let answer = call(&gateway(DialectId::OpenAi, &acts(comments)), chat("gpt-x", "x", true)).await;
    assert_eq!((answer.status, began.elapsed().as_secs()), (504, 120));
}

#[tokio::test(start_paused = true)]
async fn u04_silence_in_mid_stream_ends_it_and_comments_keep_it_alive() {
    let mut script = vec![Act::Read, written(SSE_HEAD), written(chunk(&delta("a")))];
    for _ in 0..5 {
        script.extend([Act::Sleep(Duration::from_secs(50)), written(chunk(": keep-alive\n\n"))]);
    }
    script.push(Act::AwaitClose);
    let began = Instant::now();
    let answer = call(&gateway(DialectId::OpenAi, &acts(script)), chat("gpt-x", "x", true)).await;
    assert_eq!(began.elapsed().as_secs(), 5 * 50 + 60);
    assert!(answer.aborted && !answer.body.contains("[DONE]"));
    assert!(answer.body.contains(r#""code":"timeout""#), "{}", answer.body);
}

#[tokio::test]
async fn u05_a_unary_answer_cut_short_is_502_or_moves_on_when_that_is_allowed() {
    let cut = || {
        acts(vec![
            Act::Read,
            written(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"a\":",
            ),
        ])
    };
    let upstream = cut();
    let alone = gateway(DialectId::OpenAi, &upstream);
    for asked in 1..=2 {
        let answer = call(&alone, chat("gpt-x", "x", false)).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"));
        assert_eq!(upstream.count(), asked, "never kept");
    }
    let (one, two) = (cut(), good());
    assert_eq!(call(&duo(&one, &two, Failover::default()), chat("duo", "x", false)).await.status, 502);
    assert_eq!(two.count(), 0, "it was sent, so another attempt could be billed twice");
    let allowed = Failover { broken: true, ..Failover::default() };
    assert_eq!(call(&duo(&cut(), &good(), allowed), chat("duo", "x", false)).await.status, 200);
    // And at most one further attempt, although a third deployment would answer.
    let three = [cut(), cut(), good()];
    let gateway = crate::support::group_of("trio", &three, allowed);
    let answer = call(&gateway, chat("trio", "x", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"));
    assert_eq!(answer.header("x-chimera-attempts"), "2");
    assert_eq!(three.each_ref().map(|one| one.count()), [1, 1, 0]);
    // The third was there to be asked: it is when the others say no before anything is spent.
    let three = [Scripted::new([Script::Refuse]), Scripted::new([Script::Refuse]), good()];
    let gateway = crate::support::group_of("trio", &three, allowed);
    assert_eq!(call(&gateway, chat("trio", "x", false)).await.status, 200);
}

/// Pain 3: a cut never looks like an end.
#[tokio::test]
async fn u06_pain_3_a_cut_in_mid_stream_is_an_error_event_and_no_end() {
    let cases = [
        (DialectId::OpenAi, "/v1/chat/completions", r#"{"model":"gpt-x","messages":[],"stream":true}"#, delta("a"), "data: {\"error\":{"),
        (DialectId::Anthropic, "/v1/messages", r#"{"model":"claude-x","messages":[],"stream":true}"#,
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n".to_owned(),
            "event: error\ndata: {\"type\":\"error\","),
        (DialectId::Gemini, "/v1beta/models/gemini-x:streamGenerateContent?alt=sse", r#"{"contents":[]}"#,
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n\n".to_owned(), "data: {\"error\":{"),
    ];
    for (dialect, path, body, event, error) in cases {
        // By a broken connection in the middle of an event, and by a clean end without the terminal one.
        let broken = [SSE_HEAD.as_bytes(), &chunk(&event), &chunk("data: {\"half")].concat();
        for bytes in [broken, stream(&[&event])] {
            let upstream = Scripted::answering(bytes.clone());
            let upstream =
                if bytes.ends_with(b"0\r\n\r\n") { upstream } else { acts(vec![Act::Read, written(bytes)]) };
            let gateway = gateway(dialect, &upstream);
            let answer = call(&gateway, post(path, body)).await;
            assert!(answer.aborted, "{path}");
            assert!(answer.body.starts_with(&event) && !answer.body.contains("half"), "{}", answer.body);
            assert!(answer.body[event.len()..].starts_with(error), "{}", answer.body);
            assert!(!answer.body.contains("[DONE]") && !answer.body.contains("message_stop"));
            // Never kept.
            call(&gateway, post(path, body)).await;
            assert_eq!(upstream.count(), 2);
        }
    }
}

/// Pain 4: failing over goes on until the first content, whatever the status was.
#[tokio::test]
async fn u07_pain_4_an_error_as_first_event_moves_on() {
    let failing = |events: &[&str]| Scripted::answering(stream(events));
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    let whole = [ROLE, &delta("a"), STOP, DONE].concat();
    for before in [&[error][..], &[ROLE, error], &[": ping\n\n", ROLE, error]] {
        let (one, two) = (failing(before), Scripted::answering(stream(&[ROLE, &delta("a"), STOP, DONE])));
        let answer = call(&duo(&one, &two, Failover::default()), chat("duo", "x", true)).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.aborted), (200, whole.as_str(), false));
        assert_eq!(answer.header("x-chimera-attempts"), "2");
    }
    // Nobody left: a status, not a stream.
    let answer = call(&gateway(DialectId::OpenAi, &failing(&[ROLE, error])), chat("gpt-x", "x", true)).await;
    let said = r#"{"error":{"message":"overloaded","type":"server_error"}}"#;
    assert_eq!((answer.status, answer.body.as_str()), (500, said));
    // After content there is no moving on.
    let (one, two) = (failing(&[&delta("a"), error]), good());
    let answer = call(&duo(&one, &two, Failover::default()), chat("duo", "x", true)).await;
    assert!(answer.body.starts_with(&delta("a")) && two.count() == 0);
}

/// An error as first event is what it would have been as a head: its status, its words, and what follows from it.
#[tokio::test]
async fn u07_an_error_as_first_event_is_told_as_the_refusal_that_it_is() {
    let openai =
        |kind: &str, code: &str| format!(r#"{{"error":{{"message":"m","type":"{kind}","code":{code}}}}}"#);
    let anthropic = |kind: &str| format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"m"}}}}"#);
    let gemini = |code: u16, status: &str| {
        format!(r#"{{"error":{{"code":{code},"message":"m","status":"{status}"}}}}"#)
    };
    let (chats, messages) = ("/v1/chat/completions", "/v1/messages");
    let events = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse";
    let array = "/v1beta/models/gemini-x:streamGenerateContent";
    let cases = [
        (chats, openai("server_error", "null"), 500),
        (chats, openai("requests", "\"rate_limit_exceeded\""), 429),
        (chats, openai("insufficient_quota", "\"insufficient_quota\""), 429),
        (chats, openai("invalid_request_error", "\"context_length_exceeded\""), 400),
        (chats, openai("upstream", "503"), 503),
        (messages, anthropic("overloaded_error"), 529),
        (messages, anthropic("rate_limit_error"), 429),
        (messages, anthropic("invalid_request_error"), 400),
        (messages, anthropic("api_error"), 500),
        (events, gemini(503, "UNAVAILABLE"), 503),
        (events, gemini(400, "INVALID_ARGUMENT"), 400),
        (array, gemini(429, "RESOURCE_EXHAUSTED"), 429),
    ];
    for (path, error, status) in cases {
        let (dialect, body, sent) = match path {
            _ if path == chats => {
                let body = r#"{"model":"gpt-x","messages":[{"role":"user","content":"a"}],"stream":true}"#;
                (DialectId::OpenAi, body, stream(&[ROLE, &format!("data: {error}\n\n")]))
            }
            _ if path == messages => {
                let body = r#"{"model":"claude-x","max_tokens":5,"messages":[{"role":"user","content":"a"}],"stream":true}"#;
                (DialectId::Anthropic, body, stream(&[&format!("event: error\ndata: {error}\n\n")]))
            }
            _ => {
                let body = r#"{"contents":[{"role":"user","parts":[{"text":"a"}]}]}"#;
                let sent = match path == events {
                    true => stream(&[&format!("data: {error}\r\n\r\n")]),
                    false => unary(200, &format!("[{error}]")),
                };
                (DialectId::Gemini, body, sent)
            }
        };
        let answer = call(&gateway(dialect, &Scripted::answering(sent)), post(path, body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, error.as_str()), "{path}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("retry-after").is_empty(), !matches!(status, 429 | 503 | 529), "{error}");
    }
}

/// The events of the responses API put an error elsewhere than its refusals do.
#[tokio::test]
async fn u07_an_error_as_first_event_of_a_response_is_told_as_a_refusal() {
    let error = r#""code":"rate_limit_exceeded","message":"m""#;
    let events = [
        format!("event: error\ndata: {{\"type\":\"error\",{error},\"param\":null}}\n\n"),
        format!(
            "event: response.failed\ndata: {{\"type\":\"response.failed\",\"response\":{{\"error\":{{{error}}}}}}}\n\n"
        ),
    ];
    for event in events {
        let gateway = gateway(DialectId::Responses, &Scripted::answering(stream(&[&event])));
        let body = r#"{"model":"gpt-x","input":"a","stream":true}"#;
        let answer = call(&gateway, post("/v1/responses", body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (429, "rate_limited"), "{}", answer.body);
        assert_eq!(answer.json()["error"]["message"], "m");
    }
}

/// Whose fault an error as first event is decides who is asked next, what rests, and what the caller is told.
#[tokio::test]
async fn u07_an_error_as_first_event_is_whose_fault_it_says() {
    let failing = |kind: &str| {
        let error = format!(r#"{{"type":"error","error":{{"type":"{kind}","message":"m"}}}}"#);
        Scripted::answering(stream(&[&format!("event: error\ndata: {error}\n\n")]))
    };
    // The caller's own: nobody else is asked, and no breaker opens.
    let (one, two) = (failing("invalid_request_error"), good());
    let gateway = duo_of([(DialectId::Anthropic, &one), (DialectId::OpenAi, &two)], Failover::default());
    for n in 1..=8 {
        let answer = call(&gateway, chat("duo", &n.to_string(), true)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{}", answer.body);
        assert_eq!((one.count(), two.count(), answer.header("x-chimera-attempts")), (n, 0, "1"));
    }
    // The provider's: the next one is asked; with none left it is told in the caller's dialect.
    for (kind, status) in [("overloaded_error", 503), ("rate_limit_error", 429), ("api_error", 500)] {
        let (one, two) = (failing(kind), good());
        let both = duo_of([(DialectId::Anthropic, &one), (DialectId::OpenAi, &two)], Failover::default());
        call(&both, chat("duo", "a", true)).await;
        assert_eq!((one.count(), two.count()), (1, 1), "{kind}");
        let alone = duo_of([(DialectId::Anthropic, &one), (DialectId::Anthropic, &one)], Failover::default());
        let answer = call(&alone, chat("duo", "a", true)).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["message"].as_str()),
            (status, Some("m")),
            "{kind}"
        );
    }
    // The gateway's own key: it rests, and the caller cannot mend that.
    let one = failing("authentication_error");
    let gateway = crate::support::gateway(DialectId::Anthropic, &one);
    let body =
        r#"{"model":"claude-x","max_tokens":5,"messages":[{"role":"user","content":"a"}],"stream":true}"#;
    for _ in 0..2 {
        let answer = call(&gateway, post("/v1/messages", body)).await;
        assert_eq!((answer.status, one.count()), (502, 1), "{}", answer.body);
        assert!(answer.body.contains("operator"), "{}", answer.body);
    }
}

#[tokio::test]
async fn u08_a_200_that_is_no_answer_is_502_not_kept_and_not_echoed() {
    for body in
        ["<html>secret page</html>", "{\"choices\":[", "[]", r#"{"error":{"message":"secret"}}"#, "", "{}"]
    {
        let upstream = Scripted::answering(unary(200, body));
        let gateway = gateway(DialectId::OpenAi, &upstream);
        for n in 1..=2 {
            let answer = call(&gateway, chat("gpt-x", "x", false)).await;
            assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_invalid_response"), "{body}");
            assert!(!answer.body.contains("secret"));
            assert_eq!(upstream.count(), n);
        }
        // It counts for the breaker.
        for _ in 3..=5 {
            call(&gateway, chat("gpt-x", "x", false)).await;
        }
        assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.code(), "circuit_open", "{body}");
    }
    let html = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 5\r\n\r\n<html";
    let answer =
        call(&gateway(DialectId::OpenAi, &Scripted::answering(html.into())), chat("gpt-x", "x", true)).await;
    assert_eq!(answer.code(), "upstream_invalid_response");
}

#[tokio::test]
async fn u09_lengths_that_lie_are_errors_and_their_connection_is_not_used_again() {
    let long = |extra: &str| [unary(200, ANSWER), extra.into()].concat();
    let both = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        ANSWER.len()
    );
    let twice = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {0}\r\ncontent-length: {1}\r\n\r\n{ANSWER}",
        ANSWER.len(),
        ANSWER.len() - 1
    );
    let same = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {0}\r\ncontent-length: {0}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    let cases = [
        (long("HTTP/1.1 200 OK\r\n\r\n"), 200),
        ([both.into_bytes(), chunk(ANSWER), crate::support::END.to_vec()].concat(), 502),
        (twice.into_bytes(), 502),
        (same.into_bytes(), 502),
    ];
    for (bytes, status) in cases {
        let upstream = Scripted::answering(bytes.clone());
        let gateway = gateway(DialectId::OpenAi, &upstream);
        assert_eq!(
            call(&gateway, chat("gpt-x", "a", false)).await.status,
            status,
            "{}",
            String::from_utf8_lossy(&bytes)
        );
        call(&gateway, chat("gpt-x", "b", false)).await;
        assert_eq!(upstream.connects.load(SeqCst), 2);
    }
}

/// Pain 20: their wait is honoured and passed on, and the key rests.
#[tokio::test(start_paused = true)]
async fn u10_pain_20_a_throttled_key_rests_for_as_long_as_it_was_told() {
    let no = unary_with(429, "retry-after: 7\r\n", r#"{"error":{"message":"slow down"}}"#);
    let upstream = Scripted::answering(no);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let first = call(&gateway, chat("gpt-x", "a", false)).await;
    assert_eq!((first.status, first.header("retry-after")), (429, "7"));
    assert_eq!(first.body, r#"{"error":{"message":"slow down"}}"#, "the provider's own words");
    let second = call(&gateway, chat("gpt-x", "b", false)).await;
    assert_eq!((second.status, second.code().as_str(), upstream.count()), (429, "rate_limited", 1));
    assert!(!second.header("retry-after").is_empty());
}

/// A provider without keys, such as a model server of one's own, is left alone just the same.
#[tokio::test(start_paused = true)]
async fn u10_a_provider_without_keys_rests_for_as_long_as_it_said() {
    let no = unary_with(429, "retry-after: 7\r\n", r#"{"error":{"message":"slow down"}}"#);
    let upstream = Scripted::answering(no);
    let mut models = Models::default();
    models.add_provider(crate::support::provider_with("one", DialectId::OpenAi, &upstream, Vec::new()));
    let gateway = Gateway::new(Settings::new(models), [7; 32]).unwrap();
    assert_eq!(call(&gateway, chat("gpt-x", "a", false)).await.status, 429);
    let second = call(&gateway, chat("gpt-x", "b", false)).await;
    assert_eq!((second.status, second.header("retry-after"), upstream.count()), (429, "7", 1));
}

/// `retry-after: 0`, or a date that has passed, parks nobody: it must not be taken for another key.
#[tokio::test]
async fn u10_a_wait_of_nothing_is_no_reason_to_ask_again_and_again() {
    use chimera_provider_pool::{Credential, Secret};
    let key = |key: &str| Credential::new(http::header::AUTHORIZATION, "Bearer ", Secret::new(key)).unwrap();
    for wait in ["0", "0.001", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        for keys in [1, 3] {
            let no =
                unary_with(429, &format!("retry-after: {wait}\r\n"), r#"{"error":{"message":"slow down"}}"#);
            let upstream = Scripted::answering(no);
            let credentials = (0..keys).map(|n| key(&format!("key-{n}"))).collect();
            let mut models = Models::default();
            let provider = crate::support::provider_with("one", DialectId::OpenAi, &upstream, credentials);
            models.add_provider(provider);
            let gateway = Gateway::new(Settings::new(models), [7; 32]).unwrap();
            assert_eq!(call(&gateway, chat("gpt-x", "a", false)).await.status, 429);
            assert_eq!(upstream.count(), keys, "each key is tried once");
        }
    }
}

#[tokio::test]
async fn several_keys_take_turns_and_a_refused_one_is_passed_over() {
    use chimera_provider_pool::{Credential, Secret};
    let key = |key: &str| Credential::new(http::header::AUTHORIZATION, "Bearer ", Secret::new(key)).unwrap();
    let no = unary_with(401, "", r#"{"error":{"message":"bad key dead-key"}}"#);
    let upstream = Scripted::new([Script::Acts(vec![
        Act::Read,
        Act::Write(no),
        Act::Read,
        Act::Write(unary(200, ANSWER)),
        Act::AwaitClose,
    ])]);
    let mut models = Models::default();
    models.add_provider(crate::support::provider_with(
        "one",
        DialectId::OpenAi,
        &upstream,
        vec![key("dead-key"), key("live-key")],
    ));
    let gateway = Gateway::new(Settings::new(models), [7; 32]).unwrap();
    let answer = call(&gateway, chat("gpt-x", "a", false)).await;
    assert_eq!((answer.status, answer.header("x-chimera-attempts")), (200, "2"));
    assert!(
        upstream.request(0).contains("Bearer dead-key") && upstream.request(1).contains("Bearer live-key")
    );
}

#[tokio::test]
async fn a_refusal_of_our_own_key_is_ours_to_mend_and_never_echoes_it() {
    let body = format!(r#"{{"error":{{"message":"Incorrect API key provided: {KEY}-one"}}}}"#);
    for status in [401, 402, 403] {
        let upstream = Scripted::answering(unary(status, &body));
        let answer = call(&gateway(DialectId::OpenAi, &upstream), chat("gpt-x", "a", false)).await;
        assert_eq!(answer.status, 502);
        assert!(answer.body.contains("operator") && !answer.body.contains("canary"), "{}", answer.body);
    }
    let upstream = Scripted::answering(unary(400, &body));
    let answer = call(&gateway(DialectId::OpenAi, &upstream), chat("gpt-x", "a", false)).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("[redacted]") && !answer.body.contains("canary"));
}

#[tokio::test]
async fn a_refusal_before_content_moves_on_and_the_callers_own_faults_do_not() {
    for status in [429, 500, 503, 529] {
        let one = Scripted::answering(unary(status, r#"{"error":{"message":"no"}}"#));
        let answer = call(&duo(&one, &good(), Failover::default()), chat("duo", "x", false)).await;
        assert_eq!((answer.status, answer.header("x-chimera-provider")), (200, "two"), "{status}");
    }
    let two = good();
    let one = Scripted::answering(unary(422, r#"{"error":{"message":"your fault"}}"#));
    let answer = call(&duo(&one, &two, Failover::default()), chat("duo", "x", false)).await;
    assert_eq!((answer.status, two.count()), (422, 0));
    assert!(answer.body.contains("your fault"));
    let html = Scripted::answering(unary(503, "<html>"));
    let answer = call(&gateway(DialectId::OpenAi, &html), chat("gpt-x", "x", false)).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.body.contains("html") && !answer.header("retry-after").is_empty());
}

#[tokio::test(start_paused = true)]
async fn u16_a_connection_that_was_closed_while_idle_is_not_used() {
    let script =
        Script::Acts(vec![Act::Read, written(unary(200, ANSWER)), Act::Sleep(Duration::from_secs(5))]);
    let upstream = Scripted::new([script]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    for n in 0..3 {
        assert_eq!(call(&gateway, chat("gpt-x", &n.to_string(), false)).await.status, 200);
        tokio::time::sleep(Duration::from_secs(5) + Duration::from_millis(1)).await;
    }
    assert_eq!((upstream.connects.load(SeqCst), upstream.count()), (3, 3));
    // One that stays open is used again, until it has idled for too long.
    let upstream = acts(vec![
        Act::Read,
        written(unary(200, ANSWER)),
        Act::Read,
        written(unary(200, ANSWER)),
        Act::AwaitClose,
    ]);
    let gateway = crate::support::gateway(DialectId::OpenAi, &upstream);
    call(&gateway, chat("gpt-x", "a", false)).await;
    call(&gateway, chat("gpt-x", "b", false)).await;
    assert_eq!(upstream.connects.load(SeqCst), 1);
    tokio::time::sleep(Duration::from_secs(21)).await;
    gateway.maintain();
    crate::support::settle().await;
    assert_eq!(upstream.closed.load(SeqCst), 1, "it is closed without being asked for");
}

#[tokio::test]
async fn u16_a_request_that_was_sent_is_not_sent_again() {
    let script = Script::Acts(vec![Act::Read, written(unary(200, ANSWER)), Act::Read]);
    let upstream = Scripted::new([script]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    call(&gateway, chat("gpt-x", "a", false)).await;
    let answer = call(&gateway, chat("gpt-x", "b", false)).await;
    assert_eq!((answer.status, upstream.count()), (502, 2));
}

#[tokio::test]
async fn u19_an_answer_over_the_cap_is_502_and_one_over_max_entry_is_not_kept() {
    let big = format!(r#"{{"choices":["{}"]}}"#, "x".repeat(3 << 20));
    let upstream = Scripted::answering(unary(200, &big));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &upstream));
    let mut settings = Settings::new(models);
    settings.sizes.answer = 4 << 20;
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    for _ in 0..2 {
        let answer = call(&gateway, chat("gpt-x", "x", false)).await;
        assert_eq!((answer.status, answer.body.len()), (200, big.len()));
    }
    assert_eq!(upstream.count(), 2);
    let huge = format!(r#"{{"choices":["{}"]}}"#, "x".repeat(5 << 20));
    let upstream = Scripted::answering(unary(200, &huge));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &upstream));
    let mut settings = Settings::new(models);
    settings.sizes.answer = 4 << 20;
    let answer = call(&Gateway::new(settings, [7; 32]).unwrap(), chat("gpt-x", "x", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_invalid_response"));
}

/// Who asks for a new answer gets one that is too large to be kept: the old one is not given any more.
#[tokio::test]
async fn a_new_answer_that_is_too_large_takes_the_old_one_away() {
    let whole = |content: &str| unary(200, &format!(r#"{{"choices":["{content}"]}}"#));
    let piece = delta(&"x".repeat(100_000));
    let pieces = [&[&*piece; 20][..], &[STOP, USAGE, DONE]].concat();
    let small = stream(&[&delta("a"), STOP, USAGE, DONE]);
    let answers = [(false, whole("a"), whole(&"x".repeat(2_000_000))), (true, small, stream(&pieces))];
    for (streams, small, large) in answers {
        let upstream = acts(vec![Act::Read, written(small), Act::Read, written(large)]);
        let gateway = gateway(DialectId::OpenAi, &upstream);
        let asking = |cache: &str| {
            let mut request = chat("gpt-x", "x", streams);
            request.headers_mut().insert("x-chimera-cache", cache.parse().unwrap());
            request
        };
        call(&gateway, chat("gpt-x", "x", streams)).await;
        assert_eq!(call(&gateway, asking("only-if-cached")).await.header("x-chimera-cache"), "l1");
        assert!(call(&gateway, asking("no-cache")).await.body.len() > 2_000_000);
        assert_eq!(call(&gateway, asking("only-if-cached")).await.status, 504, "streams: {streams}");
    }
}

/// However many long streams pass at once, what is held of them has its bound: those beyond it pass all the
/// same, and are not kept.
#[tokio::test]
async fn pain_10_long_streams_beyond_the_bound_pass_and_are_not_kept() {
    let (short, long) = (delta(&"x".repeat(20_000)), delta(&"x".repeat(200_000)));
    for (event, kept) in [(short, "l1"), (long, "miss; reason=cold")] {
        let upstream = Scripted::answering(stream(&[&event, STOP, USAGE, DONE]));
        let mut models = Models::default();
        models.add_provider(provider("one", DialectId::OpenAi, &upstream));
        let mut settings = Settings::new(models);
        settings.sizes.streams_in_flight = 100_000;
        let gateway = Gateway::new(settings, [7; 32]).unwrap();
        for said in ["miss; reason=cold", kept] {
            let answer = call(&gateway, chat("gpt-x", "x", true)).await;
            assert!(answer.body.starts_with(&event) && answer.body.ends_with(DONE));
            assert_eq!(answer.header("x-chimera-cache"), said);
        }
    }
}

#[tokio::test]
async fn u20_compression_despite_identity_is_undone_and_a_stream_of_it_refused() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(ANSWER.as_bytes()).unwrap();
    let gzip = encoder.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        gzip.len()
    );
    let upstream = Scripted::answering([head.as_bytes(), &gzip].concat());
    let answer = call(&gateway(DialectId::OpenAi, &upstream), chat("gpt-x", "x", false)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc";
    let answer =
        call(&gateway(DialectId::OpenAi, &Scripted::answering(head.into())), chat("gpt-x", "x", true)).await;
    assert_eq!(answer.status, 502);
}

/// A refusal that came compressed is read like any other: what it says decides whether another model is asked, and its
/// caller gets to read it.
#[tokio::test]
async fn u20_a_refusal_that_came_compressed_is_read_like_any_other() {
    let refusal = r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#;
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let compressed = |body: &[u8]| {
        let head = format!(
            "HTTP/1.1 400 X\r\ncontent-type: application/json\r\ncontent-encoding: GZip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Scripted::answering([head.as_bytes(), body].concat())
    };
    for streams in [false, true] {
        let refusing = compressed(&gzip(refusal));
        let told = call(&gateway(DialectId::OpenAi, &refusing), chat("gpt-x", "x", streams)).await;
        assert_eq!((told.status, told.body.as_str()), (400, refusal));
        let other = Scripted::answering(if streams {
            stream(&[ROLE, &delta("a"), STOP, DONE])
        } else {
            unary(200, ANSWER)
        });
        let moved = call(&duo(&refusing, &other, Failover::default()), chat("duo", "x", streams)).await;
        assert_eq!((moved.status, moved.header("x-chimera-attempts")), (200, "2"), "{}", moved.body);
    }
    // One that is nothing of the kind, or grows too much, is a refusal all the same.
    let bomb = gzip(&format!("{{\"error\":\"{}\"}}", " ".repeat(1 << 20)));
    for body in [&b"nothing of the kind"[..], &bomb] {
        let told = call(&gateway(DialectId::OpenAi, &compressed(body)), chat("gpt-x", "x", false)).await;
        assert_eq!((told.status, told.code().as_str()), (400, "upstream_invalid_response"));
    }
}

#[tokio::test]
async fn u22_bytes_that_are_not_utf_8_pass_through() {
    let mut bytes = SSE_HEAD.as_bytes().to_vec();
    let odd = b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n";
    bytes.extend([format!("{:x}\r\n", odd.len()).as_bytes(), odd, b"\r\n"].concat());
    bytes.extend(chunk(STOP));
    bytes.extend(chunk(DONE));
    bytes.extend_from_slice(crate::support::END);
    let upstream = Scripted::answering(bytes);
    let response = gateway(DialectId::OpenAi, &upstream).handle(chat("gpt-x", "x", true)).await;
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(data) = next(&mut body).await {
        all.extend_from_slice(&data.unwrap());
    }
    assert_eq!(all, [&odd[..], STOP.as_bytes(), DONE.as_bytes()].concat());
}

#[tokio::test]
async fn u23_an_event_over_the_cap_ends_the_stream_with_an_error() {
    let mut bytes = SSE_HEAD.as_bytes().to_vec();
    bytes.extend(chunk(&delta("a")));
    for _ in 0..40 {
        bytes.extend(chunk(&"x".repeat(64 << 10)));
    }
    let answer = call(
        &gateway(DialectId::OpenAi, &acts(vec![Act::Read, written(bytes), Act::AwaitClose])),
        chat("gpt-x", "x", true),
    )
    .await;
    assert!(answer.aborted && answer.body.contains("upstream_invalid_response") && answer.body.len() < 1000);
    // Before any content the head is passed on at the cap on what is held back: then it is an event, too.
    let mut bytes = SSE_HEAD.as_bytes().to_vec();
    bytes.extend(chunk(&"x".repeat(2 << 20)));
    let answer = call(
        &gateway(DialectId::OpenAi, &acts(vec![Act::Read, written(bytes), Act::AwaitClose])),
        chat("gpt-x", "x", true),
    )
    .await;
    assert!(answer.aborted && answer.body.contains("upstream_invalid_response"), "{}", answer.body);
}

/// What is taken out of streams on the caller's behalf, the usage it did not ask for, is taken out
/// wherever it is cut, and the event that ends the stream stays.
#[tokio::test]
async fn u24_what_is_taken_out_of_a_stream_never_slips_through_at_a_cut() {
    let whole = [ROLE, &delta("a"), STOP, USAGE, DONE].concat();
    let wanted = [ROLE, &delta("a"), STOP, DONE].concat();
    let at = whole.find(USAGE).unwrap();
    for cut in at - 3..at + USAGE.len() + 3 {
        let (first, second) = whole.split_at(cut);
        let head = [SSE_HEAD.as_bytes(), &chunk(first)].concat();
        let rest = [chunk(second), crate::support::END.to_vec()].concat();
        let upstream = acts(vec![Act::Read, Act::Write(head), Act::Sleep(Duration::ZERO), Act::Write(rest)]);
        let answer = call(&gateway(DialectId::OpenAi, &upstream), chat("gpt-x", "x", true)).await;
        assert_eq!((answer.body.as_str(), answer.aborted), (wanted.as_str(), false), "{cut}");
    }
}

#[tokio::test]
async fn u25_a_redirect_is_never_followed_and_informational_answers_are_skipped() {
    let redirect = "HTTP/1.1 302 Found\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n";
    let upstream = Scripted::answering(redirect.into());
    let answer = call(&gateway(DialectId::OpenAi, &upstream), chat("gpt-x", "x", false)).await;
    assert_eq!((answer.status, upstream.connects.load(SeqCst)), (502, 1));
    assert!(answer.headers.get("location").is_none());
    let hints = ["HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n".into(), unary(200, ANSWER)].concat();
    let answer =
        call(&gateway(DialectId::OpenAi, &Scripted::answering(hints)), chat("gpt-x", "x", false)).await;
    assert_eq!(answer.body, ANSWER);
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let answer =
        call(&gateway(DialectId::OpenAi, &Scripted::answering(switch.into())), chat("gpt-x", "x", false))
            .await;
    assert_eq!(answer.status, 502);
}

/// A provider that will not have the request says so before it has read it: no more is sent, what it
/// said is passed on, and the connection, on which the rest would be expected, is not used again.
#[tokio::test]
async fn u25_a_413_before_the_request_was_read_is_passed_on() {
    const BODY: usize = 8 << 20;
    let no = unary(413, r#"{"error":{"message":"too long"}}"#);
    let early = Script::Acts(vec![written(no), Act::AwaitClose]);
    let good = Script::Acts(vec![Act::Read, written(unary(200, ANSWER)), Act::Again]);
    for stream in [false, true] {
        let upstream = Scripted::new([early.clone(), good.clone()]);
        let gateway = gateway(DialectId::OpenAi, &upstream);
        let answer = call(&gateway, chat("gpt-x", &"x".repeat(BODY), stream)).await;
        assert_eq!((answer.status, answer.body.as_str()), (413, r#"{"error":{"message":"too long"}}"#));
        crate::support::settle().await;
        assert_eq!(upstream.closed.load(SeqCst), 1);
        assert!(upstream.drained.load(SeqCst) < BODY / 2, "{}", upstream.drained.load(SeqCst));
        assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, 200);
        assert_eq!(upstream.connects.load(SeqCst), 2);
    }
}

#[tokio::test]
async fn u26_the_end_is_what_the_protocol_says() {
    let whole = [ROLE, &delta("a"), STOP, DONE].concat();
    let cases: [&[&str]; 4] = [
        &[ROLE, &delta("a"), STOP],
        &[ROLE, &delta("a"), STOP, DONE, DONE],
        &[ROLE, &delta("a"), STOP, DONE, &delta("late")],
        &[ROLE, &delta("a"), STOP, USAGE],
    ];
    for events in cases {
        let upstream = Scripted::answering(stream(events));
        let gateway = gateway(DialectId::OpenAi, &upstream);
        let answer = call(&gateway, chat("gpt-x", "x", true)).await;
        assert_eq!((answer.body.as_str(), answer.aborted), (whole.as_str(), false));
        let again = call(&gateway, chat("gpt-x", "x", true)).await;
        assert_eq!((again.body.as_str(), again.header("x-chimera-cache")), (whole.as_str(), "l1"));
    }
    let absurd = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":-5,\"completion_tokens\":9223372036854775808}}\n\n";
    let upstream = Scripted::answering(stream(&[&delta("a"), STOP, absurd, DONE]));
    assert!(!call(&gateway(DialectId::OpenAi, &upstream), chat("gpt-x", "x", true)).await.aborted);
}

/// Of several choices, all must have finished; one alone that has is no whole answer.
#[tokio::test]
async fn u26_pain_3_a_stream_of_several_choices_ends_with_the_last_of_them() {
    let one = |index: u8, delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"c\",\"choices\":[{{\"index\":{index},\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let says = |index| one(index, r#"{"content":"a"}"#, "null");
    let ends = |index| one(index, "{}", "\"stop\"");
    let begun = [says(0), says(1), says(0), ends(0), says(1)].concat();
    let body = r#"{"model":"gpt-x","n":2,"messages":[{"role":"user","content":"x"}],"stream":true}"#;
    for (last, is_whole) in [(String::new(), false), (ends(1), true), (DONE.to_owned(), true)] {
        let upstream = Scripted::answering(stream(&[&(begun.clone() + &last)]));
        let gateway = gateway(DialectId::OpenAi, &upstream);
        let first = call(&gateway, post("/v1/chat/completions", body)).await;
        assert_eq!((first.aborted, first.body.ends_with(DONE)), (!is_whole, is_whole), "{}", first.body);
        let again = call(&gateway, post("/v1/chat/completions", body)).await;
        assert_eq!(again.header("x-chimera-cache") == "l1", is_whole, "{last}");
    }
}

/// U26 and pain 12: a provider that never closes after its last event is not waited for.
#[tokio::test(start_paused = true)]
async fn u26_the_caller_is_not_kept_waiting_after_the_last_event() {
    let bytes = [SSE_HEAD.as_bytes(), &chunk(&delta("a")), &chunk(STOP), &chunk(DONE)].concat();
    let upstream = acts(vec![Act::Read, written(bytes), Act::AwaitClose]);
    let began = Instant::now();
    let answer = finish(gateway(DialectId::OpenAi, &upstream).handle(chat("gpt-x", "x", true)).await).await;
    assert!(!answer.aborted && answer.body.ends_with(DONE));
    assert!(began.elapsed() <= Duration::from_millis(101));
    crate::support::settle().await;
    assert_eq!(upstream.closed.load(SeqCst), 1);
}
