//! The tier itself: look-ups, writes, leases.

use std::{
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fred::{
    error::{Error, ErrorKind},
    interfaces::{KeysInterface, LuaInterface},
    types::{Expiration, SetOptions, Value},
};
use tokio::task::JoinSet;

use super::{
    connect::{Asked, Connected},
    names::Names,
    purge,
    settings::RedisSettings,
    tracking::{self, Tracking},
};
use crate::{
    codec::Codec,
    envelope::Flaw,
    error::{SettingsError, TierError},
    item::Item,
    memory::Put,
    parcel::{Bounds, Parcels},
    purge::Purge,
    sketch::Dice,
    stats::TierSnapshot,
    tier::{Change, Changes, Hit, Lease, Tier},
};

/// A tier in Redis. It has no deadlines of its own: put it behind [`Guarded`](crate::Guarded).
///
/// A value is sealed together with its key and its expiry: whoever does not know the secret can neither read nor make
/// one. It is a miss unless all of them stand the check. Values larger than allowed are not written, and not read
/// either: no more than the largest allowed is asked for.
///
/// Of Redis it needs `GETRANGE`, `SET`, `UNLINK` and `SCAN`; `CLIENT TRACKING` for changes by others; and
/// `EVAL` where leases are used.
pub struct RedisTier<K, V> {
    settings: RedisSettings,
    parcels: Parcels<K, V>,
    names: Names,
    readers: Vec<Arc<Connected>>,
    next: AtomicUsize,
    writer: Arc<Connected>,
    tracking: Arc<Tracking>,
    task: OnceLock<std::sync::Mutex<JoinSet<()>>>,
    dice: Dice,
}

/// Gives a lease back, if it is still held. `EVAL`, not `EVALSHA`: a script cache can be lost.
const RELEASE: &str =
    "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

/// The longest key that is written.
const MAX_KEY: usize = 1024;

impl<K, V> RedisTier<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// A tier that connects in the background, in the runtime in which this is called. It never fails
    /// because Redis is not there. `name` is what metrics call it.
    pub fn start(
        name: &'static str,
        settings: RedisSettings,
        codec: impl Codec<K, V>,
    ) -> Result<Self, SettingsError> {
        settings.validate()?;
        let unusable = |_: Error| SettingsError { field: "url", want: "one that a client can be made of" };
        let readers = (0..settings.readers)
            .map(|_| Connected::start(&settings).map(Arc::new).map_err(unusable))
            .collect::<Result<Vec<_>, _>>()?;
        let writer = Connected::start(&settings).map(Arc::new).map_err(unusable)?;
        let RedisSettings { secret, compress_over, max_value, .. } = settings;
        let bounds = Bounds { compress_over, max_value };
        Ok(Self {
            names: Names::new(&settings.prefix),
            parcels: Parcels::new(name, codec, secret, bounds),
            settings,
            readers,
            next: AtomicUsize::new(0),
            writer,
            tracking: Arc::default(),
            task: OnceLock::new(),
            dice: Dice::new(),
        })
    }

    /// The readers take turns; one that is not connected is passed over.
    fn reader(&self) -> Result<Asked<'_>, TierError> {
        let next = self.next.fetch_add(1, Relaxed) % self.readers.len().max(1);
        let (before, from) = self.readers.split_at_checked(next).unwrap_or_default();
        from.iter().chain(before).chain([&self.writer]).find_map(|it| it.ask()).ok_or_else(not_connected)
    }

    fn writer(&self) -> Result<Asked<'_>, TierError> {
        self.writer.ask().ok_or_else(not_connected)
    }

    async fn set(&self, key: K, entry: Hit<Item<V>>, only: Option<SetOptions>) -> Result<Put, TierError> {
        let written = self.parcels.key(&key);
        let millis = i64::try_from(entry.remaining.as_millis()).unwrap_or(i64::MAX);
        if written.len() > MAX_KEY {
            return Ok(Put::Refused);
        }
        let packed = self.parcels.pack(&key, &written, &entry).filter(|_| millis > 0);
        let name = self.names.entry(&written);
        let writer = self.writer()?;
        let Some(packed) = packed else {
            if only.is_none() {
                let gone = writer.quick.unlink::<(), _>(name);
                gone.await.map_err(|error| writer.failed(error))?;
            }
            return Ok(Put::Refused);
        };
        let value = Value::Bytes(packed.into());
        let set = writer.quick.set(name, value, Some(Expiration::PX(millis)), only, false);
        let set: Option<String> = set.await.map_err(|error| writer.failed(error))?;
        Ok(if set.is_some() { Put::Stored } else { Put::Refused })
    }

    /// Counts a value that does not stand the check, and deletes it.
    async fn flawed(&self, written: &[u8], flaw: Flaw) {
        self.parcels.bad(flaw);
        if flaw.is_to_be_deleted() {
            let _ = self.writer.quick.unlink::<(), _>(self.names.entry(written)).await;
        }
    }
}

