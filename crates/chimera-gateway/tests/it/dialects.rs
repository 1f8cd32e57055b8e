//! The caller speaks one dialect and the provider another: every pairing, whole and streamed, with the
//! cache, faults and refusals in between.

use std::{sync::Arc, time::Duration};

use chimera_gateway::{DialectId, Gateway};
use serde_json::{Value, json};

use crate::support::{
    ANSWER, Act, Answer, CHAT, DONE, END, ROLE, SSE_HEAD, STOP, Script, Scripted, USAGE, call, chunk, delta,
    gateway, post, stream, unary, unary_with,
};

pub(crate) const PROVIDERS: [DialectId; 3] = [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini];
pub(crate) const CALLERS: [DialectId; 4] =
    [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini, DialectId::Responses];

const ANTHROPIC_ANSWER: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"hello there"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":2}}"#;
const GEMINI_ANSWER: &str = r#"{"candidates":[{"content":{"parts":[{"text":"hello there"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2,"totalTokenCount":7},"modelVersion":"gemini-x","responseId":"r"}"#;

pub(crate) fn model(provider: DialectId) -> &'static str {
    match provider {
        DialectId::OpenAi | DialectId::Responses => "gpt-x",
        DialectId::Anthropic => "claude-x",
        DialectId::Gemini => "gemini-x",
    }
}

pub(crate) fn unary_answer(provider: DialectId) -> Vec<u8> {
    unary(
        200,
        match provider {
            DialectId::OpenAi | DialectId::Responses => ANSWER,
            DialectId::Anthropic => ANTHROPIC_ANSWER,
            DialectId::Gemini => GEMINI_ANSWER,
        },
    )
}

fn named(name: &str, data: &str) -> String {
    format!("event: {name}\ndata: {data}\n\n")
}

