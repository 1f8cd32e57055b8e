//! A request's own facts, handed down its way.

use std::sync::Arc;

use chimera_protocol::DialectId;
use tokio::time::Instant;

use crate::{
    auth::Tenant,
    gateway::{Gateway, State},
    head::Head,
    request_id::RequestId,
};

/// What is known of a request when its head has come.
pub(crate) struct Arrival<'a> {
    pub(crate) at: Instant,
    pub(crate) request_id: RequestId,
    /// The dialect in which it wants its errors, as far as its head tells.
    pub(crate) dialect: DialectId,
    pub(crate) head: Head<'a>,
}

/// A request's own facts, handed down its way.
pub(crate) struct Context<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) state: Arc<State>,
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) arrival: &'a Arrival<'a>,
}
