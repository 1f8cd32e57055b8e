//! What is counted and logged of one request, once, on every path.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    auth::{KeyDigest, Tenant},
    context::Arrival,
    failure::{Code, Failure},
    gateway::Shared,
    limits::Admission,
    metrics::RequestOutcome,
    request_id::RequestId,
    route::RouteLabel,
    traces::Tracing,
};

/// Counts and logs a request when it is dropped: as cancelled, unless somebody said how it ended.
pub(crate) struct Books {
    shared: Arc<Shared>,
    pub(crate) label: RouteLabel,
    arrived: Instant,
    request_id: RequestId,
    /// Since when it waits for a provider's first content.
    waiting: Option<Instant>,
    /// Time spent waiting for providers.
    upstream: Duration,
    /// The gateway's own part of the time to the first content, once a stream has begun: what comes
    /// behind it has the pace of the provider and of the caller.
    overhead: Option<Duration>,
    outcome: RequestOutcome,
    /// Whether it is a request of somebody's, and no probe.
    is_counted: bool,
    total: Option<Duration>,
    /// Why it failed, if it did.
    code: Option<Code>,
    /// The tenant whose limits the answer tells of, if it has any.
    pub(crate) limited: Option<Arc<Tenant>>,
    /// The tenant's place among its requests in flight.
    pub(crate) admission: Option<Admission>,
    /// The key by which it was let in, and the number of the configuration in which it was looked for last.
    pub(crate) admitted: Option<(KeyDigest, u64)>,
    /// Where it is traced.
    pub(crate) tracing: Option<Box<Tracing>>,
}

impl Books {
    pub(crate) fn new(shared: Arc<Shared>, arrival: &Arrival<'_>) -> Self {
        Self {
            shared,
            label: RouteLabel::Other,
            arrived: arrival.at,
            request_id: arrival.request_id.clone(),
            waiting: None,
            upstream: Duration::ZERO,
            overhead: None,
            outcome: RequestOutcome::Cancelled,
            is_counted: true,
            total: None,
            code: None,
            limited: None,
            admission: None,
            admitted: None,
            tracing: None,
        }
    }

    /// Why its stream may not go on, if it may not. To be asked whenever nothing comes.
    pub(crate) fn cut_short(&mut self) -> Option<Failure> {
        let why = "the gateway is stopping and has waited for this stream as long as it may";
        let ending = self.shared.is_ending().then(|| Failure::new(Code::Overloaded, why));
        ending.or_else(|| self.revoked())
    }

    /// Whether the caller's key is not valid any more: settings may have changed since it was looked for.
    pub(crate) fn revoked(&mut self) -> Option<Failure> {
        let (key, looked_in) = self.admitted.as_mut()?;
        let state = self.shared.state.load();
        if std::mem::replace(looked_in, state.number) == state.number {
            return None;
        }
        let why = "the key of this call is not valid any more";
        (!state.settings.tenants.admits(key)).then(|| Failure::new(Code::AuthenticationFailed, why))
    }

    /// Notes that it waits for a provider.
    pub(crate) fn waits(&mut self, since: Instant) {
        self.waiting = Some(since);
    }

    /// Notes that the provider's first content is there.
    pub(crate) fn heard(&mut self, now: Instant) {
        if let Some(since) = self.waiting.take() {
            self.upstream += now - since;
        }
    }

    /// Notes that a stream begins.
    pub(crate) fn streams(&mut self, now: Instant) {
        self.overhead = Some((now - self.arrived).saturating_sub(self.upstream));
    }

    /// Notes that what ended was a call made for the request, and not the request.
    pub(crate) fn goes_on(&mut self) {
        (self.outcome, self.total, self.code) = (RequestOutcome::Cancelled, None, None);
    }

    /// Notes how the request ended, now; says how long it took.
    pub(crate) fn ended(&mut self, outcome: RequestOutcome) -> Duration {
        self.ended_at(outcome, Instant::now())
    }

    /// Notes how the request ended, for callers that know the time.
    pub(crate) fn ended_at(&mut self, outcome: RequestOutcome, now: Instant) -> Duration {
        let total = now - self.arrived;
        (self.outcome, self.total) = (outcome, Some(total));
        total
    }

    /// Notes that it was a probe of health, and answered: whatever the answer, nobody's request failed.
    pub(crate) fn probed(&mut self) {
        self.is_counted = false;
        self.ended(RequestOutcome::Success);
    }

    /// Notes that it ended with a failure that was answered with this status.
    pub(crate) fn failed(&mut self, status: u16, failure: &Failure) {
        self.code = Some(failure.code);
        self.ended(RequestOutcome::of_status(status));
    }

    /// Notes that a stream was cut short.
    pub(crate) fn cut(&mut self, failure: &Failure) {
        self.code = Some(failure.code);
        self.ended(RequestOutcome::Failure);
    }

    /// Notes that a panic cut its stream.
    pub(crate) fn panicked(&mut self) {
        self.shared.panicked(&self.request_id);
        self.code = Some(Code::Internal);
        self.ended(RequestOutcome::Failure);
    }

    /// Failures are worth a line each; the rest is told to those who ask for it.
    fn log(&self, total: Duration) {
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    request_id = %self.request_id,
                    route = self.label.as_str(),
                    outcome = self.outcome.as_str(),
                    code = self.code.map(Code::as_str),
                    total_ms = total.as_secs_f64() * 1000.0,
                    upstream_ms = self.upstream.as_secs_f64() * 1000.0,
                    "request"
                )
            };
        }
        match self.outcome {
            RequestOutcome::Failure => log!(warn),
            _ => log!(debug),
        }
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        let total = self.total.unwrap_or_else(|| self.arrived.elapsed());
        self.heard(self.arrived + total);
        let overhead = self.overhead.unwrap_or_else(|| total.saturating_sub(self.upstream));
        if self.is_counted {
            self.shared.metrics.request(
                self.label,
                self.outcome,
                total.as_secs_f64(),
                overhead.as_secs_f64(),
            );
        }
        self.log(total);
        if let Some(mut tracing) = self.tracing.take() {
            tracing.trace.route = self.label.path();
            tracing.trace.request_id = self.request_id.to_string();
            tracing.trace.error = match (self.code, self.outcome) {
                (Some(code), _) => Some(code.as_str()),
                (None, RequestOutcome::Cancelled) => Some("cancelled"),
                (None, _) => None,
            };
            tracing.end(total);
        }
    }
}
