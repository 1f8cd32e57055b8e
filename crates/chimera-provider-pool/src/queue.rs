//! The wait for a slot of a deployment: short, fair among tenants, and refused at the door.
//!
//! A queue that grows without bound turns overload into an outage: everybody waits, gives up, and comes
//! again while what they gave up on is still worked off. So there are never more waiting than are in
//! flight, which at most doubles how long an answer takes; who would wait behind somebody of the same
//! tenant that has waited for too long already is refused at once; and each tenant has a lane of its own,
//! served in turn, so that one which asks ten times as much waits behind itself. Where the queue is full,
//! the youngest of the longest lane makes room for a tenant that has less in it. What nobody waits for, as the
//! calls of a job, stands in lanes of its own, which are served when the others are empty and make room first.
//!
//! A deployment that has a slot free never looks at any of this.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shed {
    /// As many wait as may.
    Full,
    /// One of the same tenant has waited for too long already.
    Old,
    /// It was let in, and made room for another tenant or waited in vain.
    Gone,
}

/// Whose lane it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) tenant: u64,
    /// Nobody waits for the answer.
    pub(crate) background: bool,
}

struct Waiter {
    since: Instant,
    slot: oneshot::Sender<OwnedSemaphorePermit>,
}

struct Lane {
    caller: Caller,
    waiters: VecDeque<Waiter>,
}

/// Those that wait for a slot, a lane for each tenant; the first lane is served next.
#[derive(Default)]
struct Lanes(VecDeque<Lane>);

/// The queue before one deployment.
pub(crate) struct Queue {
    waiting: AtomicUsize,
    lanes: Mutex<Lanes>,
    /// How long the oldest of a tenant may have waited when the next one comes.
    target: Duration,
}

/// Counts one that waits while it lives.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// The slot that one waits for. Who leaves before it was taken out hands it on.
struct Awaited<'a> {
    slot: oneshot::Receiver<OwnedSemaphorePermit>,
    queue: &'a Queue,
    slots: &'a Arc<Semaphore>,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        // From here on it is kept by whoever would send it.
        self.slot.close();
        if let Ok(slot) = self.slot.try_recv() {
            drop(slot);
            self.queue.hand_on(self.slots);
        }
    }
}

impl Queue {
    pub(crate) fn new(target: Duration) -> Self {
        Self { waiting: AtomicUsize::new(0), lanes: Mutex::default(), target }
    }

    /// Those that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Waits for a slot, for `longest` at most, where no more than `most` may wait.
    pub(crate) async fn wait(
        &self,
        slots: &Arc<Semaphore>,
        caller: Caller,
        most: usize,
        longest: Duration,
    ) -> Result<OwnedSemaphorePermit, Shed> {
        let place = Place(&self.waiting);
        self.waiting.fetch_add(1, SeqCst);
        let slot = self.lock().enter(caller, most, self.target, Instant::now())?;
        let mut awaited = Awaited { slot, queue: self, slots };
        // One that came free between the look at the slots and here has told nobody.
        self.hand_on(slots);
        let slot = tokio::time::timeout(longest, &mut awaited.slot).await;
        drop(place);
        slot.ok().and_then(Result::ok).ok_or(Shed::Gone)
    }

