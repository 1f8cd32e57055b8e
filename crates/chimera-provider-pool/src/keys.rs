//! Credentials of a provider, used in rotation and parked when the provider says so.

use std::{
    fmt,
    sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{
    learnt::Told,
    metrics::KeyMetrics,
    pace::{Left, Pace},
    settings::ProviderSettings,
};

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

/// Why a key is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyRest {
    /// The provider asked for fewer requests (429).
    Throttled,
    /// What its account may spend is used up.
    Quota,
    /// The provider does not take it (401, 403).
    Refused,
    /// Its account has not paid (402).
    Payment,
    /// Its limits are about to be used up, as the provider tells with its answers.
    NearlyUsed,
}

impl KeyRest {
    pub(crate) const ALL: [Self; 5] =
        [Self::Throttled, Self::Quota, Self::Refused, Self::Payment, Self::NearlyUsed];

    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::Refused => "refused",
            Self::Payment => "payment",
            Self::NearlyUsed => "nearly_used",
        }
    }

    /// Whether only its owner can mend it.
    pub fn is_dead(self) -> bool {
        matches!(self, Self::Refused | Self::Payment)
    }
}

/// A key that is not used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestingKey {
    /// Its place in the configuration, from 0.
    pub index: usize,
    /// Why.
    pub why: KeyRest,
    /// For how long still.
    pub remaining: Duration,
}

/// What is left of a key: of its allowance by configuration, and as its provider tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Headroom {
    /// Its place in the configuration, from 0.
    pub index: usize,
    /// Of its requests.
    pub requests: Option<Left>,
    /// Of its tokens.
    pub tokens: Option<Left>,
    /// Of its requests, as the provider last told.
    pub told_requests: Option<Told>,
    /// Of the tokens of which the smallest share is left, as the provider last told.
    pub told_tokens: Option<Told>,
}

/// That no key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resting {
    /// When the first may be used again.
    pub wait: Duration,
    /// Whether the provider takes none of them.
    pub dead: bool,
}

struct Key {
    credential: Credential,
    /// Milliseconds after `KeyRing::epoch` until which the key is not used.
    parked_until: AtomicU64,
    /// Why it was last parked, as its place in [`KeyRest::ALL`].
    why: AtomicU8,
    pace: Option<Pace>,
    /// What the provider last said is left of its requests and tokens.
    told: [LastTold; 2],
}

/// Two numbers that are written together; whoever reads them in between sees one of each, which is good enough to be
/// looked at.
#[derive(Default)]
struct LastTold {
    left: AtomicU64,
    /// Zero while nothing was told.
    most: AtomicU64,
}

impl LastTold {
    fn get(&self) -> Option<Told> {
        let told = Told { left: self.left.load(Relaxed), most: self.most.load(Relaxed) };
        (told.most > 0).then_some(told)
    }

    fn set(&self, told: Told) {
        self.left.store(told.left, Relaxed);
        self.most.store(told.most, Relaxed);
    }
}

impl Key {
    fn why(&self) -> KeyRest {
        let why = KeyRest::ALL.get(usize::from(self.why.load(Relaxed)));
        why.copied().unwrap_or(KeyRest::Throttled)
    }
}

/// The credentials of one provider in rotation.
pub struct KeyRing {
    provider: String,
    keys: Vec<Key>,
    /// Until when a provider without keys is left alone, in the same measure.
    keyless_until: AtomicU64,
    next: AtomicUsize,
    epoch: Instant,
    metrics: KeyMetrics,
}

/// Which key of a ring was picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyIndex(usize);

impl KeyRing {
    pub(crate) fn new(settings: &ProviderSettings, now: Instant) -> Self {
        let keys = settings
            .credentials
            .iter()
            .map(|credential| Key {
                credential: credential.clone(),
                parked_until: AtomicU64::new(0),
                why: AtomicU8::new(0),
                pace: Pace::new(settings.requests_per_minute, settings.tokens_per_minute, now),
                told: Default::default(),
            })
            .collect();
        Self {
            keys,
            keyless_until: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            epoch: now,
            metrics: KeyMetrics::new(&settings.name),
            provider: settings.name.clone(),
        }
    }