impl<K, V> Tier<K, Item<V>> for RedisTier<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn get(&self, key: &K, _: Instant) -> Result<Option<Hit<Item<V>>>, TierError> {
        let written = self.parcels.key(key);
        let name = self.names.entry(&written);
        // Not GET: Redis itself cuts off what is larger than any value of ours.
        let most = self.parcels.largest();
        let reader = self.reader()?;
        let flaw = match reader.untimed.getrange::<Option<Bytes>, _>(name, 0, most).await {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) if bytes.is_empty() => return Ok(None),
            Ok(Some(bytes)) => match self.parcels.unpack(&bytes, &written) {
                Ok(hit) => return Ok(Some(hit)),
                Err(flaw) => flaw,
            },
            Err(error) if purge::is_no_string(&error) => Flaw::Value,
            Err(error) => return Err(reader.failed(error)),
        };
        // In a box, so that what is rare does not make every look-up's future larger.
        Box::pin(self.flawed(&written, flaw)).await;
        Ok(None)
    }

    async fn store(&self, key: K, entry: Hit<Item<V>>, _: Instant) -> Result<Put, TierError> {
        self.set(key, entry, None).await
    }

    async fn add(&self, key: K, entry: Hit<Item<V>>, _: Instant) -> Result<Put, TierError> {
        self.set(key, entry, Some(SetOptions::NX)).await
    }

    async fn remove(&self, key: &K) -> Result<bool, TierError> {
        let key = self.parcels.key(key).into_boxed_slice();
        purge::remove(&self.writer.quick, &self.names, key).await.map_err(unavailable)
    }

    async fn purge(&self, purge: &Purge) -> Result<u64, TierError> {
        purge::purge(&self.writer.client, &self.names, purge).await.map_err(unavailable)
    }

    fn watch(&self, changes: Changes<K>) {
        if !self.settings.tracking {
            return;
        }
        let Some(prober) = self.readers.first() else { return };
        changes(Change::Lost);
        let work = tracking::Work {
            writer: self.writer.clone(),
            prober: prober.clone(),
            names: self.names.clone(),
            codec: self.parcels.codec().clone(),
            changes,
            state: self.tracking.clone(),
            proof: self.settings.proof,
            id: self.dice.number(),
        };
        let tasks = self.task.get_or_init(Default::default);
        tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(work.run());
    }

    async fn lease(&self, key: &K, ttl: Duration) -> Result<Lease, TierError> {
        let token = self.dice.number();
        let name = self.names.lease(&self.parcels.key(key));
        let expires = Expiration::PX(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1));
        let token_text = format!("{token:016x}");
        let writer = self.writer()?;
        let set = writer.quick.set(name, token_text, Some(expires), Some(SetOptions::NX), false);
        let set: Option<String> = set.await.map_err(|error| writer.failed(error))?;
        Ok(if set.is_some() { Lease::Granted(token) } else { Lease::Taken })
    }

    async fn release(&self, key: &K, token: u64) -> Result<(), TierError> {
        let name = self.names.lease(&self.parcels.key(key));
        self.writer
            .quick
            .eval::<(), _, _, _>(RELEASE, name, format!("{token:016x}"))
            .await
            .map_err(unavailable)
    }

    fn snapshot(&self, now: Instant) -> TierSnapshot {
        let up = self.writer.is_up() && self.readers.iter().any(|reader| reader.is_up());
        TierSnapshot::unknown("redis", now).connected(up, self.parcels.flawed())
    }
}

fn not_connected() -> TierError {
    TierError::Unavailable("not connected".into())
}

/// What an error of Redis means to a cache.
pub(super) fn unavailable(error: Error) -> TierError {
    match error.kind() {
        ErrorKind::Auth => TierError::Denied,
        ErrorKind::Timeout => TierError::Timeout,
        _ if error.details().starts_with("OOM") => TierError::Full,
        _ => TierError::Unavailable(Box::new(error)),
    }
}
