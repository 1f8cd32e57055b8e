//! The tier itself.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use super::store::Store;
use crate::{
    codec::Codec,
    envelope::Flaw,
    error::{SettingsError, TierError},
    item::Item,
    labels::has,
    memory::Put,
    metrics::SizeMetrics,
    parcel::{Bounds, Parcels},
    purge::Purge,
    stats::TierSnapshot,
    tier::{Hit, Tier},
};

/// Where the file is, and how much it may hold.
#[derive(Clone)]
pub struct DiskSettings {
    /// The file. One process uses it at a time.
    pub path: PathBuf,
    /// Bytes of entries; the file itself is somewhat larger.
    pub max_bytes: u64,
    /// The largest value kept, before compression. Default 1 MiB.
    pub max_value: usize,
    /// Values of so many bytes are compressed. Default 1 KiB.
    pub compress_over: usize,
    /// What values are sealed under.
    secret: [u8; 32],
}

impl DiskSettings {
    /// Settings with the defaults. Values are sealed under `secret`: the same at every start.
    pub fn new(path: impl Into<PathBuf>, max_bytes: u64, secret: [u8; 32]) -> Self {
        Self { path: path.into(), max_bytes, max_value: 1 << 20, compress_over: 1 << 10, secret }
    }

    /// Checks the ranges; the error names the field.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let wrong = |field, want| Err(SettingsError { field, want });
        if self.path.as_os_str().is_empty() {
            return wrong("path", "the name of a file");
        }
        if self.max_bytes < 1 << 20 {
            return wrong("max_bytes", "at least 1 MiB");
        }
        if self.max_value == 0 || self.max_value as u64 > self.max_bytes / 4 {
            return wrong("max_value", "above zero and at most a quarter of max_bytes");
        }
        Ok(())
    }
}

impl fmt::Debug for DiskSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskSettings")
            .field("path", &self.path)
            .field("max_bytes", &self.max_bytes)
            .field("max_value", &self.max_value)
            .field("compress_over", &self.compress_over)
            .finish_non_exhaustive()
    }
}

/// Why there is no tier in a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A setting is out of range.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Another process has the file open.
    #[error("the file is in use by another process")]
    InUse,
    /// The file cannot be opened or made.
    #[error("the file cannot be opened")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A tier in a file. Every operation runs on a thread of its own (tokio's blocking pool). It has no
/// deadlines: put it behind [`Guarded`](crate::Guarded), for disks can be slow.
///
/// A value is sealed together with its key and its expiry: whoever does not know the secret can neither read nor make
/// one. It is a miss unless all of them stand the check. When it is full, what came first goes.
pub struct DiskTier<K, V> {
    max_bytes: u64,
    parcels: Parcels<K, V>,
    store: Arc<Store>,
    evicted: AtomicU64,
    sizes: SizeMetrics,
    name: &'static str,
}

impl<K, V> DiskTier<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Opens the file and reads all of it once, to see that it is whole. One that is not is moved aside, to
    /// the same name with `.damaged` behind it, and the tier begins empty: a cache is never a reason not
    /// to start.
    pub fn open(
        name: &'static str,
        settings: DiskSettings,
        codec: impl Codec<K, V>,
    ) -> Result<Self, DiskError> {
        settings.validate()?;
        let store = opened(&settings)?;
        let DiskSettings { max_bytes, max_value, compress_over, secret, .. } = settings;
        Ok(Self {
            max_bytes,
            parcels: Parcels::new(name, codec, secret, Bounds { compress_over, max_value }),
            store: Arc::new(store),
            evicted: AtomicU64::new(0),
            sizes: SizeMetrics::new(name),
            name,
        })
    }
}

/// A file that is damaged, or that a panic of redb's says is, is moved aside once.
fn opened(settings: &DiskSettings) -> Result<Store, DiskError> {
    let first = attempt(settings);
    let why = match first {
        Ok(store) => return Ok(store),
        Err(redb::Error::DatabaseAlreadyOpen) => return Err(DiskError::InUse),
        Err(redb::Error::Io(error)) if !is_damage(&error) => {
            return Err(DiskError::Unusable(Box::new(error)));
        }
        Err(why) => why,
    };
    let aside = aside(&settings.path);
    tracing::warn!(path = %settings.path.display(), aside = %aside.display(), %why, "a cache file is damaged: it is moved aside");
    std::fs::rename(&settings.path, &aside).map_err(|error| DiskError::Unusable(Box::new(error)))?;
    attempt(settings).map_err(|error| DiskError::Unusable(Box::new(error)))
}

