//! The knobs of a job.

use std::time::Duration;

use crate::{budget::Budget, error::TaskError};

/// What beside the score makes one candidate better than another. Scores stay as they are; what is chosen by
/// is the score less the weight times the other quantity.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Second {
    /// Nothing but the score; of equals, the shorter one.
    #[default]
    Nothing,
    /// So much less for every thousand characters of the prompt.
    Length(f64),
    /// So much less for every thousand tokens of a roll-out, in the mean.
    Cost(f64),
}

/// How a job works.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What all chance is drawn from.
    pub seed: u64,
    /// Calls under way at once. Does not change the result. Default 16.
    pub concurrency: usize,
    /// Steps under way at once: how many proposals are made without knowing of each other. Changes the
    /// result: more makes better use of a high concurrency and needs a larger budget to go as far. A quarter
    /// of the concurrency is enough. Default 5.
    pub width: usize,
    /// What may be spent.
    pub budget: Budget,
    /// Whether a candidate that is clearly worse than the best is given up within its validation. Default
    /// true.
    pub race: bool,
    /// What beside the score counts.
    pub second: Second,
    /// How often a call that failed for a while is made again. Default 4.
    pub retries: u32,
    /// How long before the first of these; doubled each time, up to a minute. Default 500 ms.
    pub backoff: Duration,
    /// Calls failing in a row, of all that are under way, that mean a dead provider: the job pauses.
    /// Default 8.
    pub pause_after: u32,
    /// How often a paused job tries again, with one call. Default 10 s.
    pub probe_every: Duration,
    /// How long a pause lasts before the job gives its place back, to be resumed by hand. Default 5 min.
    pub pause_limit: Duration,
    /// The metric label of the job: from a closed set. Default `job`.
    pub label: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 0,
            concurrency: 16,
            width: 5,
            budget: Budget::default(),
            race: true,
            second: Second::default(),
            retries: 4,
            backoff: Duration::from_millis(500),
            pause_after: 8,
            probe_every: Duration::from_secs(10),
            pause_limit: Duration::from_secs(300),
            label: "job".into(),
        }
    }
}

impl Settings {
    /// Checks the ranges; the error names the field.
    pub fn validate(&self) -> Result<(), TaskError> {
        let wrong = |field: &str, why: &str| Err(TaskError::new(field, why));
        if !(1..=1024).contains(&self.concurrency) {
            return wrong("concurrency", "must be from 1 to 1024");
        }
        if !(1..=1024).contains(&self.width) {
            return wrong("width", "must be from 1 to 1024");
        }
        if self.pause_after == 0 {
            return wrong("pause_after", "must be above zero");
        }
        if self.probe_every.is_zero() {
            return wrong("probe_every", "must be above zero");
        }
        if let Second::Length(weight) | Second::Cost(weight) = self.second
            && !(weight >= 0.0 && weight.is_finite())
        {
            return wrong("second", "the weight must not be negative");
        }
        let budget = &self.budget;
        if budget.dollars.is_some_and(|dollars| !(dollars > 0.0 && dollars.is_finite())) {
            return wrong("budget.dollars", "must be above zero");
        }
        let limited = [
            budget.evaluations.is_some(),
            budget.tokens.is_some(),
            budget.dollars.is_some(),
            budget.wall.is_some(),
            budget.patience.is_some(),
        ];
        if !limited.contains(&true) {
            return wrong("budget", "a job without any limit never ends");
        }
        Ok(())
    }

    /// What of it changes the result.
    pub(crate) fn version(&self) -> String {
        // Limits are left out: a job may be resumed with a larger budget.
        format!("{} {} {} {:?}", self.seed, self.width, self.race, self.second)
    }
}
