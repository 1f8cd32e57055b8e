//! What makes a value unreadable and unforgeable to all that do not know the secret.
//!
//! AES-256-GCM (NIST SP 800-38D), which must never see a nonce twice under one key. So no two writers share one: each
//! process draws a name of 16 bytes, its key is that name's under the secret (HKDF-SHA256, RFC 5869), and its nonces
//! are a count, before which stands the clock's nanosecond: an image of the process that is started twice counts on from
//! the same place in both. Readers make the keys of others from the names that stand with the values.

use std::{
    sync::{
        OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    rand::{SecureRandom, SystemRandom},
};

/// Bytes that tell a message from all others: its writer's name, and a nonce of that writer's.
pub(crate) const NAME: usize = WRITER + NONCE_LEN;
/// Bytes behind a message that prove where it comes from.
pub(crate) const TAG: usize = 16;

const WRITER: usize = 16;
/// Keys of other writers that are remembered; the rest is made anew, which takes a microsecond or two.
const REMEMBERED: usize = 64;
/// What the keys are for.
const PURPOSE: &[&[u8]] = &[b"chimera cache: a value of one writer"];

/// Seals and opens under one secret.
pub(crate) struct Sealer {
    secret: [u8; 32],
    own: OnceLock<Writer>,
    count: AtomicU64,
    others: RwLock<Vec<Writer>>,
}

struct Writer {
    name: [u8; WRITER],
    key: LessSafeKey,
}

impl Writer {
    fn new(secret: &[u8; 32], name: [u8; WRITER]) -> Option<Self> {
        let derived = Salt::new(HKDF_SHA256, &name).extract(secret);
        let key = UnboundKey::from(derived.expand(PURPOSE, &AES_256_GCM).ok()?);
        Some(Self { name, key: LessSafeKey::new(key) })
    }

    /// Decrypts in place.
    fn open(&self, nonce: [u8; NONCE_LEN], front: &[u8], body: &mut [u8], tag: [u8; TAG]) -> bool {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.open_in_place_separate_tag(nonce, Aad::from(front), Tag::from(tag), body, 0..).is_ok()
    }
}

impl Sealer {
    pub(crate) fn new(secret: [u8; 32]) -> Self {
        Self { secret, own: OnceLock::new(), count: AtomicU64::new(0), others: RwLock::default() }
    }

    /// The name of a message that is to be sealed; `None` where the system has no chance to give.
    pub(crate) fn name(&self) -> Option<[u8; NAME]> {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        let count = self.count.fetch_add(1, Relaxed);
        let mut name = [0; NAME];
        name[..WRITER].copy_from_slice(&self.own()?.name);
        name[WRITER..WRITER + 4].copy_from_slice(&nanos.to_be_bytes());
        name[WRITER + 4..].copy_from_slice(&count.to_be_bytes());
        Some(name)
    }

    fn own(&self) -> Option<&Writer> {
        if let Some(own) = self.own.get() {
            return Some(own);
        }
        let mut name = [0; WRITER];
        SystemRandom::new().fill(&mut name).ok()?;
        let writer = Writer::new(&self.secret, name)?;
        // Two threads at once: one of the two names is used by both.
        Some(self.own.get_or_init(|| writer))
    }

    /// Encrypts a body where it lies. `name` is one of [`name`](Self::name), used once; `front` is bound to the body
    /// and stays readable.
    pub(crate) fn seal(&self, name: [u8; NAME], front: &[u8], body: &mut [u8]) -> Option<[u8; TAG]> {
        let nonce = Nonce::assume_unique_for_key(split(name).1);
        let tag = self.own()?.key.seal_in_place_separate_tag(nonce, Aad::from(front), body).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts a body where it lies; false where it, its front or its name is not as it was sealed.
    pub(crate) fn open(&self, name: [u8; NAME], front: &[u8], body: &mut [u8], tag: [u8; TAG]) -> bool {
        let (writer, nonce) = split(name);
        if let Some(own) = self.own.get().filter(|own| own.name == writer) {
            return own.open(nonce, front, body, tag);
        }
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = others.iter().find(|known| known.name == writer) {
            return known.open(nonce, front, body, tag);
        }
        drop(others);
        let Some(found) = Writer::new(&self.secret, writer) else { return false };
        let is_opened = found.open(nonce, front, body, tag);
        if is_opened {
            self.remember(found);
        }
        is_opened
    }

    /// Only who has proved to know the secret is remembered: no flood of names pushes others out.
    fn remember(&self, writer: Writer) {
        let mut others = self.others.write().unwrap_or_else(PoisonError::into_inner);
        if others.iter().any(|known| known.name == writer.name) {
            return;
        }
        if others.len() >= REMEMBERED {
            others.remove(0);
        }
        others.push(writer);
    }
}

/// Writer and nonce.
fn split(name: [u8; NAME]) -> ([u8; WRITER], [u8; NONCE_LEN]) {
    let (mut writer, mut nonce) = ([0; WRITER], [0; NONCE_LEN]);
    writer.copy_from_slice(&name[..WRITER]);
    nonce.copy_from_slice(&name[WRITER..]);
    (writer, nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn sealed(sealer: &Sealer, text: &[u8]) -> ([u8; NAME], Vec<u8>, [u8; TAG]) {
        let (name, mut body) = (sealer.name().unwrap(), text.to_vec());
        let tag = sealer.seal(name, b"front", &mut body).unwrap();
        (name, body, tag)
    }

    fn opens(sealer: &Sealer, (name, body, tag): &([u8; NAME], Vec<u8>, [u8; TAG])) -> Option<Vec<u8>> {
        let mut body = body.clone();
        sealer.open(*name, b"front", &mut body, *tag).then_some(body)
    }

    #[test]
    fn what_one_process_seals_another_opens() {
        let (one, other) = (Sealer::new(SECRET), Sealer::new(SECRET));
        for text in [&b""[..], b"a", &[b'x'; 5000]] {
            let message = sealed(&one, text);
            assert_eq!(opens(&one, &message).as_deref(), Some(text));
            assert_eq!(opens(&other, &message).as_deref(), Some(text));
        }
        assert_eq!(opens(&Sealer::new([8; 32]), &sealed(&one, b"a")), None);
    }

    #[test]
    fn no_two_messages_have_one_name_and_none_shows_its_text() {
        let sealers = [Sealer::new(SECRET), Sealer::new(SECRET)];
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100 {
            for sealer in &sealers {
                let (name, body, _) = sealed(sealer, b"the same text, sixteen bytes and more");
                assert!(seen.insert(name) && !body.windows(4).any(|some| some == b"text"));
            }
        }
    }

    #[test]
    fn r07_a_front_of_its_own_is_asked_for() {
        let sealer = Sealer::new(SECRET);
        let (name, mut body, tag) = sealed(&sealer, b"text");
        assert!(!sealer.open(name, b"frond", &mut body, tag));
        let (other, ..) = sealed(&sealer, b"text");
        let (_, mut body, tag) = sealed(&sealer, b"text");
        assert!(!sealer.open(other, b"front", &mut body, tag), "one message's name on another");
    }

    #[test]
    fn names_that_prove_nothing_are_not_remembered_and_of_the_others_so_many() {
        let reader = Sealer::new(SECRET);
        for name in 0..=u8::MAX {
            assert!(!reader.open([name; NAME], b"front", &mut [0; 8], [0; TAG]));
        }
        assert_eq!(reader.others.read().unwrap().len(), 0);
        let messages: Vec<_> = (0..REMEMBERED + 9).map(|_| sealed(&Sealer::new(SECRET), b"a")).collect();
        for _ in 0..2 {
            assert!(messages.iter().all(|message| opens(&reader, message).is_some()));
            assert_eq!(reader.others.read().unwrap().len(), REMEMBERED);
        }
    }
}