/// The events of a stream that says `hello there`.
pub(crate) fn events(provider: DialectId) -> Vec<String> {
    match provider {
        DialectId::OpenAi | DialectId::Responses => {
            let mut events = vec![ROLE.to_owned(), delta("hello"), delta(" there")];
            events.extend([STOP, USAGE, DONE].map(str::to_owned));
            events
        }
        DialectId::Anthropic => {
            let word = |text: &str| {
                let data = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
                named("content_block_delta", &data.to_string())
            };
            vec![
                named("message_start", r#"{"type":"message_start","message":{"id":"msg_1","model":"claude-x","usage":{"input_tokens":5,"output_tokens":1}}}"#),
                named("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
                word("hello"),
                word(" there"),
                named("content_block_stop", r#"{"type":"content_block_stop","index":0}"#),
                named("message_delta", r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":2}}"#),
                named("message_stop", r#"{"type":"message_stop"}"#),
            ]
        }
        DialectId::Gemini => vec![
            r#"{"candidates":[{"content":{"parts":[{"text":"hello"}],"role":"model"},"index":0}],"responseId":"r"}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":" there"}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":2},"responseId":"r"}"#,
        ]
        .into_iter()
        .map(|data| format!("data: {data}\r\n\r\n"))
        .collect(),
    }
}

pub(crate) fn stream_answer(provider: DialectId) -> Vec<u8> {
    let events = events(provider);
    stream(&events.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The same question in a dialect.
pub(crate) fn ask(
    caller: DialectId,
    model: &str,
    is_stream: bool,
) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let messages = json!([{"role": "user", "content": "hi"}]);
    match caller {
        DialectId::OpenAi => post(
            CHAT,
            &json!({"model": model, "messages": messages, "max_completion_tokens": 50, "stream": is_stream,
                "stream_options": is_stream.then(|| json!({"include_usage": true}))})
            .to_string(),
        ),
        DialectId::Anthropic => post(
            "/v1/messages",
            &json!({"model": model, "max_tokens": 50, "messages": messages, "stream": is_stream}).to_string(),
        ),
        DialectId::Gemini => {
            let body = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 50}});
            let verb = if is_stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
            post(&format!("/v1beta/models/{model}:{verb}"), &body.to_string())
        }
        DialectId::Responses => post(
            "/v1/responses",
            &json!({"model": model, "input": "hi", "max_output_tokens": 50, "stream": is_stream}).to_string(),
        ),
    }
}

/// What an answer says, by the rules of its dialect.
pub(crate) fn said(caller: DialectId, body: &Value) -> (&str, u64) {
    let (text, tokens) = match caller {
        DialectId::OpenAi => ("/choices/0/message/content", "/usage/completion_tokens"),
        DialectId::Anthropic => ("/content/0/text", "/usage/output_tokens"),
        DialectId::Gemini => ("/candidates/0/content/parts/0/text", "/usageMetadata/candidatesTokenCount"),
        DialectId::Responses => ("/output/0/content/0/text", "/usage/output_tokens"),
    };
    (body.pointer(text).unwrap().as_str().unwrap(), body.pointer(tokens).unwrap().as_u64().unwrap())
}

/// A stream folded by the rules of its dialect.
pub(crate) fn folded(caller: DialectId, answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.aborted), (200, false), "{}", answer.body);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    serde_json::from_slice(&caller.dialect().fold(answer.body.as_bytes()).unwrap()).unwrap()
}

fn pairs() -> impl Iterator<Item = (DialectId, DialectId)> {
    PROVIDERS.into_iter().flat_map(|provider| {
        CALLERS.into_iter().filter(move |caller| *caller != provider).map(move |caller| (caller, provider))
    })
}

#[tokio::test]
async fn any_dialect_reaches_any_provider() {
    for (caller, provider) in pairs() {
        let upstream = Scripted::answering(unary_answer(provider));
        let answer = call(&gateway(provider, &upstream), ask(caller, model(provider), false)).await;
        assert_eq!(answer.status, 200, "{caller:?} {provider:?}: {}", answer.body);
        assert_eq!(said(caller, &answer.json()), ("hello there", 2));
        assert_eq!(answer.header("x-chimera-provider"), "one");
        let path = match provider {
            DialectId::Anthropic => "/v1/messages",
            DialectId::Gemini => "/v1beta/models/gemini-x:generateContent",
            _ => "/v1/chat/completions",
        };
        assert!(
            upstream.request(0).starts_with(&format!("POST {path} HTTP/1.1\r\n")),
            "{}",
            upstream.request(0)
        );
        assert!(upstream.body(0).contains("hi") && upstream.body(0).contains("50"));
    }
}

#[tokio::test]
async fn any_dialect_streams_from_any_provider() {
    for (caller, provider) in pairs() {
        let upstream = Scripted::answering(stream_answer(provider));
        let answer = call(&gateway(provider, &upstream), ask(caller, model(provider), true)).await;
        assert_eq!(said(caller, &folded(caller, &answer)), ("hello there", 2), "{caller:?} {provider:?}");
    }
}

/// One call is made, whole or streamed, by a caller of any dialect; its answer serves callers of every
/// dialect, whole and as a stream.
#[tokio::test]
async fn pain_8_a_stored_answer_serves_every_dialect() {
    let forms = || CALLERS.into_iter().flat_map(|caller| [false, true].map(|is_stream| (caller, is_stream)));
    for (provider, (first, first_streams)) in
        PROVIDERS.into_iter().flat_map(|provider| forms().map(move |form| (provider, form)))
    {
        let answer = if first_streams { stream_answer(provider) } else { unary_answer(provider) };
        let upstream = Scripted::answering(answer);
        let gateway = gateway(provider, &upstream);
        let asked = |caller, is_stream| {
            let mut request = ask(caller, model(provider), is_stream);
            // As Anthropic's SDKs do.
            request.headers_mut().insert("anthropic-version", "2023-06-01".parse().unwrap());
            request
        };
        let answer = call(&gateway, asked(first, first_streams)).await;
        assert!(answer.header("x-chimera-cache").starts_with("miss"));
        // Twice: the first hit makes a form, the second finds it.
        for (caller, is_stream) in forms().chain(forms()) {
            let answer = call(&gateway, asked(caller, is_stream)).await;
            let pair = format!("{first:?} {first_streams}, then {caller:?} {is_stream}, at {provider:?}");
            assert_eq!(answer.header("x-chimera-cache"), "l1", "{pair}");
            let whole = if is_stream { folded(caller, &answer) } else { answer.json() };
            assert_eq!(said(caller, &whole), ("hello there", 2), "{pair}");
        }
        assert_eq!(upstream.count(), 1);
    }
}

/// What a caller of another dialect is told is kept with the answer: told once more, it is the same to
/// the byte, in the encoding that the caller prefers.
#[tokio::test]
async fn a_translated_hit_is_made_once_and_compressed() {
    let text = "some words ".repeat(400);
    for provider in PROVIDERS {
        let answer = String::from_utf8(unary_answer(provider)).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let upstream = Scripted::answering(unary(200, &body.replace("hello there", &text)));
        let gateway = gateway(provider, &upstream);
        for caller in CALLERS.into_iter().filter(|caller| *caller != provider) {
            let plain = call(&gateway, ask(caller, model(provider), false)).await;
            assert_eq!((plain.header("vary"), plain.header("content-encoding")), ("accept-encoding", ""));
            let again = call(&gateway, ask(caller, model(provider), false)).await;
            assert_eq!((again.header("x-chimera-cache"), &again.body), ("l1", &plain.body));
            for encoding in ["gzip", "br", "zstd"] {
                for _ in 0..2 {
                    let mut request = ask(caller, model(provider), false);
                    request.headers_mut().insert("accept-encoding", encoding.parse().unwrap());
                    let response = gateway.handle(request).await;
                    assert_eq!(response.headers()["content-encoding"], encoding);
                    let mut body = response.into_body();
                    let mut encoded = Vec::new();
                    while let Some(Ok(data)) = crate::support::next(&mut body).await {
                        encoded.extend_from_slice(&data);
                    }
                    assert!(encoded.len() * 4 < plain.body.len(), "{encoding}: {}", encoded.len());
                    assert_eq!(decoded(encoding, &encoded), plain.body);
                }
            }
        }
        assert_eq!(upstream.count(), 1);
    }
}

fn decoded(encoding: &str, bytes: &[u8]) -> String {
    use std::io::Read;
    let mut out = String::new();
    match encoding {
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_string(&mut out),
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut out),
        _ => zstd::Decoder::new(bytes).unwrap().read_to_string(&mut out),
    }
    .unwrap();
    out
}

