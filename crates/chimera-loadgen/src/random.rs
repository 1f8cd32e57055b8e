//! Numbers that look random and come again for the same seed.

/// A generator whose state is a counter (SplitMix64): good enough for arrivals and choices, and cheap.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number from 0 to just below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A pause between arrivals of a Poisson process that comes `rate` times a second.
    pub(crate) fn pause(&mut self, rate: f64) -> f64 {
        -(1.0 - self.unit()).ln() / rate
    }
}

/// Spreads the bits of a number over all bits.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Picks one of several, each as often as its weight says.
#[derive(Debug, Clone)]
pub(crate) struct Weighted(Vec<f64>);

impl Weighted {
    /// Weights must be above zero.
    pub(crate) fn new(weights: impl IntoIterator<Item = f64>) -> Self {
        let mut sum = 0.0;
        let sums = weights.into_iter().map(|weight| {
            sum += weight;
            sum
        });
        Self(sums.collect())
    }

    /// Zipf's law: the `k`th of `n` is asked for as often as `1 / k^exponent` says.
    pub(crate) fn zipf(n: u32, exponent: f64) -> Self {
        Self::new((1..=n).map(|rank| f64::from(rank).powf(-exponent)))
    }

    pub(crate) fn pick(&self, random: &mut Random) -> usize {
        let Some(all) = self.0.last() else { return 0 };
        let at = random.unit() * all;
        self.0.partition_point(|sum| *sum <= at).min(self.0.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_pauses_have_the_mean_and_the_spread_of_the_law() {
        let mut random = Random::new(7);
        let pauses: Vec<f64> = (0..100_000).map(|_| random.pause(50.0)).collect();
        let mean = pauses.iter().sum::<f64>() / 1e5;
        let variance = pauses.iter().map(|pause| (pause - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 0.02).abs() < 0.0004, "{mean}");
        assert!((variance.sqrt() - 0.02).abs() < 0.0006, "{variance}");
    }

    #[test]
    fn weights_are_kept() {
        let weighted = Weighted::new([1.0, 3.0]);
        let mut random = Random::new(1);
        let second = (0..100_000).filter(|_| weighted.pick(&mut random) == 1).count();
        assert!((74_000..76_000).contains(&second), "{second}");
    }

    #[test]
    fn zipf_asks_for_the_first_twice_as_often_as_for_the_second() {
        let zipf = Weighted::zipf(1000, 1.0);
        let mut random = Random::new(3);
        let mut counts = [0_f64; 1000];
        for _ in 0..400_000 {
            counts[zipf.pick(&mut random)] += 1.0;
        }
        assert!((counts[0] / counts[1] - 2.0).abs() < 0.1, "{counts:?}");
        assert!((counts[0] / counts[9] - 10.0).abs() < 1.0);
    }
}
