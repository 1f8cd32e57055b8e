use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chimera_cache::{MemorySettings, MemoryTier, Put, Tier};

const MINUTE: Duration = Duration::from_secs(60);

type Values = MemoryTier<u64, Arc<[u8]>>;

fn tier(capacity: u64, max_entry: u64) -> Values {
    MemoryTier::new(MemorySettings::new("test", capacity, max_entry), |_, value: &Arc<[u8]>| value.len())
        .unwrap()
}

fn bytes(length: usize) -> Arc<[u8]> {
    vec![1; length].into()
}

#[test]
fn a_value_lives_as_long_as_it_was_given() {
    let (tier, now) = (tier(1 << 20, 1 << 16), Instant::now());
    tier.put(1, bytes(10), MINUTE, now);
    let hit = tier.get(&1, now + Duration::from_secs(59)).unwrap();
    assert_eq!((hit.age.as_secs(), hit.remaining.as_secs()), (59, 1));
    assert!(tier.get(&1, now + MINUTE).is_none());
    let snapshot = tier.snapshot(now);
    assert_eq!((snapshot.entries, snapshot.evictions.expired), (0, 1));
    assert_eq!((snapshot.hits, snapshot.misses), (1, 1));
}

#[test]
fn times_are_exact_whatever_was_there_first() {
    let before = Instant::now() - Duration::from_secs(5);
    let tier = tier(1 << 20, 1 << 16);
    let ttl = Duration::from_nanos(1);
    tier.put(1, bytes(1), ttl, before);
    assert_eq!(tier.get(&1, before).unwrap().remaining, ttl);
    assert!(tier.get(&1, before + ttl).is_none());
    tier.put(2, bytes(1), Duration::MAX, before);
    let hit = tier.get(&2, before + MINUTE).unwrap();
    assert_eq!(hit.age, MINUTE);
    assert!(hit.remaining > Duration::from_secs(100 * 365 * 24 * 3600));
}

/// Each shard has a share of the room. The seed of the hash is the process's: a poor hash shows in one run of many.
#[test]
fn keys_that_are_alike_find_room() {
    let now = Instant::now();
    for _ in 0..20 {
        let tier = tier(3_600_000, 3_000);
        (0..1000).for_each(|key| _ = tier.put(key, bytes(1000), MINUTE, now));
        assert_eq!(tier.snapshot(now).evictions.room, 0);
    }
}

/// A shard of quick_cache refuses what is heavier than its hot part, without a word.
#[test]
fn the_largest_entry_allowed_always_fits() {
    let now = Instant::now();
    for (capacity, max_entry) in
        [(1 << 20, 512 << 10), (64 << 20, 1 << 20), (1 << 20, 700 << 10), (256 << 20, 4 << 20)]
    {
        let tier = tier(capacity, max_entry);
        for key in 0..64 {
            let put = tier.put(key, bytes(max_entry as usize - 256), MINUTE, now);
            assert_eq!(put, Put::Stored);
            assert!(tier.get(&key, now).is_some(), "{capacity} {max_entry} {key}");
        }
    }
}

#[test]
fn what_is_too_heavy_is_refused_and_counted() {
    let (tier, now) = (tier(1 << 20, 1 << 10), Instant::now());
    assert_eq!(tier.put(1, bytes(1 << 10), MINUTE, now), Put::Refused);
    assert_eq!(tier.put(2, bytes(1), Duration::ZERO, now), Put::Refused);
    let snapshot = tier.snapshot(now);
    assert_eq!((snapshot.entries, snapshot.evictions.refused), (0, 2));
}

#[test]
fn a_value_in_place_of_another_is_no_eviction() {
    let (tier, now) = (tier(1 << 20, 1 << 16), Instant::now());
    for length in [10, 20, 30] {
        tier.put(1, bytes(length), MINUTE, now);
    }
    let snapshot = tier.snapshot(now);
    assert_eq!((snapshot.entries, snapshot.evictions), (1, Default::default()));
}

#[test]
fn m01_weight_stays_below_the_capacity_and_evictions_are_counted() {
    let (tier, now) = (tier(1 << 20, 1 << 16), Instant::now());
    for key in 0..10_000 {
        tier.put(key, bytes(1000), MINUTE, now);
        assert!(tier.snapshot(now).bytes <= 1 << 20);
    }
    let snapshot = tier.snapshot(now);
    assert!(snapshot.entries > 500, "{snapshot:?}");
    assert!(snapshot.bytes >= snapshot.entries * 1000);
    assert_eq!(snapshot.evictions.room + snapshot.entries, 10_000);
}

