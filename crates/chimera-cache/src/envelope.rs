//! A value as it lies in a tier that others can write to, and every check on the way back.
//!
//! ```text
//! schema 1 · flags 1 · created 8 · expires 8 · ttl 4 · stale 4 · error 4 · cost 4
//! · key length 2 · labels length 2 · value length 4 · name of the message 28      (all big-endian)
//! · key · labels · value, compressed or not, encrypted · tag 16
//! ```
//! It is sealed ([`Sealer`]): whoever can read the tier and does not know the secret learns key, labels and times,
//! and no value; and who can write to it cannot make a value that is believed, nor move one to another key, nor let
//! one live longer.

use std::{
    cell::RefCell,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use crate::{
    item::{Item, Times},
    seal::{NAME, Sealer, TAG},
};

/// The version of this layout. Its number is part of the names in the tier too, so that two versions
/// live side by side.
pub(crate) const SCHEMA: u8 = 3;

const HEAD: usize = 42 + NAME;
const COMPRESSED: u8 = 1;
const NEGATIVE: u8 = 2;

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Written by another version.
    Version,
    /// Too short for what it says it holds, too long, or larger than allowed.
    Size,
    /// Not what was sealed, or not sealed by one of us.
    Checksum,
    /// Another key's.
    Key,
    /// Past its time, though the tier still has it.
    Expired,
    /// The codec cannot read it.
    Value,
}

impl Flaw {
    pub(crate) const ALL: [Self; 6] =
        [Self::Version, Self::Size, Self::Checksum, Self::Key, Self::Expired, Self::Value];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Size => "size",
            Self::Checksum => "checksum",
            Self::Key => "key",
            Self::Expired => "expired",
            Self::Value => "value",
        }
    }

    /// Whether the entry is to be deleted. Another version's is left to it; one that is past its time goes by itself,
    /// and for others, whose clocks may be right, it may not be.
    #[cfg(feature = "redis")]
    pub(crate) fn is_to_be_deleted(self) -> bool {
        !matches!(self, Self::Version | Self::Expired)
    }
}

/// What an envelope says besides its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// When it was made.
    pub(crate) created: SystemTime,
    /// When it is of no use any more.
    pub(crate) expires: SystemTime,
    pub(crate) times: Times,
}

/// How values are packed.
#[derive(Clone, Copy)]
pub(crate) struct Packing<'a> {
    pub(crate) sealer: &'a Sealer,
    /// Values of so many bytes are compressed, if that saves an eighth of them.
    pub(crate) compress_over: usize,
    /// The largest value, packed or not.
    pub(crate) max_value: usize,
}

/// What compression must save of a value, a part in so many. For less it is not worth unpacking at every hit.
const SAVED_PART: usize = 8;

/// Level 1: the tier is a network away, and the point is to be quick.
const ZSTD_LEVEL: i32 = 1;

thread_local! {
    // Making one takes several times as long as packing or unpacking a value of some kilobytes.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

fn compress(value: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|compressor| match compressor {
        Some(compressor) => compressor.compress(value),
        None => compressor.insert(Compressor::new(ZSTD_LEVEL)?).compress(value),
    })
}

/// `size` is the most that may come of it.
fn decompress(packed: &[u8], size: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|decompressor| match decompressor {
        Some(decompressor) => decompressor.decompress(packed, size),
        None => decompressor.insert(Decompressor::new()?).decompress(packed, size),
    })
}

