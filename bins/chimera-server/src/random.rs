//! Bytes that nobody can guess.

use std::io;

/// Thirty-two of them, from the system's own source.
pub(crate) fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut seed).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(seed)
}
