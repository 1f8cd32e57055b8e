//! Keys in the order in which they are asked for, the same on every run.

/// A generator of numbers that is the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Keys drawn by a power law from `keys` of them.
pub(crate) fn zipf(keys: u64, power: f64, length: usize, seed: u64) -> Vec<u64> {
    let mut sums = Vec::with_capacity(keys as usize);
    let mut sum = 0.0;
    for rank in 1..=keys {
        sum += (rank as f64).powf(-power);
        sums.push(sum);
    }
    let mut random = Random(seed);
    (0..length)
        .map(|_| {
            let drawn = random.next() * sum;
            sums.partition_point(|at| *at < drawn) as u64
        })
        .collect()
}

/// A busy set, with scans of what never comes again and a loop that does not fit.
pub(crate) fn scan_and_loop(length: usize) -> Vec<u64> {
    let busy = zipf(20_000, 0.9, length, 11);
    let mut fresh = 1 << 40;
    busy.into_iter()
        .enumerate()
        .map(|(at, key)| match at % 10 {
            0..6 => key,
            6..8 => {
                fresh += 1;
                fresh
            }
            _ => (1 << 30) + (at as u64 / 10) % 6_000,
        })
        .collect()
}
