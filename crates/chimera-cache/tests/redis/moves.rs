//! What goes up, what goes down, and what is written.

use std::{
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    time::Instant,
};

use chimera_cache::{Freshness, Loaded, Place, Purge, Put, WritePolicy};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_stores_another_finds() {
    let Some(server) = server::Server::or_skip().await else { return };
    let (a, b) = (connected(&server.url()).await, connected(&server.url()).await);
    put(&a, "k", "value");
    a.flush().await;
    let found = b.get(&"k".to_owned(), Instant::now()).await.unwrap();
    assert_eq!((&*found.value, found.place, found.freshness), (&b"value"[..], Place::Far, Freshness::Fresh));
    assert!(found.fresh_for() <= MINUTE && found.age < MINUTE);
    // There is room, so it goes up.
    goes_up(&b, "k", "value").await;
    assert!(b.snapshot(Instant::now()).promoted >= 1);
    assert_eq!(a.snapshot(Instant::now()).writes.stored, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_values_are_compressed_and_too_large_ones_not_written() {
    let Some(server) = server::Server::or_skip().await else { return };
    let mut settings = redis(&server.url());
    settings.max_value = 64 << 10;
    let cache = cache_with(tiered(16 << 20), guarded(), settings);
    ready(&cache).await;
    put(&cache, "long", &"x".repeat(60 << 10));
    put(&cache, "longer", &"x".repeat(70 << 10));
    cache.flush().await;
    assert!(server.value(&name("long")).await.unwrap().len() < 2000);
    assert_eq!(get_far(&cache, "long").await.unwrap().len(), 60 << 10);
    assert_eq!(server.value(&name("longer")).await, None);
    // It takes the one before it away.
    put(&cache, "long", &"x".repeat(70 << 10));
    cache.flush().await;
    assert_eq!(server.value(&name("long")).await, None);
    assert_eq!(cache.snapshot(Instant::now()).writes.refused, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_does_not_flush_the_near_tier() {
    let Some(server) = server::Server::or_skip().await else { return };
    let writer = connected(&server.url()).await;
    let value = "v".repeat(1000);
    for n in 0..3000 {
        put(&writer, &format!("scan:{n}"), &value);
        if n % 500 == 0 {
            writer.flush().await;
        }
    }
    writer.flush().await;
    let cache = cache_with(tiered(256 << 10), guarded(), redis(&server.url()));
    ready(&cache).await;
    tracked(&cache).await;
    // Busy keys fill the tier.
    for round in 0..4 {
        for n in 0..150 {
            if cache.get(&format!("scan:{n}"), Instant::now()).await.is_none() {
                assert_eq!(round, 5, "scan:{n} is in Redis");
            }
        }
    }
    let before = cache.snapshot(Instant::now()).promoted;
    for n in 300..3000 {
        assert!(get_far(&cache, &format!("scan:{n}")).await.is_some());
    }
    let promoted = cache.snapshot(Instant::now()).promoted - before;
    assert!(promoted < 300, "a key seen once stays down: {promoted} went up");
    let kept = (0..150).filter(|n| get_near(&cache, &format!("scan:{n}")).is_some()).count();
    assert!(kept > 120, "{kept} of 150 busy keys are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_and_is_pushed_out_goes_down() {
    let Some(server) = server::Server::or_skip().await else { return };
    let mut settings = tiered(256 << 10);
    settings.writes = WritePolicy::Demote;
    settings.demote_remaining = MINUTE / 2;
    let cache = cache_with(settings, guarded(), redis(&server.url()));
    ready(&cache).await;
    // A hundredth of a shard, what is left to those that are not used, holds some of this size. Where it holds none,
    // every entry that is pushed out counts as used.
    let value = "v".repeat(50);
    // What fills an empty tier counts as used until it has been passed over once.
    for n in 0..2000 {
        put(&cache, &format!("first{n}"), &value);
    }
    for n in 0..6000 {
        put(&cache, &format!("k{n}"), &value);
        // Even ones are used, odd ones are not.
        for _ in 0..3 {
            if n % 2 == 0 {
                cache.near(&format!("k{n}"), Instant::now());
            }
        }
        if n % 200 == 0 {
            cache.flush().await;
        }
    }
    cache.flush().await;
    let seen = cache.snapshot(Instant::now());
    assert!(seen.demoted > 50, "{seen:?}");
    assert_eq!(seen.writes.stored, seen.demoted);
    let used = server.text(&["KEYS", "t:3:e:k*[02468]"]).await.matches("t:3:e:").count();
    let unused = server.text(&["KEYS", "t:3:e:k*[13579]"]).await.matches("t:3:e:").count();
    assert!(used > 50 && unused < used / 4, "{used} used, {unused} unused");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_redis_already_does_not_go_down_again() {
    let Some(server) = server::Server::or_skip().await else { return };
    let cache = cache_with(tiered(64 << 10), guarded(), redis(&server.url()));
    ready(&cache).await;
    for n in 0..400 {
        put(&cache, &format!("k{n}"), &"v".repeat(1000));
        cache.near(&format!("k{n}"), Instant::now());
        cache.near(&format!("k{n}"), Instant::now());
    }
    cache.flush().await;
    let seen = cache.snapshot(Instant::now());
    assert!(seen.near.evictions.room > 100 && seen.demoted == 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_drops_and_counts() {
    let Some(server) = server::Server::or_skip().await else { return };
    let mut settings = tiered(1 << 20);
    settings.queue_entries = 8;
    let cache = cache_with(settings, guarded(), redis(&server.url()));
    ready(&cache).await;
    server.freeze();
    for n in 0..100 {
        assert_eq!(cache.put(format!("k{n}"), item("v"), None, Instant::now()), Put::Stored);
    }
    let writes = cache.snapshot(Instant::now()).writes;
    assert!(writes.dropped >= 80 && writes.queued <= 12, "{writes:?}");
    // All of them are in memory all the same.
    assert!((0..100).all(|n| get_near(&cache, &format!("k{n}")).is_some()));
    server.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_reach_both_tiers() {
    let Some(server) = server::Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    tracked(&cache).await;
    let fill = || async {
        for key in ["acme:1", "acme:2", "other:1"] {
            put(&cache, key, "v");
        }
        cache.flush().await;
    };
    let left = || async {
        let mut left = Vec::new();
        for key in ["acme:1", "acme:2", "other:1"] {
            let (near, far) = (get_near(&cache, key).is_some(), server.value(&name(key)).await.is_some());
            assert_eq!(near, far, "{key}");
            left.extend(near.then_some(key));
        }
        left
    };
    fill().await;
    assert_eq!(cache.purge(&Purge::Scope("acme".into())).await.unwrap(), (2, 2));
    assert_eq!(left().await, ["other:1"]);
    fill().await;
    assert_eq!(cache.purge(&Purge::Prefix(b"other:"[..].into())).await.unwrap(), (1, 1));
    assert_eq!(left().await, ["acme:1", "acme:2"]);
    fill().await;
    assert_eq!(cache.purge(&Purge::Key(b"acme:1"[..].into())).await.unwrap(), (1, 1));
    assert_eq!(left().await, ["acme:2", "other:1"]);
    fill().await;
    assert_eq!(cache.purge(&Purge::All).await.unwrap(), (3, 3));
    assert_eq!(left().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn o05_with_a_lease_two_processes_compute_once() {
    let Some(server) = server::Server::or_skip().await else { return };
    let mut settings = tiered(1 << 20);
    settings.lease = Some(Duration::from_secs(10));
    // A machine so busy that Redis seems slow would make each compute for itself, as it should.
    let patient = GuardedSettings {
        get: Duration::from_secs(5),
        slow: Duration::from_secs(5),
        ..GuardedSettings::default()
    };
    let caches: Vec<_> = (0..2).map(|_| cache_with(settings, patient, redis(&server.url()))).collect();
    for cache in &caches {
        ready(cache).await;
    }
    static LOADS: AtomicU32 = AtomicU32::new(0);
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let cache = caches[n % 2].clone();
        callers.spawn(async move {
            let load = || async {
                LOADS.fetch_add(1, SeqCst);
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, std::io::Error>(Loaded::from(Value::from(*b"answer")))
            };
            cache.get_or_load(&"k".to_owned(), Lifetime::fresh(MINUTE), load).await.unwrap().value
        });
    }
    while let Some(value) = callers.join_next().await {
        assert_eq!(&*value.unwrap(), b"answer");
    }
    assert_eq!(LOADS.load(SeqCst), 1);
    let looks: u64 = caches.iter().map(|cache| far(cache).hits + far(cache).misses).sum();
    assert!(looks < 100, "{looks} look-ups of 1,000 callers went to Redis");
    assert_eq!(server.text(&["EXISTS", "t:3:l:k"]).await, ":0\r\n", "the lease was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_holder_does_not_keep_a_lease() {
    let Some(server) = server::Server::or_skip().await else { return };
    let mut settings = tiered(1 << 20);
    settings.lease = Some(Duration::from_millis(200));
    let cache = cache_with(settings, guarded(), redis(&server.url()));
    ready(&cache).await;
    // Somebody took it and died.
    server.text(&["SET", "t:3:l:k", "0123", "PX", "200"]).await;
    let load = || async { Ok::<_, std::io::Error>(Loaded::from(Value::from(*b"mine"))) };
    let found = cache.get_or_load(&"k".to_owned(), Lifetime::fresh(MINUTE), load).await.unwrap();
    assert_eq!((&*found.value, found.place), (&b"mine"[..], Place::Computed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_somebody_else_is_not_given_back() {
    use chimera_cache::{Lease, Tier as _};
    let Some(server) = server::Server::or_skip().await else { return };
    let tier = Tier::start("l2", redis(&server.url()), TextCodec::new()).unwrap();
    until("connected", || tier.snapshot(Instant::now()).up).await;
    let key = "k".to_owned();
    let mut granted = Lease::Unknown;
    while !matches!(granted, Lease::Granted(_)) {
        granted = tier.lease(&key, MINUTE).await.unwrap_or(Lease::Unknown);
    }
    assert_eq!(tier.lease(&key, MINUTE).await.unwrap(), Lease::Taken);
    tier.release(&key, 1).await.unwrap();
    assert_eq!(tier.lease(&key, MINUTE).await.unwrap(), Lease::Taken);
    // R11: a script cache that is lost is no matter.
    server.text(&["SCRIPT", "FLUSH"]).await;
    let Lease::Granted(token) = granted else { unreachable!() };
    tier.release(&key, token).await.unwrap();
    assert!(matches!(tier.lease(&key, MINUTE).await.unwrap(), Lease::Granted(_)));
}
