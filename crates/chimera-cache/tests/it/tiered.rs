//! Two tiers as one cache, over a far tier that does what it is told, with paused time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use chimera_cache::{
    Freshness, GuardedSettings, Lifetime, Loaded, MemorySettings, Place, TieredSettings, WritePolicy,
};

use crate::far::{Cache, Mood, SECOND, Value, cache, far, near, now, put, settings};

/// Counts its calls and answers with their number, or fails.
#[derive(Clone, Default)]
struct Upstream {
    calls: Arc<AtomicU32>,
    fails: Arc<Mutex<bool>>,
}

#[derive(Debug, thiserror::Error)]
#[error("upstream is down")]
struct Down;

impl Upstream {
    async fn call(self) -> Result<Loaded<Value>, Down> {
        let call = self.calls.fetch_add(1, SeqCst) + 1;
        tokio::time::sleep(SECOND).await;
        if *self.fails.lock().unwrap() { Err(Down) } else { Ok(Loaded::from(Value::from(call.to_string()))) }
    }
    fn calls(&self) -> u32 {
        self.calls.load(SeqCst)
    }
    async fn ask(&self, cache: &Cache, lifetime: Lifetime) -> Result<String, String> {
        let this = self.clone();
        let found = cache.get_or_load(&"k".to_owned(), lifetime, move || this.call()).await;
        found.map(|found| found.value.to_string()).map_err(|error| error.to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn r03_a_far_tier_that_hangs_costs_its_deadline_five_times_and_then_nothing() {
    let (cache, far_tier) = cache(settings());
    far_tier.mood(Mood::Hangs);
    let began = now();
    for _ in 0..100 {
        assert_eq!(far(&cache, "k").await, None);
    }
    // Their timers are due two milliseconds before the deadline, and fire up to one late.
    let waited = now() - began;
    assert!((5 * Duration::from_millis(23)..=5 * Duration::from_millis(24)).contains(&waited), "{waited:?}");
    assert_eq!(far_tier.gets(), 5);
    // When it answers again it is used again, within the longest pause.
    far_tier.mood(Mood::Good);
    tokio::time::advance(SECOND).await;
    assert_eq!(far(&cache, "k").await, None);
    put(&cache, "k", "v");
    cache.flush().await;
    assert_eq!(far(&cache, "k").await.as_deref(), Some("v"));
}

#[tokio::test(start_paused = true)]
async fn r04_a_far_tier_that_is_slow_is_left_alone_though_it_answers() {
    let (cache, far_tier) = cache(settings());
    put(&cache, "k", "v");
    cache.flush().await;
    far_tier.mood(Mood::Slow);
    let found = [far(&cache, "k").await, far(&cache, "k").await];
    assert!(found.iter().all(Option::is_some), "what comes in time is used");
    for _ in 0..10 {
        far(&cache, "k").await;
    }
    assert_eq!(far_tier.gets(), 5);
    assert_eq!(cache.snapshot(now()).far.unwrap().why_down, Some("slow"));
}

#[tokio::test(start_paused = true)]
async fn r05_writes_that_fail_leave_look_ups_alone() {
    let (cache, far_tier) = cache(settings());
    put(&cache, "k", "v");
    cache.flush().await;
    far_tier.mood(Mood::Fails);
    for n in 0..20 {
        put(&cache, &format!("w{n}"), "v");
    }
    cache.flush().await;
    far_tier.mood(Mood::Good);
    assert_eq!(far(&cache, "k").await.as_deref(), Some("v"));
    let seen = cache.snapshot(now());
    assert_eq!((seen.writes.failed, seen.far.unwrap().why_down), (20, Some("full")));
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_while_one_computation_renews_it() {
    let (cache, _) = cache(settings());
    let upstream = Upstream::default();
    let lifetime = Lifetime::fresh(10 * SECOND).stale_while_revalidate(60 * SECOND);
    assert_eq!(upstream.ask(&cache, lifetime).await.unwrap(), "1");
    tokio::time::advance(20 * SECOND).await;
    let began = now();
    for _ in 0..5 {
        assert_eq!(upstream.ask(&cache, lifetime).await.unwrap(), "1");
    }
    assert_eq!(now(), began, "nobody waits");
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(upstream.ask(&cache, lifetime).await.unwrap(), "2");
    assert_eq!((upstream.calls(), cache.snapshot(now()).stale), (2, 5));
}

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_has_a_bound() {
    let (cache, _) = cache(settings());
    let upstream = Upstream::default();
    let lifetime = Lifetime::fresh(10 * SECOND).stale_while_revalidate(20 * SECOND);
    upstream.ask(&cache, lifetime).await.unwrap();
    tokio::time::advance(32 * SECOND).await;
    assert_eq!(upstream.ask(&cache, lifetime).await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_stands_in_for_an_error_within_its_bound() {
    let (cache, _) = cache(settings());
    let upstream = Upstream::default();
    let lifetime = Lifetime::fresh(10 * SECOND).stale_if_error(60 * SECOND);
    upstream.ask(&cache, lifetime).await.unwrap();
    *upstream.fails.lock().unwrap() = true;
    tokio::time::advance(20 * SECOND).await;
    assert_eq!(upstream.ask(&cache, lifetime).await.unwrap(), "1");
    assert_eq!(cache.snapshot(now()).stale_on_error, 1);
    tokio::time::advance(60 * SECOND).await;
    assert_eq!(upstream.ask(&cache, lifetime).await.unwrap_err(), "upstream is down");
    *upstream.fails.lock().unwrap() = false;
    assert_eq!(upstream.ask(&cache, lifetime).await.unwrap(), "4");
}

#[tokio::test(start_paused = true)]
async fn the_bound_of_what_stands_in_is_that_of_the_time_of_the_error() {
    let (cache, _) = cache(settings());
    let upstream = Upstream::default();
    let lifetime = Lifetime::fresh(SECOND).stale_if_error(SECOND);
    upstream.ask(&cache, lifetime).await.unwrap();
    *upstream.fails.lock().unwrap() = true;
    tokio::time::advance(Duration::from_millis(1500)).await;
    // The call takes a second.
    assert_eq!(upstream.ask(&cache, lifetime).await.unwrap_err(), "upstream is down");
}

#[tokio::test(start_paused = true)]
async fn errors_reach_all_that_wait_and_are_not_kept() {
    let (cache, _) = cache(settings());
    let upstream = Upstream::default();
    *upstream.fails.lock().unwrap() = true;
    let lifetime = Lifetime::fresh(SECOND);
    let (a, b) = tokio::join!(upstream.ask(&cache, lifetime), upstream.ask(&cache, lifetime));
    assert_eq!((a, b), (Err("upstream is down".into()), Err("upstream is down".into())));
    assert_eq!(upstream.calls(), 1);
    upstream.ask(&cache, lifetime).await.unwrap_err();
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn o05_a_thousand_callers_compute_once() {
    let (cache, _) = cache(settings());
    let upstream = Upstream::default();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (cache, upstream) = (cache.clone(), upstream.clone());
        callers.spawn(async move { upstream.ask(&cache, Lifetime::fresh(SECOND)).await });
    }
    while let Some(answer) = callers.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), "1");
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn c05_when_the_first_caller_leaves_the_others_go_on() {
    let (cache, _) = cache(settings());
    let upstream = Upstream::default();
    let lifetime = Lifetime::fresh(60 * SECOND);
    let leaver = tokio::time::timeout(SECOND / 2, upstream.ask(&cache, lifetime));
    let (left, stayed) = tokio::join!(leaver, upstream.ask(&cache, lifetime));
    assert!(left.is_err());
    assert_eq!(stayed.unwrap(), "1");
    assert_eq!(upstream.calls(), 1);
}

/// FusionCache's trap: an early renewal whose caller leaves must not block those that come.
#[tokio::test(start_paused = true)]
async fn an_early_renewal_outlives_the_caller_that_began_it() {
    let (cache, _) = cache(settings());
    let upstream = Upstream::default();
    let lifetime = Lifetime::fresh(100 * SECOND);
    upstream.ask(&cache, lifetime).await.unwrap();
    // A fresh value that costs a second is renewed, by chance, in its last seconds.
    tokio::time::advance(88 * SECOND).await;
    let mut early = 0;
    while upstream.calls() == 1 && early < 10_000 {
        assert_eq!(upstream.ask(&cache, lifetime).await.unwrap(), "1");
        tokio::time::sleep(Duration::from_millis(10)).await;
        early += 1;
        if cache.near(&"k".to_owned(), now()).is_none() {
            break;
        }
    }
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(upstream.ask(&cache, lifetime).await.unwrap(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_negative_answer_is_kept_for_its_own_time() {
    let (cache, far_tier) = cache(settings());
    let (calls, key) = (Arc::new(AtomicU32::new(0)), "k".to_owned());
    let ask = || {
        let calls = calls.clone();
        cache.get_or_load(&key, Lifetime::fresh(600 * SECOND), move || async move {
            calls.fetch_add(1, SeqCst);
            Ok::<_, Down>(Loaded::negative(Value::from("no such model"), 10 * SECOND))
        })
    };
    assert!(ask().await.unwrap().is_negative);
    assert!(ask().await.unwrap().is_negative);
    assert_eq!(calls.load(SeqCst), 1);
    tokio::time::advance(12 * SECOND).await;
    ask().await.unwrap();
    assert_eq!(calls.load(SeqCst), 2);
    cache.flush().await;
    assert!(far_tier.has("k"));
}

#[tokio::test(start_paused = true)]
async fn a_value_from_below_keeps_its_age() {
    let (cache, _) = cache(settings());
    put(&cache, "k", "v");
    cache.flush().await;
    tokio::time::advance(100 * SECOND).await;
    cache.remove(&"absent".to_owned()).await;
    let (key, at) = ("k".to_owned(), now());
    let below = cache.far(&key, at).await.unwrap();
    assert_eq!((below.age, below.place), (100 * SECOND, Place::Far));
    let above = cache.near(&key, at + 50 * SECOND).unwrap();
    assert_eq!((above.age, above.place, above.freshness), (150 * SECOND, Place::Near, Freshness::Fresh));
    assert!(cache.near(&key, at + 501 * SECOND).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_caller_waits_for_the_write_when_it_is_to_go_through() {
    let mut through = settings();
    through.writes = WritePolicy::Through;
    let (cache, far_tier) = cache(through);
    Upstream::default().ask(&cache, Lifetime::fresh(SECOND)).await.unwrap();
    assert!(far_tier.has("k"), "without a flush");
    // And is not kept waiting by a tier that hangs.
    far_tier.mood(Mood::Hangs);
    tokio::time::advance(10 * SECOND).await;
    let began = now();
    Upstream::default().ask(&cache, Lifetime::fresh(SECOND)).await.unwrap();
    assert!(now() - began <= SECOND + Duration::from_millis(25 + 500), "{:?}", now() - began);
}

/// A shard of quick_cache refuses what is heavier than its part, without a word.
#[tokio::test]
async fn the_largest_value_allowed_is_kept_however_many_shards_there_are() {
    for (capacity, largest) in [(1 << 20, 512 << 10), (64 << 20, 1 << 20), (1 << 20, 700 << 10)] {
        let near_settings = MemorySettings::new("near", capacity, largest);
        let (cache, _) = cache(TieredSettings::new(near_settings));
        for n in 0..32 {
            let text = "x".repeat(largest as usize - 300);
            put(&cache, &format!("k{n}"), &text);
            assert!(near(&cache, &format!("k{n}")).is_some(), "{capacity} {largest} {n}");
        }
        put(&cache, "heavy", &"x".repeat(largest as usize + 1));
        assert!(near(&cache, "heavy").is_none());
        assert_eq!(cache.snapshot(now()).near.evictions.refused, 1, "and it is counted");
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let field = |settings: TieredSettings| settings.validate().unwrap_err().field;
    assert_eq!(field(TieredSettings { queue_entries: 0, ..settings() }), "queue_entries");
    assert_eq!(field(TieredSettings { queue_bytes: 0, ..settings() }), "queue_bytes");
    assert_eq!(field(TieredSettings { lease: Some(Duration::ZERO), ..settings() }), "lease");
    let field = |settings: GuardedSettings| settings.validate().unwrap_err().field;
    assert_eq!(field(GuardedSettings { get: Duration::ZERO, ..Default::default() }), "get");
    assert_eq!(field(GuardedSettings { slow: SECOND, ..Default::default() }), "slow");
}
