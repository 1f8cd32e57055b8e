//! What a document means, as bytes: equal for equal meaning, different for different.

use std::borrow::Cow;

use crate::json::{Document, Kind, Value};

/// Members of an object that are sorted without an allocation.
const FEW_MEMBERS: usize = 8;

/// Appends the canonical form of a document, without the outermost members named in `skip`.
///
/// Keys are sorted, strings unescaped, white space gone, and numbers written as exact decimals: 1, 1.0
/// and 10e-1 are one number, while 2^53 and 2^53 + 1 are two. Every part carries its length, so no two
/// documents of different meaning share a form.
pub fn canonical(document: &Document<'_>, skip: &[&str], out: &mut Vec<u8>) {
    value(document.root(), skip, out);
}

fn sized(tag: u8, text: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
}

fn value(value: Value<'_>, skip: &[&str], out: &mut Vec<u8>) {
    match value.kind() {
        Kind::Null => out.push(b'n'),
        Kind::Bool => out.push(if value.as_bool() == Some(true) { b't' } else { b'f' }),
        Kind::Number => number(value.raw(), out),
        Kind::String => sized(b's', value.as_str().unwrap_or_default().as_bytes(), out),
        Kind::Array => {
            out.push(b'[');
            value.elements().for_each(|element| self::value(element, &[], out));
            out.push(b']');
        }
        Kind::Object => object(value, skip, out),
    }
}

fn object(object: Value<'_>, skip: &[&str], out: &mut Vec<u8>) {
    out.push(b'{');
    let members = object.members().map(|(key, member)| (key.as_str().unwrap_or_default(), member));
    let mut members = members.filter(|(key, _)| !skip.contains(&key.as_ref()));
    // Small objects, which most are, are sorted where they lie.
    let mut few: [Option<(Cow<'_, str>, Value<'_>)>; FEW_MEMBERS] = Default::default();
    let mut count = 0;
    for (place, member) in few.iter_mut().zip(&mut members) {
        *place = Some(member);
        count += 1;
    }
    match members.next() {
        None => {
            let few = few.get_mut(..count).unwrap_or_default();
            few.sort_unstable_by(|a, b| a.as_ref().map(|a| &a.0).cmp(&b.as_ref().map(|b| &b.0)));
            few.iter().flatten().for_each(|(key, value)| member(key, *value, out));
        }
        Some(one_more) => {
            let mut all: Vec<_> = few.into_iter().flatten().chain([one_more]).chain(members).collect();
            all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            all.iter().for_each(|(key, value)| member(key, *value, out));
        }
    }
    out.push(b'}');
}

fn member(key: &str, value: Value<'_>, out: &mut Vec<u8>) {
    sized(b'k', key.as_bytes(), out);
    self::value(value, &[], out);
}

/// A number as sign, significant digits and exponent of ten.
fn number(text: &str, out: &mut Vec<u8>) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let Some(exponent) = exponent.parse::<i64>().ok().filter(|e| e.unsigned_abs() < 1 << 60) else {
        // An exponent beyond all sense: kept as it is spelled, under a tag of its own.
        sized(if negative { b'x' } else { b'X' }, text.as_bytes(), out);
        return;
    };
    let start = out.len();
    out.push(if negative { b'-' } else { b'+' });
    out.extend_from_slice(&[0; 16]);
    let digits = start + 17;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if byte != b'0' || out.len() > digits {
            out.push(byte);
        }
    }
    let before = out.len();
    while out.len() > digits && out.last() == Some(&b'0') {
        out.pop();
    }
    let trailing = (before - out.len()) as i64;
    let length = (out.len() - digits) as u64;
    let exponent = if length == 0 { 0 } else { exponent - fraction.len() as i64 + trailing };
    if let Some(head) = out.get_mut(start + 1..start + 9) {
        head.copy_from_slice(&length.to_le_bytes());
    }
    if let Some(head) = out.get_mut(start + 9..start + 17) {
        head.copy_from_slice(&exponent.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Vec<u8> {
        let mut out = Vec::new();
        canonical(&Document::parse(body.as_bytes()).unwrap(), &["stream"], &mut out);
        out
    }

    #[test]
    fn c10_spelling_does_not_matter() {
        assert_eq!(of(r#"{"a":1,"b":"x"}"#), of(" {\"b\" : \"\\u0078\",\n\"a\":1.0 , \"stream\":true}"));
        for same in ["1", "1.0", "10e-1", "0.1e1", "1E0", "1.00", "1e+0"] {
            assert_eq!(of(same), of("1"), "{same}");
        }
        assert_eq!(of("0"), of("0.0e7"));
        assert_eq!(of("120"), of("1.2e2"));
    }

    #[test]
    fn c10_meaning_does() {
        let different = [
            "1",
            "-1",
            "0",
            "-0",
            "10",
            "0.1",
            "9007199254740992",
            "9007199254740993",
            "1e-9",
            "\"1\"",
            "null",
            "true",
            "false",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "\"\"",
            "[\"\"]",
            "{\"a\":1}",
            "{\"a\":\"1\"}",
            "{\"a\":{\"stream\":1}}",
            "[1,2]",
            "[2,1]",
            "[12]",
            "[\"ab\",\"c\"]",
            "[\"a\",\"bc\"]",
            "1e-99999999999999999999",
            "\"\\u00e9\"",
            "\"e\\u0301\"",
        ];
        for (i, a) in different.iter().enumerate() {
            for b in &different[i + 1..] {
                assert_ne!(of(a), of(b), "{a} {b}");
            }
        }
    }
}
