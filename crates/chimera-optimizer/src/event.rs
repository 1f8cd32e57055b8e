//! What a job tells while it runs.

use serde::Serialize;
use tokio::sync::{broadcast, watch};

use crate::{lane::Verdict, spend::Spend};

/// Events kept for a follower that is behind; older ones are lost to it, and it is told how many.
const KEPT: usize = 256;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The job runs.
    Started {
        /// Results that an earlier run of it had paid for.
        resumed: usize,
    },
    /// A candidate was tried.
    Tried {
        /// The number of the step.
        step: u64,
        /// How the candidate came to be.
        by: &'static str,
        /// The candidate that it was made of.
        parent: usize,
        /// What became of it.
        verdict: Verdict,
        /// The parent's score on the minibatch.
        before: f64,
        /// The candidate's score there.
        after: f64,
    },
    /// A candidate passed its minibatch and has a number now.
    Accepted {
        /// Its number.
        member: usize,
        /// Whose child it is.
        parent: usize,
        /// Its mean score on the validation examples that it was tried on.
        validation: Option<f64>,
        /// What was said of the change.
        note: String,
    },
    /// The candidates that are best on some example are others than before.
    Frontier {
        /// Their numbers.
        members: Vec<usize>,
    },
    /// There is a new best candidate.
    Best {
        /// Its number.
        member: usize,
        /// Its mean score on the validation set.
        score: f64,
    },
    /// What was spent so far.
    Budget(Progress),
    /// Nothing answers; the job waits.
    Paused {
        /// What the last call said.
        reason: String,
    },
    /// Something answers again.
    Resumed,
    /// The job is over.
    Finished {
        /// How it ended.
        ended: &'static str,
        /// The best score, if there is one.
        score: Option<f64>,
    },
}

/// How far a job is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Roll-outs so far.
    pub evaluations: usize,
    /// Roll-outs that are left, where they are limited.
    pub evaluations_left: Option<usize>,
    /// Tokens and money so far.
    pub spend: Spend,
    /// Seconds so far, those of earlier runs included.
    pub seconds: f64,
    /// The best validation score so far.
    pub best: Option<f64>,
    /// Candidates that were tried.
    pub tried: usize,
    /// Candidates that were accepted.
    pub accepted: usize,
    /// What was said of the last change accepted.
    pub last_accepted: String,
    /// Why the job waits, if it does.
    pub paused: Option<String>,
}

/// Where a job tells what happens.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    stream: broadcast::Sender<Event>,
    progress: watch::Sender<Progress>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { stream: broadcast::Sender::new(KEPT), progress: watch::Sender::new(Progress::default()) }
    }

    pub(crate) fn send(&self, event: Event) {
        match &event {
            Event::Budget(progress) => {
                self.progress.send_modify(|now| {
                    let paused = now.paused.take();
                    *now = Progress { paused, ..progress.clone() };
                });
            }
            Event::Paused { reason } => self.progress.send_modify(|now| now.paused = Some(reason.clone())),
            Event::Resumed => self.progress.send_modify(|now| now.paused = None),
            _ => {}
        }
        // Nobody has to listen.
        let _ = self.stream.send(event);
    }

    pub(crate) fn follow(&self) -> broadcast::Receiver<Event> {
        self.stream.subscribe()
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}