    /// The next key that is not parked; `Ok(None)` for a provider without keys; the smallest wait
    /// when all are parked, or the provider without keys is.
    pub fn pick(&self, now: Instant) -> Result<Option<KeyIndex>, Resting> {
        self.find(now, true)
    }

    /// Whether there is a key that could be picked now. Nothing is taken of its allowance.
    pub(crate) fn look(&self, now: Instant) -> Result<(), Resting> {
        self.find(now, false).map(drop)
    }

    fn find(&self, now: Instant, take: bool) -> Result<Option<KeyIndex>, Resting> {
        if self.keys.is_empty() {
            return match self.keyless_until.load(Relaxed) {
                0 => Ok(None),
                until => match until.saturating_sub(self.millis(now)) {
                    0 => Ok(None),
                    wait => Err(Resting { wait: Duration::from_millis(wait), dead: false }),
                },
            };
        }
        let millis = self.millis(now);
        let start = if take { self.next.fetch_add(1, Relaxed) } else { self.next.load(Relaxed) };
        let allows = |pace: &Pace| if take { pace.take(now) } else { pace.look(now) };
        let (mut wait, mut dead) = (Duration::MAX, true);
        for step in 0..self.keys.len() {
            let index = (start.wrapping_add(step)) % self.keys.len();
            let Some(key) = self.keys.get(index) else { continue };
            let until = key.parked_until.load(Relaxed);
            let rests = if until > millis {
                dead &= key.why().is_dead();
                Duration::from_millis(until - millis)
            } else {
                match key.pace.as_ref().map_or(Ok(()), allows) {
                    Ok(()) => return Ok(Some(KeyIndex(index))),
                    Err(wait) => {
                        dead = false;
                        wait
                    }
                }
            };
            wait = wait.min(rests);
        }
        Err(Resting { wait, dead })
    }

    /// Notes what a request with a key cost, for keys that have an allowance of tokens.
    pub fn debit(&self, key: Option<KeyIndex>, tokens: u64, now: Instant) {
        if let Some(pace) = key.and_then(|key| self.keys.get(key.0)).and_then(|key| key.pace.as_ref()) {
            pace.debit(tokens, now);
        }
    }

    /// The credential behind an index.
    pub fn credential(&self, index: KeyIndex) -> Option<&Credential> {
        self.keys.get(index.0).map(|key| &key.credential)
    }

    /// Keeps a key unused for `wait`; a longer parking that is in force stays.
    pub fn park(&self, index: KeyIndex, wait: Duration, why: KeyRest, now: Instant) {
        let Some(key) = self.keys.get(index.0) else { return };
        let until = self.until(wait, now);
        let before = key.parked_until.fetch_max(until, Relaxed);
        if before >= until {
            return;
        }
        let place = KeyRest::ALL.iter().position(|other| *other == why).unwrap_or(0);
        key.why.store(place as u8, Relaxed);
        self.metrics.rests(why);
        if before <= self.millis(now) && matches!(why, KeyRest::Refused | KeyRest::Payment | KeyRest::Quota) {
            let (provider, key) = (&self.provider, index.0 + 1);
            tracing::warn!(%provider, key, why = why.as_str(), "a key of a provider rests");
        }
    }

    /// The keys that are not used now, and why.
    pub fn resting(&self, now: Instant) -> Vec<RestingKey> {
        let now = self.millis(now);
        let rests = |(index, key): (usize, &Key)| {
            let remaining = Duration::from_millis(key.parked_until.load(Relaxed).saturating_sub(now));
            (!remaining.is_zero()).then(|| RestingKey { index, why: key.why(), remaining })
        };
        self.keys.iter().enumerate().filter_map(rests).collect()
    }

