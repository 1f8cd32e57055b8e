//! The tier itself: look-ups, writes, leases.

use std::{
    sync::{
        Arc, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::{ClientLike, KeysInterface, LuaInterface},
    types::{Expiration, Key, SetOptions, Value},
};
use tokio::task::JoinSet;

use super::{
    connect::Connected,
    names::Names,
    purge,
    settings::RedisSettings,
    tracking::{self, Tracking},
};
use crate::{
    codec::{Codec, SharedCodec},
    envelope::{Flaw, Packing, Stamp},
    error::{SettingsError, TierError},
    item::Item,
    labels::write_labels,
    memory::Put,
    metrics::CheckMetrics,
    purge::Purge,
    sketch::Dice,
    stats::TierSnapshot,
    tier::{Change, Changes, Hit, Lease, Tier},
};

/// A tier in Redis. It has no deadlines of its own: put it behind [`Guarded`](crate::Guarded).
///
/// A value is packed with its key, its expiry and a keyed checksum, and is a miss unless all of them
/// stand the check. Values larger than allowed are not written, and not read either: no more than the
/// largest allowed is asked for.
///
/// Of Redis it needs `GETRANGE`, `SET`, `UNLINK` and `SCAN`; `CLIENT TRACKING` for changes by others; and
/// `EVAL` where leases are used.
pub struct RedisTier<K, V> {
    settings: Arc<RedisSettings>,
    codec: SharedCodec<K, V>,
    names: Names,
    readers: Vec<Connected>,
    next: AtomicUsize,
    writer: Connected,
    tracking: Arc<Tracking>,
    task: OnceLock<std::sync::Mutex<JoinSet<()>>>,
    flaws: CheckMetrics,
    flawed: AtomicU64,
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
            .map(|_| Connected::start(&settings).map_err(unusable))
            .collect::<Result<Vec<_>, _>>()?;
        let writer = Connected::start(&settings).map_err(unusable)?;
        Ok(Self {
            names: Names::new(&settings.prefix),
            settings: Arc::new(settings),
            codec: Arc::new(codec),
            readers,
            next: AtomicUsize::new(0),
            writer,
            tracking: Arc::default(),
            task: OnceLock::new(),
            flaws: CheckMetrics::new(name),
            flawed: AtomicU64::new(0),
            dice: Dice::new(),
        })
    }

    fn packing(&self) -> Packing<'_> {
        Packing {
            secret: &self.settings.secret,
            compress_over: self.settings.compress_over,
            max_value: self.settings.max_value,
        }
    }

    /// The readers take turns; one that is not connected is passed over.
    fn reader(&self) -> &WithOptions<Client> {
        let next = self.next.fetch_add(1, Relaxed) % self.readers.len().max(1);
        let (before, from) = self.readers.split_at_checked(next).unwrap_or_default();
        let connected = from.iter().chain(before).find(|reader| reader.client.is_connected());
        &connected.unwrap_or(&self.writer).quick
    }

    fn written(&self, key: &K) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        self.codec.write_key(key, &mut bytes);
        bytes
    }

    /// Counts a value that does not stand the check, and deletes it.
    async fn flawed(&self, name: Key, flaw: Flaw) {
        self.flaws.bad(flaw);
        self.flawed.fetch_add(1, Relaxed);
        if flaw.is_to_be_deleted() {
            let _ = self.writer.quick.unlink::<(), _>(name).await;
        }
    }

    fn open(&self, bytes: &Bytes, key: &[u8]) -> Result<Hit<Item<V>>, Flaw> {
        let now = SystemTime::now();
        let (stamp, value) = self.packing().open(bytes, key, now)?;
        let value = self.codec.read_value(value).ok_or(Flaw::Value)?;
        Ok(Hit {
            value: Item::from_parts(value, stamp.times),
            // A clock that runs ahead elsewhere makes a value young, never negative.
            age: now.duration_since(stamp.created).unwrap_or_default(),
            remaining: stamp.expires.duration_since(now).unwrap_or_default(),
        })
    }

    fn seal(&self, key: &[u8], labels: &[u8], entry: &Hit<Item<V>>) -> Option<Vec<u8>> {
        let now = SystemTime::now();
        let stamp = Stamp {
            created: now.checked_sub(entry.age)?,
            expires: now.checked_add(entry.remaining)?,
            times: entry.value.times,
        };
        let mut value = Vec::new();
        self.codec.write_value(&entry.value.value, &mut value);
        self.packing().seal(&stamp, key, labels, &value)
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
        let written = self.written(key);
        let name = self.names.entry(&written);
        // Not GET: Redis itself cuts off what is larger than any value of ours.
        let most = self.packing().max_envelope();
        let bytes = match self.reader().getrange::<Option<Bytes>, _>(name.clone(), 0, most).await {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) if error.details().starts_with("WRONGTYPE") => {
                self.flawed(name, Flaw::Value).await;
                return Ok(None);
            }
            Err(error) => return Err(unavailable(error)),
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        match self.open(&bytes, &written) {
            Ok(hit) => Ok(Some(hit)),
            Err(flaw) => {
                self.flawed(name, flaw).await;
                Ok(None)
            }
        }
    }

    async fn store(&self, key: K, entry: Hit<Item<V>>, _: Instant) -> Result<Put, TierError> {
        let written = self.written(&key);
        let millis = i64::try_from(entry.remaining.as_millis()).unwrap_or(i64::MAX);
        if written.len() > MAX_KEY || millis == 0 {
            return Ok(Put::Refused);
        }
        let labels = write_labels(&*self.codec, &key, &entry.value.value);
        let Some(sealed) = self.seal(&written, &labels, &entry) else { return Ok(Put::Refused) };
        let name = self.names.entry(&written);
        let value = Value::Bytes(sealed.into());
        self.writer
            .quick
            .set::<(), _, _>(name, value, Some(Expiration::PX(millis)), None, false)
            .await
            .map_err(unavailable)?;
        Ok(Put::Stored)
    }

    async fn remove(&self, key: &K) -> Result<bool, TierError> {
        let name = self.names.entry(&self.written(key));
        let gone: i64 = self.writer.quick.unlink(name).await.map_err(unavailable)?;
        Ok(gone > 0)
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
            client: self.writer.client.clone(),
            prober: prober.quick.clone(),
            names: self.names.clone(),
            codec: self.codec.clone(),
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
        let name = self.names.lease(&self.written(key));
        let expires = Expiration::PX(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1));
        let token_text = format!("{token:016x}");
        let set: Option<String> = self
            .writer
            .quick
            .set(name, token_text, Some(expires), Some(SetOptions::NX), false)
            .await
            .map_err(unavailable)?;
        Ok(if set.is_some() { Lease::Granted(token) } else { Lease::Taken })
    }

    async fn release(&self, key: &K, token: u64) -> Result<(), TierError> {
        let name = self.names.lease(&self.written(key));
        self.writer
            .quick
            .eval::<(), _, _, _>(RELEASE, name, format!("{token:016x}"))
            .await
            .map_err(unavailable)
    }

    fn snapshot(&self, now: Instant) -> TierSnapshot {
        let up = self.writer.client.is_connected() && self.readers.iter().any(|it| it.client.is_connected());
        TierSnapshot::unknown("redis", now).connected(up, self.flawed.load(Relaxed))
    }
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
