//! A tiered cache with one computation per key.
//!
//! [`TieredCache`] holds values in memory by weight in bytes and by time, with a second tier behind it that
//! several processes may share; [`get_or_load`](TieredCache::get_or_load) computes what neither has, once.
//! Its parts work apart too: [`MemoryTier`], [`Flights`], and any [`Tier`] of your own behind [`Guarded`].
//!
//! ```
//! use std::{sync::Arc, time::{Duration, Instant}};
//! use chimera_cache::{Item, Lifetime, MemorySettings, NoLabels, TieredCache, TieredSettings};
//!
//! let weigh = |key: &String, item: &Item<Arc<str>>| key.len() + item.value.len();
//! let settings = TieredSettings::new(MemorySettings::new("l1", 1 << 20, 64 << 10));
//! let cache = TieredCache::new(settings, NoLabels, weigh)?;
//! let now = Instant::now();
//! let item = Item::new(Arc::from("42"), Lifetime::fresh(Duration::from_secs(60)), Duration::ZERO);
//! cache.put("answer".to_owned(), item, None, now);
//! let found = cache.near(&"answer".to_owned(), now + Duration::from_secs(5)).expect("it is fresh");
//! assert_eq!((&*found.value, found.age), ("42", Duration::from_secs(5)));
//! # Ok::<(), chimera_cache::SettingsError>(())
//! ```
//!
//! # How it works
//! The near tier is quick_cache (S3-FIFO) with a lifetime kept beside each value. Its shards are chosen so
//! large that the largest entry fits, because a shard refuses what does not. The far tier is anything behind
//! [`Tier`]. What is found there goes up while there is room, and then at its second hit of late, so that a
//! scan pushes nothing out; what the near tier pushes out after it was used goes down, if the far tier has
//! not got it. Writes go down through a bounded queue that drops and counts.
//!
//! A flight has no task of its own: whoever of its followers is polled drives it, with one waker that wakes
//! them all. So a follower that leaves hands over without a word, and a slow one holds nobody up.
//!
//! # Guarantees
//! - **Freshness**: a value is fresh for its `ttl`, up to a tenth less; it is served beyond only within the
//!   bounds that its [`Lifetime`] gives, and then marked.
//! - **Coherence**: what another process writes or purges is dropped here when it is told. While it is not
//!   told, be it by one master of a cluster, the near tier is emptied, and keeps what it takes in meanwhile for 30 s at
//!   most; what is computed then goes no further down, for nobody knows whether it is of before a purge. A write that is
//!   queued when its key is purged is not done, and one that is under way is taken back. Where its key was written by
//!   others, or its old entry expired, it is done only where there is no entry.
//! - **Trust**: what lies in Redis or in a file is sealed (AES-256-GCM) under a secret. Who does not know it reads
//!   keys, labels and times, and no value; and a value is used only if version, key, expiry and seal stand.
//! - **Time**: no operation waits for a far tier beyond its deadline; a tier that is slow or fails is left
//!   alone, and asked now and then.
//! - **Cancellation**: every future may be dropped at any point. A computation goes on while anybody follows
//!   it; when the last is dropped, it is dropped at once. Renewals of stale values belong to the cache.
//! - **Memory**: the near tier's weight stays below its capacity; queue and logs are bounded.
//! - **Errors**: no error of a tier reaches a caller who looks or stores. An error of a computation reaches
//!   all that wait for it, and is not kept. A panic in it reaches the follower that drove it.
//!
//! # What it does not do
//! A purge does not wait until other processes have heard of it. A write to a far tier that was dropped or
//! failed is not tried again. The client of the Redis tier bounds neither the depth
//! nor the time of parsing an answer: give the tier a runtime of its own, on threads with a stack of
//! [`REDIS_STACK`], where the Redis or the way to it is not trusted. Callers then wait no longer than their
//! deadline, and an answer nested 100,000 deep is a miss; one nested ten times as deep still ends the process.
//!
//! # Features
//! `redis`: [`RedisTier`]; `disk`: [`DiskTier`]; both with the [`Codec`] they need.
#![cfg_attr(not(all(feature = "redis", feature = "disk")), allow(rustdoc::broken_intra_doc_links))]

#[cfg(any(feature = "redis", feature = "disk"))]
mod codec;
mod counters;
#[cfg(feature = "disk")]
mod disk;
#[cfg(any(feature = "redis", feature = "disk"))]
mod envelope;
mod error;
mod flight;
mod found;
mod guard;
mod guarded;
mod item;
#[cfg(any(feature = "redis", feature = "disk"))]
mod labels;
mod latency;
mod lease;
mod load;
mod memory;
mod metrics;
#[cfg(any(feature = "redis", feature = "disk"))]
mod parcel;
mod purge;
#[cfg(feature = "redis")]
mod redis;
#[cfg(any(feature = "redis", feature = "disk"))]
mod seal;
mod settings;
pub mod simulate;
mod sketch;
mod stats;
mod tier;
mod tiered;
mod writer;

#[cfg(any(feature = "redis", feature = "disk"))]
pub use codec::{Codec, SharedCodec, TextCodec};
#[cfg(feature = "disk")]
pub use disk::{DiskError, DiskSettings, DiskTier};
pub use error::{SettingsError, TierError};
pub use flight::{Flights, Interrupted, Role, Source, Subscription};
pub use found::{Found, Place};
pub use guard::{GuardSettings, GuardState};
pub use guarded::{Guarded, GuardedSettings};
pub use item::{Freshness, Item, Lifetime};
pub use lease::{HeldLease, Leased};
pub use load::{LoadError, Loaded};
pub use memory::{MemoryTier, Put};
pub use metrics::METRICS;
pub use purge::{Labels, NoLabels, Purge, SharedLabels};
#[cfg(feature = "redis")]
pub use redis::{REDIS_STACK, RedisSettings, RedisTier, RedisUrlError};
pub use settings::{FlightSettings, MemorySettings, TieredSettings, WritePolicy};
pub use stats::{Evictions, HitRate, OperationLatency, TierBreakers, TierSnapshot};
pub use tier::{Change, Changes, Hit, Lease, SharedTier, Tier};
pub use tiered::{Coherence, Ticket, TieredCache, TieredSnapshot};
pub use writer::WriteTotals;
