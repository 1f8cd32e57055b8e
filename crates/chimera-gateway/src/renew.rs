//! Renewing answers that are served while they are old, or before they are.
//!
//! A renewal is an ordinary call that nobody waits for: it joins the flight of its question, so that a
//! caller who comes for it then follows it, and it goes by the same breaker, slots and budget. It is a
//! task of the worker that served the old answer. There is one for each answer, and a bound on all of
//! them; beyond it old answers are served and left as they are.

use std::{
    collections::HashSet,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use chimera_cache::Role;
use chimera_protocol::Fingerprint;
use futures_core::Stream;

use crate::{
    body::FlightKey,
    gateway::Shared,
    load::{Load, Piece},
};

/// Renewals at once.
const MOST: usize = 64;

/// The answers that are being renewed.
#[derive(Default)]
pub(crate) struct Renewals(Mutex<HashSet<Fingerprint, foldhash::fast::RandomState>>);

impl Renewals {
    fn begin(&self, answer: Fingerprint) -> bool {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.len() < MOST && under_way.insert(answer)
    }

    fn end(&self, answer: &Fingerprint) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(answer);
    }

    /// Renewals under way.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// One renewal's place among them, given back on every path.
struct Place {
    shared: Arc<Shared>,
    answer: Fingerprint,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.renewals.end(&self.answer);
    }
}

/// Renews an answer, unless that is being done or too many are. `load` is made only then.
pub(crate) fn begin(shared: &Arc<Shared>, key: FlightKey, load: impl FnOnce() -> Option<Load>) {
    if !shared.renewals.begin(key.0) {
        return;
    }
    let place = Place { shared: shared.clone(), answer: key.0 };
    let Some(load) = load() else { return };
    let mut follow = shared.flights.join(key, || load.source());
    if follow.role() == Role::Follower {
        return;
    }
    tokio::spawn(async move {
        while let Some(piece) = poll_fn(|cx| Pin::new(&mut follow).poll_next(cx)).await {
            if let Piece::Failed(failure) = piece {
                tracing::debug!(code = failure.code.as_str(), "an old answer could not be renewed");
            }
        }
        drop(place);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m01_renewals_are_bounded_and_one_for_each_answer() {
        let renewals = Renewals::default();
        let answer = |number: u8| Fingerprint::from([number; 32]);
        for number in 0..MOST as u8 {
            assert!(renewals.begin(answer(number)));
            assert!(!renewals.begin(answer(number)));
        }
        assert!(!renewals.begin(answer(200)));
        renewals.end(&answer(0));
        assert!(renewals.begin(answer(200)));
        assert_eq!(renewals.len(), MOST);
    }
}
