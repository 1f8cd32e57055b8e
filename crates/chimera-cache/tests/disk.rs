//! The tier in a file: over restarts, crashes and damage.
#![cfg(feature = "disk")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use chimera_cache::{
    DiskError, DiskSettings, DiskTier, Guarded, GuardedSettings, Item, Lifetime, MemorySettings, Purge,
    SharedTier, TextCodec, TieredCache, TieredSettings,
};

type Value = Arc<[u8]>;
type Cache = TieredCache<String, Value>;

const MINUTE: Duration = Duration::from_secs(60);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("chimera-disk-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("cache.redb")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn settings(path: &Path) -> DiskSettings {
    let mut settings = DiskSettings::new(path, 4 << 20, [9; 32]);
    settings.max_value = 256 << 10;
    settings
}

fn open_with(settings: DiskSettings) -> Result<Cache, DiskError> {
    let tier = DiskTier::open("disk", settings, TextCodec::new())?;
    // A busy machine is no slow disk.
    let limits = GuardedSettings {
        get: Duration::from_secs(10),
        slow: Duration::from_secs(5),
        write: Duration::from_secs(10),
        ..GuardedSettings::default()
    };
    let tier = SharedTier::new(Guarded::new("disk", tier, limits).unwrap());
    let weigh = |key: &String, item: &Item<Value>| key.len() + item.value.len();
    let near = MemorySettings::new("l1", 1 << 20, 300 << 10);
    Ok(TieredCache::with_far(TieredSettings::new(near), TextCodec::new(), weigh, tier).unwrap())
}

fn open(path: &Path) -> Cache {
    open_with(settings(path)).unwrap()
}

async fn put(cache: &Cache, key: &str, value: &[u8]) {
    let item = Item::new(value.into(), Lifetime::fresh(MINUTE), Duration::ZERO);
    cache.put(key.to_owned(), item, None, Instant::now());
    cache.flush().await;
}

async fn get_far(cache: &Cache, key: &str) -> Option<Vec<u8>> {
    Some(cache.far(&key.to_owned(), Instant::now()).await?.value.to_vec())
}