#[test]
fn a_fresh_value_takes_the_place_of_an_old_one() {
    let (tier, now) = (tier(1 << 20, 1 << 16), Instant::now());
    tier.put(1, bytes(1), MINUTE, now);
    tier.put(1, bytes(2), MINUTE, now + Duration::from_secs(30));
    assert_eq!(tier.get(&1, now + MINUTE).unwrap().value.len(), 2);
    assert_eq!(tier.snapshot(now).entries, 1);
}

#[test]
fn entries_are_forgotten_on_request() {
    let (tier, now) = (tier(1 << 20, 1 << 16), Instant::now());
    for key in 0..10 {
        tier.put(key, bytes(1), MINUTE, now);
    }
    assert!(tier.remove(&3));
    assert!(!tier.remove(&3));
    assert_eq!(tier.retain(|key, _| key % 2 == 0), 4);
    tier.clear();
    let snapshot = tier.snapshot(now);
    assert_eq!((snapshot.entries, snapshot.evictions.invalidated), (0, 10));
}

#[test]
fn a_second_look_leaves_no_trace() {
    let (tier, now) = (tier(1 << 20, 1 << 16), Instant::now());
    assert!(tier.peek(&1, now).is_none());
    assert_eq!(tier.snapshot(now).misses, 0);
}

#[test]
fn settings_out_of_range_are_named() {
    let field = |settings: MemorySettings| settings.validate().unwrap_err().field;
    assert_eq!(field(MemorySettings::new("t", 0, 1)), "capacity_bytes");
    assert_eq!(field(MemorySettings::new("t", 100, 80)), "max_entry_bytes");
    assert_eq!(
        field(MemorySettings { expected_entry_bytes: 0, ..MemorySettings::new("t", 100, 50) }),
        "expected_entry_bytes"
    );
}

#[tokio::test]
async fn it_is_a_tier_like_any_other() {
    async fn through(tier: &impl Tier<u64, Arc<[u8]>>) {
        let now = Instant::now();
        assert_eq!(tier.put(1, bytes(3), MINUTE, now).await.unwrap(), Put::Stored);
        assert_eq!(tier.get(&1, now).await.unwrap().unwrap().value.len(), 3);
        assert!(tier.remove(&1).await.unwrap());
        assert_eq!((tier.name(), tier.snapshot(now).hits), ("test", 1));
    }
    through(&tier(1 << 20, 1 << 16)).await;
}

/// A value that grows when it is used.
type Growing = Arc<std::sync::Mutex<Vec<u8>>>;

#[test]
fn m01_a_value_that_has_grown_makes_others_give_way_or_goes_itself() {
    let settings = MemorySettings::new("test", 1 << 20, 1 << 16);
    let tier = MemoryTier::<u64, Growing>::new(settings, |_, value| value.lock().unwrap().len()).unwrap();
    let now = Instant::now();
    let mut values = Vec::new();
    for key in 0..200 {
        let value = Growing::default();
        tier.put(key, value.clone(), MINUTE, now);
        values.push(value);
    }
    let small = tier.snapshot(now);
    assert_eq!((small.entries, small.evictions.room), (200, 0));
    for (key, value) in values.iter().enumerate() {
        value.lock().unwrap().resize(20_000, 0);
        tier.reweigh(&(key as u64));
        assert!(tier.snapshot(now).bytes <= 1 << 20);
    }
    let grown = tier.snapshot(now);
    assert!(grown.entries > 30 && grown.bytes >= grown.entries * 20_000, "{grown:?}");
    assert_eq!(grown.evictions.room + grown.entries, 200);
    let key = (0..200).rev().find(|key| tier.peek(key, now).is_some()).unwrap();
    assert_eq!(tier.peek(&key, now).unwrap().remaining, MINUTE, "its time is what it was");
    values[key as usize].lock().unwrap().resize(1 << 16, 0);
    tier.reweigh(&key);
    assert!(tier.peek(&key, now).is_none(), "heavier than the heaviest allowed");
    tier.reweigh(&key);
    assert_eq!(tier.snapshot(now).evictions.room, grown.evictions.room + 1);
}

#[test]
fn what_is_refused_takes_the_value_before_it_away() {
    let (tier, now) = (tier(1 << 20, 1 << 10), Instant::now());
    for (newer, ttl) in [(bytes(1 << 10), MINUTE), (bytes(1), Duration::ZERO)] {
        assert_eq!(tier.put(1, bytes(1), MINUTE, now), Put::Stored);
        assert_eq!(tier.put(1, newer, ttl, now), Put::Refused);
        assert!(tier.get(&1, now).is_none());
    }
}