    /// Notes what the provider says is left of a key.
    pub(crate) fn note(&self, key: KeyIndex, told: [Option<Told>; 2]) {
        let Some(key) = self.keys.get(key.0) else { return };
        for (last, told) in key.told.iter().zip(told) {
            if let Some(told) = told {
                last.set(told);
            }
        }
    }

    /// What is left of each key of which something is known.
    pub fn headroom(&self, now: Instant) -> Vec<Headroom> {
        let left = |(index, key): (usize, &Key)| {
            let [requests, tokens] = key.pace.as_ref().map_or([None; 2], |pace| pace.left(now));
            let [told_requests, told_tokens] = key.told.each_ref().map(LastTold::get);
            let known = requests.or(tokens).is_some() || told_requests.or(told_tokens).is_some();
            known.then_some(Headroom { index, requests, tokens, told_requests, told_tokens })
        };
        self.keys.iter().enumerate().filter_map(left).collect()
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
        let target = crate::Target::parse("http://a").unwrap();
        let mut settings = ProviderSettings::new("p", target);
        settings.credentials = vec![key("one"), key("two")];
        KeyRing::new(&settings, now)
    }

    #[test]
    fn keys_rotate_and_a_parked_one_is_passed_over() {
        let now = Instant::now();
        let ring = ring(now);
        let first = ring.pick(now).unwrap().unwrap();
        let second = ring.pick(now).unwrap().unwrap();
        assert_ne!(first, second);
        ring.park(first, Duration::from_secs(5), KeyRest::Throttled, now);
        assert_eq!(ring.pick(now).unwrap(), Some(second));
        assert_eq!(ring.pick(now).unwrap(), Some(second));
        ring.park(second, Duration::from_secs(9), KeyRest::Refused, now);
        let resting = Resting { wait: Duration::from_secs(5), dead: false };
        assert_eq!(ring.pick(now).unwrap_err(), resting);
        assert_eq!(ring.pick(now + Duration::from_secs(5)).unwrap(), Some(first));
    }

    #[test]
    fn a_shorter_parking_never_ends_a_longer_one() {
        let now = Instant::now();
        let ring = ring(now);
        let key = ring.pick(now).unwrap().unwrap();
        ring.park(key, Duration::from_secs(60), KeyRest::Quota, now);
        ring.park(key, Duration::from_secs(1), KeyRest::Throttled, now);
        assert_eq!(ring.resting(now)[0].why, KeyRest::Quota);
        assert_eq!(ring.counts(now + Duration::from_secs(30)), (2, 1));
    }

    #[test]
    fn what_a_provider_told_of_a_key_is_kept() {
        let now = Instant::now();
        let ring = ring(now);
        assert_eq!(ring.headroom(now), []);
        let told = Told { left: 3, most: 9 };
        ring.note(KeyIndex(1), [Some(told), None]);
        ring.note(KeyIndex(1), [None, None]);
        let [one] = ring.headroom(now)[..] else { panic!("one key") };
        assert_eq!(
            (one.index, one.told_requests, one.told_tokens, one.requests),
            (1, Some(told), None, None)
        );
    }

    #[test]
    fn a_ring_is_dead_when_the_provider_takes_no_key_of_it() {
        let now = Instant::now();
        let ring = ring(now);
        for why in [KeyRest::Refused, KeyRest::Payment] {
            let key = ring.pick(now).unwrap().unwrap();
            ring.park(key, Duration::from_secs(60), why, now);
        }
        assert!(ring.pick(now).unwrap_err().dead);
    }

    #[test]
    fn secrets_are_never_printed() {
        let ring = ring(Instant::now());
        let shown = format!("{:?}", ring.credentials().collect::<Vec<_>>());
        assert!(!shown.contains("one") && shown.contains("[redacted]"));
    }
}
