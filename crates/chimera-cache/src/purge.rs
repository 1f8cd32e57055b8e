//! What is to be forgotten.

use std::sync::Arc;

/// Which entries are to be forgotten, in every tier and by every process that shares one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purge {
    /// All of them.
    All,
    /// The one of this key, as its [`Labels`](crate::Labels) write it.
    Key(Box<[u8]>),
    /// Those whose key, as written, begins so.
    Prefix(Box<[u8]>),
    /// Those of this scope: a tenant, a customer, whoever owns them.
    Scope(Box<str>),
    /// Those that carry this tag.
    Tag(Box<str>),
}

/// How keys are written, and what values belong to. Both tiers purge by it.
///
/// `write_key` must be injective: two keys that differ are written differently.
pub trait Labels<K, V>: Send + Sync + 'static {
    /// Appends the key as bytes.
    fn write_key(&self, key: &K, out: &mut Vec<u8>);

    /// Who owns an entry. None by default.
    fn scope<'a>(&self, key: &'a K, value: &'a V) -> Option<&'a str> {
        let _ = (key, value);
        None
    }

    /// Whether an entry carries a tag. None does by default.
    fn tags<'a>(&self, key: &'a K, value: &'a V) -> Vec<&'a str> {
        let _ = (key, value);
        Vec::new()
    }
}

/// Labels of any kind.
pub type SharedLabels<K, V> = Arc<dyn Labels<K, V>>;

impl Purge {
    /// Whether an entry is selected.
    pub fn selects<K: 'static, V: 'static>(&self, labels: &dyn Labels<K, V>, key: &K, value: &V) -> bool {
        let written = || {
            let mut bytes = Vec::new();
            labels.write_key(key, &mut bytes);
            bytes
        };
        match self {
            Self::All => true,
            Self::Key(wanted) => *written() == **wanted,
            Self::Prefix(prefix) => written().starts_with(prefix),
            Self::Scope(wanted) => labels.scope(key, value) == Some(wanted),
            Self::Tag(wanted) => labels.tags(key, value).contains(&&**wanted),
        }
    }

    /// The purge as bytes, for telling others.
    #[cfg(feature = "redis")]
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (kind, rest): (u8, &[u8]) = match self {
            Self::All => (b'a', b""),
            Self::Key(key) => (b'k', key),
            Self::Prefix(prefix) => (b'p', prefix),
            Self::Scope(scope) => (b's', scope.as_bytes()),
            Self::Tag(tag) => (b't', tag.as_bytes()),
        };
        out.push(kind);
        out.extend_from_slice(rest);
    }

    /// What [`write`](Self::write) wrote.
    #[cfg(feature = "redis")]
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let text = || std::str::from_utf8(rest).ok().map(Box::from);
        match kind {
            b'a' => Some(Self::All),
            b'k' => Some(Self::Key(rest.into())),
            b'p' => Some(Self::Prefix(rest.into())),
            b's' => text().map(Self::Scope),
            b't' => text().map(Self::Tag),
            _ => None,
        }
    }
}

/// Labels of entries that have none, with keys that are bytes: purged by key and prefix only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLabels;

impl<K: AsRef<[u8]>, V> Labels<K, V> for NoLabels {
    fn write_key(&self, key: &K, out: &mut Vec<u8>) {
        out.extend_from_slice(key.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct ByColon;

    impl Labels<String, Vec<&'static str>> for ByColon {
        fn write_key(&self, key: &String, out: &mut Vec<u8>) {
            out.extend_from_slice(key.as_bytes());
        }
        fn scope<'a>(&self, key: &'a String, _: &'a Vec<&'static str>) -> Option<&'a str> {
            key.split_once(':').map(|(scope, _)| scope)
        }
        fn tags<'a>(&self, _: &'a String, value: &'a Vec<&'static str>) -> Vec<&'a str> {
            value.clone()
        }
    }

    #[test]
    fn each_kind_selects_what_it_says() {
        let (key, value) = ("acme:42".to_owned(), vec!["red"]);
        let selects = |purge: Purge| purge.selects(&ByColon, &key, &value);
        assert!(selects(Purge::All));
        assert!(selects(Purge::Key((*b"acme:42").into())) && !selects(Purge::Key((*b"acme:4").into())));
        assert!(selects(Purge::Prefix((*b"acme:").into())) && !selects(Purge::Prefix((*b"b").into())));
        assert!(selects(Purge::Scope("acme".into())) && !selects(Purge::Scope("acm".into())));
        assert!(selects(Purge::Tag("red".into())) && !selects(Purge::Tag("re".into())));
    }

    #[cfg(feature = "redis")]
    #[test]
    fn what_is_told_is_understood() {
        for purge in [
            Purge::All,
            Purge::Key((*b"\x00k").into()),
            Purge::Prefix((*b"").into()),
            Purge::Scope("a".into()),
            Purge::Tag("ä".into()),
        ] {
            let mut bytes = Vec::new();
            purge.write(&mut bytes);
            assert_eq!(Purge::read(&bytes), Some(purge));
        }
        for bytes in [&b""[..], b"x", b"t\xff"] {
            assert_eq!(Purge::read(bytes), None);
        }
    }
}