#[tokio::test]
async fn pain_2_what_cannot_be_said_is_refused_by_name_and_what_was_dropped_is_listed() {
    let upstream = Scripted::answering(unary_answer(DialectId::Anthropic));
    let gateway = gateway(DialectId::Anthropic, &upstream);
    let body = r#"{"model":"claude-x","messages":[{"role":"user","content":"hi"}],"n":2}"#;
    let answer = call(&gateway, post(CHAT, body)).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
    assert_eq!(answer.json()["error"]["param"], "n");
    assert_eq!(upstream.count(), 0);

    let body = r#"{"model":"claude-x","messages":[{"role":"user","content":"hi"}],"store":true,"presence_penalty":0}"#;
    for expected in ["miss; reason=cold", "l1"] {
        let answer = call(&gateway, post(CHAT, body)).await;
        assert_eq!(answer.header("x-chimera-cache"), expected);
        assert_eq!(answer.header("x-chimera-dropped"), "store, presence_penalty");
    }
}

#[tokio::test]
async fn errors_of_providers_become_the_callers() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let upstream = Scripted::answering(unary(529, overloaded));
    let answer =
        call(&gateway(DialectId::Anthropic, &upstream), ask(DialectId::OpenAi, "claude-x", true)).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{}", answer.body);
    assert_eq!(answer.json()["error"]["message"], "Overloaded");

    let limited =
        r#"{"error":{"message":"Rate limit reached.","type":"requests","code":"rate_limit_exceeded"}}"#;
    let upstream = Scripted::answering(unary_with(429, "retry-after: 7\r\n", limited));
    let answer =
        call(&gateway(DialectId::OpenAi, &upstream), ask(DialectId::Anthropic, "gpt-x", false)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (429, "7"));
    assert_eq!(answer.json()["error"]["type"], "rate_limit_error");

    let upstream = Scripted::answering(unary(
        400,
        r#"{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}"#,
    ));
    let answer =
        call(&gateway(DialectId::Gemini, &upstream), ask(DialectId::Responses, "gemini-x", false)).await;
    assert_eq!(
        (answer.status, answer.json()["error"]["type"].as_str()),
        (400, Some("invalid_request_error"))
    );
}

