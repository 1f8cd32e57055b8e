//! Cached answers beyond memory, in Redis or in a file: where that is, how an answer is written, and what it
//! belongs to.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chimera_cache::{
    Codec, DiskSettings, DiskTier, Guarded, GuardedSettings, Item, Labels, MemorySettings, RedisSettings,
    RedisTier, RedisUrlError, SharedTier, TieredCache, TieredSettings,
};
use chimera_protocol::{DialectId, Fingerprint};
use http::HeaderValue;
use sha2::{Digest, Sha256};

use crate::{
    entry::{self, Entry},
    gateway::GatewayError,
};

/// The cache of a gateway: memory, and Redis where there is one.
pub(crate) type Cache = TieredCache<Fingerprint, Arc<Entry>>;

/// What is behind the memory cache.
#[derive(Clone, Copy)]
pub(crate) enum Behind<'a> {
    Nothing,
    Redis(&'a SecondTier),
    Disk(&'a DiskCache),
}

/// A file behind the memory cache: one machine without a Redis keeps its answers over a restart.
#[derive(Debug, Clone)]
pub struct DiskCache {
    /// The file, and how answers lie in it.
    pub disk: DiskSettings,
    /// How long it may take. Disks are slower than a Redis next door: a look-up has 100 ms by default.
    pub limits: GuardedSettings,
    seed: Seed,
}

impl DiskCache {
    /// The file at a path. `secret` keys what lies in it: the same at every start.
    pub fn new(path: impl Into<std::path::PathBuf>, max_bytes: u64, secret: &[u8]) -> Self {
        let limits = GuardedSettings {
            get: Duration::from_millis(100),
            slow: Duration::from_millis(60),
            write: Duration::from_secs(5),
            ..GuardedSettings::default()
        };
        let disk = DiskSettings::new(path, max_bytes, derived("chimera answers: seal", secret));
        Self { disk, limits, seed: Seed(derived("chimera answers: name", secret)) }
    }

    /// What keys the fingerprints, at every start.
    pub(crate) fn seed(&self) -> [u8; 32] {
        self.seed.0
    }
}

/// A Redis behind the memory cache, shared by every gateway that knows the same secret.
///
/// The secret keys the names of answers, and answers are sealed under it: whoever can read or write that Redis and
/// does not know it can neither read an answer, nor find the one to a question, nor put one there that is believed.
#[derive(Debug, Clone)]
pub struct SecondTier {
    /// Where it is, and how answers lie in it.
    pub redis: RedisSettings,
    /// How long it may take.
    pub limits: GuardedSettings,
    /// How long one gateway may keep the others from making the same call; they wait for its whole
    /// answer, streams included. Default: not at all, so that each makes its own.
    pub lease: Option<Duration>,
    seed: Seed,
}

#[derive(Clone, Copy)]
struct Seed([u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

fn derived(purpose: &str, secret: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(purpose).chain_update([0]).chain_update(secret).finalize().into()
}

impl SecondTier {
    /// The Redis at a URL, with the defaults.
    pub fn new(url: &str, secret: &[u8]) -> Result<Self, RedisUrlError> {
        let mut redis = RedisSettings::new(url, derived("chimera answers: seal", secret))?;
        redis.prefix = "chimera:".to_owned();
        let seed = Seed(derived("chimera answers: name", secret));
        Ok(Self { redis, limits: GuardedSettings::default(), lease: None, seed })
    }

    /// What keys the fingerprints of every gateway that shares it.
    pub(crate) fn seed(&self) -> [u8; 32] {
        self.seed.0
    }
}

/// The cache of a gateway. With a second tier, it needs a runtime.
pub(crate) fn cache(capacity: u64, max_entry: u64, behind: Behind<'_>) -> Result<Cache, GatewayError> {
    // An entry may come to hold its answer in several forms.
    let heaviest = max_entry.saturating_mul(4).min(capacity / 2);
    let near = MemorySettings::new("l1", capacity, heaviest);
    let mut settings = TieredSettings::new(near);
    let weigh: fn(&Fingerprint, &Item<Arc<Entry>>) -> usize = |_, item| entry::weigh(&item.value);
    let tier = match behind {
        Behind::Nothing => return Ok(TieredCache::new(settings, AnswerCodec, weigh)?),
        Behind::Redis(second) => {
            settings.lease = second.lease;
            let tier = RedisTier::start("l2", second.redis.clone(), AnswerCodec)?;
            SharedTier::new(Guarded::new("l2", tier, second.limits)?)
        }
        Behind::Disk(disk) => {
            let tier = DiskTier::open("disk", disk.disk.clone(), AnswerCodec)?;
            SharedTier::new(Guarded::new("disk", tier, disk.limits)?)
        }
    };
    Ok(TieredCache::with_far(settings, AnswerCodec, weigh, tier)?)
}

/// How answers are written.
struct AnswerCodec;

impl Labels<Fingerprint, Arc<Entry>> for AnswerCodec {
    fn write_key(&self, key: &Fingerprint, out: &mut Vec<u8>) {
        out.extend_from_slice(key.as_bytes());
    }

    fn scope<'a>(&self, _: &'a Fingerprint, entry: &'a Arc<Entry>) -> Option<&'a str> {
        Some(entry.owner())
    }

    /// The model, and the caller's own tags, each behind a sign that no model's name begins with.
    fn tags<'a>(&self, _: &'a Fingerprint, entry: &'a Arc<Entry>) -> Vec<&'a str> {
        std::iter::once(entry.tag()).chain(entry.tags()).collect()
    }
}

const UNARY: u8 = 0;
const STREAM: u8 = 1;
const REFUSAL: u8 = 2;
/// Tags follow the texts that are always there.
const TAGGED: u8 = 0x80;

impl Codec<Fingerprint, Arc<Entry>> for AnswerCodec {
    fn read_key(&self, bytes: &[u8]) -> Option<Fingerprint> {
        <[u8; 32]>::try_from(bytes).ok().map(Fingerprint::from)
    }

    fn write_value(&self, entry: &Arc<Entry>, out: &mut Vec<u8>) {
        let (is_stream, bytes) = entry.as_came();
        let status = entry.refused_with();
        let kind = if status.is_some() { REFUSAL } else { u8::from(is_stream) };
        let tags = entry.tag_lines();
        out.push(if tags.is_empty() { kind } else { kind | TAGGED });
        out.extend(status.into_iter().flat_map(u16::to_be_bytes));
        for text in [entry.dialect().as_str().as_bytes(), entry.owner().as_bytes()] {
            text_to(out, text);
        }
        for header in [&entry.provider, &entry.model] {
            text_to(out, header.as_bytes());
        }
        if !tags.is_empty() {
            text_to(out, tags.as_bytes());
        }
        out.extend_from_slice(bytes);
    }

    fn read_value(&self, mut bytes: Bytes) -> Option<Arc<Entry>> {
        let (&kind, _) = bytes.split_first()?;
        let _ = bytes.split_to(1);
        let (kind, is_tagged) = (kind & !TAGGED, kind & TAGGED != 0);
        let status = match kind {
            REFUSAL => Some(u16::from_be_bytes(*bytes.first_chunk()?)),
            _ => None,
        };
        let _ = bytes.split_to(status.map_or(0, |_| 2));
        let dialect = text_of(&mut bytes)?;
        let dialect = [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini, DialectId::Responses]
            .into_iter()
            .find(|known| known.as_str().as_bytes() == dialect)?;
        let owner = String::from_utf8(text_of(&mut bytes)?.to_vec()).ok()?;
        let provider = HeaderValue::from_maybe_shared(text_of(&mut bytes)?).ok()?;
        let model = HeaderValue::from_maybe_shared(text_of(&mut bytes)?).ok()?;
        let tags = match is_tagged {
            true => Some(Arc::from(std::str::from_utf8(&text_of(&mut bytes)?).ok()?)),
            false => None,
        };
        let owner = owner.into();
        let entry = match (kind, status) {
            (UNARY, _) => Entry::unary(dialect, owner, bytes, provider, model),
            (STREAM, _) => Entry::stream(dialect, owner, bytes, provider, model),
            (_, Some(status)) => Entry::refusal(dialect, owner, (status, bytes), provider, model),
            _ => return None,
        };
        Some(Entry::tagged(entry, tags))
    }
}

/// Appends a text behind its length; one that is too long is cut, which the header values never are.
fn text_to(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..usize::from(u16::MAX)).unwrap_or(text);
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

fn text_of(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::from(u16::from_be_bytes(*bytes.first_chunk()?));
    if bytes.len() < 2 + length {
        return None;
    }
    let _ = bytes.split_to(2);
    Some(bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_is_read_as_it_was_written() {
        let header = HeaderValue::from_static;
        let dialects = [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini, DialectId::Responses];
        for (dialect, is_stream) in dialects.into_iter().flat_map(|one| [(one, false), (one, true)]) {
            let make = if is_stream { Entry::stream } else { Entry::unary };
            let body = Bytes::from_static(b"{\"a\":1}");
            let entry = make(dialect, "acme".into(), body, header("one"), header("m"));
            let mut bytes = Vec::new();
            AnswerCodec.write_value(&entry, &mut bytes);
            let read = AnswerCodec.read_value(bytes.into()).unwrap();
            assert_eq!(read.as_came(), entry.as_came());
            assert_eq!((read.dialect(), read.owner(), read.tag()), (dialect, "acme", "m"));
            assert_eq!((&read.provider, &read.model), (&entry.provider, &entry.model));
        }
    }

    #[test]
    fn a_refusal_and_tags_are_read_as_they_were_written() {
        let header = HeaderValue::from_static;
        let body = Bytes::from_static(b"no");
        let entry = Entry::refusal(DialectId::OpenAi, "acme".into(), (422, body), header("one"), header("m"));
        let entry = Entry::tagged(entry, Some("#a\n#b".into()));
        let mut bytes = Vec::new();
        AnswerCodec.write_value(&entry, &mut bytes);
        let read = AnswerCodec.read_value(bytes.into()).unwrap();
        assert_eq!((read.refused_with(), &read.origin()[..]), (Some(422), &b"no"[..]));
        assert_eq!(AnswerCodec.tags(&Fingerprint::from([0; 32]), &read), ["m", "#a", "#b"]);
    }

    #[test]
    fn secrets_are_not_shown_and_differ_by_purpose() {
        let second = SecondTier::new("redis://:canary@127.0.0.1", b"canary").unwrap();
        assert!(!format!("{second:?}").contains("canary"));
        assert_ne!(derived("a", b"canary"), derived("b", b"canary"));
    }

    proptest! {
        #[test]
        fn r07_rubbish_is_no_answer_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(AnswerCodec.read_value(bytes.into()).is_none());
        }
    }
}
