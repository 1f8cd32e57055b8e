//! How things are named in Redis.

use fred::types::Key;

use crate::{envelope::SCHEMA, purge::Purge};

/// The names of one cache. They begin with its prefix and the version of the schema, so that neither
/// two caches nor two versions meet.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) entries: String,
    pub(super) purges: String,
    pub(super) proofs: String,
    leases: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        let name = |kind: char| format!("{prefix}{SCHEMA}:{kind}:");
        Self { entries: name('e'), purges: name('p'), proofs: name('h'), leases: name('l') }
    }

    pub(super) fn entry(&self, key: &[u8]) -> Key {
        join(&self.entries, key)
    }

    pub(super) fn lease(&self, key: &[u8]) -> Key {
        join(&self.leases, key)
    }

    /// The key by which a master proves that it tells changes. In a cluster, its number decides who holds it.
    pub(super) fn proof(&self, of: u64, number: u16) -> Key {
        let mut name = format!("{of:016x}").into_bytes();
        name.extend_from_slice(&number.to_be_bytes());
        join(&self.proofs, &name)
    }

    pub(super) fn purge(&self, purge: &Purge) -> Key {
        let mut name = self.purges.clone().into_bytes();
        purge.write(&mut name);
        name.into_boxed_slice().into()
    }

    /// What `SCAN` takes to find all entries: the prefix may hold characters with a meaning there.
    pub(super) fn pattern(&self) -> String {
        let mut pattern = String::new();
        for character in self.entries.chars() {
            if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(character);
        }
        pattern.push('*');
        pattern
    }
}

fn join(prefix: &str, rest: &[u8]) -> Key {
    [prefix.as_bytes(), rest].concat().into_boxed_slice().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_prefix_version_and_key() {
        let names = Names::new("a*b:");
        assert_eq!(names.entry(b"\x00k").as_bytes(), b"a*b:3:e:\x00k");
        assert_eq!(names.pattern(), "a\\*b:3:e:*");
        assert_eq!(names.purge(&Purge::Tag("red".into())).as_bytes(), b"a*b:3:p:tred");
    }
}
