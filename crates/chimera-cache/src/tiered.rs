//! Two tiers as one cache: what goes up, what goes down, and what is trusted.

mod coherence;
mod known;
mod moves;

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub use coherence::Coherence;
pub use known::Ticket;
pub(crate) use known::{Known, Standing};

use crate::{
    error::{SettingsError, TierError},
    flight::Flights,
    found::{Found, Place},
    item::{Freshness, Item, Lifetime},
    load::Outcome,
    memory::{MemoryTier, Put, nanos},
    metrics::TieredMetrics,
    purge::{Labels, Purge, SharedLabels},
    settings::TieredSettings,
    sketch::{Dice, Sketch},
    stats::TierSnapshot,
    tier::{Hit, SharedTier, Tier},
    writer::{WriteTotals, Writer, store_below},
};

/// A cache of two tiers at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TieredSnapshot {
    /// The near tier.
    pub near: TierSnapshot,
    /// The far one, if there is one.
    pub far: Option<TierSnapshot>,
    /// Entries that went up.
    pub promoted: u64,
    /// Entries that went down when they were pushed out.
    pub demoted: u64,
    /// What became of writes to the far tier.
    pub writes: WriteTotals,
    /// Whether changes by others are told.
    pub coherence: Coherence,
    /// Times that the near tier was emptied because changes may have been missed.
    pub distrusted: u64,
    /// Stale values served while they were renewed.
    pub stale: u64,
    /// Stale values served because they could not be renewed.
    pub stale_on_error: u64,
    /// Values renewed before they expired.
    pub early: u64,
    /// Computations under way.
    pub flights: u64,
}

/// Keys of which the sketch for promotion keeps count.
const SKETCH_KEYS: usize = 1 << 16;

/// A cache of two tiers, one of them in memory, the other anywhere or nowhere. Clones share it.
///
/// A look-up asks the near tier, then the far one. What is found far goes up while the near tier has
/// room, and from then on at its second hit of late, so that a scan pushes nothing out. What is pushed
/// out of the near tier after having been used more than once goes down, if the far tier has not got it.
pub struct TieredCache<K, V>(pub(crate) Arc<Inner<K, V>>);

impl<K, V> Clone for TieredCache<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) struct Inner<K, V> {
    pub(crate) settings: TieredSettings,
    near: MemoryTier<K, Item<V>>,
    pub(crate) far: Option<Far<K, V>>,
    labels: SharedLabels<K, V>,
    pub(crate) known: Arc<Known>,
    tracked: AtomicBool,
    pub(crate) flights: Flights<K, Outcome<V>>,
    /// Look-ups in the far tier under way.
    pub(crate) looks: Flights<K, Option<Found<V>>>,
    pub(crate) renewing: Arc<tokio::sync::Semaphore>,
    pub(crate) tasks: std::sync::Mutex<tokio::task::JoinSet<()>>,
    pub(crate) counts: Counts,
    pub(crate) dice: Dice,
    metrics: TieredMetrics,
}

pub(crate) struct Far<K, V> {
    pub(crate) tier: SharedTier<K, Item<V>>,
    pub(crate) writer: Writer<K, Item<V>>,
    sketch: Sketch,
}

#[derive(Default)]
pub(crate) struct Counts {
    promoted: AtomicU64,
    demoted: AtomicU64,
    distrusted: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) stale_on_error: AtomicU64,
    pub(crate) early: AtomicU64,
}

