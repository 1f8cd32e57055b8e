//! What a cache of some size would have made of a trace: to size one before paying for it.
//!
//! A trace is read with [`read_trace`], then replayed with [`replay`] against a [`TieredCache`] as it is: its
//! near tier, and behind it, if asked for, a far one that holds a number of bytes.

use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    time::{Duration, Instant},
};

use crate::{
    error::SettingsError,
    found::Place,
    item::{Item, Lifetime},
    memory::MemoryTier,
    purge::Labels,
    settings::{MemorySettings, TieredSettings},
    tier::SharedTier,
    tiered::TieredCache,
};

/// One look-up of a trace; what is not found is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Since the trace began.
    pub at: Duration,
    /// What is looked for.
    pub key: u64,
}

/// What of a line of a Mooncake trace is one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// The whole request: an entry is an answer.
    #[default]
    Requests,
    /// Each block of its prompt: an entry is a part of a prompt.
    Blocks,
}

/// A line that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TraceError {
    /// Its number, from one.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads a trace: lines of JSON with `timestamp` (milliseconds) and `hash_ids`, as Mooncake's traces have
/// them, or one key on each line.
pub fn read_trace(text: &str, unit: Unit) -> Result<Vec<Access>, TraceError> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut accesses = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line = line.trim();
        if !line.starts_with('{') {
            accesses.push(Access { at: Duration::ZERO, key: hasher.hash_one(line) });
            continue;
        }
        let wrong = |why| TraceError { line: number + 1, why };
        let ids = ids(line).ok_or(wrong("there are no whole numbers in hash_ids"))?;
        let at = member(line, "timestamp").and_then(|text| leading_number(text.trim_start()));
        let at = Duration::from_millis(at.ok_or(wrong("there is no timestamp in milliseconds"))?);
        match unit {
            Unit::Requests => accesses.push(Access { at, key: hasher.hash_one(&ids) }),
            Unit::Blocks => accesses.extend(ids.into_iter().map(|key| Access { at, key })),
        }
    }
    Ok(accesses)
}

/// What follows a member's name and colon. Traces hold numbers and lists of numbers only.
fn member<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\""))?;
    rest.trim_start().strip_prefix(':')
}

fn leading_number(text: &str) -> Option<u64> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn ids(line: &str) -> Option<Vec<u64>> {
    let (list, _) = member(line, "hash_ids")?.trim_start().strip_prefix('[')?.split_once(']')?;
    list.split(',').map(str::trim).filter(|id| !id.is_empty()).map(|id| id.parse().ok()).collect()
}

/// The cache that a trace is replayed against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Simulated {
    /// Bytes of the near tier.
    pub near_bytes: u64,
    /// Bytes of the far tier; zero for none.
    pub far_bytes: u64,
    /// Bytes of one entry.
    pub entry_bytes: u64,
    /// The largest entry that a tier would take. The more of these fit into it, the finer it is divided, and the sooner
    /// some part of it is full while others are not.
    pub max_entry_bytes: u64,
    /// How long an entry is fresh.
    pub ttl: Duration,
}

/// Where look-ups ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// In the near tier.
    pub near: u64,
    /// In the far tier.
    pub far: u64,
    /// Nowhere.
    pub misses: u64,
}

impl Replayed {
    /// Hits as a share of look-ups.
    pub fn hit_rate(&self) -> f64 {
        let hits = self.near + self.far;
        hits as f64 / (hits + self.misses).max(1) as f64
    }
}

struct Numbers;

impl Labels<u64, u64> for Numbers {
    fn write_key(&self, key: &u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&key.to_be_bytes());
    }
}

