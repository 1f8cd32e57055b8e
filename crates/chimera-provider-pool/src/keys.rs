//! Credentials of a provider, used in rotation and parked when the provider says so.

use std::{
    fmt,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// A secret that is never printed and is wiped when dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes ownership of a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The secret itself. Call it where it is sent or searched for, nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// One credential and the header that carries it, made once.
#[derive(Clone)]
pub struct Credential {
    name: HeaderName,
    value: HeaderValue,
    secret: Secret,
}

impl Credential {
    /// A credential sent as `name: prefix + secret`. `None` when the secret cannot be a header value.
    pub fn new(name: HeaderName, prefix: &str, secret: Secret) -> Option<Self> {
        let text = Zeroizing::new(format!("{prefix}{}", secret.expose()));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(Self { name, value, secret })
    }

    /// The header's name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// The header's value, marked sensitive.
    pub fn value(&self) -> &HeaderValue {
        &self.value
    }

    /// The bare secret, for finding echoes of it in an error body.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [redacted]", self.name)
    }
}

struct Key {
    credential: Credential,
    /// Milliseconds after `KeyRing::epoch` until which the key is not used.
    parked_until: AtomicU64,
}

/// The credentials of one provider in rotation.
pub struct KeyRing {
    keys: Vec<Key>,
    /// Until when a provider without keys is left alone, in the same measure.
    keyless_until: AtomicU64,
    next: AtomicUsize,
    epoch: Instant,
}

/// Which key of a ring was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyIndex(usize);

impl KeyRing {
    pub(crate) fn new(credentials: &[Credential], now: Instant) -> Self {
        let keys = credentials
            .iter()
            .map(|credential| Key { credential: credential.clone(), parked_until: AtomicU64::new(0) })
            .collect();
        Self { keys, keyless_until: AtomicU64::new(0), next: AtomicUsize::new(0), epoch: now }
    }

    /// The next key that is not parked; `Ok(None)` for a provider without keys; the smallest wait
    /// when all are parked, or the provider without keys is.
    pub fn pick(&self, now: Instant) -> Result<Option<KeyIndex>, Duration> {
        if self.keys.is_empty() {
            return match self.keyless_until.load(Relaxed) {
                0 => Ok(None),
                until => match until.saturating_sub(self.millis(now)) {
                    0 => Ok(None),
                    wait => Err(Duration::from_millis(wait)),
                },
            };
        }
        let now = self.millis(now);
        let start = self.next.fetch_add(1, Relaxed);
        let mut wait = u64::MAX;
        for step in 0..self.keys.len() {
            let index = (start.wrapping_add(step)) % self.keys.len();
            let Some(key) = self.keys.get(index) else { continue };
            let until = key.parked_until.load(Relaxed);
            if until <= now {
                return Ok(Some(KeyIndex(index)));
            }
            wait = wait.min(until - now);
        }
        Err(Duration::from_millis(wait))
    }

    /// The credential behind an index.
    pub fn credential(&self, index: KeyIndex) -> Option<&Credential> {
        self.keys.get(index.0).map(|key| &key.credential)
    }

    /// Keeps a key unused for `wait`; a longer parking that is in force stays.
    pub fn park(&self, index: KeyIndex, wait: Duration, now: Instant) {
        if let Some(key) = self.keys.get(index.0) {
            key.parked_until.fetch_max(self.until(wait, now), Relaxed);
        }
    }

    /// Keeps a provider without keys unused for `wait`.
    pub fn park_keyless(&self, wait: Duration, now: Instant) {
        self.keyless_until.fetch_max(self.until(wait, now), Relaxed);
    }

    fn until(&self, wait: Duration, now: Instant) -> u64 {
        self.millis(now).saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many keys there are, and how many of them are parked.
    pub fn counts(&self, now: Instant) -> (usize, usize) {
        let now = self.millis(now);
        (self.keys.len(), self.keys.iter().filter(|key| key.parked_until.load(Relaxed) > now).count())
    }

    /// All credentials, for scrubbing.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.keys.iter().map(|key| &key.credential)
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(now: Instant) -> KeyRing {
        let key = |secret: &str| {
            Credential::new(http::header::AUTHORIZATION, "Bearer ", Secret::new(secret)).unwrap()
        };
        KeyRing::new(&[key("one"), key("two")], now)
    }

    #[test]
    fn keys_rotate_and_a_parked_one_is_passed_over() {
        let now = Instant::now();
        let ring = ring(now);
        let first = ring.pick(now).unwrap().unwrap();
        let second = ring.pick(now).unwrap().unwrap();
        assert_ne!(first, second);
        ring.park(first, Duration::from_secs(5), now);
        assert_eq!(ring.pick(now).unwrap(), Some(second));
        assert_eq!(ring.pick(now).unwrap(), Some(second));
        ring.park(second, Duration::from_secs(9), now);
        assert_eq!(ring.pick(now).unwrap_err(), Duration::from_secs(5));
        assert_eq!(ring.pick(now + Duration::from_secs(5)).unwrap(), Some(first));
    }

    #[test]
    fn a_shorter_parking_never_ends_a_longer_one() {
        let now = Instant::now();
        let ring = ring(now);
        let key = ring.pick(now).unwrap().unwrap();
        ring.park(key, Duration::from_secs(60), now);
        ring.park(key, Duration::from_secs(1), now);
        assert_eq!(ring.counts(now + Duration::from_secs(30)), (2, 1));
    }

    #[test]
    fn secrets_are_never_printed() {
        let ring = ring(Instant::now());
        let shown = format!("{:?}", ring.credentials().collect::<Vec<_>>());
        assert!(!shown.contains("one") && shown.contains("[redacted]"));
    }
}
