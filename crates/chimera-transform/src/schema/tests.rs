//! Tests of the step: what is put right, what is held back, and what is told of the rest.

use chimera_protocol::DialectId;
use serde_json::{Value, json};

use super::*;
use crate::{Events, Pipeline, Step, StepErrorKind, WayBack};

#[test]
fn trivial_slips_are_put_right_and_nothing_else() {
    for (text, repaired) in [
        ("```json\n{\"a\": 1}\n```", Some("{\"a\": 1}")),
        ("Here you are:\n```\n[1]\n```\nGlad to help.", Some("[1]")),
        ("{\"a\": [1, 2,], }", Some("{\"a\": [1, 2]}")),
        ("{'a': 'it\\'s \"so\"'}", Some("{\"a\": \"it's \\\"so\\\"\"}")),
        ("{\"a\": True, \"b\": None}", Some("{\"a\": true, \"b\": null}")),
        ("{\"a\": \"x\ny\"}", Some("{\"a\": \"x\\ny\"}")),
        ("{\"a\": [1, {\"b\": 2", Some("{\"a\": [1, {\"b\": 2}]}")),
        ("{\"a\": \"cut he", None),
        ("{\"a\": 1,", None),
        ("{\"a\":", None),
        ("{\"a\": 1]", None),
        ("just words", None),
        ("{\"a\": 1, \"a\": 2}", None),
    ] {
        let out = repair::repaired(text).filter(|text| parsed(text).is_some());
        assert_eq!(out.as_deref(), repaired, "{text}");
    }
}

fn way_back(settings: SchemaSettings, body: &Value) -> WayBack {
    let pipeline = Pipeline::new("p", [Step::new(Schema::new(settings).unwrap())]);
    pipeline.run_body(body.to_string().as_bytes(), &Seed::derive(&[0; 32], "")).unwrap().way_back
}

fn settings() -> SchemaSettings {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    SchemaSettings { schema: Some(schema), ..SchemaSettings::default() }
}

#[test]
fn only_the_answer_itself_is_held_against_the_schema_in_every_dialect() {
    let way_back = way_back(settings(), &json!({"messages": []}));
    let fenced = "```json\n{\"n\": 1}\n```";
    for (answer, place) in [
        (
            json!({"id": "x", "choices": [{"message": {"role": "assistant", "content": fenced, "refusal": null}}]}),
            "/choices/0/message/content",
        ),
        (
            json!({"content": [{"type": "thinking", "thinking": "no JSON"}, {"type": "text", "text": fenced}]}),
            "/content/1/text",
        ),
        (
            json!({"candidates": [{"content": {"parts": [{"text": "no JSON", "thought": true}, {"text": fenced}]}}]}),
            "/candidates/0/content/parts/1/text",
        ),
        (
            json!({"output": [{"type": "message", "content": [{"type": "output_text", "text": fenced}]}]}),
            "/output/0/content/0/text",
        ),
    ] {
        let out = way_back.body(answer.to_string().as_bytes()).unwrap().unwrap();
        let mut expected = answer.clone();
        *expected.pointer_mut(place).unwrap() = "{\"n\": 1}".into();
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
        let wrong = answer.to_string().replace("\\\"n\\\": 1", "\\\"n\\\": \\\"canary\\\"");
        let error = way_back.body(wrong.as_bytes()).unwrap_err();
        assert_eq!(error.kind, StepErrorKind::Refused);
        assert!(error.message.contains("$.n: it must be of type integer"), "{error}");
        assert!(!error.message.contains("canary"));
    }
    let call = json!({"choices": [{"message": {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "c"}]}}]});
    assert_eq!(way_back.body(call.to_string().as_bytes()).unwrap(), None);
}

#[test]
fn the_schema_is_the_requests_own_where_the_settings_name_none() {
    let own = json!({"type": "array"});
    for body in [
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": own}}}),
        json!({"text": {"format": {"type": "json_schema", "schema": own}}}),
        json!({"output_config": {"format": {"type": "json_schema", "schema": own}}}),
        json!({"generationConfig": {"responseSchema": {"type": "ARRAY"}}}),
    ] {
        let way_back = way_back(SchemaSettings { retry: true, ..SchemaSettings::default() }, &body);
        assert_eq!(way_back.whole("[]", Form::Answer).unwrap(), None);
        assert_eq!(way_back.whole("{}", Form::Answer).unwrap_err().kind, StepErrorKind::Correctable);
    }
    assert!(way_back(SchemaSettings::default(), &json!({"messages": []})).is_empty());
}

#[test]
fn a_stream_is_held_back_until_it_fits() {
    let event = |text: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{}}}}}]}}\n\n", json!(text))
    };
    let stop = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let run = |chunks: &[&str]| {
        let mut events = Events::new(way_back(settings(), &json!({"messages": []})), DialectId::OpenAi);
        let mut out = Vec::new();
        for chunk in chunks {
            events.event(event(chunk).as_bytes(), &mut out)?;
            assert!(!String::from_utf8_lossy(&out).contains(": 1"), "it is held");
        }
        events.event(stop.as_bytes(), &mut out)?;
        Ok::<_, StepError>(String::from_utf8(out).unwrap())
    };
    let out = run(&["{\"n\"", ": 1,", "}"]).unwrap();
    let texts: String = out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert_eq!(texts, "{\"n\": 1}");
    assert!(out.ends_with(stop));
    assert!(run(&["{\"n\"", ": null}"]).unwrap_err().message.contains("$.n"));
}
