//! The last hour: a row every five seconds, and never more than 720 of them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::totals::{COLUMNS, Span, Totals};

/// How often a row is added.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// How many rows are kept.
pub(crate) const ROWS: usize = 720;
/// Over how long the live rates are taken, at least and about.
const LIVE: Duration = Duration::from_secs(10);

/// One look.
#[derive(Debug, Clone)]
struct Look {
    at: Instant,
    totals: Arc<Totals>,
}

/// The history of the last hour.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Looks that ended a row, oldest first: one more than there are rows.
    looks: VecDeque<Look>,
    /// Looks of the last seconds.
    recent: VecDeque<Look>,
    rows: VecDeque<Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// Seconds since 1970.
    time: u64,
    values: [Option<f64>; COLUMNS.len()],
}

/// What a look shows.
pub(crate) struct Shown {
    /// The last seconds.
    pub(crate) now: Span,
    /// The last hour.
    pub(crate) hour: Span,
    /// The row that it added, if it did.
    pub(crate) row: Option<Value>,
}

impl History {
    /// Takes in a look at `at`, which is `time` seconds after 1970.
    pub(crate) fn add(&mut self, totals: Totals, at: Instant, time: u64) -> Shown {
        let look = Look { at, totals: Arc::new(totals) };
        let row = self.add_row(&look, time);
        let oldest = self.looks.front().unwrap_or(&look).clone();
        // Of the looks before the last ten seconds the latest one is the measure.
        while self.recent.get(1).is_some_and(|second| at.duration_since(second.at) >= LIVE) {
            self.recent.pop_front();
        }
        let measure = self.recent.front().unwrap_or(&look).clone();
        self.recent.push_back(look.clone());
        let span =
            |before: &Look| look.totals.since(&before.totals, at.duration_since(before.at).as_secs_f64());
        Shown { now: span(&measure), hour: span(&oldest), row }
    }

    fn add_row(&mut self, look: &Look, time: u64) -> Option<Value> {
        let Some(last) = self.looks.back() else {
            // The console begins with what it looks at: what was counted before the first look counts.
            self.looks.push_back(Look { at: look.at, totals: Arc::default() });
            return None;
        };
        // A tick may come a little early.
        let passed = look.at.duration_since(last.at);
        if passed + Duration::from_millis(200) < EVERY {
            return None;
        }
        let values = look.totals.since(&last.totals, passed.as_secs_f64()).row();
        self.looks.push_back(look.clone());
        self.rows.push_back(Row { time, values });
        if self.rows.len() > ROWS {
            self.rows.pop_front();
            self.looks.pop_front();
        }
        let mut row: serde_json::Map<_, _> =
            COLUMNS.iter().map(|name| (*name).to_owned()).zip(values.map(Value::from)).collect();
        row.insert("time".to_owned(), time.into());
        Some(Value::Object(row))
    }

    /// All rows, by column; times as the first and what each adds, which compresses to nothing.
    pub(crate) fn told(&self) -> Value {
        let mut before = 0;
        let times: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                let more = row.time.saturating_sub(before);
                before = before.max(row.time);
                more
            })
            .collect();
        let columns: BTreeMap<_, Vec<Option<f64>>> = COLUMNS
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let values = self.rows.iter().map(|row| row.values.get(at).copied().flatten());
                (*name, values.collect())
            })
            .collect();
        json!({ "times": times, "columns": columns, "most": ROWS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(requests: u32) -> Totals {
        let page = format!("chimera_requests_total{{route=\"messages\",outcome=\"success\"}} {requests}\n");
        Totals::read(&page, &BTreeMap::new())
    }

    #[tokio::test(start_paused = true)]
    async fn m01_the_history_is_an_hour_and_no_more() {
        let (mut history, began) = (History::default(), Instant::now());
        for n in 0..3000_u32 {
            let at = began + EVERY * n;
            history.add(totals(n * 10), at, u64::from(n) * 5);
        }
        assert_eq!((history.rows.len(), history.looks.len()), (ROWS, ROWS + 1));
        assert!(history.recent.len() < 5);
        let told = history.told();
        let rates = told["columns"]["rate"].as_array().unwrap();
        assert_eq!(rates.len(), ROWS);
        assert!(rates.iter().all(|rate| rate.as_f64() == Some(2.0)), "ten requests in five seconds");
        assert_eq!((told["times"][0].as_u64(), told["times"][1].as_u64()), (Some(2280 * 5), Some(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_counted_before_the_first_look_is_of_the_last_hour_and_makes_no_rate() {
        let (mut history, began) = (History::default(), Instant::now());
        let shown = history.add(totals(7), began, 0);
        assert_eq!(shown.hour.sums()["requests"].as_f64(), Some(7.0));
        assert_eq!(shown.now.told()["rate"].as_f64(), Some(0.0));
        let shown = history.add(totals(7), began + EVERY, 5);
        assert_eq!(shown.row.unwrap()["rate"].as_f64(), Some(1.4));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_between_rows_make_the_live_rates_and_no_rows() {
        let (mut history, began) = (History::default(), Instant::now());
        let mut rows = 0;
        for second in 0..60_u32 {
            // A hundred a second from the thirtieth second on.
            let requests = second.saturating_sub(30) * 100;
            let at = began + Duration::from_secs(u64::from(second));
            let shown = history.add(totals(requests), at, u64::from(second));
            rows += usize::from(shown.row.is_some());
            if second == 45 {
                let now = shown.now.told();
                assert_eq!(now["rate"].as_f64(), Some(100.0), "over the last ten seconds");
                assert_eq!(shown.hour.sums()["requests"].as_f64(), Some(1500.0), "over all");
            }
        }
        assert_eq!((rows, history.rows.len()), (11, 11));
    }
}
