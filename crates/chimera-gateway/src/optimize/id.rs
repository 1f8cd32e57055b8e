//! Names of jobs that nobody can guess.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::{SystemTime, UNIX_EPOCH},
};

use sha2::{Digest, Sha256};

/// `opt_` and 32 hexadecimal digits, drawn from the gateway's secret and from the system's random numbers.
pub(super) fn new(secret: &[u8; 32]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(secret);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    hasher.update(now.as_nanos().to_le_bytes());
    for round in 0..4_u64 {
        let mut random = RandomState::new().build_hasher();
        random.write_u64(round);
        hasher.update(random.finish().to_le_bytes());
    }
    let hash = hasher.finalize();
    let digits: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("opt_{digits}")
}

/// Whether a text is such a name: the only ones that ever become part of a path.
pub(super) fn is_one(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.strip_prefix("opt_").is_some_and(|rest| rest.len() == 32 && rest.bytes().all(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_are_known_again() {
        let (one, other) = (new(&[7; 32]), new(&[7; 32]));
        assert_ne!(one, other);
        assert!(is_one(&one) && is_one(&other));
        assert!(!is_one("opt_../../etc/passwd") && !is_one("opt_") && !is_one(&one.to_uppercase()));
    }
}