/// The writer's tasks hold the tier until the runtime has dropped them.
async fn closed(cache: Cache, path: &Path) {
    drop(cache);
    let began = Instant::now();
    loop {
        match DiskTier::<String, Value>::open("disk", settings(path), TextCodec::new()) {
            Err(DiskError::InUse) if began.elapsed() < Duration::from_secs(20) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => return drop(other.unwrap()),
        }
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart_with_its_age() {
    let folder = Folder::new();
    let cache = open(&folder.file());
    put(&cache, "acme:1", b"one").await;
    put(&cache, "acme:1", b"two").await;
    closed(cache, &folder.file()).await;
    let cache = open(&folder.file());
    let found = cache.far(&"acme:1".to_owned(), Instant::now()).await.unwrap();
    assert_eq!(&*found.value, b"two");
    assert!(found.fresh_for() <= MINUTE);
    let far = cache.snapshot(Instant::now()).far.unwrap();
    assert_eq!((far.tier, far.up, far.entries), ("disk", true, 1));
}

#[tokio::test]
async fn a_copy_of_the_file_as_a_crash_would_leave_it_is_whole() {
    let folder = Folder::new();
    let cache = open(&folder.file());
    put(&cache, "a", b"durable").await;
    // A removal is durable at once, and everything before it.
    cache.remove(&"absent".to_owned()).await;
    cache.flush().await;
    put(&cache, "b", b"perhaps").await;
    let crashed = folder.0.join("crashed.redb");
    fs::copy(folder.file(), &crashed).unwrap();
    let after = open(&crashed);
    assert_eq!(get_far(&after, "a").await.as_deref(), Some(&b"durable"[..]));
    assert!(!folder.0.join("crashed.redb.damaged").exists());
}

#[tokio::test]
async fn a_file_that_is_cut_or_overwritten_is_moved_aside_and_costs_misses() {
    let damages: [fn(&Path); 4] = [
        |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1000).unwrap(),
        |path| {
            let length = fs::metadata(path).unwrap().len();
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
        },
        |path| fs::write(path, b"this is no database at all, and never was one").unwrap(),
        |path| {
            let length = fs::metadata(path).unwrap().len() as usize;
            fs::write(path, noise(7, length)).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let folder = Folder::new();
        let cache = open(&folder.file());
        for key in 0..50 {
            put(&cache, &key.to_string(), &noise(key, 10_000)).await;
        }
        closed(cache, &folder.file()).await;
        damage(&folder.file());
        let cache = open(&folder.file());
        for key in 0..50 {
            let found = get_far(&cache, &key.to_string()).await;
            assert!(found.is_none() || found == Some(noise(key, 10_000)), "damage {number}: another's value");
        }
        put(&cache, "again", b"v").await;
        assert_eq!(get_far(&cache, "again").await.as_deref(), Some(&b"v"[..]), "damage {number}");
    }
}

#[tokio::test]
async fn r07_bytes_changed_in_place_are_never_a_value() {
    let folder = Folder::new();
    let cache = open(&folder.file());
    for key in 0..20 {
        put(&cache, &key.to_string(), &noise(key, 20_000)).await;
    }
    closed(cache, &folder.file()).await;
    let mut bytes = fs::read(folder.file()).unwrap();
    for at in (4096..bytes.len()).step_by(10_007) {
        bytes[at] ^= 0x55;
    }
    fs::write(folder.file(), &bytes).unwrap();
    let cache = open(&folder.file());
    for key in 0..20 {
        let found = get_far(&cache, &key.to_string()).await;
        assert!(found.is_none() || found == Some(noise(key, 20_000)));
    }
}

#[tokio::test]
async fn values_under_another_secret_are_misses() {
    let folder = Folder::new();
    let cache = open(&folder.file());
    put(&cache, "k", b"v").await;
    closed(cache, &folder.file()).await;
    let mut other = DiskSettings::new(folder.file(), 4 << 20, [1; 32]);
    other.max_value = 256 << 10;
    let cache = open_with(other).unwrap();
    assert_eq!(get_far(&cache, "k").await, None);
    assert_eq!(cache.snapshot(Instant::now()).far.unwrap().flawed, 1);
}

#[tokio::test]
async fn m01_what_came_first_makes_room() {
    let folder = Folder::new();
    let cache = open(&folder.file());
    for key in 0..100 {
        put(&cache, &key.to_string(), &noise(key, 100_000)).await;
    }
    let far = cache.snapshot(Instant::now()).far.unwrap();
    assert!(far.bytes <= 4 << 20 && far.entries < 42, "{far:?}");
    assert_eq!(get_far(&cache, "0").await, None);
    assert_eq!(get_far(&cache, "99").await, Some(noise(99, 100_000)));
    let length = fs::metadata(folder.file()).unwrap().len();
    assert!(length < 16 << 20, "the file has {length} bytes");
}

#[tokio::test]
async fn purges_select_as_elsewhere() {
    let folder = Folder::new();
    let cache = open(&folder.file());
    for key in ["acme:1", "acme:2", "other:1", "other:2"] {
        put(&cache, key, b"v").await;
    }
    assert_eq!(cache.purge(&Purge::Scope("acme".into())).await.unwrap(), (2, 2));
    assert_eq!(cache.purge(&Purge::Key((*b"other:1").into())).await.unwrap(), (1, 1));
    assert_eq!(get_far(&cache, "other:2").await.as_deref(), Some(&b"v"[..]));
    assert_eq!(cache.purge(&Purge::Prefix((*b"ot").into())).await.unwrap().1, 1);
    put(&cache, "x", b"v").await;
    assert_eq!(cache.purge(&Purge::All).await.unwrap(), (1, 1));
}

#[tokio::test]
async fn one_process_at_a_time_and_settings_are_named() {
    let folder = Folder::new();
    let _cache = open(&folder.file());
    let again = DiskTier::<String, Value>::open("disk", settings(&folder.file()), TextCodec::new());
    assert!(matches!(again, Err(DiskError::InUse)));
    let nowhere = settings(Path::new("/nonexistent/cache.redb"));
    assert!(matches!(open_with(nowhere), Err(DiskError::Unusable(_))));
    let mut small = settings(&folder.file());
    small.max_bytes = 1;
    assert_eq!(small.validate().unwrap_err().field, "max_bytes");
}

#[tokio::test]
async fn what_is_too_large_takes_the_value_before_it_away() {
    let folder = Folder::new();
    let cache = open(&folder.file());
    put(&cache, "k", b"old").await;
    assert!(get_far(&cache, "k").await.is_some());
    put(&cache, "k", &noise(1, 260 << 10)).await;
    assert_eq!(get_far(&cache, "k").await, None);
}
