//! Gemini's own schemas, a dialect of OpenAPI, as JSON Schema.
//!
//! The types are upper case, `nullable` is a member of its own, and whole numbers may come as strings.
//! Everything else stays where and as it is.

use bytes::BytesMut;

use crate::{
    json::{Kind, Value},
    translate::write::Writer,
};

/// Members that count something and may be spelled as strings.
const COUNTS: [&str; 6] =
    ["minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"];

/// Writes a schema of Gemini's as JSON Schema.
pub(crate) fn to_json_schema(schema: Value<'_>) -> String {
    let mut out = BytesMut::new();
    write(schema, &mut Writer::new(&mut out));
    String::from_utf8(out.to_vec()).unwrap_or_default()
}

fn write(schema: Value<'_>, writer: &mut Writer<'_>) {
    if schema.kind() != Kind::Object {
        writer.raw(schema.raw());
        return;
    }
    let nullable = schema.get("nullable").and_then(Value::as_bool) == Some(true);
    writer.object();
    for (key, value) in schema.members() {
        let name = key.as_str().unwrap_or_default();
        match (&*name, value.kind()) {
            // How its fields are ordered is Gemini's affair.
            ("nullable" | "propertyOrdering", _) => {}
            ("type", Kind::String) => kind(value, nullable, writer),
            ("properties" | "$defs" | "defs", Kind::Object) => {
                raw_key(key, writer).object();
                for (key, value) in value.members() {
                    write(value, raw_key(key, writer));
                }
                writer.end_object();
            }
            ("items" | "additionalProperties", Kind::Object) => write(value, raw_key(key, writer)),
            ("anyOf" | "prefixItems", Kind::Array) => {
                raw_key(key, writer).array();
                for value in value.elements() {
                    write(value, writer.item());
                }
                writer.end_array();
            }
            (name, Kind::String) if COUNTS.contains(&name) && is_count(value) => {
                raw_key(key, writer).raw(value.spelled().unwrap_or_default());
            }
            _ => _ = raw_key(key, writer).raw(value.raw()),
        }
    }
    writer.end_object();
}

/// Whether a string spells a whole number as JSON would: nothing else may stand where its quotes did.
fn is_count(text: Value<'_>) -> bool {
    let digits = text.spelled().unwrap_or_default().as_bytes();
    digits.iter().all(u8::is_ascii_digit) && matches!(digits, [b'0'] | [b'1'..=b'9', ..])
}

/// A key as it is spelled.
fn raw_key<'w, 'o>(key: Value<'_>, writer: &'w mut Writer<'o>) -> &'w mut Writer<'o> {
    writer.key(key.spelled().unwrap_or_default())
}

fn kind(value: Value<'_>, nullable: bool, writer: &mut Writer<'_>) {
    let kind = value.as_str().unwrap_or_default().to_ascii_lowercase();
    if kind == "type_unspecified" {
        return;
    }
    writer.key("type");
    if nullable {
        writer.array().item().string(&kind).item().string("null").end_array();
    } else {
        writer.string(&kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Document;

    #[test]
    fn only_what_differs_is_changed() {
        let schema = r#"{"type":"OBJECT","propertyOrdering":["b"],"properties":{"type":{"type":"STRING","nullable":true,"minLength":"2"},"b":{"type":"ARRAY","items":{"type":"NUMBER","minimum":1.50}}},"required":["b"],"x":{"type":"KEPT"}}"#;
        let document = Document::parse(schema.as_bytes()).unwrap();
        assert_eq!(
            to_json_schema(document.root()),
            r#"{"type":"object","properties":{"type":{"type":["string","null"],"minLength":2},"b":{"type":"array","items":{"type":"number","minimum":1.50}}},"required":["b"],"x":{"type":"KEPT"}}"#
        );
    }

    #[test]
    fn what_is_no_count_stays_a_string() {
        for count in ["3rs", "1,\\\"x\\\":2", "", "01", "-1", "1.5", "1 "] {
            let schema = format!(r#"{{"maxItems":"{count}"}}"#);
            let document = Document::parse(schema.as_bytes()).unwrap();
            assert_eq!(to_json_schema(document.root()), schema);
        }
    }
}
