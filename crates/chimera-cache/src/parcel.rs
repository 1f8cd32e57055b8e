//! Entries as the bytes that a tier outside this process holds, and back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use crate::{
    codec::{Codec, SharedCodec},
    envelope::{Flaw, Packing, Stamp},
    item::Item,
    labels::write_labels,
    metrics::CheckMetrics,
    seal::Sealer,
    tier::Hit,
};

/// Bounds in bytes.
pub(crate) struct Bounds {
    pub(crate) compress_over: usize,
    pub(crate) max_value: usize,
}

/// Packs the entries of one tier, checks what comes back, and counts what does not stand the check.
pub(crate) struct Parcels<K, V> {
    codec: SharedCodec<K, V>,
    sealer: Sealer,
    bounds: Bounds,
    flaws: CheckMetrics,
    flawed: AtomicU64,
}

impl<K: 'static, V: 'static> Parcels<K, V> {
    /// `name` is what metrics call the tier; `secret` is what its values are sealed under.
    pub(crate) fn new(name: &'static str, codec: impl Codec<K, V>, secret: [u8; 32], bounds: Bounds) -> Self {
        Self {
            codec: Arc::new(codec),
            sealer: Sealer::new(secret),
            bounds,
            flaws: CheckMetrics::new(name),
            flawed: AtomicU64::new(0),
        }
    }

    fn packing(&self) -> Packing<'_> {
        let Bounds { compress_over, max_value } = self.bounds;
        Packing { sealer: &self.sealer, compress_over, max_value }
    }

    /// A key as bytes.
    pub(crate) fn key(&self, key: &K) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        self.codec.write_key(key, &mut bytes);
        bytes
    }

    /// An entry as bytes; `None` when it is larger than allowed. `written` is its key as bytes.
    pub(crate) fn pack(&self, key: &K, written: &[u8], entry: &Hit<Item<V>>) -> Option<Vec<u8>> {
        let now = SystemTime::now();
        let stamp = Stamp {
            created: now.checked_sub(entry.age)?,
            expires: now.checked_add(entry.remaining)?,
            times: entry.value.times,
        };
        let mut value = Vec::new();
        self.codec.write_value(&entry.value.value, &mut value);
        let labels = write_labels(&*self.codec, key, &entry.value.value);
        self.packing().seal(&stamp, written, &labels, &value)
    }

    /// An entry from bytes that are believed to be those of the key.
    pub(crate) fn unpack(&self, bytes: &[u8], written: &[u8]) -> Result<Hit<Item<V>>, Flaw> {
        let now = SystemTime::now();
        let (stamp, value) = self.packing().open(bytes, written, now)?;
        let value = self.codec.read_value(value).ok_or(Flaw::Value)?;
        Ok(Hit {
            value: Item::from_parts(value, stamp.times),
            // A clock that runs ahead elsewhere makes a value young, never negative.
            age: now.duration_since(stamp.created).unwrap_or_default(),
            // Nor does it make it last longer than it was to.
            remaining: stamp.expires.duration_since(now.max(stamp.created)).unwrap_or_default(),
        })
    }

    /// Counts bytes that did not stand the check.
    pub(crate) fn bad(&self, flaw: Flaw) {
        self.flaws.bad(flaw);
        self.flawed.fetch_add(1, Relaxed);
    }

    /// How many did not.
    pub(crate) fn flawed(&self) -> u64 {
        self.flawed.load(Relaxed)
    }
}

#[cfg(feature = "redis")]
impl<K: 'static, V: 'static> Parcels<K, V> {
    /// The largest envelope of a value that is allowed.
    pub(crate) fn largest(&self) -> usize {
        self.packing().max_envelope()
    }

    pub(crate) fn codec(&self) -> &SharedCodec<K, V> {
        &self.codec
    }
}
