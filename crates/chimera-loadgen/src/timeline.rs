//! How a run went over time, in a bounded number of rows.

use serde::Serialize;

use crate::tally::Tally;

/// More rows become half as many, each of two.
const MOST: usize = 1200;

/// One stretch of a run. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Row {
    /// When it ended, since the run began.
    pub at: f64,
    /// How long it was.
    pub seconds: f64,
    /// Requests that were to start, a second.
    pub offered: f64,
    /// Good answers, a second.
    pub throughput: f64,
    /// Failed requests.
    pub failed: u64,
    /// Median of the latencies.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
}

impl Row {
    pub(crate) fn of(tally: &Tally, at: f64, seconds: f64) -> Self {
        let all = tally.all();
        let span = seconds.max(1e-9);
        Self {
            at,
            seconds,
            offered: tally.offered as f64 / span,
            throughput: all.ok as f64 / span,
            failed: all.failed(),
            p50: all.latency.percentile(50.0),
            p95: all.latency.percentile(95.0),
            p99: all.latency.percentile(99.0),
        }
    }

    /// Of two rows: percentiles are the worse ones.
    fn and(&self, later: &Self) -> Self {
        let seconds = self.seconds + later.seconds;
        let mean = |a: f64, b: f64| (a * self.seconds + b * later.seconds) / seconds.max(1e-9);
        let worse = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (one, other) => one.or(other),
        };
        Self {
            at: later.at,
            seconds,
            offered: mean(self.offered, later.offered),
            throughput: mean(self.throughput, later.throughput),
            failed: self.failed + later.failed,
            p50: worse(self.p50, later.p50),
            p95: worse(self.p95, later.p95),
            p99: worse(self.p99, later.p99),
        }
    }
}

/// The rows so far.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    rows: Vec<Row>,
    /// How many of the rows that come make one that is kept.
    each: usize,
    /// Of those, how many the last row has.
    has: usize,
}

impl Timeline {
    pub(crate) fn push(&mut self, row: Row) {
        let each = self.each.max(1);
        match self.rows.last_mut() {
            Some(last) if self.has < each => {
                *last = last.and(&row);
                self.has += 1;
            }
            _ => {
                if self.rows.len() == MOST {
                    let pairs = self.rows.chunks(2).filter_map(|pair| match pair {
                        [one, other] => Some(one.and(other)),
                        [one] => Some(*one),
                        _ => None,
                    });
                    self.rows = pairs.collect();
                    self.each = each * 2;
                }
                self.rows.push(row);
                self.has = 1;
            }
        }
    }

    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }
}

/// The median of the last third's medians over that of the first third's.
pub(crate) fn drift(rows: &[Row]) -> Option<f64> {
    let medians: Vec<f64> = rows.iter().filter_map(|row| row.p50).collect();
    let third = medians.len() / 3;
    if third == 0 {
        return None;
    }
    let median = |part: &[f64]| {
        let mut part = part.to_vec();
        part.sort_by(f64::total_cmp);
        part.get(part.len() / 2).copied()
    };
    let first = median(medians.get(..third)?)?;
    let last = median(medians.get(medians.len() - third..)?)?;
    (first > 0.0).then_some(last / first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(at: u32, p50: f64) -> Row {
        Row { at: f64::from(at), seconds: 1.0, offered: 10.0, failed: 1, p50: Some(p50), ..Row::default() }
    }

    #[test]
    fn a_long_run_has_no_more_rows_than_a_short_one() {
        let mut timeline = Timeline::default();
        (1..=100_000).for_each(|at| timeline.push(row(at, 0.1)));
        let rows = timeline.rows();
        assert!(rows.len() <= MOST);
        assert_eq!(rows.iter().map(|row| row.failed).sum::<u64>(), 100_000);
        assert!((rows.iter().map(|row| row.seconds).sum::<f64>() - 1e5).abs() < 1e-3);
        assert!((rows.last().unwrap().at - 1e5).abs() < 1e-9);
    }

    #[test]
    fn drift_is_the_end_over_the_beginning() {
        let rows: Vec<_> = (0..9).map(|at| row(at, if at < 5 { 0.1 } else { 0.3 })).collect();
        assert!((drift(&rows).unwrap() - 3.0).abs() < 1e-9);
        assert_eq!(drift(&rows[..2]), None);
    }
}
