//! What is changed or purged while something else is under way, with paused time.

use std::time::Duration;

use chimera_cache::{Change, Coherence, Lifetime, Purge, Put, WritePolicy};

use crate::far::{Mood, SECOND, cache, far, item, near, now, put, settings};

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_change_between_a_look_and_the_promotion_wins() {
    let (cache, far_tier) = cache(settings());
    put(&cache, "k", "old");
    cache.flush().await;
    cache.remove(&"k".to_owned()).await;
    cache.flush().await;
    let key = "k".to_owned();
    let ticket = cache.ticket(&key);
    far_tier.tell(Change::Key(key.clone()));
    let put = cache.put(key.clone(), item("old", Lifetime::fresh(SECOND)), Some(ticket), now());
    assert_eq!((put, near(&cache, "k")), (Put::Refused, None));
    let ticket = cache.ticket(&key);
    cache.purge(&Purge::All).await.unwrap();
    let put = cache.put(key.clone(), item("old", Lifetime::fresh(SECOND)), Some(ticket), now());
    assert_eq!((put, near(&cache, "k")), (Put::Refused, None));
}

#[tokio::test(start_paused = true)]
async fn a_purge_catches_the_writes_that_wait() {
    let (cache, far_tier) = cache(settings());
    far_tier.mood(Mood::Slow);
    for n in 0..50 {
        put(&cache, &format!("k{n}"), "v");
    }
    far_tier.mood(Mood::Good);
    cache.purge(&Purge::All).await.unwrap();
    cache.flush().await;
    assert!((0..50).all(|n| !far_tier.has(&format!("k{n}")) && near(&cache, &format!("k{n}")).is_none()));
}

#[tokio::test(start_paused = true)]
async fn what_is_told_while_it_is_lost_and_when_it_is_back() {
    let (cache, far_tier) = cache(settings());
    assert_eq!(cache.snapshot(now()).coherence, Coherence::Alone);
    far_tier.tell(Change::Restored);
    put(&cache, "k", "v");
    far_tier.tell(Change::Missed);
    assert_eq!((near(&cache, "k"), cache.snapshot(now()).coherence), (None, Coherence::Tracked));
    put(&cache, "k", "v");
    far_tier.tell(Change::Lost);
    assert_eq!((near(&cache, "k"), cache.snapshot(now()).coherence), (None, Coherence::Lost));
    put(&cache, "k", "v");
    assert!(near(&cache, "k").is_some());
    tokio::time::advance(30 * SECOND).await;
    assert!(near(&cache, "k").is_none(), "what may be changed by others is not kept long");
}