fn attempt(settings: &DiskSettings) -> Result<Store, redb::Error> {
    let open = || Store::open(&settings.path, settings.max_bytes);
    std::panic::catch_unwind(open)
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("opening it panicked".to_owned())))
}

/// What a file that is no database, or half of one, is told to be.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    name.into()
}

/// Runs an operation on a thread that may wait. A panic in it is an error like any other.
async fn aside_of<R: Send + 'static>(
    store: &Arc<Store>,
    work: impl FnOnce(&Store) -> Result<R, redb::Error> + Send + 'static,
) -> Result<R, TierError> {
    let store = store.clone();
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(result) => result.map_err(|error| TierError::Unavailable(Box::new(error))),
        Err(error) => Err(TierError::Unavailable(Box::new(error))),
    }
}

impl<K, V> Tier<K, Item<V>> for DiskTier<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    async fn get(&self, key: &K, _: Instant) -> Result<Option<Hit<Item<V>>>, TierError> {
        let written = self.parcels.key(key);
        let wanted = written.clone();
        let Some(bytes) = aside_of(&self.store, move |store| store.get(&wanted)).await? else {
            return Ok(None);
        };
        match self.parcels.unpack(&bytes, &written) {
            Ok(hit) => Ok(Some(hit)),
            Err(flaw) => {
                if flaw != Flaw::Expired {
                    self.parcels.bad(flaw);
                }
                // Nobody waits for the disk because of it.
                aside_of(&self.store, move |store| store.remove(&[written], false)).await?;
                Ok(None)
            }
        }
    }

    async fn store(&self, key: K, entry: Hit<Item<V>>, _: Instant) -> Result<Put, TierError> {
        let written = self.parcels.key(&key);
        let packed = self.parcels.pack(&key, &written, &entry).filter(|_| !entry.remaining.is_zero());
        let Some(packed) = packed else {
            aside_of(&self.store, move |store| store.remove(&[written], false)).await?;
            return Ok(Put::Refused);
        };
        let done = aside_of(&self.store, move |store| store.put(&written, &packed)).await?;
        self.evicted.fetch_add(done.evicted, Relaxed);
        Ok(Put::Stored)
    }

    async fn remove(&self, key: &K) -> Result<bool, TierError> {
        let written = self.parcels.key(key);
        Ok(aside_of(&self.store, move |store| store.remove(&[written], true)).await? > 0)
    }

    async fn purge(&self, purge: &Purge) -> Result<u64, TierError> {
        let purge = purge.clone();
        aside_of(&self.store, move |store| {
            store.retain(|key, envelope| match &purge {
                Purge::All => true,
                Purge::Key(wanted) => key == &**wanted,
                Purge::Prefix(prefix) => key.starts_with(prefix),
                Purge::Scope(_) | Purge::Tag(_) => has(envelope, &purge),
            })
        })
        .await
    }

    async fn sync(&self) -> Result<(), TierError> {
        aside_of(&self.store, Store::sync).await
    }

    fn snapshot(&self, now: Instant) -> TierSnapshot {
        let mut seen = TierSnapshot::unknown(self.name, now);
        let sizes = self.store.sizes();
        (seen.entries, seen.bytes) = *sizes.as_ref().unwrap_or(&(0, 0));
        seen.capacity_bytes = self.max_bytes;
        seen.flawed = self.parcels.flawed();
        seen.evictions.room = self.evicted.load(Relaxed);
        if sizes.is_err() {
            (seen.up, seen.why_down) = (false, Some("the file cannot be read"));
        }
        seen
    }

    fn publish(&self, now: Instant) {
        let seen = Tier::snapshot(self, now);
        self.sizes.publish(seen.entries, seen.bytes, seen.capacity_bytes);
    }
}

impl<K, V> Drop for DiskTier<K, V> {
    fn drop(&mut self) {
        if let Err(error) = self.store.sync() {
            tracing::warn!(%error, "the last entries of a cache file were not made durable");
        }
    }
}
