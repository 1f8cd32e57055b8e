//! How sure a mean is.

use serde::Serialize;

/// A mean of scores with its 95 % interval.
///
/// The interval is Wilson's for a share, taken for scores from zero to one: their spread is at most that of
/// right-or-wrong scores with the same mean, so the interval is never too short for want of assuming, and
/// twenty right answers of twenty are not taken for certainty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Where the interval begins.
    pub low: f64,
    /// Where it ends.
    pub high: f64,
    /// How many scores there were.
    pub count: usize,
}

impl Estimate {
    /// The estimate of some scores; none without any.
    pub fn of(scores: impl IntoIterator<Item = f64>) -> Option<Self> {
        let (count, sum) =
            scores.into_iter().fold((0usize, 0.0), |(count, sum), score| (count + 1, sum + score));
        if count == 0 {
            return None;
        }
        let (n, z) = (count as f64, 1.959_964);
        let mean = sum / n;
        let (bent, scale) = (z * z / n, 1.0 + z * z / n);
        let middle = (mean + bent / 2.0) / scale;
        let reach = z / scale * ((mean * (1.0 - mean)).max(0.0) / n + bent / (4.0 * n)).sqrt();
        Some(Self { mean, low: (middle - reach).max(0.0), high: (middle + reach).min(1.0), count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        let half = Estimate::of((0..20).map(|n| f64::from(n % 2))).unwrap();
        assert!((half.low - 0.2993).abs() < 1e-3 && (half.high - 0.7007).abs() < 1e-3, "{half:?}");
        let all = Estimate::of([1.0; 20]).unwrap();
        assert!((all.low - 0.8389).abs() < 1e-3 && all.high == 1.0, "{all:?}");
        assert_eq!(Estimate::of([]), None);
    }
}