/// A provider that says the first words of its stream and then breaks off.
fn breaking(provider: DialectId, words: usize) -> Arc<Scripted> {
    let mut bytes = SSE_HEAD.as_bytes().to_vec();
    events(provider).iter().take(words).for_each(|event| bytes.extend(chunk(event)));
    Scripted::new([Script::Acts(vec![Act::Read, Act::Write(bytes)])])
}

#[tokio::test(start_paused = true)]
async fn u06_a_stream_that_breaks_ends_with_the_callers_error_and_no_normal_end() {
    for (caller, provider) in pairs() {
        let words = if provider == DialectId::Gemini { 1 } else { 3 };
        let upstream = breaking(provider, words);
        let gateway = gateway(provider, &upstream);
        let answer = call(&gateway, ask(caller, model(provider), true)).await;
        assert!(answer.aborted && answer.body.contains("hello"), "{caller:?} {provider:?}: {}", answer.body);
        for end in ["[DONE]", "message_stop", "finishReason", "\"finish_reason\":\"", "response.completed"] {
            assert!(!answer.body.contains(end), "{caller:?} {provider:?}: {end}");
        }
        assert!(answer.body.contains("error"), "{}", answer.body);
        assert!(caller.dialect().fold(answer.body.as_bytes()).is_err());
        // Nothing of it was kept.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let answer = call(&gateway, ask(caller, model(provider), true)).await;
        assert_ne!(answer.header("x-chimera-cache"), "l1");
    }
}

/// A provider's own error after its first word, in one piece with it.
fn failing(provider: DialectId, message: &str) -> Vec<u8> {
    let first = if provider == DialectId::Anthropic { 3 } else { 2 };
    let mut events = events(provider);
    events.truncate(if provider == DialectId::Gemini { 1 } else { first });
    let error = match provider {
        DialectId::Anthropic => {
            let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": message}});
            named("error", &error.to_string())
        }
        DialectId::Gemini => {
            format!(
                "data: {}\n\n",
                json!({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})
            )
        }
        _ => format!("data: {}\n\n", json!({"error": {"message": message, "type": "x", "code": 503}})),
    };
    [SSE_HEAD.as_bytes(), &chunk(&[events.concat(), error].concat())].concat()
}