impl Packing<'_> {
    /// The largest envelope of a value that is allowed.
    pub(crate) fn max_envelope(&self) -> usize {
        self.max_value.saturating_add(HEAD + TAG + 2 * usize::from(u16::MAX))
    }

    /// Packs a value; `None` when it is larger than allowed. `labels` are length-prefixed texts.
    pub(crate) fn seal(&self, stamp: &Stamp, key: &[u8], labels: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        if value.len() > self.max_value {
            return None;
        }
        let packed = (value.len() >= self.compress_over)
            .then(|| compress(value).ok())
            .flatten()
            .filter(|packed| packed.len() <= value.len() - value.len() / SAVED_PART);
        let body = packed.as_deref().unwrap_or(value);
        let mut flags = if packed.is_some() { COMPRESSED } else { 0 };
        if stamp.times.is_negative() {
            flags |= NEGATIVE;
        }
        let mut out = Vec::with_capacity(HEAD + key.len() + labels.len() + body.len() + TAG);
        out.push(SCHEMA);
        out.push(flags);
        out.extend_from_slice(&millis(stamp.created).to_be_bytes());
        out.extend_from_slice(&millis(stamp.expires).to_be_bytes());
        let Times { ttl, while_revalidate, if_error, .. } = stamp.times;
        for time in [ttl, while_revalidate, if_error, stamp.times.cost()] {
            out.extend_from_slice(&time.to_be_bytes());
        }
        out.extend_from_slice(&u16::try_from(key.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&u16::try_from(labels.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_be_bytes());
        let name = self.sealer.name()?;
        out.extend_from_slice(&name);
        out.extend_from_slice(key);
        out.extend_from_slice(labels);
        let front = out.len();
        out.extend_from_slice(body);
        let (front, body) = out.split_at_mut(front);
        let tag = self.sealer.seal(name, front, body)?;
        out.extend_from_slice(&tag);
        Some(out)
    }

    /// Unpacks and checks a value that is believed to be that of `key`.
    pub(crate) fn open(&self, bytes: &[u8], key: &[u8], now: SystemTime) -> Result<(Stamp, Bytes), Flaw> {
        if bytes.len() > self.max_envelope() {
            return Err(Flaw::Size);
        }
        let head = Head::read(bytes)?;
        let (content, tag) = bytes.split_last_chunk::<TAG>().ok_or(Flaw::Size)?;
        let (front, body) = content.split_at_checked(HEAD + head.key + head.labels).ok_or(Flaw::Size)?;
        // A copy of its own: what was read may be a slice of a larger buffer.
        let mut body = body.to_vec();
        if !self.sealer.open(head.name, front, &mut body, *tag) {
            return Err(Flaw::Checksum);
        }
        // From here on the bytes are some gateway's own, so a flaw is an accident or a replay.
        if front.get(HEAD..HEAD + head.key) != Some(key) {
            return Err(Flaw::Key);
        }
        if head.stamp.expires <= now {
            return Err(Flaw::Expired);
        }
        if head.is_compressed {
            if head.value > self.max_value {
                return Err(Flaw::Size);
            }
            body = decompress(&body, head.value).map_err(|_| Flaw::Size)?;
        }
        if body.len() == head.value { Ok((head.stamp, body.into())) } else { Err(Flaw::Size) }
    }
}

struct Head {
    stamp: Stamp,
    is_compressed: bool,
    key: usize,
    labels: usize,
    value: usize,
    /// Of the sealed message.
    name: [u8; NAME],
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Self, Flaw> {
        let (&schema, rest) = bytes.split_first().ok_or(Flaw::Size)?;
        if schema != SCHEMA {
            return Err(Flaw::Version);
        }
        let mut rest = rest.get(..HEAD - 1).ok_or(Flaw::Size)?;
        let flags = take::<1>(&mut rest)?[0];
        let created = u64::from_be_bytes(take(&mut rest)?);
        let expires = u64::from_be_bytes(take(&mut rest)?);
        let time = |rest: &mut _| take(rest).map(u32::from_be_bytes);
        let mut times = Times::new([time(&mut rest)?, time(&mut rest)?, time(&mut rest)?, time(&mut rest)?]);
        times.set_below(true);
        if flags & NEGATIVE != 0 {
            times.mark_negative();
        }
        let key = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let labels = usize::from(u16::from_be_bytes(take(&mut rest)?));
        let value = u32::from_be_bytes(take(&mut rest)?) as usize;
        let name = take(&mut rest)?;
        Ok(Self {
            name,
            stamp: Stamp { created: from_millis(created), expires: from_millis(expires), times },
            is_compressed: flags & COMPRESSED != 0,
            key,
            labels,
            value,
        })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Flaw> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(Flaw::Size)?;
    *bytes = rest;
    Ok(*taken)
}

/// How many bytes of an envelope hold its head, key and labels; zero when it cannot be read.
#[cfg(feature = "redis")]
pub(crate) fn labels_end(bytes: &[u8]) -> usize {
    Head::read(bytes).map_or(0, |head| HEAD + head.key + head.labels)
}

/// The labels of an envelope of which at least the front is at hand. They are not authenticated: good
/// enough for choosing what to delete.
pub(crate) fn labels(bytes: &[u8]) -> Option<&[u8]> {
    let head = Head::read(bytes).ok()?;
    bytes.get(HEAD + head.key..HEAD + head.key + head.labels)
}

/// So many bytes hold the head, the key and the labels of nearly every envelope.
#[cfg(feature = "redis")]
pub(crate) const FRONT: usize = 512;

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

impl<V> Item<V> {
    pub(crate) fn from_parts(value: V, times: Times) -> Self {
        Self { value, times }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn packing(sealer: &Sealer) -> Packing<'_> {
        Packing { sealer, compress_over: 64, max_value: 4096 }
    }

    fn seal(value: &[u8]) -> Option<Vec<u8>> {
        packing(&Sealer::new(SECRET)).seal(&stamp(), b"key", b"labels", value)
    }

    fn open(bytes: impl Into<Bytes>, key: &[u8], now: SystemTime) -> Result<(Stamp, Bytes), Flaw> {
        packing(&Sealer::new(SECRET)).open(&bytes.into(), key, now)
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn stamp() -> Stamp {
        let mut times = Times::new([60_000, 1, 2, 3]);
        times.mark_negative();
        times.set_below(true);
        Stamp { created: now(), expires: now() + Duration::from_secs(60), times }
    }

    fn sealed(value: &[u8]) -> Bytes {
        seal(value).unwrap().into()
    }

    fn flaw(bytes: impl Into<Bytes>) -> Flaw {
        open(bytes, b"key", now()).unwrap_err()
    }

    #[test]
    fn what_is_sealed_is_opened() {
        for value in [&b""[..], b"short", &[b'x'; 4096]] {
            let bytes = sealed(value);
            let (found, opened) = open(bytes.clone(), b"key", now()).unwrap();
            assert_eq!((found, &opened[..]), (stamp(), value));
            assert_eq!(labels(&bytes), Some(&b"labels"[..]));
        }
        assert!(sealed(&[b'x'; 4096]).len() < 300, "it is compressed");
        assert!(seal(&[0; 4097]).is_none(), "it is too large");
    }

    #[test]
    fn what_is_opened_holds_no_buffer_that_it_was_read_into() {
        let buffer: std::sync::Arc<[u8]> = sealed(b"short").to_vec().into();
        let (_, opened) = open(Bytes::from_owner(buffer.clone()), b"key", now()).unwrap();
        assert_eq!((&opened[..], std::sync::Arc::strong_count(&buffer)), (&b"short"[..], 1));
    }

    #[test]
    fn what_hardly_shrinks_is_kept_as_it_is() {
        // A sixteenth of it is zeros, the rest is noise.
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let value: Vec<u8> = (0..4096).map(|n| if n < 256 { 0 } else { noise() }).collect();
        let packed = compress(&value).unwrap();
        assert!(packed.len() < value.len() && packed.len() > value.len() * 7 / 8, "{}", packed.len());
        assert!(sealed(&value).len() > value.len());
    }

    #[test]
    fn r07_a_value_that_cannot_be_unpacked_spoils_none_that_follow() {
        let sealer = Sealer::new(SECRET);
        let (name, start) = (sealer.name().unwrap(), HEAD + b"keylabels".len());
        let mut broken = sealed(&[b'x'; 4096]).to_vec();
        let end = broken.len() - TAG;
        broken[HEAD - NAME..HEAD].copy_from_slice(&name);
        broken[start..end].fill(0xff);
        let (front, body) = broken[..end].split_at_mut(start);
        let tag = sealer.seal(name, front, body).unwrap();
        broken[end..].copy_from_slice(&tag);
        for _ in 0..3 {
            assert_eq!(flaw(broken.clone()), Flaw::Size);
            let (_, opened) = open(sealed(&[b'y'; 4096]), b"key", now()).unwrap();
            assert_eq!(opened, [b'y'; 4096][..]);
        }
    }

    #[test]
    fn r07_another_keys_value_is_refused() {
        assert_eq!(open(sealed(b"v"), b"kez", now()).unwrap_err(), Flaw::Key);
    }

    #[test]
    fn r07_a_value_written_without_the_secret_is_refused() {
        let other = packing(&Sealer::new([8; 32])).seal(&stamp(), b"key", b"", b"v");
        assert_eq!(flaw(other.unwrap()), Flaw::Checksum);
    }

    #[test]
    fn r08_another_version_is_a_miss_and_stays() {
        let mut bytes = sealed(b"v").to_vec();
        bytes[0] = SCHEMA + 1;
        assert_eq!(flaw(bytes), Flaw::Version);
        #[cfg(feature = "redis")]
        assert!(!Flaw::Version.is_to_be_deleted() && Flaw::Checksum.is_to_be_deleted());
    }

    #[test]
    fn r12_the_expiry_inside_holds() {
        let late = now() + Duration::from_secs(60);
        assert_eq!(open(sealed(b"v"), b"key", late).unwrap_err(), Flaw::Expired);
    }

    #[test]
    fn u20_a_bomb_is_not_blown_up() {
        let sealer = Sealer::new(SECRET);
        let open = Packing { max_value: 1 << 20, ..packing(&sealer) };
        let bomb = open.seal(&stamp(), b"key", b"", &vec![0; 1 << 20]).unwrap();
        assert!(bomb.len() < 1000);
        assert_eq!(flaw(bomb), Flaw::Size);
    }

    proptest! {
        #[test]
        fn r07_no_bit_can_be_flipped_and_no_byte_cut(value in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>(), bit in 0..8) {
            let bytes = sealed(&value);
            let mut flipped = bytes.to_vec();
            let place = at % flipped.len();
            flipped[place] ^= 1_u8 << bit;
            prop_assert!(open(flipped, b"key", now()).is_err());
            let cut = bytes.slice(..at % bytes.len());
            prop_assert!(open(cut, b"key", now()).is_err());
        }

        #[test]
        fn r07_rubbish_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = labels(&bytes);
            prop_assert!(open(bytes, b"key", now()).is_err());
        }
    }
}
