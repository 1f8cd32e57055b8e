//! What fits, and what is told of the rest.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

#[track_caller]
fn misfit(schema: &Value, value: &Value) -> Option<(String, String)> {
    let misfit = Schema::new(schema).unwrap().check(value).err();
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
        assert_eq!(Schema::new(&schema).unwrap_err().place, place);
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

/// Any JSON, keywords of schemas among its names.
fn json() -> impl Strategy<Value = Value> {
    let names = [
        "type",
        "items",
        "anyOf",
        "not",
        "$ref",
        "properties",
        "required",
        "enum",
        "minimum",
        "pattern",
        "a",
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop::sample::select(vec!["string", "object", "#", "#/a", "^a", "("]).prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let members = prop::collection::vec((prop::sample::select(names.to_vec()), inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::from),
            members.prop_map(|all| all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_schema_and_no_value_make_it_panic(schema in json(), value in json()) {
        if let Ok(schema) = Schema::new(&schema) {
            let _ = schema.check(&value);
        }
    }
}