/// In the caller's shape, with the provider's words and none of its keys; and the breaker hears of it at once.
#[tokio::test(start_paused = true)]
async fn u06_an_error_of_the_providers_own_in_mid_stream_is_told_in_its_words() {
    let message = format!("busy\u{7}: \r\n\n{}-one \"{}", crate::support::KEY, "long ".repeat(1000));
    for (caller, provider) in pairs() {
        let answer = Act::Write(failing(provider, &message));
        let upstream = Scripted::new([Script::Acts(vec![Act::Read, answer, Act::AwaitClose])]);
        let gateway = gateway(provider, &upstream);
        let answer = call(&gateway, ask(caller, model(provider), true)).await;
        assert!(answer.aborted && answer.body.contains("hello"), "{caller:?} {provider:?}: {}", answer.body);
        let last = answer.body.trim_end().rsplit("\n\n").next().unwrap();
        let data = last.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        let (error, kind) = match caller {
            DialectId::OpenAi => (&data["error"], json!(["server_error", "overloaded"])),
            DialectId::Anthropic => (&data["error"], json!(["overloaded_error", "overloaded"])),
            DialectId::Gemini => (&data["error"], json!([null, 503])),
            DialectId::Responses => (&data, json!(["error", "overloaded"])),
        };
        assert_eq!(json!([error["type"], error["code"]]), kind, "{caller:?} {provider:?}: {last}");
        let told = error["message"].as_str().unwrap();
        assert!(told.starts_with("busy :    [redacted] \"long long"), "{told}");
        assert!(told.len() <= 1000 && !answer.body.contains("canary"), "{}", answer.body);
        let breaker = gateway.with_models(|models| models.deployments()[0].breaker().clone());
        assert_eq!(breaker.snapshot(std::time::Instant::now()).failures, 1, "{caller:?} {provider:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn u06_an_array_tells_the_providers_error_as_its_last_element() {
    let acts = vec![Act::Read, Act::Write(failing(DialectId::OpenAi, "busy")), Act::AwaitClose];
    let gateway = gateway(DialectId::OpenAi, &Scripted::new([Script::Acts(acts)]));
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let answer = call(&gateway, post("/v1beta/models/gpt-x:streamGenerateContent", body)).await;
    let elements = answer.json();
    assert_eq!(elements[0]["candidates"][0]["content"]["parts"][0]["text"], "hello");
    assert_eq!(
        (&elements[1]["error"]["message"], &elements[1]["error"]["code"]),
        (&json!("busy"), &json!(503))
    );
}

/// The end is told when the provider tells it, not when it closes.
#[tokio::test(start_paused = true)]
async fn pain_16_words_and_the_end_are_passed_on_as_they_come() {
    let mut acts = vec![Act::Read, Act::Write(SSE_HEAD.as_bytes().to_vec())];
    for event in events(DialectId::OpenAi) {
        acts.push(Act::Write(chunk(&event)));
        acts.push(Act::Sleep(Duration::from_secs(1)));
    }
    acts.push(Act::Write(END.to_vec()));
    let upstream = Scripted::new([Script::Acts(acts)]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let started = tokio::time::Instant::now();
    let mut body = gateway.handle(ask(DialectId::Anthropic, "gpt-x", true)).await.into_body();
    let mut told = Vec::new();
    while let Some(Ok(data)) = crate::support::next(&mut body).await {
        told.push((started.elapsed().as_secs(), String::from_utf8(data.to_vec()).unwrap()));
    }
    let when = |word: &str| told.iter().find(|(_, text)| text.contains(word)).unwrap().0;
    assert_eq!((when("hello"), when(" there"), when("message_stop")), (1, 2, 5), "{told:?}");
}

#[tokio::test]
async fn a_gemini_caller_without_alt_sse_gets_one_array() {
    let upstream = Scripted::answering(stream_answer(DialectId::OpenAi));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    for expected in ["miss; reason=cold", "l1"] {
        let answer = call(&gateway, post("/v1beta/models/gpt-x:streamGenerateContent", body)).await;
        assert_eq!(answer.header("x-chimera-cache"), expected);
        let elements: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(elements.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    }
}

#[tokio::test]
async fn embeddings_reach_a_provider_of_another_dialect() {
    let upstream =
        Scripted::answering(unary(200, r#"{"embeddings":[{"values":[1,-2.5]},{"values":[0.10]}]}"#));
    let gateway = gateway(DialectId::Gemini, &upstream);
    let body = r#"{"model":"gemini-e","input":["a","b"]}"#;
    let answer = call(&gateway, post("/v1/embeddings", body)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.json()["data"][0]["embedding"], json!([1, -2.5]));
    assert!(upstream.request(0).starts_with("POST /v1beta/models/gemini-e:batchEmbedContents HTTP/1.1"));
}

#[tokio::test]
async fn keys_and_versions_of_the_caller_stay_here() {
    let upstream = Scripted::answering(unary_answer(DialectId::OpenAi));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let mut request = ask(DialectId::Anthropic, "gpt-x", false);
    request.headers_mut().insert("anthropic-version", "2023-06-01".parse().unwrap());
    request.headers_mut().insert("anthropic-beta", "a-1".parse().unwrap());
    assert_eq!(call(&gateway, request).await.status, 200);
    assert!(!upstream.request(0).contains("anthropic"));
}

/// A turn with two calls and their results, from one vendor's words into another's and back.
#[tokio::test]
async fn two_calls_and_their_results_make_the_round() {
    let reply = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"x":1.50}},{"type":"tool_use","id":"toolu_2","name":"g","input":{}}],"stop_reason":"tool_use","usage":{"input_tokens":5,"output_tokens":2}}"#;
    let upstream = Scripted::answering(unary(200, reply));
    let gateway: Gateway = gateway(DialectId::Anthropic, &upstream);
    let question = json!({"role": "user", "content": "weather?"});
    let tools = json!([{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "g"}}]);
    let first = json!({"model": "claude-x", "messages": [question], "tools": tools});
    let message =
        call(&gateway, post(CHAT, &first.to_string())).await.json()["choices"][0]["message"].clone();
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"x\":1.50}");
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "sunny"});
    let second = json!({"model": "claude-x", "messages": [question, message, result("toolu_1"), result("toolu_2")], "tools": tools});
    assert_eq!(call(&gateway, post(CHAT, &second.to_string())).await.status, 200);
    let sent = upstream.body(1);
    assert!(sent.contains(r#""content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},{"type":"tool_use","id":"toolu_1","name":"f","input":{"x":1.50}},{"type":"tool_use","id":"toolu_2","name":"g","input":{}}]"#), "{sent}");
    assert!(sent.contains(r#"[{"type":"tool_result","tool_use_id":"toolu_1","content":"sunny"},{"type":"tool_result","tool_use_id":"toolu_2","content":"sunny"}]"#), "{sent}");
}

#[tokio::test]
async fn tokens_are_counted_by_a_provider_of_another_dialect_that_counts() {
    let upstream = Scripted::answering(unary(200, r#"{"totalTokens":7}"#));
    let body = r#"{"model":"gemini-x","messages":[{"role":"user","content":"hi"}]}"#;
    let answer = call(&gateway(DialectId::Gemini, &upstream), post("/v1/messages/count_tokens", body)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"input_tokens":7}"#));
    assert!(upstream.request(0).starts_with("POST /v1beta/models/gemini-x:countTokens HTTP/1.1\r\n"));

    let upstream = Scripted::answering(unary(200, r#"{"input_tokens":9}"#));
    let body = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
    let path = "/v1beta/models/claude-x:countTokens";
    let answer = call(&gateway(DialectId::Anthropic, &upstream), post(path, body)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"totalTokens":9}"#));
    assert_eq!(upstream.body(0), r#"{"model":"claude-x","messages":[{"role":"user","content":"hi"}]}"#);
}

/// OpenAI has no call for it: the gateway counts, and nobody is asked.
#[tokio::test]
async fn pain_19_tokens_are_counted_here_where_the_provider_counts_none() {
    let upstream = Scripted::answering(unary(200, "{}"));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    // Three around the message, its role, its text, and three before the answer.
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}"#;
    let answer = call(&gateway, post("/v1/messages/count_tokens", body)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"input_tokens":8}"#));
    assert_eq!(answer.header("x-chimera-cache"), "bypass");
    let contents = r#""contents":[{"parts":[{"text":"hello"}]}]"#;
    for body in [
        format!("{{{contents}}}"),
        format!(r#"{{"generateContentRequest":{{"model":"models/gpt-4o",{contents}}}}}"#),
    ] {
        let answer = call(&gateway, post("/v1beta/models/gpt-4o:countTokens", &body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"totalTokens":8}"#));
    }
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}],"top_k":3}"#;
    let answer = call(&gateway, post("/v1/messages/count_tokens", body)).await;
    assert_eq!((answer.status, answer.json()["error"]["param"].as_str()), (400, Some("top_k")));
    assert_eq!(upstream.count(), 0);
}
