//! Where a call's answer is kept, and whether another gateway is at it already.

use std::{sync::Arc, time::Duration};

use chimera_cache::{Found, HeldLease, Item, Leased, Lifetime, Ticket};
use chimera_protocol::Fingerprint;
use tokio::time::Instant;

use crate::{
    entry::{Entry, Form},
    gateway::Shared,
    load::{Load, Piece, Provenance},
};

/// Where the answer is kept, if it is.
#[derive(Clone)]
pub(crate) struct Keep {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) lifetime: Lifetime,
    /// How long a refusal that says that the request itself is at fault is kept; zero keeps none.
    pub(crate) negative: Duration,
    /// By what else than its model it may be purged.
    pub(crate) tags: Option<Arc<str>>,
    /// What was known of the cache when the call began: an answer that was purged meanwhile is not kept.
    pub(crate) ticket: Ticket,
    /// Whether it takes the place of an answer that is there, which is no reason to make no call.
    pub(crate) renews: bool,
}

/// Right to make the call, among all gateways that share the second tier.
pub(crate) type CallLease = HeldLease<Fingerprint, Arc<Entry>>;

/// A refusal above this is not kept.
const LONGEST_REFUSAL: usize = 16 << 10;

/// What says of a request that it will be refused again: it is malformed, too large, or asks for what
/// there is not.
fn is_final(status: u16) -> bool {
    matches!(status, 400 | 404 | 413 | 422)
}

impl Load {
    pub(crate) fn keep(&self, entry: &Arc<Entry>, now: Instant) {
        if !self.may_keep(entry.origin()) {
            return self.keep_none();
        }
        if let Some(keep) = &self.keep {
            // What it took says how early it is worth renewing.
            let lifetime = self.shared.cache.spread(keep.lifetime);
            let item = Item::new(entry.clone(), lifetime, now.saturating_duration_since(self.began));
            self.shared.cache.put(keep.fingerprint, item, Some(keep.ticket), now.into_std());
        }
    }

    /// An answer is too large to be kept. The one whose place it was to take is not given any more.
    pub(crate) fn keep_none(&self) {
        if let Some(keep) = &self.keep
            && keep.renews
        {
            self.shared.cache.forget(&keep.fingerprint);
        }
    }

    /// Keeps a refusal for a moment, where the same request would be refused again.
    pub(crate) fn keep_refusal(&self, status: u16, body: &bytes::Bytes, said: &Provenance, now: Instant) {
        if let Some(keep) = &self.keep
            && !keep.negative.is_zero()
            && is_final(status)
            && body.len() <= LONGEST_REFUSAL
        {
            let body = bytes::Bytes::copy_from_slice(body);
            let (provider, model) = (said.provider.clone(), said.model.clone());
            let owner = self.tenant.name.clone();
            let entry = Entry::refusal(said.dialect, owner, (status, body), provider, model);
            let item = Item::new(entry, Lifetime::fresh(keep.negative), Duration::ZERO).negative();
            self.shared.cache.put(keep.fingerprint, item, Some(keep.ticket), now.into_std());
        }
    }

    /// The tags of an answer that is kept.
    pub(crate) fn tags(&self) -> Option<Arc<str>> {
        self.keep.as_ref().and_then(|keep| keep.tags.clone())
    }

    /// Asks for the right to make the call; or brings what another gateway has been answered. Without
    /// leases, which is usual, it asks nobody.
    pub(crate) async fn leased(&mut self) -> Option<Piece> {
        let keep = self.keep.as_ref().filter(|_| self.shared.cache.has_leases())?;
        let form = Form { framing: self.framing, include_usage: true };
        let asked = ask(&self.shared, keep.fingerprint, keep.renews);
        // The call says itself that its time is up.
        match tokio::time::timeout_at(self.deadline, asked).await.ok()? {
            Leased::Computed(found) if found.is_negative || found.value.body(form).is_some() => {
                Some(Piece::Stored(Arc::new(*found)))
            }
            Leased::Mine(lease) => {
                self.lease = Some(lease);
                None
            }
            Leased::Computed(_) | Leased::None => None,
        }
    }
}

async fn ask(shared: &Shared, fingerprint: Fingerprint, renews: bool) -> Leased<Fingerprint, Arc<Entry>> {
    match renews {
        true => shared.cache.lease_anew(&fingerprint).await,
        false => shared.cache.lease(&fingerprint).await,
    }
}

/// An answer that another gateway was given.
pub(crate) type Stored = Arc<Found<Arc<Entry>>>;
