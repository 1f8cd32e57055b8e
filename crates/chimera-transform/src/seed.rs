//! The secret from which what must not be guessed is made.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A key for placeholders and hashes. The same seed and the same texts give the same placeholders, so
/// that equal requests stay equal behind a pipeline; nobody without the seed can tell them beforehand.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed")
    }
}

impl Seed {
    /// A seed from a secret, for one purpose.
    pub fn derive(secret: &[u8; 32], purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(secret);
        hasher.update(b"chimera transform seed\0").update(purpose.as_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// One that nobody knows, from the system's random numbers.
    pub fn random() -> Self {
        // A `RandomState` is keyed by the system once for each thread and counted up from there: its
        // hashes are as hard to tell as SipHash's.
        let mut hasher = blake3::Hasher::new();
        for round in 0..4_u64 {
            let mut random = RandomState::new().build_hasher();
            random.write_u64(round);
            hasher.update(&random.finish().to_le_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    pub(crate) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }
}
