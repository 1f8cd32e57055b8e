//! Tests of answers on their way back.

use bytes::Bytes;

use super::*;
use crate::{Done, Pipeline, Redact, RedactSettings, Seed, Step};

const VALUE: &str = "ada@example.com";

/// A request with an address in it, redacted; its placeholder.
fn redacted() -> (Done, String) {
    let redact = Redact::new(RedactSettings::default()).unwrap();
    let pipeline = Pipeline::new("p", [Step::new(redact)]);
    let done = pipeline.run_text(VALUE, &Seed::derive(&[7; 32], "test")).unwrap();
    let placeholder = done.text.clone().unwrap();
    (done, placeholder)
}

/// The events of a stream in which `text` comes in chunks of `size` bytes.
fn stream(dialect: DialectId, text: &str, size: usize) -> Vec<String> {
    let chunks: Vec<String> =
        text.as_bytes().chunks(size).map(|chunk| quoted(std::str::from_utf8(chunk).unwrap())).collect();
    let data = |data: String| format!("data: {data}\n\n");
    let named = |name: &str, rest: String| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n");
    let all = |before: Vec<String>, event: &dyn Fn(&String) -> String, after: Vec<String>| {
        before.into_iter().chain(chunks.iter().map(event)).chain(after).collect()
    };
    match dialect {
        DialectId::OpenAi => all(
            vec![data(
                r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#.into(),
            )],
            &|text| {
                data(format!(
                    r#"{{"id":"c","choices":[{{"index":0,"delta":{{"content":{text}}},"finish_reason":null}}]}}"#
                ))
            },
            vec![
                data(r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.into()),
                data("[DONE]".into()),
            ],
        ),
        DialectId::Anthropic => all(
            vec![named(
                "content_block_start",
                r#","index":0,"content_block":{"type":"text","text":""}"#.into(),
            )],
            &|text| {
                named(
                    "content_block_delta",
                    format!(r#","index":0,"delta":{{"type":"text_delta","text":{text}}}"#),
                )
            },
            vec![named("content_block_stop", r#","index":0"#.into()), named("message_stop", String::new())],
        ),
        DialectId::Gemini => {
            let mut events: Vec<String> = chunks
                .iter()
                .map(|text| data(format!(r#"{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":{text}}}]}},"index":0}}]}}"#)))
                .collect();
            // The last text and the end come in one event.
            let last = events.pop().unwrap().replace(r#""index":0"#, r#""finishReason":"STOP","index":0"#);
            events.push(last);
            events
        }
        DialectId::Responses => all(
            vec![],
            &|text| {
                named(
                    "response.output_text.delta",
                    format!(r#","output_index":0,"content_index":0,"delta":{text}"#),
                )
            },
            vec![
                named(
                    "response.output_text.done",
                    format!(r#","output_index":0,"content_index":0,"text":{}"#, quoted(text)),
                ),
                named("response.completed", String::new()),
            ],
        ),
    }
}

/// The events that come out, and the text that they carry.
fn restored(done: Done, dialect: DialectId, events: &[String]) -> (Vec<u8>, String) {
    let mut back = Events::new(done.way_back, dialect);
    let mut out = Vec::new();
    for event in events {
        back.event(event.as_bytes(), &mut out).unwrap();
    }
    back.end(&mut out).unwrap();
    let text = carried(dialect, &out);
    (out, text)
}

fn carried(dialect: DialectId, out: &[u8]) -> String {
    let mut framer = sse::Framer::new(1 << 20);
    framer.push(Bytes::copy_from_slice(out));
    let mut text = String::new();
    while let Some(raw) = framer.next_event().unwrap() {
        let event = sse::Event::parse(&raw);
        if let Ok(document) = Document::parse(event.data()) {
            for delta in deltas::of(dialect, document.root()) {
                text.push_str(&delta.value.as_str().unwrap());
            }
        }
    }
    text
}

const DIALECTS: [DialectId; 4] =
    [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini, DialectId::Responses];

#[test]
fn u24_a_placeholder_that_straddles_events_comes_back_whole_in_every_dialect() {
    for dialect in DIALECTS {
        for size in 1..40 {
            let (done, placeholder) = redacted();
            let told = format!("I wrote to {placeholder} and [{placeholder}");
            let events = stream(dialect, &told, size);
            let (out, text) = restored(done, dialect, &events);
            assert_eq!(text, format!("I wrote to {VALUE} and [{VALUE}"), "{dialect:?} {size}");
            let out = String::from_utf8(out).unwrap();
            assert!(!out.contains("EMAIL"), "{out}");
        }
    }
}

#[test]
fn u24_the_event_that_ends_the_stream_stays_the_last() {
    for dialect in DIALECTS {
        let (done, placeholder) = redacted();
        // A beginning that never becomes a placeholder is let go before the end.
        let told = format!("x {}", &placeholder[..10]);
        let events = stream(dialect, &told, 4);
        let (out, text) = restored(done, dialect, &events);
        assert_eq!(text, told, "{dialect:?}");
        let last = events.last().unwrap().as_bytes();
        assert!(dialect == DialectId::Gemini || out.ends_with(last), "{}", String::from_utf8_lossy(&out));
    }
}

#[test]
fn pain_14_no_more_is_held_back_than_the_beginning_of_a_placeholder() {
    let (done, _) = redacted();
    let mut back = Events::new(done.way_back, DialectId::OpenAi);
    for event in stream(DialectId::OpenAi, "plain words [with] brackets [ and more", 3) {
        let mut out = Vec::new();
        back.event(event.as_bytes(), &mut out).unwrap();
        let held = String::from_utf8_lossy(&out).contains(r#""content":"""#);
        assert!(!held || event.contains('[') || event.contains("role"), "{event}");
    }
}

#[test]
fn events_that_nothing_changes_keep_their_bytes() {
    for dialect in DIALECTS {
        let (done, _) = redacted();
        let mut events = stream(dialect, "nothing to bring back here", 5);
        events.insert(1, ": a comment\n\n".to_owned());
        events.insert(1, "event: ping\ndata: {\"type\": \"ping\"}\n\n".to_owned());
        let (out, _) = restored(done, dialect, &events);
        assert_eq!(String::from_utf8(out).unwrap(), events.concat());
    }
}

#[test]
fn arguments_of_tools_come_back_as_json() {
    let redact = Redact::new(RedactSettings::default()).unwrap();
    let pem = "-----BEGIN KEY-----\nA\"A\n-----END KEY-----";
    let done = Pipeline::new("p", [Step::new(redact)]).run_text(pem, &Seed::random()).unwrap();
    let arguments = quoted(&format!(r#"{{"key":"{}"}}"#, done.text.clone().unwrap()));
    let body = format!(
        r#"{{"choices":[{{"message":{{"tool_calls":[{{"function":{{"arguments":{arguments}}}}}]}}}}]}}"#
    );
    let whole = done.way_back.body(body.as_bytes()).unwrap().unwrap();
    let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let inner = whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    let inner: serde_json::Value = serde_json::from_str(inner).unwrap();
    assert_eq!(inner["key"], pem);
}

#[test]
fn streamed_arguments_of_parallel_calls_come_back_apart() {
    let (done, placeholder) = redacted();
    let (one, two) = placeholder.split_at(9);
    let call = |index: u64, id: &str, text: &str| {
        let text = quoted(text);
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":{index},{id}\"function\":{{\"arguments\":{text}}}}}]}}}}]}}\n\n"
        )
    };
    let events = [
        call(0, r#""id":"a","#, &format!("{{\"to\":\"{one}")),
        call(1, r#""id":"b","#, one),
        call(0, "", two),
        call(1, "", two),
        call(0, "", "\"}"),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n".to_owned(),
    ];
    let (out, text) = restored(done, DialectId::OpenAi, &events);
    assert_eq!(text, format!("{{\"to\":\"{VALUE}{VALUE}\"}}"));
    assert_eq!(String::from_utf8(out).unwrap().matches("\"id\":\"a\"").count(), 1);
}

#[test]
fn what_a_vendor_has_signed_is_left_as_it_was_signed() {
    let (done, placeholder) = redacted();
    let body = format!(
        r#"{{"content":[{{"type":"thinking","thinking":"{placeholder}","signature":"x"}},{{"type":"text","text":"{placeholder}"}}]}}"#
    );
    let back = String::from_utf8(done.way_back.body(body.as_bytes()).unwrap().unwrap()).unwrap();
    assert!(back.contains(&placeholder) && back.contains(&format!(r#""text":"{VALUE}""#)), "{back}");
    let event = format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"thinking_delta\",\"thinking\":\"{placeholder}\"}}}}\n\n"
    );
    let (out, _) = restored(redacted().0, DialectId::Anthropic, std::slice::from_ref(&event));
    assert_eq!(String::from_utf8(out).unwrap(), event);
}

#[test]
fn whole_answers_that_hold_nothing_are_not_written_anew() {
    let (done, placeholder) = redacted();
    assert_eq!(done.way_back.body(br#"{"a":"b"}"#).unwrap(), None);
    assert_eq!(done.way_back.body(b"<html>").unwrap(), None);
    let body = format!(r#"{{ "x":[1e1, "{placeholder}"] }}"#);
    let back = done.way_back.body(body.as_bytes()).unwrap().unwrap();
    assert_eq!(String::from_utf8(back).unwrap(), format!(r#"{{ "x":[1e1, "{VALUE}"] }}"#));
}

#[test]
fn events_that_are_numbered_stay_numbered_one_by_one() {
    let (done, placeholder) = redacted();
    let (held, _) = placeholder.split_at(7);
    let event = |number: u64, kind: &str, rest: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number}{rest}}}\n\n")
    };
    let delta = format!(",\"output_index\":0,\"content_index\":0,\"delta\":{}", quoted(held));
    let events = [
        event(0, "response.created", ""),
        event(1, "response.output_text.delta", &delta),
        event(2, "response.output_text.done", ",\"output_index\":0"),
        event(3, "response.completed", ""),
    ];
    let (out, _) = restored(done, DialectId::Responses, &events);
    let numbers: Vec<u64> = String::from_utf8(out)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line.strip_prefix("data: ")?).ok())
        .map(|event| event["sequence_number"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4], "what was held came in an event of its own");
}

#[test]
fn what_a_model_says_is_found_in_every_dialect() {
    for answer in [
        r#"{"choices":[{"message":{"role":"assistant","content":"said","reasoning_content":"no"}}]}"#,
        r#"{"type":"message","role":"assistant","content":[{"type":"thinking","thinking":"no"},{"type":"text","text":"said"}]}"#,
        r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"no","thought":true},{"text":"said"}]}}]}"#,
        r#"{"output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"no"}]},{"type":"message","content":[{"type":"output_text","text":"said"}]}]}"#,
    ] {
        assert_eq!(answer_texts(answer.as_bytes()), ["said"], "{answer}");
    }
}
