//! What is accepted, what is refused, and where.

use super::{JsonErrorKind as E, *};

fn error(body: impl AsRef<[u8]>) -> (usize, E) {
    let error = Document::parse(body.as_ref()).unwrap_err();
    (error.offset, error.kind)
}

#[test]
fn c07_what_is_malformed_is_refused_with_its_offset() {
    assert_eq!(error(""), (0, E::Empty));
    assert_eq!(error("  "), (0, E::Empty));
    assert_eq!(error("\u{feff}{}"), (0, E::Bom));
    assert_eq!(error(b"{\0}\0"), (0, E::Utf16));
    assert_eq!(error(b"\xff\xfe{\0"), (0, E::Utf16));
    assert_eq!(error("{} x"), (3, E::TrailingBytes));
    assert_eq!(error(r#"{"a":NaN}"#), (5, E::UnexpectedByte));
    assert_eq!(error(r#"{"a":1e999}"#), (5, E::NumberOutOfRange));
    assert_eq!(error(r#"{"a":01}"#), (6, E::BadNumber));
    assert_eq!(error(r#"{"a":1.}"#), (7, E::BadNumber));
    assert_eq!(error(r#"{"a":-}"#), (6, E::BadNumber));
    assert_eq!(error(r#"{"a":"\ud800"}"#), (6, E::LoneSurrogate));
    assert_eq!(error(r#"{"a":"\udc00"}"#), (6, E::LoneSurrogate));
    assert_eq!(error(r#"{"a":"\ud800A"}"#), (6, E::LoneSurrogate));
    assert_eq!(error(r#"{"a":"\x"}"#), (7, E::BadEscape));
    assert_eq!(error("{\"a\":\"\n\"}"), (6, E::ControlCharacter));
    assert_eq!(error(b"{\"a\":\"\xc3\"}"), (6, E::InvalidUtf8));
    assert_eq!(error(r#"{"a":1"#), (6, E::Truncated));
    assert_eq!(error(r#"{"a" 1}"#), (5, E::UnexpectedByte));
    assert_eq!(error("{a:1}"), (1, E::UnexpectedByte));
    assert_eq!(error("[1,]"), (3, E::UnexpectedByte));
    assert_eq!(error("tru"), (3, E::Truncated));
}

#[test]
fn c08_nesting_has_a_limit_everywhere() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Document::parse(nested(127).as_bytes()).is_ok());
    assert!(serde_json::from_str::<serde_json::Value>(&nested(127)).is_ok());
    assert!(serde_json::from_str::<serde_json::Value>(&nested(128)).is_err());
    assert_eq!(error(nested(128)), (127, E::TooDeep));
    assert_eq!(error("[".repeat(10_000)), (127, E::TooDeep));
    let schema = format!(r#"{{"tools":{}}}"#, r#"{"a":"#.repeat(10_000));
    assert_eq!(error(schema).1, E::TooDeep);
}

#[test]
fn c09_duplicate_keys_are_refused_however_they_are_spelled() {
    assert_eq!(error(r#"{"model":1,"model":2}"#), (11, E::DuplicateKey));
    assert_eq!(error(r#"{"model":1,"mod\u0065l":2}"#), (11, E::DuplicateKey));
    assert_eq!(error(r#"[{"a":{"b":1,"b":1}}]"#).1, E::DuplicateKey);
    let many: Vec<_> = (0..100).map(|n| format!(r#""k{n}":1"#)).collect();
    assert!(Document::parse(format!("{{{}}}", many.join(",")).as_bytes()).is_ok());
    assert_eq!(error(format!(r#"{{{},"k\u0037":1}}"#, many.join(","))).1, E::DuplicateKey);
    assert!(Document::parse(br#"{"a":{"b":1},"b":{"a":1}}"#).is_ok());
}

#[test]
fn values_are_found_where_they_stand() {
    let body = br#" {"model" : "a\n\ud83d\ude00b", "n":[1,{"x":null}], "t":true} "#;
    let document = Document::parse(body).unwrap();
    let model = document.root().get("model").unwrap();
    assert_eq!(model.as_str().unwrap(), "a\n😀b");
    assert_eq!(model.raw(), r#""a\n\ud83d\ude00b""#);
    let n = document.root().get("n").unwrap();
    assert_eq!(n.elements().map(Value::raw).collect::<Vec<_>>(), ["1", r#"{"x":null}"#]);
    assert!(n.elements().nth(1).unwrap().get("x").unwrap().is_null());
    assert_eq!(document.root().get("t").unwrap().as_bool(), Some(true));
    assert!(document.root().get("missing").is_none());
}

#[test]
fn strings_are_passed_over_to_the_first_byte_that_matters() {
    for length in 0..80 {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for at in 0..length {
                for plain in [b'a', b' ', b'!', 0x7f, 0x80, 0xff, b'#', b'[', b']'] {
                    let mut text = vec![plain; length];
                    text[at] = special;
                    assert_eq!(plain_until(&text, 0), at, "{plain} {special} {length}");
                }
            }
        }
        assert_eq!(plain_until(&vec![b'x'; length], 0), length);
    }
}
