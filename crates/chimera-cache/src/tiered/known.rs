//! What is known to have changed: whether something did since a moment.

use std::{
    hash::{BuildHasher, Hash},
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
};

use foldhash::fast::RandomState;

/// What was known when a computation began. A value that was purged since is not stored, and one whose key was changed
/// only where no other is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    slot: usize,
    changes: u64,
    purges: u32,
    is_told: bool,
}

impl Ticket {
    /// Whether changes by others were told when it was made. While they are not, what others purge is not heard of: what
    /// is computed then stays in this process.
    pub(crate) fn is_told(self) -> bool {
        self.is_told
    }

    /// The same for a value that needs no telling, for it is not from before.
    pub(crate) fn of_now(self) -> Self {
        Self { is_told: true, ..self }
    }
}

/// What has become of a key since its ticket was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing.
    Good,
    /// Its entry below was written by others, or is gone by itself, expired or pushed out: that is told alike.
    Changed,
    /// It was purged or removed.
    Void,
}

/// Keys share these counters of changes. A false alarm costs one promotion or write: with two hundred changes a second by
/// others, and five seconds from the ticket to the value, that is one in sixty.
const SLOTS: usize = 1 << 16;

/// One removal among the changes of a slot.
const REMOVAL: u64 = 1 << 32;

/// Counts of changes. Whoever changes something counts before and after: what was looked at before the change and is
/// stored during it, or after it, is found out by one of the two.
pub(crate) struct Known {
    hasher: RandomState,
    /// Of each, removals in the upper half, and changes of other kinds in the lower.
    slots: Box<[AtomicU64]>,
    purges: AtomicU32,
    /// Changes of both kinds.
    all: AtomicU32,
    /// Whether changes by others are to be told and are not.
    lost: AtomicBool,
}

impl Known {
    pub(crate) fn new() -> Self {
        Self {
            hasher: RandomState::default(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            purges: AtomicU32::new(0),
            all: AtomicU32::new(0),
            lost: AtomicBool::new(false),
        }
    }

    fn changes(&self, slot: usize) -> u64 {
        self.slots.get(slot).map_or(0, |slot| slot.load(SeqCst))
    }

    pub(crate) fn ticket(&self, key: &impl Hash) -> Ticket {
        let slot = self.hasher.hash_one(key) as usize % SLOTS;
        let (changes, purges) = (self.changes(slot), self.purges.load(SeqCst));
        // Read last: a loss since then counts as a purge, and makes the ticket void.
        Ticket { slot, changes, purges, is_told: !self.is_lost() }
    }

    pub(crate) fn standing(&self, ticket: Ticket) -> Standing {
        let changes = self.changes(ticket.slot);
        if ticket.purges != self.purges.load(SeqCst) || ticket.changes / REMOVAL != changes / REMOVAL {
            Standing::Void
        } else if ticket.changes != changes {
            Standing::Changed
        } else {
            Standing::Good
        }
    }

    pub(crate) fn holds(&self, ticket: Ticket) -> bool {
        self.standing(ticket) == Standing::Good
    }

    /// The entry of a key was changed, or is gone.
    pub(crate) fn changed<K: Hash>(&self, key: &K) {
        self.count(key, 1);
    }

    /// Makes the tickets of a key void.
    pub(crate) fn removed<K: Hash>(&self, key: &K) {
        self.count(key, REMOVAL);
    }

    fn count(&self, key: &impl Hash, what: u64) {
        if let Some(slot) = self.slots.get(self.hasher.hash_one(key) as usize % SLOTS) {
            slot.fetch_add(what, SeqCst);
        }
        self.all.fetch_add(1, SeqCst);
    }

    /// Makes all tickets void.
    pub(crate) fn purged(&self) {
        self.purges.fetch_add(1, SeqCst);
        self.all.fetch_add(1, SeqCst);
    }

    /// Changes are told or not from now on; whether they were not before. Whoever says that they are not goes on to
    /// make all tickets void, and whoever says that they are has done so.
    pub(crate) fn set_lost(&self, is_lost: bool) -> bool {
        self.lost.swap(is_lost, SeqCst)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(SeqCst)
    }

    /// How much has changed so far, for what has no ticket yet because nobody knows its key.
    pub(crate) fn moment(&self) -> u32 {
        self.all.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_other_keys_leave_nearly_all_tickets_good() {
        let known = Known::new();
        let tickets: Vec<_> = (0..2000).map(|key| known.ticket(&key)).collect();
        (10_000..11_000).for_each(|key| known.changed(&key));
        let good = tickets.iter().filter(|ticket| known.holds(**ticket)).count();
        assert!(good > 1900, "{good}");
        (0..2000).for_each(|key| known.changed(&key));
        assert!(!tickets.into_iter().any(|ticket| known.holds(ticket)));
        for (change, standing) in [
            (Known::changed::<u32> as fn(&Known, &u32), Standing::Changed),
            (Known::removed::<u32>, Standing::Void),
            (|known, _| known.purged(), Standing::Void),
        ] {
            let ticket = known.ticket(&1_u32);
            assert_eq!(known.standing(ticket), Standing::Good);
            change(&known, &1);
            assert_eq!(known.standing(ticket), standing);
        }
    }
}
