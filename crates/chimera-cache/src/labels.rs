//! What entries are purged by, as it lies in their envelopes.

use crate::{codec::Codec, envelope, purge::Purge};

/// The labels of an entry as an envelope holds them: the scope, then the tags, each behind its length.
/// What is too long for that is left out, and cannot be purged by.
pub(crate) fn write_labels<K: 'static, V: 'static>(codec: &dyn Codec<K, V>, key: &K, value: &V) -> Vec<u8> {
    let mut out = Vec::new();
    let mut push = |text: &str| {
        if let Ok(length) = u8::try_from(text.len()) {
            out.push(length);
            out.extend_from_slice(text.as_bytes());
        }
    };
    push(codec.scope(key, value).unwrap_or_default());
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
