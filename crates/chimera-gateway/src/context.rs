//! A request's own facts, handed down its way.

use std::sync::Arc;

use chimera_protocol::DialectId;
use chimera_transform::Priority;
use tokio::time::Instant;

use crate::{
    auth::Tenant,
    gateway::{Gateway, State},
    head::Head,
    request_id::RequestId,
    transforms,
};

/// What is known of a request when its head has come.
pub(crate) struct Arrival<'a> {
    pub(crate) at: Instant,
    pub(crate) request_id: RequestId,
    /// The dialect in which it wants its errors, as far as its head tells.
    pub(crate) dialect: DialectId,
    pub(crate) head: Head<'a>,
    /// Whose it is, where whoever handed it in knows: no key is looked for then.
    pub(crate) caller: Option<Arc<Tenant>>,
    /// Whether nobody waits for the answer: where there is a queue, others go first.
    pub(crate) background: bool,
}

/// A request's own facts, handed down its way.
pub(crate) struct Context<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) state: Arc<State>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) arrival: &'a Arrival<'a>,
    /// What the pipeline that it goes through adds to everything by which it is known again.
    pub(crate) pipeline: Option<transforms::Version>,
}

impl Context<'_> {
    /// Its place in the queue of the worker pool.
    pub(crate) fn priority(&self) -> Priority {
        if self.arrival.background { Priority::Batch } else { Priority::Interactive }
    }

    /// Keys the fingerprint of the request: another one for each version of each pipeline.
    pub(crate) fn fingerprint_key(&self) -> [u8; 32] {
        let key = &self.gateway.shared.fingerprint_key;
        self.pipeline.as_deref().map_or(*key, |version| chimera_protocol::derived_key(key, version))
    }
}
