//! Calls that a pipeline judges: answers against a schema, requests by a moderator; and restored answers
//! in the caller's encoding.

use std::{io::Read, sync::Arc, time::Duration};

use chimera_gateway::{DialectId, Gateway, Models, Settings};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{
    support::{
        ANSWER, Act, CHAT, DONE, ROLE, SSE_HEAD, STOP, Script, Scripted, call, chunk, delta, next, post,
        provider, stream, unary,
    },
    transforms::{MAIL, asking, gateway, placeholder, redacting, sent, transforms},
};

/// A whole answer that says this.
fn saying(text: &str) -> Vec<u8> {
    unary(200, &ANSWER.replace("\"hello there\"", &Value::from(text).to_string()))
}

/// A provider that says these one after the other, the last again and again.
fn says(texts: &[&str]) -> Arc<Scripted> {
    let mut acts: Vec<Act> = texts.iter().flat_map(|text| [Act::Read, Act::Write(saying(text))]).collect();
    acts.push(Act::AwaitClose);
    Scripted::new([Script::Acts(acts)])
}

fn schema(retry: bool) -> Value {
    let schema = json!({
        "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"],
    });
    json!({ "steps": ["schema"], "routes": ["chat_completions"], "schema": { "schema": schema, "retry": retry } })
}

