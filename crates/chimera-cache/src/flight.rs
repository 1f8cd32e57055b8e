//! One computation per key, followed by any number of callers.
//!
//! A flight has no task of its own. Whoever of its followers is polled takes the computation, polls it
//! with a waker that wakes every follower, and puts it back. Nobody leads, so nobody can be missed:
//! when a caller leaves, the others go on where it stopped; when one reads slowly, the next wake drives
//! the computation from another. With one follower, which is the usual case, this costs two short
//! uncontended locks per poll and no task switch.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, Hash},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use foldhash::fast::RandomState;
use futures_core::Stream;

use crate::settings::FlightSettings;

/// A computation: the items it brings, one by one. A single value is a stream of one item.
pub type Source<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// Whether a subscription began its flight or joined it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It began it.
    Leader,
    /// It joined it.
    Follower,
}

/// Why a follower was left before its computation had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// The computation panicked: whoever drove it met the panic.
    Panicked,
    /// What the follower had not read was given up, because it was too much.
    TooSlow,
}

const SHARDS: usize = 16;

/// What a flight may hold before it counts among what all hold: most never hold more, and count nothing.
const FREE: usize = 64 * 1024;

/// Room from the start, so that flights which come and go do not make the tables grow and rehash.
const SHARD_ROOM: usize = 64;

type Shard<K, T> = Mutex<HashMap<K, Arc<Flight<T>>, RandomState>>;

struct Table<K, T> {
    settings: FlightSettings,
    weigh: fn(&T) -> usize,
    hasher: RandomState,
    shards: [Shard<K, T>; SHARDS],
    /// Bytes that flights hold beyond what is free.
    held: AtomicUsize,
}

/// The flights under way. Clones share them.
pub struct Flights<K, T> {
    table: Arc<Table<K, T>>,
}

impl<K, T> Clone for Flights<K, T> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    /// No flights yet. `weigh` says how many bytes an item holds.
    pub fn new(settings: FlightSettings, weigh: fn(&T) -> usize) -> Self {
        let shards = std::array::from_fn(|_| {
            Mutex::new(HashMap::with_capacity_and_hasher(SHARD_ROOM, RandomState::default()))
        });
        Self {
            table: Arc::new(Table {
                settings,
                weigh,
                hasher: RandomState::default(),
                shards,
                held: AtomicUsize::new(0),
            }),
        }
    }

    /// Follows the computation of a key, beginning it with `load` if there is none. A late follower
    /// gets what has come so far, then what comes.
    pub fn join(&self, key: K, load: impl FnOnce() -> Source<T>) -> Subscription<K, T> {
        let mut shard = lock(self.table.shard(&key));
        if let Some(flight) = shard.get(&key)
            && let Some(place) = flight.enter()
        {
            return self.subscription(flight.clone(), key, place, Role::Follower);
        }
        let flight = Arc::new(Flight::new(load()));
        let place = flight.enter().unwrap_or(0);
        shard.insert(key.clone(), flight.clone());
        self.subscription(flight, key, place, Role::Leader)
    }

    fn subscription(&self, flight: Arc<Flight<T>>, key: K, place: usize, role: Role) -> Subscription<K, T> {
        let table = self.table.clone();
        Subscription { table, flight, key, place, role, waker: None, interrupted: None, ended: false }
    }

    /// Whether the computation of a key is under way and takes followers.
    pub fn contains(&self, key: &K) -> bool {
        lock(self.table.shard(key)).contains_key(key)
    }

    /// Flights under way that take followers.
    pub fn len(&self) -> usize {
        self.table.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq, T> Table<K, T> {
    fn shard(&self, key: &K) -> &Shard<K, T> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        // The index is below the number of shards; the first stands in where the compiler cannot see it.
        self.shards.get(index).unwrap_or(&self.shards[0])
    }

    /// Takes a flight out of the table, unless another has taken its place.
    fn remove(&self, key: &K, flight: &Arc<Flight<T>>) {
        let mut shard = lock(self.shard(key));
        if shard.get(key).is_some_and(|held| Arc::ptr_eq(held, flight)) {
            shard.remove(key);
        }
    }
}

/// One computation and those who follow it.
struct Flight<T>(Mutex<Course<T>>);

#[derive(PartialEq, Eq, Clone, Copy)]
enum Phase {
    Running,
    Ended,
    /// The computation panicked.
    Poisoned,
}

