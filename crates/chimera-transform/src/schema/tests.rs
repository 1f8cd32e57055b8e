//! Tests of schemas: what fits, what is put right, and what is told of the rest.

use chimera_protocol::DialectId;
use serde_json::{Value, json};

use super::*;
use crate::{Events, Pipeline, Step, StepErrorKind, WayBack};

#[track_caller]
fn misfit(schema: &Value, value: &Value) -> Option<(String, String)> {
    let misfit = Validator::new(schema).unwrap().check(value).err();
    misfit.map(|misfit| (misfit.path, misfit.why))
}

/// Values that fit a schema, and values that do not with the place of the first thing that does not.
#[track_caller]
fn check(schema: Value, fitting: &[Value], unfit: &[(Value, &str)]) {
    for value in fitting {
        assert_eq!(misfit(&schema, value), None, "{schema} {value}");
    }
    for (value, path) in unfit {
        let (at, why) = misfit(&schema, value).unwrap_or_else(|| panic!("{value} fits {schema}"));
        assert_eq!(at, *path, "{why}");
    }
}

#[test]
fn types_and_values() {
    check(json!({"type": "integer"}), &[json!(1), json!(2.0)], &[(json!(1.5), "$"), (json!("1"), "$")]);
    check(json!({"type": ["string", "null"]}), &[json!("a"), json!(null)], &[(json!(1), "$")]);
    check(json!({"type": "STRING", "nullable": true}), &[json!("a"), json!(null)], &[(json!(1), "$")]);
    check(json!({"enum": [1, "a", {"b": [1]}]}), &[json!(1.0), json!({"b": [1]})], &[(json!(2), "$")]);
    check(json!({"const": null}), &[json!(null)], &[(json!(0), "$")]);
    check(json!(true), &[json!(1)], &[]);
    check(json!(false), &[], &[(json!(1), "$")]);
}

#[test]
fn numbers_strings_arrays() {
    check(
        json!({"minimum": 1, "exclusiveMaximum": 3}),
        &[json!(1), json!("x")],
        &[(json!(0), "$"), (json!(3), "$")],
    );
    check(json!({"multipleOf": 0.1}), &[json!(0.3), json!(7)], &[(json!(0.35), "$")]);
    check(
        json!({"minLength": 2, "maxLength": 3}),
        &[json!("äö")],
        &[(json!("a"), "$"), (json!("abcd"), "$")],
    );
    check(json!({"pattern": "^[a-z]+\\d$"}), &[json!("ab1")], &[(json!("1ab"), "$")]);
    let tuple = json!({"prefixItems": [{"type": "string"}], "items": {"type": "number"}, "maxItems": 3});
    check(
        tuple,
        &[json!(["a", 1])],
        &[(json!(["a", "b"]), "$[1]"), (json!([1]), "$[0]"), (json!(["a", 1, 1, 1]), "$")],
    );
    check(
        json!({"uniqueItems": true}),
        &[json!([1, 2])],
        &[(json!([1, 1.0]), "$"), (json!([{"a": 1, "b": 2}, {"b": 2, "a": 1}]), "$")],
    );
    check(json!({"contains": {"const": 1}}), &[json!([0, 1])], &[(json!([0]), "$")]);
}

#[test]
fn objects_with_the_path_of_what_does_not_fit() {
    let schema = json!({
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
        "required": ["items"],
        "additionalProperties": false,
        "$defs": {"item": {
            "type": "object",
            "properties": {"price": {"type": "number", "minimum": 0}, "odd name": {"type": "null"}},
            "patternProperties": {"^x-": {"type": "string"}},
            "additionalProperties": {"type": "boolean"},
        }},
    });
    check(
        schema,
        &[json!({"items": []}), json!({"items": [{"price": 1, "x-a": "b", "more": true}]})],
        &[
            (json!({}), "$"),
            (json!({"items": [], "more": 1}), "$.more"),
            (json!({"items": [{}, {}, {"price": "1"}]}), "$.items[2].price"),
            (json!({"items": [{"odd name": 1}]}), "$.items[0][\"odd name\"]"),
            (json!({"items": [{"x-a": 1}]}), "$.items[0][\"x-a\"]"),
            (json!({"items": [{"more": 1}]}), "$.items[0].more"),
        ],
    );
    let names =
        json!({"propertyNames": {"maxLength": 2}, "minProperties": 1, "dependentRequired": {"a": ["b"]}});
    check(
        names,
        &[json!({"a": 1, "b": 2})],
        &[(json!({}), "$"), (json!({"abc": 1}), "$.abc"), (json!({"a": 1}), "$")],
    );
}

#[test]
fn alternatives_and_references() {
    let any =
        json!({"anyOf": [{"type": "string"}, {"type": "object", "properties": {"a": {"type": "null"}}}]});
    check(any, &[json!("a"), json!({"a": null})], &[(json!({"a": 1}), "$.a"), (json!(1), "$")]);
    let one = json!({"oneOf": [{"minimum": 1}, {"maximum": 5}]});
    check(one, &[json!(0), json!(9)], &[(json!(3), "$")]);
    check(json!({"not": {"type": "null"}}), &[json!(1)], &[(json!(null), "$")]);
    check(json!({"allOf": [{"minimum": 1}, {"maximum": 2}]}), &[json!(1)], &[(json!(3), "$")]);
    let condition =
        json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}});
    check(
        condition,
        &[json!({"a": 1, "b": 1}), json!({"c": 1})],
        &[(json!({"a": 1}), "$"), (json!({}), "$")],
    );
    let tree = json!({"type": "object", "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]}}, "required": ["next"]});
    check(tree, &[json!({"next": {"next": null}})], &[(json!({"next": {"next": {}}}), "$.next.next")]);
}

#[test]
fn schemas_that_cannot_be_held_to_are_refused_by_their_place() {
    for (schema, place) in [
        (json!({"properties": {"a": {"unevaluatedItems": false}}}), "#/properties/a/unevaluatedItems"),
        (json!({"type": "shoe"}), "#/type"),
        (json!({"$ref": "https://example.com/x"}), "#/$ref"),
        (json!({"$ref": "#/$defs/none"}), "#/$ref"),
        (json!({"pattern": "(?=a)"}), "#/pattern"),
        (json!({"items": 5}), "#/items"),
        (json!({"minLength": -1}), "#/minLength"),
    ] {
        assert_eq!(Validator::new(&schema).unwrap_err().place, place);
    }
}

#[test]
fn what_leads_in_circles_ends() {
    let circle =
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}});
    assert!(misfit(&circle, &json!(1)).unwrap().1.contains("too long"));
    let wide = json!({"anyOf": [{"items": {"$ref": "#"}, "minItems": 1}, {"items": {"$ref": "#"}, "maxItems": 3, "minItems": 1}], "type": "array"});
    let mut deep = json!([]);
    (0..60).for_each(|_| deep = json!([deep]));
    assert!(misfit(&wide, &deep).unwrap().1.contains("too long"));
}

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
