//! JSON: read as strictly as serde_json at least, and one key for one meaning.

use chimera_protocol::{DialectId, Fingerprint, Scope, canonical, json::Document};
use proptest::prelude::*;
use serde_json::{Map, Number, Value};

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number().prop_map(Value::Number),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The same document in another spelling: white space, escapes, and the order of keys vary with `seed`.
fn respelled(value: &Value, seed: &mut u64, out: &mut String) {
    let mut roll = |sides: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % sides
    };
    let space = [" ", "", "\n", "\t", "  ", "\r\n"][roll(6) as usize];
    out.push_str(space);
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            if !members.is_empty() {
                let by = roll(members.len() as u64) as usize;
                members.rotate_left(by);
            }
            out.push('{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                out.push_str(space);
                respelled_text(name, seed, out);
                out.push_str(space);
                out.push(':');
                respelled(member, seed, out);
            }
            out.push('}');
        }
        Value::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                respelled(element, seed, out);
            }
            out.push(']');
        }
        Value::String(text) => respelled_text(text, seed, out),
        other => out.push_str(&other.to_string()),
    }
    out.push_str(space);
}

fn respelled_text(text: &str, seed: &mut u64, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if *seed >> 62 == 0 || character < ' ' || character == '"' || character == '\\' {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(character);
        }
    }
    out.push('"');
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn canonical_of(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    canonical(&Document::parse(text.as_bytes()).unwrap(), &[], &mut out);
    out
}

fn fingerprint(text: &str) -> Fingerprint {
    let document = Document::parse(text.as_bytes()).unwrap();
    Fingerprint::compute(&[1; 32], &Scope::new("t", DialectId::OpenAi), &document, &mut Vec::new())
}

proptest! {
    #[test]
    fn c10_one_meaning_has_one_key_however_it_is_spelled(value in value(), mut seed in any::<u64>()) {
        let plain = value.to_string();
        let mut other = String::new();
        respelled(&value, &mut seed, &mut other);
        prop_assert_eq!(parsed(&other), parsed(&plain));
        prop_assert_eq!(canonical_of(&plain), canonical_of(&other));
        prop_assert_eq!(fingerprint(&plain), fingerprint(&other));
    }

    #[test]
    fn c10_two_meanings_never_share_a_key(one in value(), two in value()) {
        let (one, two) = (one.to_string(), two.to_string());
        prop_assert_eq!(canonical_of(&one) == canonical_of(&two), one == two);
    }

    /// The smallest changes are the ones a careless form would lose.
    #[test]
    fn c10_numbers_that_a_double_would_merge_stay_apart(number in (1_u64 << 53)..u64::MAX - 1) {
        prop_assert_ne!(canonical_of(&number.to_string()), canonical_of(&(number + 1).to_string()));
        prop_assert_ne!(canonical_of(&format!("[{number}]")), canonical_of(&format!("[\"{number}\"]")));
    }

    #[test]
    fn c07_what_is_accepted_here_is_accepted_everywhere(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        match Document::parse(&bytes) {
            Ok(_) => prop_assert!(serde_json::from_slice::<Value>(&bytes).is_ok()),
            Err(error) => prop_assert!(error.offset <= bytes.len()),
        }
    }

    /// Bytes that are nearly JSON find the corners that random ones do not.
    #[test]
    fn c07_a_damaged_document_is_read_as_strictly_as_by_serde(
        value in value(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = value.to_string().into_bytes();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        match Document::parse(&bytes) {
            Ok(document) => {
                let read: Value = serde_json::from_slice(&bytes).unwrap();
                prop_assert_eq!(serde_json::from_str::<Value>(document.text()).unwrap(), read);
            }
            Err(error) => {
                prop_assert!(error.offset <= bytes.len());
                // What serde_json takes and this does not is one of the things said to be refused.
                if serde_json::from_slice::<Value>(&bytes).is_ok() {
                    let known = ["DuplicateKey", "LoneSurrogate", "NumberTooLarge", "TooDeep"];
                    let kind = format!("{:?}", error.kind);
                    prop_assert!(known.contains(&kind.as_str()), "{} of {}", kind, String::from_utf8_lossy(&bytes));
                }
            }
        }
    }

    #[test]
    fn every_value_is_where_its_range_says(value in value()) {
        let text = value.to_string();
        let document = Document::parse(text.as_bytes()).unwrap();
        let root = document.root();
        prop_assert_eq!(root.raw(), &text);
        if let Value::Object(members) = &value {
            for (name, member) in members {
                let found = root.get(name).unwrap();
                prop_assert_eq!(&text[found.range()], member.to_string());
            }
        }
    }
}
