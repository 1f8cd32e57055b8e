//! Credentials of a provider, used in rotation and parked when the provider says so.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{
    learnt::Told,
    metrics::KeyMetrics,
    pace::{Left, Pace},
    parking::{KeyRest, RestingKey, Rests, Served},
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

/// The credentials of one provider in rotation.
pub struct KeyRing {
    provider: String,
    keys: Vec<Key>,
    /// Those of the keys that rest for every model.
    rests: Rests,
    /// Those that rest for one model, shared by the deployments that serve it.
    by_model: Mutex<Vec<(Served, Weak<Rests>)>>,
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
                pace: Pace::new(settings.requests_per_minute, settings.tokens_per_minute, now),
                told: Default::default(),
            })
            .collect();
        Self {
            keys,
            rests: Rests::new(settings.credentials.len()),
            by_model: Mutex::default(),
            next: AtomicUsize::new(0),
            epoch: now,
            metrics: KeyMetrics::new(&settings.name),
            provider: settings.name.clone(),
        }
    }

    /// The rests that concern one model alone, for a deployment to keep.
    pub(crate) fn rests_for(&self, served: Served) -> Arc<Rests> {
        let mut known = self.by_model.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, rests)| rests.strong_count() > 0);
        let found = known.iter().find(|(of, _)| *of == served);
        found.and_then(|(_, rests)| rests.upgrade()).unwrap_or_else(|| {
            let rests = Arc::new(Rests::new(self.keys.len()));
            known.push((served, Arc::downgrade(&rests)));
            rests
        })
    }

    /// The next key that rests neither for every model nor for this one; `Ok(None)` for a provider without keys; the
    /// smallest wait when all rest, or the provider without keys does.
    pub(crate) fn pick(&self, model: &Rests, now: Instant) -> Result<Option<KeyIndex>, Resting> {
        self.find(model, now, true)
    }

    /// Whether there is a key that could be picked now. Nothing is taken of its allowance.
    pub(crate) fn look(&self, model: &Rests, now: Instant) -> Result<(), Resting> {
        self.find(model, now, false).map(drop)
    }

    fn find(&self, model: &Rests, now: Instant, take: bool) -> Result<Option<KeyIndex>, Resting> {
        let millis = self.millis(now);
        if self.keys.is_empty() {
            return match self.rest_of(model, 0, millis) {
                None => Ok(None),
                Some(rest) => Err(Resting { dead: false, ..rest }),
            };
        }
        let start = if take { self.next.fetch_add(1, Relaxed) } else { self.next.load(Relaxed) };
        let allows = |pace: &Pace| if take { pace.take(now) } else { pace.look(now) };
        let (mut wait, mut dead) = (Duration::MAX, true);
        for step in 0..self.keys.len() {
            let index = (start.wrapping_add(step)) % self.keys.len();
            let Some(key) = self.keys.get(index) else { continue };
            let rest = match self.rest_of(model, index, millis) {
                Some(rest) => rest,
                None => match key.pace.as_ref().map_or(Ok(()), allows) {
                    Ok(()) => return Ok(Some(KeyIndex(index))),
                    Err(wait) => Resting { wait, dead: false },
                },
            };
            wait = wait.min(rest.wait);
            dead &= rest.dead;
        }
        Err(Resting { wait, dead })
    }

    /// The longer of a key's two rests, and whether its provider takes it for nothing.
    fn rest_of(&self, model: &Rests, key: usize, now: u64) -> Option<Resting> {
        let (all, here) = (self.rests.of(key, now), model.of(key, now));
        let until = all.into_iter().chain(here).map(|rest| rest.until).max()?;
        let dead = all.is_some_and(|rest| rest.why.is_dead());
        Some(Resting { wait: Duration::from_millis(until - now), dead })
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

    /// Keeps a key unused for `wait`, for this model or for all, as the reason says; a longer rest that is in force
    /// stays.
    pub(crate) fn park(&self, index: KeyIndex, model: &Rests, wait: Duration, why: KeyRest, now: Instant) {
        let rests = if why.is_of_one_model() { model } else { &self.rests };
        let Some(before) = rests.lengthen(index.0, self.until(wait, now), why) else { return };
        self.metrics.rests(why);
        if before <= self.millis(now) && matches!(why, KeyRest::Refused | KeyRest::Payment | KeyRest::Quota) {
            let (provider, key) = (&self.provider, index.0 + 1);
            tracing::warn!(%provider, key, why = why.as_str(), "a key of a provider rests");
        }
    }

    /// The keys that rest for every model, and why.
    pub fn resting(&self, now: Instant) -> Vec<RestingKey> {
        self.told(&self.rests, now)
    }

    /// The keys that rest by these rests, and why.
    pub(crate) fn told(&self, rests: &Rests, now: Instant) -> Vec<RestingKey> {
        let now = self.millis(now);
        let told = |index: usize| {
            let rest = rests.of(index, now)?;
            Some(RestingKey { index, why: rest.why, remaining: Duration::from_millis(rest.until - now) })
        };
        (0..self.keys.len()).filter_map(told).collect()
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

    /// Keeps a provider without keys unused for `wait`, in the same way.
    pub(crate) fn park_keyless(&self, model: &Rests, wait: Duration, why: KeyRest, now: Instant) {
        let rests = if why.is_of_one_model() { model } else { &self.rests };
        rests.lengthen(0, self.until(wait, now), why);
    }

    fn until(&self, wait: Duration, now: Instant) -> u64 {
        self.millis(now).saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    /// How many keys there are.
    #[expect(clippy::len_without_is_empty, reason = "a provider without keys is one that wants none")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many keys rest neither for every model nor for this one.
    pub(crate) fn awake(&self, model: &Rests, now: Instant) -> usize {
        let now = self.millis(now);
        (0..self.keys.len()).filter(|key| self.rest_of(model, *key, now).is_none()).count()
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
        let model = ring.rests_for(Served::Asked(0));
        let first = ring.pick(&model, now).unwrap().unwrap();
        let second = ring.pick(&model, now).unwrap().unwrap();
        assert_ne!(first, second);
        ring.park(first, &model, Duration::from_secs(5), KeyRest::Throttled, now);
        assert_eq!(ring.pick(&model, now).unwrap(), Some(second));
        assert_eq!(ring.pick(&model, now).unwrap(), Some(second));
        ring.park(second, &model, Duration::from_secs(9), KeyRest::Refused, now);
        let resting = Resting { wait: Duration::from_secs(5), dead: false };
        assert_eq!(ring.pick(&model, now).unwrap_err(), resting);
        assert_eq!(ring.pick(&model, now + Duration::from_secs(5)).unwrap(), Some(first));
    }

    #[test]
    fn a_rate_is_one_models_and_an_account_is_all_of_them() {
        let now = Instant::now();
        let ring = ring(now);
        let named = |model: &str| Served::Named(model.to_owned());
        let (one, same, other) =
            (ring.rests_for(named("one")), ring.rests_for(named("one")), ring.rests_for(named("other")));
        for key in [KeyIndex(0), KeyIndex(1)] {
            ring.park(key, &one, Duration::from_secs(5), KeyRest::Throttled, now);
        }
        assert_eq!((ring.awake(&one, now), ring.awake(&same, now), ring.awake(&other, now)), (0, 0, 2));
        assert_eq!((ring.resting(now).len(), ring.told(&one, now).len()), (0, 2));
        assert_eq!(ring.pick(&same, now).unwrap_err().wait, Duration::from_secs(5));
        assert!(ring.pick(&other, now).is_ok());
        ring.park(KeyIndex(0), &one, Duration::from_secs(300), KeyRest::Quota, now);
        assert_eq!((ring.awake(&other, now), ring.resting(now).len()), (1, 1));
        // What was told of a model is forgotten with the last deployment that serves it.
        drop((one, same));
        assert_eq!(ring.told(&ring.rests_for(named("one")), now), []);
    }

    #[test]
    fn a_shorter_parking_never_ends_a_longer_one() {
        let now = Instant::now();
        let ring = ring(now);
        let model = ring.rests_for(Served::Asked(0));
        let key = ring.pick(&model, now).unwrap().unwrap();
        ring.park(key, &model, Duration::from_secs(60), KeyRest::Quota, now);
        ring.park(key, &model, Duration::from_secs(1), KeyRest::Refused, now);
        ring.park(key, &model, Duration::from_secs(1), KeyRest::Throttled, now);
        assert_eq!(ring.resting(now)[0].why, KeyRest::Quota);
        assert_eq!(ring.awake(&model, now + Duration::from_secs(30)), 1);
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
        let model = ring.rests_for(Served::Asked(0));
        for why in [KeyRest::Refused, KeyRest::Payment] {
            let key = ring.pick(&model, now).unwrap().unwrap();
            ring.park(key, &model, Duration::from_secs(60), why, now);
        }
        assert!(ring.pick(&model, now).unwrap_err().dead);
    }

    #[test]
    fn secrets_are_never_printed() {
        let ring = ring(Instant::now());
        let shown = format!("{:?}", ring.credentials().collect::<Vec<_>>());
        assert!(!shown.contains("one") && shown.contains("[redacted]"));
    }
}
