//! Sending one request to a group: pick, admit, send, judge, and try the next while that is safe.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use chimera_circuit_breaker::{Hold, Permit};
use http::{Request, header, response};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    classify::{Classify, Refusal, Verdict},
    connection::Lease,
    course::{Course, Next},
    deployment::{Deployment, Group},
    error::{ConnectError, SendError, Stage},
    keys::KeyIndex,
    metrics::AttemptOutcome,
    picker::Tried,
    queue::Caller,
    reply::{Attempt, Held, Reply, ReplyBody},
    rest::{learn, rest, stand_back},
};

/// The bounds of one request.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// When the first content, or for a unary answer all of it, must be there.
    pub deadline: Instant,
    /// Whether the deadline is one that the caller shortened: its passing says nothing about the
    /// provider then.
    pub shortened: bool,
    /// The absolute end of the rest of the answer, if there is one.
    pub body_deadline: Option<Instant>,
    /// The longest silence in the rest of the answer.
    pub idle: Option<Duration>,
    /// Bytes held back at most while an answer is judged.
    pub hold_limit: usize,
    /// What an answer that is still undecided at the limit is: passed on, or too large.
    pub at_limit: AtLimit,
    /// The worker that runs the request: its idle connections are used first.
    pub worker: usize,
}

/// What happens at the hold limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLimit {
    /// The answer is passed on as it is.
    PassOn,
    /// The answer is invalid.
    Refuse,
}

/// Fresh tries when idle connections turn out to be closed as the request is put on them.
const UNSENT_TRIES: usize = 3;

/// Makes the request for a deployment: path, headers and the whole body.
pub type Build<'a> = dyn Fn(&Deployment) -> Result<Request<Bytes>, http::Error> + Send + Sync + 'a;

/// What one attempt ended with.
enum Attempted {
    Accepted(Reply),
    Refused { reply: Reply, refusal: Refusal },
}

impl Group {
    /// Sends a request to the deployments of this group until one accepts it.
    ///
    /// `build` makes the request for a deployment and a credential; it is called once per attempt,
    /// with the body at hand in full. `host` and the credential are set here. A deployment that
    /// `classify` may not try, or whose breaker, keys or slots refuse, is passed over; what was never
    /// sent moves on to the next; what was refused or broken moves on when the group's `Failover` says
    /// so and its retry budget holds. When all refuse, the last
    /// refusal is returned as a reply. Dropping the future ends the attempt under way at once.
    pub async fn send<C: Classify>(
        &self,
        bounds: &Bounds,
        classify: &mut C,
        build: &Build<'_>,
    ) -> Result<Reply, SendError> {
        self.budget.deposit();
        match &self.hedging {
            // Boxed, so that those who do without do not carry its size. Only a stream has a first content
            // that comes long before its end.
            Some(hedging) if bounds.idle.is_some() => {
                Box::pin(self.send_hedged(hedging, bounds, classify, build)).await
            }
            _ => pin!(self.send_in_turn(bounds, classify, build, Course::default())).await,
        }
    }

    /// Sends a request to one deployment after another.
    pub(crate) async fn send_in_turn<C: Classify>(
        &self,
        bounds: &Bounds,
        classify: &mut C,
        build: &Build<'_>,
        mut course: Course<'_>,
    ) -> Result<Reply, SendError> {
        let affinity = classify.affinity();
        let mut attempts = 0;
        let mut refused: Option<Reply> = None;
        let mut failed = SendError::NoDeployment;
        loop {
            let started = Instant::now();
            let again = course.again.take();
            let Some(index) = again.or_else(|| self.pick(course.taken(), affinity, started)) else { break };
            let Some(deployment) = self.deployments.get(index) else { break };
            if !classify.may_try(deployment) {
                course.tried.insert(index);
                continue;
            }
            course.asks(index);
            let patience = self.patience(bounds, &course, index, started);
            let outcome =
                pin!(self.attempt(deployment, bounds, patience, classify, build, &mut attempts, started))
                    .await;
            match outcome {
                Ok(Attempted::Accepted(reply)) => return Ok(reply),
                Ok(Attempted::Refused { mut reply, refusal }) => {
                    let another_key = rest(deployment, classify.model(), &refusal, reply.key);
                    let next = self.after_refusal(&mut course, index, &refusal, another_key, bounds.deadline);
                    if matches!(next, Some(Next::Another)) {
                        stand_back(deployment, &refusal, &self.random);
                    }
                    reply.refusal = Some(refusal);
                    let next = next.filter(|_| self.may_retry());
                    if next.is_some() {
                        // What was not read of it keeps a slot and a connection, which the next attempt may need.
                        reply.rest = None;
                    }
                    refused = Some(reply);
                    let Some(next) = next else { break };
                    self.retries.refused.increment(1);
                    match next {
                        Next::Another => course.moves_on(index),
                        Next::Same { pause } => {
                            course.again = Some(index);
                            if !pause.is_zero() {
                                tokio::time::sleep(pause).await;
                            }
                        }
                    }
                }
                Err(error @ SendError::Deadline { .. }) => return Err(error),
                Err(error) if error.is_unsent() => {
                    self.retries.unsent.increment(1);
                    failed = failed.or_more_telling(error);
                    course.moves_on(index);
                }
                Err(error) => {
                    if !self.may_follow(&error, &mut course, index) || !self.may_retry() {
                        return Err(error);
                    }
                    failed = error;
                    course.moves_on(index);
                }
            }
        }
        refused.ok_or(failed)
    }

