//! Until when keys rest, and why: all that a provider keeps of it for each of its models.
//!
//! Vendors limit each model apart, so a key that has asked one too often is good for the others. What is about the
//! key itself or its account is kept once, for all models.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

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

    /// Whether it is about one model, as rate limits are, and not about the key or its account.
    pub fn is_of_one_model(self) -> bool {
        matches!(self, Self::Throttled | Self::NearlyUsed)
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

/// The rest of one key.
#[derive(Default)]
struct Rest {
    /// Until when, in milliseconds of the key ring's clock.
    until: AtomicU64,
    /// Why it last began, as its place in [`KeyRest::ALL`].
    why: AtomicU8,
}

/// A rest that is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InForce {
    pub(crate) until: u64,
    pub(crate) why: KeyRest,
}

/// For which models a key may rest apart from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Served {
    /// One that deployments name.
    Named(String),
    /// Those that callers name, by what is left of a number of theirs: callers may name any, and are not to grow what is
    /// kept. Two that share a place rest together.
    Asked(usize),
}

/// How many places there are for models that callers name.
const PLACES: usize = 32;

/// The rests at one deployment: those of its model, or of each that a caller may name.
pub(crate) struct ModelRests {
    first: Arc<Rests>,
    others: Box<[Arc<Rests>]>,
}

impl ModelRests {
    pub(crate) fn new(model: Option<&str>, rests_for: impl Fn(Served) -> Arc<Rests>) -> Self {
        match model {
            Some(model) => Self { first: rests_for(Served::Named(model.to_owned())), others: Box::default() },
            None => Self {
                first: rests_for(Served::Asked(0)),
                others: (1..PLACES).map(|place| rests_for(Served::Asked(place))).collect(),
            },
        }
    }

    /// Those of the model that a request names.
    pub(crate) fn of(&self, model: u64) -> &Rests {
        let place = model % (self.others.len() as u64 + 1);
        self.others.get((place as usize).wrapping_sub(1)).unwrap_or(&self.first)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Rests> {
        std::iter::once(&self.first).chain(&self.others).map(|rests| &**rests)
    }
}

/// The rests of a provider's keys, for one of its models or for all.
pub(crate) struct Rests(Box<[Rest]>);

impl Rests {
    /// One for each key; a provider without keys rests as if it had one.
    pub(crate) fn new(keys: usize) -> Self {
        Self((0..keys.max(1)).map(|_| Rest::default()).collect())
    }

    /// The rest of a key, if it is in force.
    pub(crate) fn of(&self, key: usize, now: u64) -> Option<InForce> {
        let rest = self.0.get(key)?;
        let until = rest.until.load(Relaxed);
        (until > now).then(|| {
            let why = KeyRest::ALL.get(usize::from(rest.why.load(Relaxed)));
            InForce { until, why: why.copied().unwrap_or(KeyRest::Throttled) }
        })
    }

    /// Lets a key rest; a longer rest stays. What was in force before: `None` where nothing changed.
    pub(crate) fn lengthen(&self, key: usize, until: u64, why: KeyRest) -> Option<u64> {
        let rest = self.0.get(key)?;
        let before = rest.until.fetch_max(until, Relaxed);
        if before >= until {
            return None;
        }
        let place = KeyRest::ALL.iter().position(|other| *other == why).unwrap_or(0);
        rest.why.store(place as u8, Relaxed);
        Some(before)
    }
}
