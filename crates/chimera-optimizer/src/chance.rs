//! Seeded chance that stays the same from version to version and from machine to machine: what is drawn is
//! part of a job's result, and a resumed job must draw it again.

/// A stream of numbers (SplitMix64) of one purpose.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The stream number `stream` of a seed. Streams of one seed have nothing to do with each other.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut chance = Self(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        let mixed = chance.number() ^ stream;
        Self(mixed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; zero when `end` is.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() >> 11).checked_rem(end as u64).unwrap_or(0) as usize
    }

    /// A number from zero to less than one.
    pub fn unit(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Puts a list in any order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }

    /// `count` different numbers below `end`, or all of them, in the order drawn.
    pub fn sample(&mut self, end: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..end).collect();
        self.shuffle(&mut all);
        all.truncate(count);
        all
    }

    /// A place in a list, as likely as its weight; none when no weight is above zero.
    pub fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let total: f64 = weights.iter().filter(|weight| **weight > 0.0).sum();
        if total <= 0.0 {
            return None;
        }
        let mut left = self.unit() * total;
        let mut last = None;
        for (place, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            last = Some(place);
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_stream_give_the_same_numbers_for_ever() {
        let mut chance = Chance::new(7, 1);
        let drawn = [chance.number(), chance.number()];
        let mut again = Chance::new(7, 1);
        assert_eq!(drawn, [again.number(), again.number()]);
        assert_ne!(drawn[0], Chance::new(7, 2).number());
        assert_ne!(drawn[0], Chance::new(8, 1).number());
    }

    #[test]
    fn weights_decide() {
        let mut chance = Chance::new(1, 1);
        let mut seen = [0; 3];
        for _ in 0..9000 {
            seen[chance.weighted(&[1.0, 0.0, 2.0]).unwrap()] += 1;
        }
        assert_eq!(seen[1], 0);
        assert!((2700..3300).contains(&seen[0]), "{seen:?}");
        assert_eq!(chance.weighted(&[0.0, -1.0]), None);
    }

    #[test]
    fn samples_are_different_places() {
        let mut drawn = Chance::new(3, 3).sample(10, 10);
        drawn.sort_unstable();
        assert_eq!(drawn, (0..10).collect::<Vec<_>>());
        assert_eq!(Chance::new(3, 3).sample(2, 10).len(), 2);
        assert_eq!(Chance::new(3, 3).below(0), 0);
    }
}