#[tokio::test(start_paused = true)]
async fn what_comes_up_while_it_is_purged_goes_again() {
    let (cache, far_tier) = cache(settings());
    put(&cache, "k", "old");
    cache.flush().await;
    for by_key in [false, true] {
        far_tier.mood(Mood::Slow);
        let forgetting = tokio::spawn({
            let cache = cache.clone();
            async move {
                match by_key {
                    true => cache.remove(&"k".to_owned()).await,
                    false => drop(cache.purge(&Purge::All).await.unwrap()),
                }
            }
        });
        tokio::time::sleep(MS).await;
        // It is on its way: another request finds the value below.
        far_tier.mood(Mood::Good);
        assert_eq!(far(&cache, "k").await.as_deref(), Some("old"));
        assert!(near(&cache, "k").is_some(), "it came up");
        forgetting.await.unwrap();
        assert!(near(&cache, "k").is_none() && !far_tier.has("k"), "by key: {by_key}");
        put(&cache, "k", "old");
        cache.flush().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_change_is_not_written_over_by_what_waits() {
    for change in [Change::Purged(Purge::All), Change::Key("k".to_owned())] {
        let (cache, far_tier) = cache(settings());
        far_tier.mood(Mood::Slow);
        // The first is being written, the second waits for it.
        put(&cache, "k", "old");
        put(&cache, "k", "older");
        tokio::time::sleep(MS).await;
        far_tier.tell(change.clone());
        far_tier.mood(Mood::Good);
        cache.flush().await;
        assert!(!far_tier.has("k") && near(&cache, "k").is_none(), "{change:?}");
        let writes = cache.snapshot(now()).writes;
        assert_eq!((writes.stored, writes.refused, writes.dropped), (0, 1, 1), "{change:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_a_caller_waits_for_is_taken_back_where_others_changed_its_key() {
    let (cache, far_tier) = cache(settings());
    far_tier.mood(Mood::Slow);
    let writing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.put_through("k".to_owned(), item("old", Lifetime::fresh(SECOND)), None, now()).await }
    });
    tokio::time::sleep(MS).await;
    far_tier.tell(Change::Purged(Purge::All));
    assert_eq!(writing.await.unwrap(), Put::Refused);
    assert!(!far_tier.has("k") && near(&cache, "k").is_none());
}

/// A lease is a write: a tier that is full grants none, and can still be read.
#[tokio::test(start_paused = true)]
async fn r05_a_full_tier_that_grants_no_leases_is_still_read() {
    let mut leased = settings();
    leased.lease = Some(SECOND);
    let (cache, far_tier) = cache(leased);
    put(&cache, "k", "v");
    cache.flush().await;
    far_tier.mood(Mood::IsFull);
    for n in 0..20 {
        assert!(matches!(cache.lease(&format!("w{n}")).await, chimera_cache::Leased::None));
    }
    assert_eq!(far(&cache, "k").await.as_deref(), Some("v"));
}

#[tokio::test(start_paused = true)]
async fn p07_a_write_that_panics_does_not_end_the_writing() {
    let (cache, far_tier) = cache(settings());
    far_tier.mood(Mood::Panics);
    for n in 0..8 {
        put(&cache, &format!("k{n}"), "v");
    }
    cache.flush().await;
    far_tier.mood(Mood::Good);
    for n in 0..8 {
        put(&cache, &format!("k{n}"), "v");
    }
    cache.flush().await;
    assert!((0..8).all(|n| far_tier.has(&format!("k{n}"))));
    let writes = cache.snapshot(now()).writes;
    assert_eq!((writes.failed, writes.stored, writes.queued), (8, 8, 0));
}

/// What others purge is not heard of meanwhile, so that nobody knows whether the value is from before.
#[tokio::test(start_paused = true)]
async fn what_is_computed_while_changes_are_not_told_stays_in_memory() {
    for through in [false, true] {
        let (cache, far_tier) = cache(settings());
        far_tier.tell(Change::Lost);
        let key = "k".to_owned();
        let ticket = Some(cache.ticket(&key));
        let computed = item("of before a purge", Lifetime::fresh(SECOND));
        let put = match through {
            true => cache.put_through(key, computed, ticket, now()).await,
            false => cache.put(key, computed, ticket, now()),
        };
        cache.flush().await;
        assert_eq!((put, far_tier.has("k")), (Put::Stored, false), "waited for: {through}");
        assert!(near(&cache, "k").is_some(), "this process goes on using it, for 30 s at most");
        far_tier.tell(Change::Restored);
        assert_eq!(near(&cache, "k"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_began_before_a_loss_or_during_it_is_not_kept_after() {
    let (cache, far_tier) = cache(settings());
    let key = "k".to_owned();
    let before = cache.ticket(&key);
    far_tier.tell(Change::Lost);
    let during = cache.ticket(&key);
    far_tier.tell(Change::Restored);
    for ticket in [before, during] {
        let put = cache.put(key.clone(), item("old", Lifetime::fresh(SECOND)), Some(ticket), now());
        cache.flush().await;
        assert_eq!((put, far_tier.has("k"), near(&cache, "k")), (Put::Refused, false, None));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_pushed_out_while_changes_are_not_told_does_not_go_down() {
    for is_told in [true, false] {
        let mut small = settings();
        small.writes = WritePolicy::Demote;
        (small.near.capacity_bytes, small.near.max_entry_bytes) = (16 << 10, 1 << 10);
        let (cache, far_tier) = cache(small);
        far_tier.tell(if is_told { Change::Restored } else { Change::Lost });
        // A tier so small has no room apart for what was not used again: all that is pushed out counts as used.
        for n in 0..100 {
            put(&cache, &format!("k{n}"), &"v".repeat(600));
        }
        cache.flush().await;
        let went_down = (0..100).filter(|n| far_tier.has(&format!("k{n}"))).count();
        assert_eq!((went_down > 0, went_down as u64), (is_told, cache.snapshot(now()).demoted));
    }
}

/// That an entry expired is told like a change of it, often to those who compute it anew.
#[tokio::test(start_paused = true)]
async fn what_is_computed_when_the_old_value_expires_is_kept_below() {
    for through in [false, true] {
        let (cache, far_tier) = cache(settings());
        let key = "k".to_owned();
        let ticket = Some(cache.ticket(&key));
        far_tier.tell(Change::Key(key.clone()));
        let computed = item("new", Lifetime::fresh(SECOND));
        match through {
            true => cache.put_through(key, computed, ticket, now()).await,
            false => cache.put(key, computed, ticket, now()),
        };
        cache.flush().await;
        assert_eq!(far(&cache, "k").await.as_deref(), Some("new"), "waited for: {through}");
        assert!(near(&cache, "k").is_some(), "it came up");
    }
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_or_removed_is_not_written_over_by_what_was_being_computed() {
    for change in [Change::Key("k".to_owned()), Change::Removed("k".to_owned())] {
        let (cache, far_tier) = cache(settings());
        let ticket = cache.ticket(&"k".to_owned());
        let is_written = matches!(change, Change::Key(_));
        if is_written {
            // As others do, over the same tier.
            put(&cache, "k", "theirs");
            cache.flush().await;
        }
        far_tier.tell(change);
        cache.put("k".to_owned(), item("old", Lifetime::fresh(SECOND)), Some(ticket), now());
        cache.flush().await;
        assert_eq!(near(&cache, "k"), None);
        assert_eq!(far(&cache, "k").await.as_deref(), is_written.then_some("theirs"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_too_large_takes_the_value_before_it_away_and_a_key_can_be_forgotten_in_passing() {
    let (cache, far_tier) = cache(settings());
    put(&cache, "k", "old");
    cache.flush().await;
    let large = item(&"x".repeat(1 << 17), Lifetime::fresh(SECOND));
    assert_eq!(cache.put("k".to_owned(), large, None, now()), Put::Refused);
    assert_eq!(near(&cache, "k"), None, "it is too large for memory");
    cache.flush().await;
    assert!(far_tier.has("k"), "and not for what is below");
    cache.forget(&"k".to_owned());
    cache.flush().await;
    assert!(!far_tier.has("k"));
}

#[tokio::test(start_paused = true)]
async fn what_is_computed_during_a_look_below_is_not_replaced_by_what_was_found() {
    let mut apart = settings();
    apart.writes = WritePolicy::Demote;
    let (cache, far_tier) = cache(apart);
    cache.put_through("k".to_owned(), item("old", Lifetime::fresh(600 * SECOND)), None, now()).await;
    far_tier.tell(Change::Key("k".to_owned()));
    tokio::time::advance(SECOND).await;
    far_tier.mood(Mood::Slow);
    let looking = tokio::spawn({
        let cache = cache.clone();
        async move { far(&cache, "k").await }
    });
    tokio::time::sleep(MS).await;
    put(&cache, "k", "new");
    assert_eq!(looking.await.unwrap().as_deref(), Some("old"));
    assert_eq!(near(&cache, "k").as_deref(), Some("new"));
}
