//! What is written, what goes up and what goes down.

use std::{
    hash::Hash,
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use super::{Inner, Standing, Ticket};
use crate::{item::Item, memory::Put, settings::WritePolicy, tier::Hit};

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn put(
        &self,
        key: K,
        mut entry: Hit<Item<V>>,
        ticket: Option<Ticket>,
        now: Instant,
        write: bool,
    ) -> Put {
        let standing = ticket.map_or(Standing::Good, |ticket| self.known.standing(ticket));
        if standing == Standing::Void {
            return Put::Refused;
        }
        if write
            && self.settings.writes != WritePolicy::Demote
            && let Some(far) = &self.far
        {
            entry.value.times.set_below(true);
            let ticket = ticket.unwrap_or_else(|| self.known.ticket(&key).of_now());
            let below = ticket.is_told() && far.writer.store(key.clone(), entry.clone(), ticket, now);
            entry.value.times.set_below(below);
        }
        if standing == Standing::Changed {
            // It may be older than what is below: only the tier there can say, and it comes up from there.
            return Put::Refused;
        }
        self.put_near(key, entry, ticket, now)
    }

    pub(super) fn promote(&self, key: &K, entry: Hit<Item<V>>, ticket: Ticket, now: Instant) {
        // One that was computed meanwhile is younger.
        if self.near.peek(key, now).is_some_and(|held| held.age <= entry.age) {
            return;
        }
        if self.known.holds(ticket) && self.put_near(key.clone(), entry, Some(ticket), now) == Put::Stored {
            self.counts.promoted.fetch_add(1, Relaxed);
        }
    }

    fn put_near(&self, key: K, mut entry: Hit<Item<V>>, ticket: Option<Ticket>, now: Instant) -> Put {
        if let Some(cap) = self.near_cap() {
            entry.remaining = entry.remaining.min(cap);
        }
        let again = ticket.map(|_| key.clone());
        let moment = self.known.moment();
        let put = self.near.store(key, entry, now, |key, out| self.demote(key, out, moment, now));
        // Whoever changes the key counts first and removes then: either the count is seen here, or
        // the removal comes after the write.
        if let (Some(ticket), Some(key)) = (ticket, again)
            && !self.known.holds(ticket)
        {
            self.near.remove(&key);
            return Put::Refused;
        }
        put
    }

    fn near_cap(&self) -> Option<Duration> {
        if self.known.is_lost() {
            let cap = self.settings.untracked_cap;
            return Some(self.settings.near_cap.map_or(cap, |other| other.min(cap)));
        }
        self.settings.near_cap
    }

    /// What was pushed out goes down, if it is worth it, changes by others are told, and nothing has changed since
    /// `moment`, when it was still trusted.
    fn demote(&self, key: K, mut out: Hit<Item<V>>, moment: u32, now: Instant) {
        let Some(far) = &self.far else { return };
        // What the near tier's cap took from its time, it gets back.
        out.remaining = out.value.lifetime().whole().saturating_sub(out.age);
        let times = out.value.times;
        if times.is_below() || times.is_negative() || out.remaining < self.settings.demote_remaining {
            return;
        }
        out.value.times.set_below(true);
        let ticket = self.known.ticket(&key);
        if ticket.is_told() && self.known.moment() == moment && far.writer.store(key, out, ticket, now) {
            self.counts.demoted.fetch_add(1, Relaxed);
        }
    }
}