    /// How long this deployment may take to its first content, if that is less than the request may.
    fn patience(
        &self,
        bounds: &Bounds,
        course: &Course<'_>,
        index: usize,
        started: Instant,
    ) -> Option<Instant> {
        // Only a stream has a first content that comes long before its end.
        let is_live = bounds.idle.is_some() && !self.settings.hold_streams;
        let until = started + self.settings.first_event.filter(|_| is_live)?;
        (until < bounds.deadline && self.others(index, course.taken())).then_some(until)
    }

    /// The longest silence of a stream that is held back to its end; its events come long before that.
    fn silence(&self, bounds: &Bounds) -> Option<Duration> {
        let idle = bounds.idle.filter(|_| self.settings.hold_streams)?;
        Some(self.settings.first_event.map_or(idle, |first| first.min(idle)))
    }

    /// Whether another deployment may be asked what this one was asked and did not answer.
    fn may_follow(&self, error: &SendError, course: &mut Course<'_>, index: usize) -> bool {
        if !self.others(index, course.taken()) {
            return false;
        }
        if matches!(error, SendError::NoContent) {
            self.retries.slow.increment(1);
            return true;
        }
        let first = !std::mem::replace(&mut course.broke, true);
        let follows = self.failover.broken && first;
        if follows {
            self.retries.broken.increment(1);
        }
        follows
    }

    /// Whether there is a deployment besides this one that was not tried.
    pub(crate) fn others(&self, index: usize, mut tried: Tried) -> bool {
        tried.insert(index);
        (0..self.deployments.len()).any(|index| !tried.contains(index))
    }

    /// Takes a further attempt out of the budget.
    fn may_retry(&self) -> bool {
        let granted = self.budget.withdraw(Instant::now().into_std());
        if !granted {
            self.retries.denied.increment(1);
        }
        granted
    }

    #[expect(clippy::too_many_arguments, reason = "each is one fact of the attempt, owned elsewhere")]
    async fn attempt<C: Classify>(
        &self,
        deployment: &Arc<Deployment>,
        bounds: &Bounds,
        patience: Option<Instant>,
        classify: &mut C,
        build: &Build<'_>,
        attempts: &mut u32,
        started: Instant,
    ) -> Result<Attempted, SendError> {
        if let Some(retry_after) = deployment.rests(started) {
            return Err(SendError::RateLimited { retry_after });
        }
        let now = started.into_std();
        let permit = deployment
            .holders
            .try_acquire(now)
            .map_err(|rejected| SendError::CircuitOpen { retry_after: rejected.retry_after })?;
        let mut progress = Progress::new(started);
        let done = {
            let work = pin!(self.run(deployment, bounds, classify, build, permit, attempts, &mut progress));
            tokio::time::timeout_at(patience.unwrap_or(bounds.deadline), work).await
        };
        let result = match done {
            Ok(result) => result,
            Err(_) if patience.is_some() => Err(progress.late()),
            Err(_) => Err(SendError::Deadline { stage: progress.stage }),
        };
        if let Err(error) = &result {
            progress.settle(outcome_of(error, bounds.shortened));
        }
        result
    }