impl<K, V> TieredCache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache with a near tier only. `weigh` says what a key and its value take on the heap.
    pub fn new(
        settings: TieredSettings,
        labels: impl Labels<K, V>,
        weigh: fn(&K, &Item<V>) -> usize,
    ) -> Result<Self, SettingsError> {
        Self::build(settings, Arc::new(labels), weigh, None)
    }

    /// A cache with a far tier. Its writes and renewals run as tasks of the runtime in which this is
    /// called, and end when the last clone is dropped.
    pub fn with_far(
        settings: TieredSettings,
        labels: impl Labels<K, V>,
        weigh: fn(&K, &Item<V>) -> usize,
        far: SharedTier<K, Item<V>>,
    ) -> Result<Self, SettingsError> {
        Self::build(settings, Arc::new(labels), weigh, Some(far))
    }

    fn build(
        settings: TieredSettings,
        labels: SharedLabels<K, V>,
        weigh: fn(&K, &Item<V>) -> usize,
        far: Option<SharedTier<K, Item<V>>>,
    ) -> Result<Self, SettingsError> {
        settings.validate()?;
        let near = MemoryTier::new(settings.near, weigh)?;
        let queue = (settings.queue_entries, settings.queue_bytes);
        let known = Arc::new(Known::new());
        let far = far.map(|tier| Far {
            writer: Writer::start(&tier, queue, weigh, &known),
            sketch: Sketch::new(SKETCH_KEYS),
            tier,
        });
        let inner = Arc::new(Inner {
            settings,
            near,
            far,
            labels,
            known,
            tracked: AtomicBool::new(false),
            flights: Flights::new(settings.flights, |_| size_of::<Outcome<V>>()),
            looks: Flights::new(settings.flights, |_| size_of::<Found<V>>()),
            renewing: Arc::new(tokio::sync::Semaphore::new(settings.renewals)),
            tasks: Default::default(),
            counts: Counts::default(),
            dice: Dice::new(),
            metrics: TieredMetrics::new(),
        });
        if let Some(far) = &inner.far {
            let weak = Arc::downgrade(&inner);
            far.tier.watch(Arc::new(move |change| {
                if let Some(inner) = weak.upgrade() {
                    inner.changed(change);
                }
            }));
        }
        Ok(Self(inner))
    }

    /// Looks in the near tier. This is the fast path: it waits for nothing.
    #[inline(always)]
    pub fn near(&self, key: &K, now: Instant) -> Option<Found<V>> {
        let (item, age) = self.0.near.get_aged(key, now)?;
        self.0.judge(item, age, Place::Near)
    }

    /// [`near`](Self::near) without a trace in the statistics: for a second look.
    pub fn peek(&self, key: &K, now: Instant) -> Option<Found<V>> {
        let hit = self.0.near.peek(key, now)?;
        self.0.judge(hit.value, nanos(hit.age), Place::Near)
    }

    /// Looks in the far tier, and moves up what is worth it.
    pub async fn far(&self, key: &K, now: Instant) -> Option<Found<V>> {
        let far = self.0.far.as_ref()?;
        let ticket = self.0.known.ticket(key);
        // An error is counted by the tier, and here a miss like any other.
        let mut hit = far.tier.get(key, now).await.ok().flatten()?;
        hit.value.times.set_below(true);
        // Counted first: to find out whether there is room is dearer, and needless at a second sight.
        if far.sketch.see(key) >= 2 || self.0.near.has_room() {
            self.0.promote(key, hit.clone(), ticket, now);
        }
        self.0.judge(hit.value, nanos(hit.age), Place::Far)
    }

    /// Looks in the near tier, then in the far one.
    pub async fn get(&self, key: &K, now: Instant) -> Option<Found<V>> {
        match self.near(key, now) {
            Some(found) => Some(found),
            None => self.far(key, now).await,
        }
    }

    /// Whether there is a far tier.
    pub fn has_far(&self) -> bool {
        self.0.far.is_some()
    }

    /// What is known of a key now, to be handed to [`put`](Self::put) with the value that is computed.
    pub fn ticket(&self, key: &K) -> Ticket {
        self.0.known.ticket(key)
    }

    /// Stores a value; nobody waits for the far tier. With a ticket, only if the key was not purged since; only below,
    /// and where there is no other, if its entry there was changed since or has expired; and only here, if changes by
    /// others were not told when the ticket was made. What it says is of the near tier.
    pub fn put(&self, key: K, item: Item<V>, ticket: Option<Ticket>, now: Instant) -> Put {
        let whole = item.lifetime().whole();
        self.0.put(key, Hit { value: item, age: Duration::ZERO, remaining: whole }, ticket, now, true)
    }

    /// Stores a value and waits for the far tier, within its deadline.
    pub async fn put_through(&self, key: K, mut item: Item<V>, ticket: Option<Ticket>, now: Instant) -> Put {
        let whole = item.lifetime().whole();
        let Some(far) = &self.0.far else { return self.put(key, item, ticket, now) };
        let ticket = ticket.unwrap_or_else(|| self.ticket(&key).of_now());
        if self.0.known.standing(ticket) == Standing::Void {
            return Put::Refused;
        }
        if !ticket.is_told() {
            return self.put(key, item, Some(ticket), now);
        }
        let entry = Hit { value: item.clone(), age: Duration::ZERO, remaining: whole };
        let below = store_below(&far.tier, &self.0.known, (key.clone(), entry), ticket, now).await;
        item.times.set_below(matches!(below, Ok(Put::Stored)));
        self.0.put(key, Hit { value: item, age: Duration::ZERO, remaining: whole }, Some(ticket), now, false)
    }

    /// A lifetime whose `ttl` is up to a tenth shorter, so that what was stored together does not expire
    /// together, and nothing is fresh for longer than was asked for.
    pub fn spread(&self, lifetime: Lifetime) -> Lifetime {
        lifetime.spread(self.0.dice.draw())
    }

    /// Counts an old value that a caller of [`near`](Self::near) or [`far`](Self::far) was given, as
    /// [`get_or_load`](Self::get_or_load) does by itself.
    pub fn served(&self, freshness: Freshness) {
        let counts = &self.0.counts;
        let count = match freshness {
            Freshness::RenewEarly => &counts.early,
            Freshness::WhileRevalidate => &counts.stale,
            Freshness::IfError => &counts.stale_on_error,
            Freshness::Fresh | Freshness::Expired => return,
        };
        count.fetch_add(1, Relaxed);
    }

    /// Weighs the value of a key in the near tier again, which has grown since it was stored.
    pub fn reweigh(&self, key: &K) {
        self.0.near.reweigh(key);
    }

    /// Forgets a key, in both tiers and in those of other processes.
    pub async fn remove(&self, key: &K) {
        self.0.remove_near(key);
        if let Some(far) = &self.0.far {
            far.writer.remove(key.clone()).await;
            // What was found below before it was removed there may have come up meanwhile.
            self.0.remove_near(key);
        }
    }

    /// Forgets a key as [`remove`](Self::remove) does, and waits for nothing: of a value that was computed anew and is not
    /// to be kept, the one before it is not to be kept either.
    pub fn forget(&self, key: &K) {
        self.0.remove_near(key);
        if let Some(far) = &self.0.far {
            far.writer.forget(key.clone());
        }
    }

    /// Forgets what is selected, in both tiers and in those of other processes, and says how many
    /// entries of each tier that were. What is being computed is not stored.
    pub async fn purge(&self, purge: &Purge) -> Result<(u64, u64), TierError> {
        let near = self.0.purge_near(purge);
        let Some(far) = &self.0.far else { return Ok((near, 0)) };
        // The writes that are queued have lost their tickets; the one under way is waited for.
        far.writer.flush().await;
        let purged = far.tier.purge(purge).await;
        // What was found below before it was purged there may have come up meanwhile.
        let late = self.0.purge_near(purge);
        Ok((near + late, purged?))
    }

    /// Waits until the writes that are queued are done, and outlast this process: for a clean end.
    pub async fn flush(&self) {
        if let Some(far) = &self.0.far {
            far.writer.flush().await;
            if let Err(error) = far.tier.sync().await {
                tracing::warn!(why = error.why(), "the far tier may lose its last entries");
            }
        }
    }

    /// All that can be seen of it.
    pub fn snapshot(&self, now: Instant) -> TieredSnapshot {
        let (inner, counts) = (&self.0, &self.0.counts);
        TieredSnapshot {
            near: inner.near.snapshot(now),
            far: inner.far.as_ref().map(|far| far.tier.snapshot(now)),
            promoted: counts.promoted.load(Relaxed),
            demoted: counts.demoted.load(Relaxed),
            writes: inner.far.as_ref().map(|far| far.writer.totals()).unwrap_or_default(),
            coherence: inner.coherence(),
            distrusted: counts.distrusted.load(Relaxed),
            stale: counts.stale.load(Relaxed),
            stale_on_error: counts.stale_on_error.load(Relaxed),
            early: counts.early.load(Relaxed),
            flights: inner.flights.len() as u64,
        }
    }

    /// Brings the metrics up to date. Call it about once a second.
    pub fn publish(&self, now: Instant) {
        self.0.near.publish(now);
        let seen = self.snapshot(now);
        self.0.metrics.renewals.publish(&seen);
        if let Some(far) = &self.0.far {
            far.tier.publish(now);
            self.0.metrics.publish(&seen);
        }
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// `age` is in nanoseconds.
    #[inline(always)]
    fn judge(&self, item: Item<V>, age: u64, place: Place) -> Option<Found<V>> {
        let freshness = item.times.freshness(age / 1_000_000, || self.dice.draw());
        if freshness == Freshness::Expired {
            return None;
        }
        Some(Found {
            age: Duration::from_nanos(age),
            ttl: item.lifetime().ttl,
            freshness,
            place,
            is_negative: item.times.is_negative(),
            if_error: item.times.if_error,
            value: item.value,
        })
    }
}
