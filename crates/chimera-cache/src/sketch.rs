//! How often a key was seen of late, about.

use std::{
    hash::{BuildHasher, Hash},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use foldhash::quality::RandomState;

/// A count-min sketch of small counters that forgets: when it has counted ten times as many as it has
/// counters, each is halved. It overestimates, never underestimates between two halvings.
pub(crate) struct Sketch {
    hasher: RandomState,
    rows: Mutex<Rows>,
}

struct Rows {
    counters: Vec<[u8; ROWS]>,
    counted: usize,
}

const ROWS: usize = 4;

impl Sketch {
    /// Room for about so many keys.
    pub(crate) fn new(keys: usize) -> Self {
        let width = keys.clamp(64, 1 << 20).next_power_of_two();
        let rows = Rows { counters: vec![[0; ROWS]; width], counted: 0 };
        Self { hasher: RandomState::default(), rows: Mutex::new(rows) }
    }

    /// Counts a sight of a key and says how many that makes.
    pub(crate) fn see(&self, key: &impl Hash) -> u8 {
        let hash = self.hasher.hash_one(key);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.age();
        let width = rows.counters.len();
        let mut least = u8::MAX;
        for row in 0..ROWS {
            // Four independent enough places out of one hash, by double hashing.
            let step = (hash >> 32) | 1;
            let place = hash.wrapping_add(step.wrapping_mul(row as u64)) as usize & (width - 1);
            if let Some(counter) = rows.counters.get_mut(place).and_then(|places| places.get_mut(row)) {
                *counter = counter.saturating_add(1);
                least = least.min(*counter);
            }
        }
        least
    }
}

impl Rows {
    fn age(&mut self) {
        self.counted += 1;
        if self.counted < self.counters.len() * 10 {
            return;
        }
        self.counted = 0;
        for counter in self.counters.iter_mut().flatten() {
            *counter /= 2;
        }
    }
}

/// Numbers that look random: splitmix64 over a counter that all threads share. For jitter, not for
/// secrets.
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(RandomState::default().hash_one(0)))
    }

    pub(crate) fn number(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1].
    pub(crate) fn draw(&self) -> f64 {
        ((self.number() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sights_are_counted_and_forgotten() {
        let sketch = Sketch::new(1024);
        assert_eq!((sketch.see(&7), sketch.see(&7), sketch.see(&7)), (1, 2, 3));
        // A scan of keys seen once makes the sketch forget the old.
        for key in 1000..24_000 {
            sketch.see(&key);
        }
        let strangers = (0..100).filter(|n| sketch.see(&(n + 1_000_000)) > 20).count();
        assert_eq!(strangers, 0);
    }

    #[test]
    fn draws_are_uniform_enough() {
        let dice = Dice::new();
        let draws: Vec<f64> = (0..10_000).map(|_| dice.draw()).collect();
        assert!(draws.iter().all(|draw| *draw > 0.0 && *draw <= 1.0));
        let mean = draws.iter().sum::<f64>() / 10_000.0;
        assert!((0.48..0.52).contains(&mean), "{mean}");
    }
}