    /// One attempt from its slot to the verdict on its answer. What it holds lives in `progress`, so
    /// that the deadline finds it there.
    #[expect(clippy::too_many_arguments, reason = "each is one fact of the attempt, owned elsewhere")]
    async fn run<C: Classify>(
        &self,
        deployment: &Arc<Deployment>,
        bounds: &Bounds,
        classify: &mut C,
        build: &Build<'_>,
        permit: Permit<Hold>,
        attempts: &mut u32,
        progress: &mut Progress,
    ) -> Result<Attempted, SendError> {
        let caller = || Caller { tenant: classify.tenant(), background: classify.is_background() };
        let slot = self.slot(deployment, classify.model(), caller, progress).await?;
        let started = progress.started;
        let admitted = if progress.waited { Instant::now() } else { started };
        // Picked only now: who is shed uses up no key, and a key that came to rest meanwhile is not used.
        let key = match deployment.pick_key(classify.model(), admitted) {
            Ok(key) => key,
            Err(resting) => {
                deployment.release(slot);
                return Err(resting.into());
            }
        };
        progress.attempt = Some(Attempt::new(deployment.clone(), permit, slot, [started, admitted]));
        *attempts += 1;
        classify.begins(*attempts);
        let silence = self.silence(bounds);
        let exchanged = {
            // Pinned here, so that it is not laid out once more for each way of waiting.
            let exchanging = pin!(exchange(deployment, bounds.worker, key, build, progress));
            within(silence, exchanging).await
        };
        let (lease, parts) = exchanged.unwrap_or_else(|| Err(progress.late()))?;
        learn(deployment, classify.model(), key, &parts);
        let Some(attempt) = progress.attempt.take() else { return Err(SendError::Overloaded) };
        let body = progress.body.insert(ReplyBody::new(attempt, lease, bounds.worker));
        let (verdict, held, ended) = match framing_fault(&parts) {
            Some(why) => (Verdict::Invalid(why), Bytes::new(), false),
            None => judge(classify, &parts, body, bounds, silence).await?,
        };
        let refusal = match verdict {
            Verdict::Accept | Verdict::NeedMore | Verdict::Aside => None,
            Verdict::Refuse(refusal) => Some(refusal),
            Verdict::Invalid(why) => return Err(SendError::InvalidAnswer { why }),
        };
        let Some(mut body) = progress.body.take() else { return Err(SendError::Overloaded) };
        let judged = Instant::now();
        match &refusal {
            None if parts.status.is_success() => body.attempt().content_began(judged),
            // A request that was refused for its own sake says nothing of how soon answers begin.
            None => {}
            Some(refusal) => body.attempt().settle(refusal.outcome(), judged),
        }
        body.bound(bounds.idle, bounds.body_deadline, judged);
        if ended {
            body.attempt().settle(AttemptOutcome::Success, judged);
        }
        let rest = (!ended).then_some(body);
        let reply = Reply {
            parts,
            held,
            rest,
            deployment: deployment.clone(),
            key,
            attempts: *attempts,
            refusal: None,
            started,
            judged,
        };
        Ok(match refusal {
            None => Attempted::Accepted(reply),
            Some(refusal) => Attempted::Refused { reply, refusal },
        })
    }

    async fn slot(
        &self,
        deployment: &Deployment,
        model: u64,
        caller: impl FnOnce() -> Caller,
        progress: &mut Progress,
    ) -> Result<OwnedSemaphorePermit, SendError> {
        if let Some(slot) = deployment.free_slot() {
            return Ok(slot);
        }
        // Nobody waits for a place at a provider whose keys all rest.
        deployment.look_for_key(model, progress.started)?;
        progress.waited = true;
        deployment.wait(caller(), self.settings.max_wait).await.map_err(|_| SendError::Overloaded)
    }
}

/// What an attempt holds while it is under way.
pub(crate) struct Progress {
    stage: Stage,
    started: Instant,
    /// Whether it had to wait for a slot or a connection; the clock is asked only then.
    waited: bool,
    attempt: Option<Attempt>,
    body: Option<ReplyBody>,
}

impl Progress {
    pub(crate) fn new(started: Instant) -> Self {
        Self { stage: Stage::Slot, started, waited: false, attempt: None, body: None }
    }

    /// What a wait that took too long comes to: only who was asked can be late to answer.
    fn late(&self) -> SendError {
        match self.stage {
            Stage::FirstEvent => SendError::NoContent,
            Stage::Connect => SendError::Connect(ConnectError::Timeout),
            _ => SendError::Overloaded,
        }
    }

    fn settle(&mut self, outcome: AttemptOutcome) {
        let attempt = self.attempt.as_mut().or(self.body.as_mut().map(ReplyBody::attempt));
        if let Some(attempt) = attempt {
            attempt.settle(outcome, Instant::now());
        }
    }
}

