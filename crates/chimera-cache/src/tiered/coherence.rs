//! What is trusted of the near tier while others change the far one.

use std::{
    hash::Hash,
    sync::atomic::Ordering::{Relaxed, SeqCst},
};

use super::Inner;
use crate::{purge::Purge, tier::Change};

/// Whether the near tier knows what others do to the far one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coherence {
    /// There is no far tier, or nobody tells.
    Alone,
    /// Changes are told.
    Tracked,
    /// They were told and are not at the moment.
    Lost,
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn purge_near(&self, purge: &Purge) -> u64 {
        self.known.purged();
        let labels = &*self.labels;
        let gone = self.near.retain(|key, item| !purge.selects(labels, key, &item.value));
        self.known.purged();
        gone
    }

    pub(super) fn remove_near(&self, key: &K) {
        self.known.removed(key);
        self.near.remove(key);
        self.known.removed(key);
    }

    fn changed_below(&self, key: &K) {
        self.known.changed(key);
        self.near.remove(key);
        self.known.changed(key);
    }

    pub(super) fn coherence(&self) -> Coherence {
        match (self.tracked.load(Relaxed), self.known.is_lost()) {
            (_, true) => Coherence::Lost,
            (true, false) => Coherence::Tracked,
            (false, false) => Coherence::Alone,
        }
    }

    /// Somebody else changed the far tier, or changes may have been missed.
    pub(super) fn changed(&self, change: Change<K>) {
        match change {
            Change::Key(key) => self.changed_below(&key),
            Change::Removed(key) => self.remove_near(&key),
            Change::Purged(purge) => {
                self.purge_near(&purge);
            }
            Change::Lost => {
                if !self.known.set_lost(true) {
                    self.distrust("changes by others are not told any more");
                }
            }
            Change::Restored => {
                self.tracked.store(true, SeqCst);
                // Still lost while it is emptied: what is stored meanwhile is capped, and then gone.
                self.distrust("changes by others are told again");
                self.known.set_lost(false);
            }
            Change::Missed => self.distrust("changes by others were missed"),
        }
    }

    /// Empties the near tier: what it holds may have been changed by others.
    fn distrust(&self, why: &'static str) {
        self.known.purged();
        let entries = self.near.len();
        self.near.clear();
        self.known.purged();
        self.counts.distrusted.fetch_add(1, Relaxed);
        tracing::info!(entries, why, "the near cache tier was emptied");
    }
}
