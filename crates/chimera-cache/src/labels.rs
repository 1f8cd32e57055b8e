//! What entries are purged by, as it lies in their envelopes.

use crate::{codec::Codec, envelope, purge::Purge};

/// The labels of an entry as an envelope holds them: the scope, then the tags, each behind its length.
/// What is too long for that is left out, and cannot be purged by; a scope's place stays.
pub(crate) fn write_labels<K: 'static, V: 'static>(codec: &dyn Codec<K, V>, key: &K, value: &V) -> Vec<u8> {
    let mut out = Vec::new();
    let mut push = |text: &str| {
        if let Ok(length) = u8::try_from(text.len()) {
            out.push(length);
            out.extend_from_slice(text.as_bytes());
        }
    };
    push(codec.scope(key, value).filter(|scope| scope.len() <= usize::from(u8::MAX)).unwrap_or_default());
    codec.tags(key, value).into_iter().take(32).for_each(push);
    out
}

fn read_labels(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut labels = Vec::new();
    while let Some((&length, rest)) = bytes.split_first() {
        let Some((label, rest)) = rest.split_at_checked(usize::from(length)) else { break };
        labels.push(label);
        bytes = rest;
    }
    labels
}

/// Whether the front of an envelope says that a purge by scope or tag selects it.
pub(crate) fn has(front: &[u8], purge: &Purge) -> bool {
    let labels = envelope::labels(front).map(read_labels).unwrap_or_default();
    match purge {
        Purge::Scope(scope) => labels.first().is_some_and(|found| *found == scope.as_bytes()),
        Purge::Tag(tag) => labels.iter().skip(1).any(|found| *found == tag.as_bytes()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::purge::Labels;

    /// Keys are scopes, values are tags.
    struct Worded;

    impl Labels<String, Vec<String>> for Worded {
        fn write_key(&self, key: &String, out: &mut Vec<u8>) {
            out.extend_from_slice(key.as_bytes());
        }
        fn scope<'a>(&self, key: &'a String, _: &'a Vec<String>) -> Option<&'a str> {
            Some(key)
        }
        fn tags<'a>(&self, _: &'a String, value: &'a Vec<String>) -> Vec<&'a str> {
            value.iter().map(String::as_str).collect()
        }
    }

    impl Codec<String, Vec<String>> for Worded {
        fn read_key(&self, _: &[u8]) -> Option<String> {
            None
        }
        fn write_value(&self, _: &Vec<String>, _: &mut Vec<u8>) {}
        fn read_value(&self, _: Bytes) -> Option<Vec<String>> {
            None
        }
    }

    #[test]
    fn what_is_too_long_is_left_out_and_takes_nobodys_place() {
        let (short, long) = ("acme".to_owned(), "x".repeat(256));
        let written = write_labels(&Worded, &short, &vec![long.clone(), "red".to_owned()]);
        assert_eq!(read_labels(&written), [&b"acme"[..], b"red"]);
        let written = write_labels(&Worded, &long, &vec!["red".to_owned()]);
        assert_eq!(read_labels(&written), [&b""[..], b"red"]);
    }
}
