//! What a caller knows of its protocol and the pool does not: is this answer good?

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::response;

use crate::{deployment::Deployment, metrics::AttemptOutcome};

/// The judgement of an answer, made as early as it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Content has begun: from here on the answer is passed on and no other deployment is tried.
    Accept,
    /// Nothing can be said yet; hold the answer back and read on.
    NeedMore,
    /// The answer has ended, and judging it would hold up the event loop: `aside` is asked to.
    Aside,
    /// The provider said no. The answer is kept, and returned if no other deployment does better.
    Refuse(Refusal),
    /// The answer is not what the protocol promises; it is thrown away.
    Invalid(&'static str),
}

/// How a provider said no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What it means for the deployment and its key.
    pub kind: RefusalKind,
    /// How long the provider asked to be left alone.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// What the attempt that met it ended with.
    pub(crate) fn outcome(&self) -> AttemptOutcome {
        match self.kind {
            RefusalKind::Throttled => AttemptOutcome::Throttled,
            RefusalKind::Quota => AttemptOutcome::Throttled,
            RefusalKind::Fault | RefusalKind::Credentials | RefusalKind::Payment => AttemptOutcome::Failure,
            RefusalKind::Unfit | RefusalKind::Rightful => AttemptOutcome::Success,
        }
    }
}

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalKind {
    /// A fault of the provider: counts against its breaker.
    Fault,
    /// Too many requests: the key rests, the breaker does not count it.
    Throttled,
    /// What the account may spend is used up: the key rests for minutes, and nothing is gained by asking
    /// again sooner.
    Quota,
    /// The gateway's credential was refused: the key rests for long.
    Credentials,
    /// The account has not paid: the same.
    Payment,
    /// The request is too large for this model. Says nothing of the deployment's health; one that serves
    /// another model may take it.
    Unfit,
    /// The request is the caller's own mistake, whoever is asked. For answers whose status does not say so: one that
    /// does is simply accepted.
    Rightful,
}

impl RefusalKind {
    /// Whether it is about the gateway's own account, so that the caller can do nothing about it.
    pub fn is_ours_to_mend(self) -> bool {
        matches!(self, Self::Credentials | Self::Payment)
    }
}

/// A verdict to come.
pub type Judging<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// Judges answers of one request.
///
/// The pool says `begins` at each attempt, whether or not it gets as far as an answer. Of an answer it
/// calls `head` once, and, as long as the verdict is `NeedMore`, `body`
/// after each read with everything read so far and whether the answer has ended. Nothing is called
/// after another verdict, nor after the hold limit, which counts as `Accept`. A new attempt starts
/// with `head` again, so the implementor resets what it remembers there.
pub trait Classify: Send {
    /// Asked before each attempt. `false` passes the deployment over as if it were not there: nothing is
    /// taken for it and nothing counted.
    fn may_try(&mut self, deployment: &Deployment) -> bool {
        let _ = deployment;
        true
    }
    /// Which requests this one is like, for groups that send alike ones to the same deployment
    /// ([`Group::affinity`](crate::Group::affinity)); asked once.
    fn affinity(&self) -> Option<u64> {
        None
    }
    /// On whose behalf the request is made, as a number: where requests wait for a deployment, each gets
    /// its turn. Asked only then.
    fn tenant(&self) -> u64 {
        0
    }
    /// Which model the request names, as a number: at a deployment that sends it on, keys rest for each apart.
    fn model(&self) -> u64 {
        0
    }
    /// Whether nobody waits for the answer: where requests wait for a deployment, those that somebody waits for
    /// go first. Asked only then.
    fn is_background(&self) -> bool {
        false
    }
    /// Another that judges the same request from the start, for groups that may send it to a second
    /// deployment while the first is late; `None` forbids that.
    fn fork(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
    /// An attempt begins, the `attempt`th of the request.
    fn begins(&mut self, attempt: u32) {
        let _ = attempt;
    }
    /// Judges the status and the headers.
    fn head(&mut self, parts: &response::Parts) -> Verdict;
    /// Judges the body so far.
    fn body(&mut self, so_far: &[u8], ended: bool) -> Verdict;
    /// Judges a whole answer beside the event loop, after `body` has said `Aside`.
    fn aside(&mut self, whole: Bytes) -> Judging<'_> {
        let verdict = self.body(&whole, true);
        Box::pin(async { verdict })
    }
}