fn content(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_answer_is_put_right_or_refused_with_its_path() {
    for (said, status, told) in [
        ("{\"n\":1}", 200, "{\"n\":1}"),
        ("```json\n{'n': 1,}\n```", 200, "{\"n\": 1}"),
        ("{\"n\":\"canary\"}", 422, "$.n: it must be of type integer"),
        ("I would rather not.", 422, "$: it is not JSON"),
    ] {
        let upstream = says(&[said]);
        let gateway = gateway(DialectId::OpenAi, &upstream, schema(false));
        // From the provider, and from the cache.
        for _ in 0..2 {
            let answer = call(&gateway, post(CHAT, &asking(false))).await;
            assert_eq!(answer.status, status, "{}", answer.body);
            match status {
                200 => assert_eq!(content(&answer.body), told),
                _ => {
                    assert!(answer.body.contains(told) && !answer.body.contains("canary"), "{}", answer.body)
                }
            }
        }
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_asked_for_once_more_when_that_is_set() {
    let upstream = says(&["{\"n\":\"one\"}", "{\"n\":1}"]);
    let gateway = gateway(DialectId::OpenAi, &upstream, schema(true));
    let answer = call(&gateway, post(CHAT, &asking(false))).await;
    assert_eq!((answer.status, content(&answer.body).as_str()), (200, "{\"n\":1}"));
    let again: Value = serde_json::from_str(&upstream.body(1)).unwrap();
    assert_eq!(again["messages"][1], json!({ "role": "assistant", "content": "{\"n\":\"one\"}" }));
    let why = again["messages"][2]["content"].as_str().unwrap();
    assert!(why.contains("$.n: it must be of type integer"), "{why}");

    let upstream = says(&["no", "no", "{\"n\":1}"]);
    let answer =
        call(&self::gateway(DialectId::OpenAi, &upstream, schema(true)), post(CHAT, &asking(false))).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_eq!(upstream.count(), 2, "once more, and not again");
}

#[tokio::test]
async fn what_is_asked_once_more_was_never_restored() {
    let spec = json!({
        "steps": ["schema", "redact"], "routes": ["chat_completions"],
        "schema": { "schema": { "type": "object" }, "retry": true },
    });
    let seen = {
        let upstream = says(&["{}"]);
        call(&gateway(DialectId::OpenAi, &upstream, spec.clone()), post(CHAT, &asking(false))).await;
        placeholder(&upstream.body(0))
    };
    let upstream = says(&[&format!("You are {seen}."), &format!("{{\"mail\":\"{seen}\"}}")]);
    let answer = call(&gateway(DialectId::OpenAi, &upstream, spec), post(CHAT, &asking(false))).await;
    assert_eq!(content(&answer.body), format!("{{\"mail\":\"{MAIL}\"}}"));
    assert!(upstream.body(1).contains(&format!("You are {seen}.")) && !upstream.request(1).contains(MAIL));
}

/// A stream that says these in its events.
fn streaming(texts: &[&str]) -> Vec<u8> {
    let deltas: Vec<_> = texts.iter().map(|text| delta(&text.replace('"', "\\\""))).collect();
    let mut events = vec![ROLE];
    events.extend(deltas.iter().map(String::as_str));
    events.extend([STOP, DONE]);
    stream(&events)
}

/// A provider that answers with these one after the other.
fn answers(all: Vec<Vec<u8>>) -> Arc<Scripted> {
    let mut acts: Vec<Act> = all.into_iter().flat_map(|one| [Act::Read, Act::Write(one)]).collect();
    acts.push(Act::AwaitClose);
    Scripted::new([Script::Acts(acts)])
}

#[tokio::test]
async fn a_stream_is_told_when_all_of_it_fits() {
    let events = |texts: &[&str]| Scripted::answering(streaming(texts));
    let fits = events(&["{\"n\"", ": 1,", "}"]);
    let answer = call(&gateway(DialectId::OpenAi, &fits, schema(false)), post(CHAT, &asking(true))).await;
    assert!(!answer.aborted && answer.body.contains(r#""content":"{\"n\": 1}""#), "{}", answer.body);
    let unfit = events(&["{\"n\"", ": \"canary\"}"]);
    let answer = call(&gateway(DialectId::OpenAi, &unfit, schema(false)), post(CHAT, &asking(true))).await;
    assert!(answer.aborted && answer.body.contains("$.n: it must be") && !answer.body.contains("canary"));
}

#[tokio::test]
async fn a_stream_that_does_not_fit_is_asked_for_once_more_before_anything_is_told() {
    let unfit = streaming(&["{\"n\"", ": \"canary\"}"]);
    let upstream = answers(vec![unfit.clone(), streaming(&["{\"n\"", ": 1}"])]);
    let gateway = gateway(DialectId::OpenAi, &upstream, schema(true));
    for _ in ["from the provider", "from the cache"] {
        let answer = call(&gateway, post(CHAT, &asking(true))).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
        assert!(answer.body.contains(r#""content":"{\"n\": 1}""#), "{}", answer.body);
        assert!(answer.body.ends_with(DONE) && !answer.body.contains("canary"), "{}", answer.body);
    }
    assert_eq!(upstream.count(), 2, "once more, and both are kept");
    let again: Value = serde_json::from_str(&upstream.body(1)).unwrap();
    assert_eq!(again["messages"][1], json!({ "role": "assistant", "content": "{\"n\": \"canary\"}" }));
    let why = again["messages"][2]["content"].as_str().unwrap();
    assert!(why.contains("$.n: it must be of type integer"), "{why}");
    assert_eq!(again["stream"], true);

    // Not again, and with a status: nothing was told yet.
    let upstream = answers(vec![unfit.clone(), unfit, streaming(&["{\"n\": 1}"])]);
    let gateway = self::gateway(DialectId::OpenAi, &upstream, schema(true));
    let answer = call(&gateway, post(CHAT, &asking(true))).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_request"));
    assert!(answer.body.contains("$.n: it must be") && !answer.body.contains("canary"));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_stream_that_is_held_and_cut_short_is_an_error_with_a_status() {
    let mut begun = SSE_HEAD.as_bytes().to_vec();
    [ROLE, &delta("{")].iter().for_each(|event| begun.extend(chunk(event)));
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::Write(begun)])]);
    let gateway = gateway(DialectId::OpenAi, &upstream, schema(true));
    let answer = call(&gateway, post(CHAT, &asking(true))).await;
    assert_eq!(answer.status, 502, "{}", answer.body);
}

#[tokio::test]
async fn a_stream_as_an_array_is_asked_for_once_more_too() {
    let array = |text: &str| {
        let text = Value::from(text);
        unary(
            200,
            &format!(
                r#"[{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":{text}}}]}},"finishReason":"STOP","index":0}}]}}]"#
            ),
        )
    };
    let upstream = answers(vec![array("no"), array("{\"n\":1}")]);
    let mut spec = schema(true);
    spec["routes"] = json!(["stream_generate_content"]);
    let gateway = gateway(DialectId::Gemini, &upstream, spec);
    let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": "n?" }] }] });
    let path = "/v1beta/models/gemini-x:streamGenerateContent";
    let answer = call(&gateway, post(path, &body.to_string())).await;
    assert_eq!(answer.json()[0]["candidates"][0]["content"]["parts"][0]["text"], "{\"n\":1}");
    let again: Value = serde_json::from_str(&upstream.body(1)).unwrap();
    assert_eq!(again["contents"][1], json!({ "role": "model", "parts": [{ "text": "no" }] }));
}

/// A gateway whose pipeline asks `two/guard` before `one` is asked.
fn moderated(one: &Arc<Scripted>, two: &Arc<Scripted>, mut moderation: Value) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, one));
    models.add_provider(provider("two", DialectId::OpenAi, two));
    let mut settings = Settings::new(models);
    moderation["model"] = "two/guard".into();
    settings.transforms = transforms(json!({
        "steps": ["redact", "guard"], "routes": ["chat_completions"], "guard": { "moderation": moderation },
    }));
    Gateway::new(settings, [7; 32]).unwrap()
}

#[tokio::test]
async fn a_moderator_is_asked_through_the_gateway_and_denies_or_flags() {
    for (verdict, moderation, status, said) in [
        ("safe", json!({}), 200, "private; redact, guard"),
        ("Safe.", json!({}), 200, "private; redact, guard"),
        ("unsafe\nS1", json!({}), 422, ""),
        ("unsafe", json!({ "on_match": "flag" }), 200, "private; redact, guard; flagged"),
    ] {
        let (one, two) = (says(&["hello"]), says(&[verdict]));
        let gateway = moderated(&one, &two, moderation);
        for _ in 0..2 {
            let answer = call(&gateway, post(CHAT, &asking(false))).await;
            assert_eq!(
                (answer.status, answer.header("x-chimera-transforms")),
                (status, said),
                "{}",
                answer.body
            );
        }
        assert_eq!(one.count(), usize::from(status == 200));
        assert_eq!(two.count(), 1, "its verdicts are cached like any answer");
        let asked: Value = serde_json::from_str(&two.body(0)).unwrap();
        assert_eq!(asked["model"], "guard");
        let text = asked["messages"][1]["content"].as_str().unwrap();
        assert!(
            text.contains("[EMAIL_1_") && !two.request(0).contains(MAIL),
            "it sees what the provider would"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_verdict_a_request_is_refused_or_passes_as_the_settings_say() {
    let silent = || Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    let broken = || Scripted::answering(unary(500, "{}"));
    for (two, status) in [(says(&["perhaps"]), 502), (broken(), 502), (silent(), 504)] {
        for fail_open in [false, true] {
            let one = says(&["hello"]);
            let moderation = json!({ "fail_open": fail_open, "timeout_ms": 1000 });
            let gateway = moderated(&one, &two, moderation);
            let began = tokio::time::Instant::now();
            let answer = call(&gateway, post(CHAT, &asking(false))).await;
            assert_eq!(answer.status, if fail_open { 200 } else { status }, "{}", answer.body);
            assert!(began.elapsed() <= Duration::from_millis(1100));
            assert_eq!(one.count(), usize::from(fail_open));
        }
    }
}

/// What a request is answered with, decoded; and how it was encoded.
async fn decoded(gateway: &Gateway, mut request: Request<Full<bytes::Bytes>>) -> (String, String) {
    request.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    let response: Response<_> = gateway.handle(request).await;
    let (parts, mut body) = response.into_parts();
    let mut raw = Vec::new();
    while let Some(data) = next(&mut body).await {
        raw.extend_from_slice(&data.unwrap());
    }
    let encoding = parts.headers.get("content-encoding").map_or("", |value| value.to_str().unwrap());
    let mut text = String::new();
    match encoding {
        "gzip" => drop(flate2::read::GzDecoder::new(&raw[..]).read_to_string(&mut text).unwrap()),
        _ => text = String::from_utf8(raw).unwrap(),
    }
    assert_eq!(parts.headers.get("vary").map(|value| value.as_bytes()), Some(&b"accept-encoding"[..]));
    (text, encoding.to_owned())
}

#[tokio::test]
async fn restored_answers_come_in_the_encoding_that_their_caller_prefers() {
    let seen = placeholder(&sent(DialectId::OpenAi, CHAT, &asking(false)).await);
    let upstream = says(&[&format!("Hello {seen}! {}", "And so on. ".repeat(500))]);
    let gateway = gateway(DialectId::OpenAi, &upstream, redacting());
    for _ in ["from the provider", "from the cache"] {
        let (body, encoding) = decoded(&gateway, post(CHAT, &asking(false))).await;
        assert!(content(&body).starts_with(&format!("Hello {MAIL}! And")));
        assert_eq!(encoding, "gzip");
    }
}

#[tokio::test]
async fn restored_streams_are_compressed_where_streams_are() {
    let seen = placeholder(&sent(DialectId::OpenAi, CHAT, &asking(true)).await);
    let upstream = Scripted::answering(stream(&[ROLE, &delta(&seen), STOP, DONE]));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &upstream));
    let mut settings = Settings::new(models);
    settings.compression.event_streams = true;
    settings.transforms = transforms(redacting());
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    let (body, encoding) = decoded(&gateway, post(CHAT, &asking(true))).await;
    assert!(body.contains(MAIL) && body.ends_with(DONE), "{body}");
    assert_eq!(encoding, "gzip");
}