/// Puts the request on a connection. An idle connection may turn out to be closed just then; where no
/// byte of the request has left, and only then, it is put on another.
pub(crate) async fn exchange(
    deployment: &Deployment,
    worker: usize,
    key: Option<KeyIndex>,
    build: &Build<'_>,
    progress: &mut Progress,
) -> Result<(Lease, response::Parts), SendError> {
    let provider = deployment.provider();
    let credential = key.and_then(|key| provider.keys.credential(key));
    let target = &provider.settings().target;
    let mut tries = UNSENT_TRIES;
    loop {
        progress.stage = Stage::Slot;
        let idle = provider.pool.take_idle(worker, progress.started);
        let (mut lease, reused) = match idle {
            Some(lease) => (lease, true),
            None => {
                progress.waited = true;
                provider.pool.checkout(worker, &mut progress.stage).await?
            }
        };
        let waited = if progress.waited { progress.started.elapsed() } else { Duration::ZERO };
        deployment.metrics.wait.record(waited.as_secs_f64());
        progress.stage = Stage::FirstEvent;
        let request = build(deployment).map_err(|error| SendError::Broken(error.into()))?;
        let sent = pin!(lease.send(request, target, credential)).await;
        match sent {
            Ok(parts) => return Ok((lease, parts)),
            // A shared connection may be closing when a request is put on it, however new it is.
            Err(failure) if failure.unsent && (reused || lease.is_shared()) && tries > 0 => {
                tries -= 1;
                provider.pool.metrics.stale.increment(1);
            }
            Err(failure) if failure.unsent => {
                return Err(SendError::Connect(ConnectError::Http(failure.error)));
            }
            Err(failure) => return Err(SendError::Broken(failure.error)),
        }
    }
}

/// What a future comes to, or `None` when it takes too long; without a bound no timer is set.
async fn within<T>(bound: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match bound {
        None => Some(future.await),
        Some(bound) => tokio::time::timeout(bound, future).await.ok(),
    }
}

/// An answer whose length is told in two ways is a smuggling attempt or a broken server; either way
/// its connection is not used again.
fn framing_fault(parts: &response::Parts) -> Option<&'static str> {
    let lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter().count();
    if lengths > 1 || (lengths == 1 && parts.headers.contains_key(header::TRANSFER_ENCODING)) {
        return Some("its length is stated twice");
    }
    parts.status.is_informational().then_some("it switches protocols unasked")
}

/// Reads until the classifier has a verdict.
async fn judge<C: Classify>(
    classify: &mut C,
    parts: &response::Parts,
    body: &mut ReplyBody,
    bounds: &Bounds,
    silence: Option<Duration>,
) -> Result<(Verdict, Bytes, bool), SendError> {
    let mut verdict = classify.head(parts);
    let mut held = Held::default();
    let mut ended = false;
    while verdict == Verdict::NeedMore {
        match within(silence, poll_fn(|cx| body.poll_read(cx))).await {
            None => return Err(SendError::NoContent),
            Some(Some(Ok(piece))) => held.push(piece),
            Some(Some(Err(error))) => return Err(SendError::Broken(error)),
            Some(None) => ended = true,
        }
        verdict = classify.body(held.as_slice(), ended);
        if verdict != Verdict::NeedMore {
            break;
        }
        if ended {
            verdict = Verdict::Invalid("it ended before its first content");
        } else if held.as_slice().len() >= bounds.hold_limit {
            verdict = match bounds.at_limit {
                AtLimit::PassOn => Verdict::Accept,
                AtLimit::Refuse => Verdict::Invalid("it is larger than the limit"),
            };
        }
    }
    let held = held.into_bytes();
    if verdict == Verdict::Aside {
        verdict = classify.aside(held.clone()).await;
    }
    Ok((verdict, held, ended))
}

/// What a failed attempt says of the deployment.
fn outcome_of(error: &SendError, shortened: bool) -> AttemptOutcome {
    match error {
        SendError::Connect(_)
        | SendError::Broken(_)
        | SendError::InvalidAnswer { .. }
        | SendError::NoContent => AttemptOutcome::Failure,
        SendError::Deadline { stage: Stage::FirstEvent | Stage::Connect } if !shortened => {
            AttemptOutcome::Failure
        }
        _ => AttemptOutcome::Cancelled,
    }
}