/// Replays a trace. Every write goes through to the far tier before the next look-up, so that the result is
/// the same each time but for the hash seeds of the tiers.
pub async fn replay(trace: &[Access], simulated: Simulated) -> Result<Replayed, SettingsError> {
    let largest = simulated.max_entry_bytes.max(2 * simulated.entry_bytes + 1024);
    let memory = |name, bytes: u64| MemorySettings {
        expected_entry_bytes: simulated.entry_bytes.max(1),
        ..MemorySettings::new(name, bytes, largest.min(bytes / 2))
    };
    // Values are their own weights.
    let weigh = |_: &u64, item: &Item<u64>| usize::try_from(item.value).unwrap_or(usize::MAX);
    let settings = TieredSettings::new(memory("near", simulated.near_bytes));
    let cache = match simulated.far_bytes {
        0 => TieredCache::new(settings, Numbers, weigh)?,
        bytes => {
            let far = MemoryTier::new(memory("far", bytes), weigh)?;
            TieredCache::with_far(settings, Numbers, weigh, SharedTier::new(far))?
        }
    };
    let (began, lifetime) = (Instant::now(), Lifetime::fresh(simulated.ttl));
    let mut replayed = Replayed::default();
    for access in trace {
        let now = began + access.at;
        match cache.get(&access.key, now).await {
            Some(found) if found.place == Place::Near => replayed.near += 1,
            Some(_) => replayed.far += 1,
            None => {
                replayed.misses += 1;
                let item = Item::new(simulated.entry_bytes, lifetime, Duration::ZERO);
                cache.put_through(access.key, item, None, now).await;
            }
        }
    }
    Ok(replayed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn with(near_entries: u64, far_entries: u64) -> Simulated {
        let entry = 1000 + 200;
        let (near_bytes, far_bytes) = (near_entries * entry, far_entries * entry);
        Simulated { near_bytes, far_bytes, entry_bytes: 1000, max_entry_bytes: 0, ttl: HOUR }
    }

    fn cycle(keys: u64, rounds: u64) -> Vec<Access> {
        (0..keys * rounds).map(|n| Access { at: Duration::ZERO, key: n % keys }).collect()
    }

    #[test]
    fn traces_of_both_kinds_are_read() {
        let line = r#"{"timestamp": 1500, "input_length": 9, "output_length": 5, "hash_ids": [3, 4]}"#;
        let at = Duration::from_millis(1500);
        assert_eq!(read_trace(line, Unit::Blocks).unwrap(), [Access { at, key: 3 }, Access { at, key: 4 }]);
        assert_eq!(read_trace(line, Unit::Requests).unwrap().len(), 1);
        let plain = read_trace("a\nb\n\na\n", Unit::Requests).unwrap();
        assert_eq!(plain.len(), 3);
        assert!(plain[0] == plain[2] && plain[0] != plain[1]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for wrong in [r#"{"timestamp": 1}"#, r#"{"hash_ids": [1]}"#, r#"{"timestamp": 1, "hash_ids": [x]}"#] {
            let error = read_trace(&format!("a\n{wrong}\n"), Unit::Blocks).unwrap_err();
            assert_eq!(error.line, 2, "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_fits_is_missed_once() {
        let trace = cycle(100, 10);
        let replayed = replay(&trace, with(300, 0)).await.unwrap();
        assert_eq!((replayed.near, replayed.far, replayed.misses), (900, 0, 100));
        assert!((replayed.hit_rate() - 0.9).abs() < 1e-9);
    }

    #[tokio::test]
    async fn a_far_tier_catches_what_the_near_one_has_no_room_for() {
        let trace = cycle(1000, 10);
        let alone = replay(&trace, with(100, 0)).await.unwrap();
        let both = replay(&trace, with(100, 3000)).await.unwrap();
        assert!(alone.hit_rate() < 0.5, "{alone:?}");
        assert_eq!(both.misses, 1000, "{both:?}");
        assert!(both.far > 0);
    }

    #[tokio::test]
    async fn what_is_past_its_time_is_missed() {
        let late = [0, 1, 3601, 3602].map(|at| Access { at: Duration::from_secs(at), key: 1 });
        let replayed = replay(&late, with(100, 0)).await.unwrap();
        assert_eq!((replayed.near, replayed.misses), (2, 2));
    }
}
