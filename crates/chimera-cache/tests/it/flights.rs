use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use chimera_cache::{FlightSettings, Flights, Interrupted, Role, Source, Subscription};
use futures_core::Stream;
use proptest::prelude::*;

type Follow = Subscription<u8, u32>;

/// The far end of a computation: items put here come out of the source.
#[derive(Clone, Default)]
struct Far(Arc<Mutex<FarState>>);

#[derive(Default)]
struct FarState {
    items: VecDeque<u32>,
    ended: bool,
    panics: bool,
    dropped: bool,
    waker: Option<Waker>,
}

impl Far {
    fn send(&self, item: u32) {
        let mut state = self.0.lock().unwrap();
        state.items.push_back(item);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn end(&self) {
        let mut state = self.0.lock().unwrap();
        state.ended = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn is_dropped(&self) -> bool {
        self.0.lock().unwrap().dropped
    }

    fn source(&self) -> Source<u32> {
        Box::pin(Near(self.clone()))
    }
}

struct Near(Far);

impl Stream for Near {
    type Item = u32;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<u32>> {
        let mut state = self.0.0.lock().unwrap();
        assert!(!state.panics, "the computation fails");
        match state.items.pop_front() {
            Some(item) => Poll::Ready(Some(item)),
            None if state.ended => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.0.lock() {
            state.dropped = true;
        }
    }
}

struct Flag(AtomicUsize);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn flights() -> Flights<u8, u32> {
    Flights::new(FlightSettings { max_log_bytes: 40, ..FlightSettings::default() }, |_| 4)
}

/// Polls until nothing more is ready.
fn drain(follow: &mut Follow, waker: &Waker) -> (Vec<u32>, bool) {
    let mut items = Vec::new();
    loop {
        match Pin::new(&mut *follow).poll_next(&mut Context::from_waker(waker)) {
            Poll::Ready(Some(item)) => items.push(item),
            Poll::Ready(None) => return (items, true),
            Poll::Pending => return (items, false),
        }
    }
}

fn ready(follow: &mut Follow) -> Vec<u32> {
    drain(follow, Waker::noop()).0
}

/// Logs of many long flights are bounded together: one that would go beyond the bound takes no new followers,
/// and keeps no more than its own have still to read. What has ended counts no more.
#[test]
fn pain_10_the_logs_of_all_flights_are_bounded_together() {
    let settings = FlightSettings { max_held_bytes: 200 << 10, ..FlightSettings::default() };
    let flights: Flights<u8, u32> = Flights::new(settings, |_| 30 << 10);
    let role = |key: u8, far: &Far| flights.join(key, || far.source()).role();
    let bring = |key: u8, items: u32| {
        let far = Far::default();
        let mut follow = flights.join(key, || far.source());
        (0..items).for_each(|item| far.send(item));
        assert_eq!(ready(&mut follow).len(), items as usize);
        (far, follow)
    };
    let first = bring(1, 4);
    let second = bring(2, 4);
    let short = bring(3, 2);
    assert_eq!(role(1, &first.0), Role::Follower);
    assert_eq!(role(2, &second.0), Role::Leader, "it went beyond the bound");
    assert_eq!(role(3, &short.0), Role::Follower, "a short one is never counted");
    drop((first, second));
    let third = bring(4, 4);
    assert_eq!(role(4, &third.0), Role::Follower, "there is room again");
}

#[test]
fn o05_a_thousand_callers_share_one_computation() {
    let (flights, far) = (flights(), Far::default());
    let loads = AtomicUsize::new(0);
    let mut follows: Vec<_> = (0..1000)
        .map(|_| {
            flights.join(1, || {
                loads.fetch_add(1, SeqCst);
                far.source()
            })
        })
        .collect();
    far.send(7);
    far.end();
    for follow in &mut follows {
        assert_eq!(drain(follow, Waker::noop()), (vec![7], true));
    }
    assert_eq!(loads.load(SeqCst), 1);
    assert!(flights.is_empty());
}

#[test]
fn a_late_follower_gets_the_past_and_then_what_comes() {
    let (flights, far) = (flights(), Far::default());
    let mut one = flights.join(1, || far.source());
    assert_eq!(one.role(), Role::Leader);
    far.send(1);
    far.send(2);
    assert_eq!(ready(&mut one), [1, 2]);
    let mut two = flights.join(1, || unreachable!("it is under way"));
    assert_eq!(two.role(), Role::Follower);
    assert_eq!(ready(&mut two), [1, 2]);
    far.send(3);
    assert_eq!(ready(&mut two), [3]);
    assert_eq!(ready(&mut one), [3]);
}

#[test]
fn a_leader_that_leaves_at_any_stage_hands_over() {
    for stage in 0..4 {
        let (flights, far) = (flights(), Far::default());
        let mut leader = flights.join(1, || far.source());
        let mut follower = flights.join(1, || far.source());
        let woken = Arc::new(Flag(AtomicUsize::new(0)));
        assert_eq!(drain(&mut follower, &Waker::from(woken.clone())).0, Vec::<u32>::new());
        for item in 0..stage {
            far.send(item);
            ready(&mut leader);
        }
        drop(leader);
        assert!(woken.0.load(SeqCst) > 0, "the follower must look for itself");
        assert!(!far.is_dropped());
        far.send(99);
        far.end();
        let expected: Vec<u32> = (0..stage).chain([99]).collect();
        assert_eq!(drain(&mut follower, Waker::noop()), (expected, true));
    }
}

#[test]
fn the_last_to_leave_ends_the_computation_at_once() {
    let (flights, far) = (flights(), Far::default());
    let mut one = flights.join(1, || far.source());
    let two = flights.join(1, || far.source());
    ready(&mut one);
    drop(one);
    assert!(!far.is_dropped());
    drop(two);
    assert!(far.is_dropped());
    assert!(flights.is_empty());
}

#[test]
fn one_that_never_polls_holds_nobody_up() {
    let (flights, far) = (flights(), Far::default());
    let mut slow = flights.join(1, || far.source());
    let mut quick = flights.join(1, || far.source());
    // The slow one was the last to poll: the computation's waker was registered by it.
    ready(&mut quick);
    ready(&mut slow);
    let woken = Arc::new(Flag(AtomicUsize::new(0)));
    drain(&mut quick, &Waker::from(woken.clone()));
    ready(&mut slow);
    far.send(1);
    assert!(woken.0.load(SeqCst) > 0);
    assert_eq!(ready(&mut quick), [1]);
    far.send(2);
    assert_eq!(ready(&mut quick), [2]);
    assert_eq!(ready(&mut slow), [1, 2]);
}

#[test]
fn m01_a_long_flight_takes_no_more_followers_and_cuts_who_is_too_far_behind() {
    let (flights, far) = (flights(), Far::default());
    let mut quick = flights.join(1, || far.source());
    let mut behind = flights.join(1, || far.source());
    let mut lost = flights.join(1, || far.source());
    for item in 0..11 {
        far.send(item);
    }
    assert_eq!(ready(&mut quick).len(), 11);
    // 44 bytes are over the bound of 40: a new caller begins anew.
    let other = Far::default();
    assert_eq!(flights.join(1, || other.source()).role(), Role::Leader);
    assert_eq!(ready(&mut behind).len(), 0, "the first item was trimmed away");
    assert_eq!(behind.interrupted(), Some(Interrupted::TooSlow));
    far.send(11);
    assert_eq!(ready(&mut quick), [11]);
    assert_eq!(drain(&mut lost, Waker::noop()), (vec![], true));
    assert_eq!(lost.interrupted(), Some(Interrupted::TooSlow));
    assert_eq!(quick.interrupted(), None);
}

#[test]
fn a_panic_reaches_the_one_who_drove_and_interrupts_the_others() {
    let (flights, far) = (flights(), Far::default());
    let mut one = flights.join(1, || far.source());
    let mut two = flights.join(1, || far.source());
    ready(&mut two);
    far.0.lock().unwrap().panics = true;
    let panicked = catch_unwind(AssertUnwindSafe(|| ready(&mut one)));
    assert!(panicked.is_err());
    far.0.clear_poison();
    assert_eq!(drain(&mut two, Waker::noop()), (vec![], true));
    assert_eq!(two.interrupted(), Some(Interrupted::Panicked));
    assert!(flights.is_empty());
    let anew = Far::default();
    assert_eq!(flights.join(1, || anew.source()).role(), Role::Leader);
}

#[test]
fn keys_are_apart() {
    let (flights, one, two) = (flights(), Far::default(), Far::default());
    let mut first = flights.join(1, || one.source());
    let mut second = flights.join(2, || two.source());
    one.send(1);
    two.send(2);
    assert_eq!((ready(&mut first), ready(&mut second)), (vec![1], vec![2]));
    assert_eq!(flights.len(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Join,
    Poll(usize),
    Leave(usize),
    Send,
    End,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Join),
        6 => any::<usize>().prop_map(Step::Poll),
        2 => any::<usize>().prop_map(Step::Leave),
        4 => Just(Step::Send),
        1 => Just(Step::End),
    ]
}

proptest! {
    /// Whoever follows gets every item once and in order, and whoever waits is woken for the next.
    #[test]
    fn any_interleaving_delivers_everything_in_order(steps in prop::collection::vec(step(), 1..120)) {
        let flights: Flights<u8, u32> = Flights::new(FlightSettings { max_log_bytes: usize::MAX, ..FlightSettings::default() }, |_| 4);
        let mut far = Far::default();
        let mut sent = 0;
        let mut follows: Vec<(Follow, Vec<u32>, Arc<Flag>)> = Vec::new();
        for step in steps {
            match step {
                Step::Join => {
                    let ended = far.0.lock().unwrap().ended;
                    if follows.is_empty() && (ended || far.is_dropped()) {
                        (far, sent) = (Far::default(), 0);
                    }
                    if !far.0.lock().unwrap().ended {
                        let source = far.clone();
                        let follow = flights.join(1, move || source.source());
                        follows.push((follow, Vec::new(), Arc::new(Flag(AtomicUsize::new(0)))));
                    }
                }
                Step::Poll(index) if !follows.is_empty() => {
                    let index = index % follows.len();
                    let (follow, items, flag) = &mut follows[index];
                    flag.0.store(0, SeqCst);
                    items.extend(drain(follow, &Waker::from(flag.clone())).0);
                    prop_assert_eq!(&*items, &(0..sent).collect::<Vec<_>>());
                }
                Step::Leave(index) if !follows.is_empty() => {
                    let index = index % follows.len();
                    follows.swap_remove(index);
                    prop_assert!(!follows.is_empty() || far.is_dropped());
                }
                Step::Send if !follows.is_empty() && !far.0.lock().unwrap().ended => {
                    far.send(sent);
                    sent += 1;
                    // Somebody who had everything and waits must have been woken, if all had polled.
                    let waiting = follows.iter().all(|(_, items, _)| items.len() as u32 + 1 == sent);
                    let woken = follows.iter().any(|(_, _, flag)| flag.0.load(SeqCst) > 0);
                    prop_assert!(!waiting || sent == 1 || woken);
                }
                Step::End if !follows.is_empty() => far.end(),
                _ => {}
            }
        }
    }
}