    /// Gives slots that are free to those whose turn it is. Called after each return of a slot: the order
    /// of "return, look who waits" here and "say that one waits, look for a slot" there leaves nobody
    /// waiting beside a free slot.
    pub(crate) fn hand_on(&self, slots: &Arc<Semaphore>) {
        if self.waiting() == 0 {
            return;
        }
        while let Ok(slot) = slots.clone().try_acquire_owned() {
            // Bound to a name, so that the lock is free before a slot that nobody wants comes back here.
            let next = self.lock().next();
            let Some(next) = next else { return };
            // Who has left meanwhile leaves the slot to the next one.
            drop(next.slot.send(slot));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    fn enter(
        &mut self,
        caller: Caller,
        most: usize,
        target: Duration,
        now: Instant,
    ) -> Result<oneshot::Receiver<OwnedSemaphorePermit>, Shed> {
        self.sweep();
        let own = self.0.iter().position(|lane| lane.caller == caller);
        let own = own.and_then(|index| self.0.get(index));
        let oldest = own.and_then(|lane| lane.waiters.front());
        if oldest.is_some_and(|oldest| now.saturating_duration_since(oldest.since) > target) {
            return Err(Shed::Old);
        }
        let held = own.map_or(0, |lane| lane.waiters.len());
        if self.0.iter().map(|lane| lane.waiters.len()).sum::<usize>() >= most {
            let spare = |lane: &Lane| (lane.caller.background, lane.waiters.len());
            let longest = self.0.iter_mut().max_by_key(|lane| spare(lane)).ok_or(Shed::Full)?;
            if spare(longest) <= (caller.background, held + 1) {
                return Err(Shed::Full);
            }
            // Its sender dropped is its answer.
            longest.waiters.pop_back();
        }
        let (slot, receiver) = oneshot::channel();
        let waiter = Waiter { since: now, slot };
        match self.0.iter_mut().find(|lane| lane.caller == caller) {
            Some(lane) => lane.waiters.push_back(waiter),
            None => self.0.push_back(Lane { caller, waiters: VecDeque::from([waiter]) }),
        }
        Ok(receiver)
    }

    /// The one whose turn it is; its lane goes to the end.
    fn next(&mut self) -> Option<Waiter> {
        loop {
            let first = self.0.iter().position(|lane| !lane.caller.background).unwrap_or(0);
            let mut lane = self.0.remove(first)?;
            let waiter = std::iter::from_fn(|| lane.waiters.pop_front()).find(|w| !w.slot.is_closed());
            if !lane.waiters.is_empty() {
                self.0.push_back(lane);
            }
            if waiter.is_some() {
                return waiter;
            }
        }
    }

    /// Forgets those that have left.
    fn sweep(&mut self) {
        self.0.retain_mut(|lane| {
            lane.waiters.retain(|waiter| !waiter.slot.is_closed());
            !lane.waiters.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn full(slots: usize) -> (Arc<Queue>, Arc<Semaphore>, Vec<OwnedSemaphorePermit>) {
        let semaphore = Arc::new(Semaphore::new(slots));
        let held = (0..slots).map(|_| semaphore.clone().try_acquire_owned().unwrap()).collect();
        (Arc::new(Queue::new(SECOND)), semaphore, held)
    }

    /// Waits in a task of its own; where it stood when it was let in.
    fn come(
        queue: &Arc<Queue>,
        slots: &Arc<Semaphore>,
        tenant: u64,
        served: &Arc<Mutex<Vec<u64>>>,
    ) -> tokio::task::JoinHandle<Result<(), Shed>> {
        let (queue, slots, served) = (queue.clone(), slots.clone(), served.clone());
        tokio::spawn(async move {
            // From 100 on, nobody waits for the answers.
            let slot =
                queue.wait(&slots, Caller { tenant, background: tenant >= 100 }, 8, 10 * SECOND).await?;
            served.lock().unwrap().push(tenant);
            drop(slot);
            queue.hand_on(&slots);
            Ok(())
        })
    }

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn o02_tenants_take_turns_and_the_longest_lane_makes_room() {
        let (queue, slots, held) = full(1);
        let served = Arc::default();
        let hog: Vec<_> = (0..10).map(|_| come(&queue, &slots, 1, &served)).collect();
        settle().await;
        assert_eq!(queue.waiting(), 8, "two were refused at once");
        let other: Vec<_> = (0..2).map(|_| come(&queue, &slots, 2, &served)).collect();
        settle().await;
        assert_eq!(queue.waiting(), 8, "and two made room");
        drop(held);
        queue.hand_on(&slots);
        settle().await;
        assert_eq!(*served.lock().unwrap(), [1, 2, 1, 2, 1, 1, 1, 1]);
        for task in other {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        let mut shed = Vec::new();
        for task in hog {
            shed.extend(task.await.unwrap().err());
        }
        shed.sort_unstable_by_key(|shed| *shed as u8);
        assert_eq!(shed, [Shed::Full, Shed::Full, Shed::Gone, Shed::Gone]);
        assert_eq!((queue.waiting(), slots.available_permits()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_comes_last_and_makes_room() {
        let (queue, slots, held) = full(1);
        let served = Arc::default();
        let jobs: Vec<_> = (0..8).map(|_| come(&queue, &slots, 100, &served)).collect();
        settle().await;
        let people: Vec<_> = (0..7).map(|_| come(&queue, &slots, 1, &served)).collect();
        settle().await;
        assert_eq!(queue.waiting(), 8, "seven of the job's made room");
        let late = come(&queue, &slots, 101, &served);
        assert_eq!(late.await.unwrap(), Err(Shed::Full), "and nobody makes room for it");
        drop(held);
        queue.hand_on(&slots);
        for task in people {
            assert_eq!(task.await.unwrap(), Ok(()));
        }
        settle().await;
        assert_eq!(*served.lock().unwrap(), [1, 1, 1, 1, 1, 1, 1, 100]);
        let mut shed = Vec::new();
        for task in jobs {
            shed.extend(task.await.unwrap().err());
        }
        assert_eq!(shed, [Shed::Gone; 7]);
    }

    #[tokio::test(start_paused = true)]
    async fn o01_behind_one_that_has_waited_too_long_nobody_waits() {
        let (queue, slots, held) = full(1);
        let served = Arc::default();
        let first = come(&queue, &slots, 1, &served);
        settle().await;
        tokio::time::advance(SECOND + Duration::from_millis(1)).await;
        assert_eq!(
            queue.wait(&slots, Caller { tenant: 1, background: false }, 8, SECOND).await.unwrap_err(),
            Shed::Old
        );
        let other = come(&queue, &slots, 2, &served);
        settle().await;
        drop(held);
        queue.hand_on(&slots);
        assert_eq!((first.await.unwrap(), other.await.unwrap()), (Ok(()), Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_for_one_who_leaves_before_taking_it_goes_to_the_next() {
        let (queue, slots, held) = full(1);
        let served = Arc::default();
        let first = come(&queue, &slots, 1, &served);
        let next = come(&queue, &slots, 1, &served);
        settle().await;
        drop(held);
        queue.hand_on(&slots);
        first.abort();
        settle().await;
        assert!(next.is_finished(), "it waits beside a free slot");
        assert_eq!((queue.waiting(), slots.available_permits()), (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_no_slot_and_no_place() {
        let (queue, slots, held) = full(2);
        let served = Arc::default();
        let gone: Vec<_> = (0..8).map(|_| come(&queue, &slots, 1, &served)).collect();
        settle().await;
        for task in &gone {
            task.abort();
        }
        settle().await;
        assert_eq!(queue.waiting(), 0);
        let stays = come(&queue, &slots, 1, &served);
        settle().await;
        drop(held);
        queue.hand_on(&slots);
        assert_eq!(stays.await.unwrap(), Ok(()));
        assert_eq!(slots.available_permits(), 2);
        // Nobody may wait for longer than a while.
        let _held: Vec<_> = (0..2).map(|_| slots.clone().try_acquire_owned().unwrap()).collect();
        assert_eq!(
            queue.wait(&slots, Caller { tenant: 1, background: false }, 8, SECOND).await.unwrap_err(),
            Shed::Gone
        );
    }
}
