//! When a candidate is given up before it was tried on everything.

/// Examples that are tried before anything is decided, and between decisions.
pub(crate) const RUNG: usize = 8;

/// How many standard errors below the best is clearly worse.
const CLEARLY: f64 = 2.0;

/// Whether a candidate is clearly worse than the best, by pairs of its scores and the best's on the same
/// examples, of `total` there are. Half a point of doubt is added, so that few examples decide nothing.
pub(crate) fn is_hopeless(pairs: &[(f64, f64)], total: usize) -> bool {
    let count = pairs.len() as f64;
    if pairs.len() < RUNG || total <= pairs.len() {
        return false;
    }
    let mean = pairs.iter().map(|(own, best)| own - best).sum::<f64>() / count;
    let spread = pairs.iter().map(|(own, best)| (own - best - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // What was seen is certain; only the rest is guessed at.
    let rest = (total as f64 - count) / total as f64;
    mean + rest * CLEARLY * (spread / count).sqrt() + 0.5 / count < 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clear_loser_is_given_up_and_a_doubtful_one_is_not() {
        assert!(is_hopeless(&[(0.0, 1.0); 8], 40));
        assert!(!is_hopeless(&[(0.0, 1.0); 7], 40), "too few");
        assert!(!is_hopeless(&[(0.0, 1.0); 40], 40), "nothing is left to save");
        let one_worse: Vec<_> = (0..8).map(|n| (if n == 0 { 0.0 } else { 1.0 }, 1.0)).collect();
        assert!(!is_hopeless(&one_worse, 40));
        let mixed: Vec<_> = (0..8).map(|n| if n % 2 == 0 { (1.0, 0.0) } else { (0.0, 1.0) }).collect();
        assert!(!is_hopeless(&mixed, 40));
    }
}
