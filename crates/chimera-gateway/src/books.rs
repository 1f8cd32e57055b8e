//! What is counted of one request, once, on every path.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{gateway::Shared, limits::Admission, metrics::RequestOutcome, route::RouteLabel};

/// Counts a request when it is dropped: as cancelled, unless somebody said how it ended.
pub(crate) struct Books {
    shared: Arc<Shared>,
    pub(crate) label: RouteLabel,
    pub(crate) arrived: Instant,
    /// Time spent waiting for providers.
    pub(crate) upstream: Duration,
    outcome: RequestOutcome,
    /// The tenant's place among its requests in flight.
    pub(crate) admission: Option<Admission>,
}

impl Books {
    pub(crate) fn new(shared: Arc<Shared>, arrived: Instant) -> Self {
        Self {
            shared,
            label: RouteLabel::Other,
            arrived,
            upstream: Duration::ZERO,
            outcome: RequestOutcome::Cancelled,
            admission: None,
        }
    }

    /// Whether the server's patience with open streams is over.
    pub(crate) fn is_ending(&self) -> bool {
        self.shared.is_ending()
    }

    pub(crate) fn ended(&mut self, outcome: RequestOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for Books {
    fn drop(&mut self) {
        let total = self.arrived.elapsed();
        let overhead = total.saturating_sub(self.upstream);
        self.shared.metrics.request(self.label, self.outcome, total.as_secs_f64(), overhead.as_secs_f64());
    }
}