struct Course<T> {
    phase: Phase,
    /// The computation; away while somebody polls it.
    source: Option<Source<T>>,
    /// Items from number `base` on.
    log: VecDeque<T>,
    base: usize,
    weight: usize,
    /// What of it is counted among what all flights hold.
    counted: usize,
    /// Whether the log is complete from the start, so that new followers may join.
    joinable: bool,
    /// The place of the first follower lies here: most flights have no other.
    first: Option<Place>,
    others: Vec<Option<Place>>,
    followers: usize,
}

/// What is known of one follower.
struct Place {
    /// The number of the item it wants next.
    next: usize,
    waker: Option<Waker>,
}

/// Wakers taken out under the lock, to be woken after it. One follower needs no allocation.
#[derive(Default)]
struct Wakers {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakers {
    fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.rest.push(waker),
        }
    }

    fn wake(self) {
        self.first.into_iter().chain(self.rest).for_each(Waker::wake);
    }
}

impl<T> Course<T> {
    fn wakers(&mut self) -> Wakers {
        let mut wakers = Wakers::default();
        let places = self.first.iter_mut().chain(self.others.iter_mut().flatten());
        places.filter_map(|place| place.waker.take()).for_each(|waker| wakers.push(waker));
        wakers
    }

    fn place(&mut self, index: usize) -> Option<&mut Place> {
        self.slot(index)?.as_mut()
    }

    fn slot(&mut self, index: usize) -> Option<&mut Option<Place>> {
        match index.checked_sub(1) {
            None => Some(&mut self.first),
            Some(other) => self.others.get_mut(other),
        }
    }

    /// Drops what every follower has read, once nobody can join any more; and, over the bound, what the
    /// slowest have not.
    fn trim<K>(&mut self, table: &Table<K, T>) {
        if self.joinable {
            return;
        }
        let (weigh, most) = (table.weigh, table.settings.max_log_bytes);
        let places = self.first.iter().chain(self.others.iter().flatten());
        let slowest = places.map(|place| place.next).min().unwrap_or(usize::MAX);
        while self.base < slowest || self.weight > most {
            let Some(item) = self.log.pop_front() else { break };
            self.weight = self.weight.saturating_sub(weigh(&item));
            self.base += 1;
        }
        self.count(&table.held);
    }

    /// Brings what all flights hold up to date; says how much that is.
    fn count(&mut self, held: &AtomicUsize) -> usize {
        let counts = if self.weight > FREE { self.weight } else { 0 };
        let before = std::mem::replace(&mut self.counted, counts);
        if counts == before {
            return 0;
        }
        // Wrapping around is subtraction.
        held.fetch_add(counts.wrapping_sub(before), Relaxed).wrapping_add(counts).wrapping_sub(before)
    }
}

impl<T: Send> Wake for Flight<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let wakers = lock(&self.0).wakers();
        wakers.wake();
    }
}

impl<T> Flight<T> {
    fn new(source: Source<T>) -> Self {
        Self(Mutex::new(Course {
            phase: Phase::Running,
            source: Some(source),
            log: VecDeque::new(),
            base: 0,
            weight: 0,
            counted: 0,
            joinable: true,
            first: None,
            others: Vec::new(),
            followers: 0,
        }))
    }

    fn enter(&self) -> Option<usize> {
        let mut course = lock(&self.0);
        if course.phase != Phase::Running || !course.joinable {
            return None;
        }
        course.followers += 1;
        let place = Some(Place { next: 0, waker: None });
        if course.first.is_none() {
            course.first = place;
            return Some(0);
        }
        match course.others.iter_mut().enumerate().find(|(_, slot)| slot.is_none()) {
            Some((index, slot)) => {
                *slot = place;
                Some(index + 1)
            }
            None => {
                course.others.push(place);
                Some(course.others.len())
            }
        }
    }
}

/// One caller's view of a flight: a stream of its items, from the first.
///
/// It ends when the computation ends. Dropping it leaves the flight; dropping the last one drops the
/// computation.
pub struct Subscription<K: Hash + Eq, T> {
    table: Arc<Table<K, T>>,
    flight: Arc<Flight<T>>,
    key: K,
    place: usize,
    role: Role,
    /// Wakes every follower; made when this one first drives the computation.
    waker: Option<Waker>,
    interrupted: Option<Interrupted>,
    ended: bool,
}

// Nothing is pinned: the computation is in a box of its own.
impl<K: Hash + Eq, T> Unpin for Subscription<K, T> {}

