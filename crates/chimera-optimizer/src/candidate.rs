//! A candidate: the texts that are being improved, by name.

use std::{collections::BTreeMap, fmt, sync::Arc};

/// The names and texts of all components. Two candidates with the same texts are the same candidate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidate {
    components: BTreeMap<Arc<str>, Arc<str>>,
}

impl Candidate {
    /// A candidate of the given components.
    pub fn new<N: Into<Arc<str>>, T: Into<Arc<str>>>(components: impl IntoIterator<Item = (N, T)>) -> Self {
        Self { components: components.into_iter().map(|(name, text)| (name.into(), text.into())).collect() }
    }

    /// The text of a component.
    pub fn text(&self, component: &str) -> Option<&str> {
        self.components.get(component).map(|text| &**text)
    }

    /// The same candidate with another text for one component.
    #[must_use]
    pub fn with(&self, component: &str, text: impl Into<Arc<str>>) -> Self {
        let mut changed = self.clone();
        changed.components.insert(component.into(), text.into());
        changed
    }

    /// Names and texts, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.components.iter().map(|(name, text)| (&**name, &**text))
    }

    /// Names, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.components.keys().map(|name| &**name)
    }

    /// How long all texts are together, in characters.
    pub fn length(&self) -> usize {
        self.components.values().map(|text| text.chars().count()).sum()
    }

    /// What tells it from every other.
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for (name, text) in self.iter() {
            for part in [name, text] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part.as_bytes());
            }
        }
        Digest::of(&hasher)
    }
}

impl serde::Serialize for Candidate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A short name of some content: the first half of its BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub(crate) [u8; 16]);

impl Digest {
    pub(crate) fn of(hasher: &blake3::Hasher) -> Self {
        let mut half = [0; 16];
        hasher.finalize_xof().fill(&mut half);
        Self(half)
    }

    /// The digest of length-prefixed parts.
    pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self::of(&hasher)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_texts_and_names_apart() {
        let one = Candidate::new([("a", "bc")]);
        assert_eq!(one.digest(), Candidate::new([("a", "bc")]).digest());
        assert_ne!(one.digest(), Candidate::new([("ab", "c")]).digest());
        assert_ne!(one.digest(), one.with("a", "bd").digest());
        assert_eq!(Digest::parse(&one.digest().to_string()), Some(one.digest()));
        assert_eq!(Digest::parse("+0000000000000000000000000000001"), None);
    }
}