impl<K: Hash + Eq, T> Subscription<K, T> {
    /// Whether it began its flight.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Why it ended before the computation did, if so.
    pub fn interrupted(&self) -> Option<Interrupted> {
        self.interrupted
    }
}

/// What a look at the course found.
enum Look<T> {
    Item(T),
    End(Option<Interrupted>),
    Wait,
    Drive(Source<T>),
}

impl<K: Hash + Eq, T: Clone + Send + 'static> Subscription<K, T> {
    /// The next item, if it is there; else the computation, if nobody has it.
    fn look(&self, cx: &mut Context<'_>) -> Look<T> {
        let mut course = lock(&self.flight.0);
        let (base, length) = (course.base, course.log.len());
        let left = Look::End(Some(Interrupted::TooSlow));
        let Some(place) = course.place(self.place) else { return left };
        let Some(ahead) = place.next.checked_sub(base) else { return left };
        if ahead < length {
            place.next += 1;
            let item = course.log.get(ahead).cloned();
            course.trim(&self.table);
            return item.map_or(Look::Wait, Look::Item);
        }
        match course.phase {
            Phase::Ended => return Look::End(None),
            Phase::Poisoned => return Look::End(Some(Interrupted::Panicked)),
            Phase::Running => {}
        }
        if let Some(place) = course.place(self.place) {
            match &mut place.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => place.waker = Some(cx.waker().clone()),
            }
        }
        course.source.take().map_or(Look::Wait, Look::Drive)
    }

    /// Polls the computation once and enters what came of it.
    fn drive(&mut self, mut source: Source<T>) -> Poll<()> {
        let waker = self.waker.get_or_insert_with(|| Waker::from(self.flight.clone()));
        let polled =
            catch_unwind(AssertUnwindSafe(|| source.as_mut().poll_next(&mut Context::from_waker(waker))));
        let mut course = lock(&self.flight.0);
        let (phase, panicked) = match polled {
            Ok(Poll::Pending) => {
                course.source = Some(source);
                return Poll::Pending;
            }
            Ok(Poll::Ready(Some(item))) => {
                course.source = Some(source);
                course.weight += (self.table.weigh)(&item);
                course.log.push_back(item);
                let FlightSettings { max_log_bytes, max_held_bytes } = self.table.settings;
                let held = course.count(&self.table.held);
                let over = course.joinable && (course.weight > max_log_bytes || held > max_held_bytes);
                let wakers = course.wakers();
                course.joinable &= !over;
                course.trim(&self.table);
                drop(course);
                if over {
                    self.table.remove(&self.key, &self.flight);
                }
                wakers.wake();
                return Poll::Ready(());
            }
            Ok(Poll::Ready(None)) => (Phase::Ended, None),
            Err(panic) => (Phase::Poisoned, Some(panic)),
        };
        course.phase = phase;
        let wakers = course.wakers();
        drop(course);
        self.table.remove(&self.key, &self.flight);
        wakers.wake();
        drop(source);
        if let Some(panic) = panicked {
            resume_unwind(panic);
        }
        Poll::Ready(())
    }
}

impl<K: Hash + Eq, T: Clone + Send + 'static> Stream for Subscription<K, T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            match self.look(cx) {
                Look::Item(item) => return Poll::Ready(Some(item)),
                Look::End(interrupted) => {
                    self.interrupted = interrupted;
                    self.ended = true;
                    return Poll::Ready(None);
                }
                Look::Wait => return Poll::Pending,
                Look::Drive(source) => {
                    if self.drive(source).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<K: Hash + Eq, T> Drop for Subscription<K, T> {
    fn drop(&mut self) {
        // The table's lock comes first, so that nobody joins between the last leaving and the removal.
        let mut shard = lock(self.table.shard(&self.key));
        let mut course = lock(&self.flight.0);
        if let Some(slot) = course.slot(self.place) {
            *slot = None;
        }
        course.followers = course.followers.saturating_sub(1);
        let (source, wakers) = if course.followers == 0 {
            if course.phase == Phase::Running {
                course.phase = Phase::Ended;
            }
            (course.source.take(), Wakers::default())
        } else {
            // Whoever was woken last may have been this one: another must look.
            (None, course.wakers())
        };
        let over = course.followers == 0;
        if over {
            course.weight = 0;
            course.count(&self.table.held);
        }
        drop(course);
        if over && shard.get(&self.key).is_some_and(|held| Arc::ptr_eq(held, &self.flight)) {
            shard.remove(&self.key);
        }
        drop(shard);
        wakers.wake();
        drop(source);
    }
}
