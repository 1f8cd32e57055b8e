//! How much a job may spend, and the ledger that holds it to that.
//!
//! The ledger counts in the order in which steps were begun, whatever the order in which their calls end:
//! where a budget ends is then the same for every run of a job. A step is begun only when the most that it
//! can cost fits into what is left beside the steps under way, so a limit on evaluations is never passed.
//! What a roll-out costs in tokens and money is known only afterwards; it is estimated by those before it,
//! and no call at all is begun once a limit is reached, so it is passed by the calls then under way at most.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use crate::{candidate::Digest, spend::Spend};

/// Limits; none means that there is no such limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Roll-outs on train and validation examples.
    pub evaluations: Option<usize>,
    /// Tokens, read and written, of everything the job calls, the final check on held-out examples included.
    pub tokens: Option<u64>,
    /// Dollars, likewise.
    pub dollars: Option<f64>,
    /// Time from the beginning, that of earlier runs of the same job included.
    pub wall: Option<Duration>,
    /// Steps in a row that bring no better best.
    pub patience: Option<usize>,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// Roll-outs.
    Evaluations,
    /// Tokens.
    Tokens,
    /// Money.
    Money,
    /// Time.
    Wall,
    /// Steps without a better best.
    Patience,
}

/// What was used, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) key: Digest,
    pub(crate) spend: Spend,
    /// Whether it was a roll-out; a proposal otherwise.
    pub(crate) evaluation: bool,
}

/// What one thing costs: tokens, and billionths of a dollar.
type Cost = (f64, f64);

/// A proposal is guessed at this many roll-outs until there was one.
const PROPOSAL: f64 = 20.0;

/// What was spent, in the order of steps.
#[derive(Debug)]
pub(crate) struct Ledger {
    budget: Budget,
    charged: HashSet<Digest>,
    /// Room set aside by step: roll-outs, and whether it proposes.
    reserved: BTreeMap<u64, (usize, bool)>,
    evaluations: usize,
    spend: Spend,
    /// Roll-outs that come after the search: the final check.
    later: usize,
    since_best: usize,
    /// What a roll-out cost lately. Prompts grow, so the mean of all would be too little.
    rollout: Cost,
    /// What the dearest proposal cost.
    proposal: Cost,
}

impl Ledger {
    pub(crate) fn new(budget: Budget, later: usize) -> Self {
        Self {
            budget,
            charged: HashSet::new(),
            reserved: BTreeMap::new(),
            evaluations: 0,
            spend: Spend::default(),
            later,
            since_best: 0,
            rollout: (0.0, 0.0),
            proposal: (0.0, 0.0),
        }
    }

    pub(crate) fn evaluations(&self) -> usize {
        self.evaluations
    }

    pub(crate) fn spend(&self) -> Spend {
        self.spend
    }

    pub(crate) fn evaluations_left(&self) -> Option<usize> {
        self.budget.evaluations.map(|limit| limit.saturating_sub(self.evaluations))
    }

    /// Sets room aside for a step of at most so many roll-outs, or says which limit is in the way.
    pub(crate) fn reserve(&mut self, step: u64, most: usize, proposes: bool) -> Result<(), Limit> {
        let under_way = self.reserved.values().map(|(most, _)| most).sum::<usize>() + most;
        if self.budget.evaluations.is_some_and(|limit| self.evaluations + under_way > limit) {
            return Err(Limit::Evaluations);
        }
        let proposals =
            self.reserved.values().filter(|(_, proposes)| *proposes).count() + usize::from(proposes);
        let needed = |spent: u64, rollout: f64, proposal: f64| {
            let proposal = if proposal > 0.0 { proposal } else { PROPOSAL * rollout };
            spent as f64 + rollout * (under_way + self.later) as f64 + proposal * proposals as f64
        };
        let tokens = needed(self.spend.all_tokens(), self.rollout.0, self.proposal.0);
        if self.budget.tokens.is_some_and(|limit| tokens > limit as f64) {
            return Err(Limit::Tokens);
        }
        let nanos = needed(self.spend.nanodollars, self.rollout.1, self.proposal.1);
        if self.budget.dollars.is_some_and(|limit| nanos > limit * 1e9) {
            return Err(Limit::Money);
        }
        if self.budget.patience.is_some_and(|limit| self.since_best >= limit) {
            return Err(Limit::Patience);
        }
        self.reserved.insert(step, (most, proposes));
        Ok(())
    }

    /// Gives a step's room back and counts what it used. What was used before is not counted again.
    pub(crate) fn settle(&mut self, step: u64, used: &[Used]) {
        self.reserved.remove(&step);
        for one in used.iter().filter(|one| self.charged.insert(one.key)) {
            self.spend += one.spend;
            let cost = (one.spend.all_tokens() as f64, one.spend.nanodollars as f64);
            if one.evaluation {
                self.evaluations += 1;
                let part = 1.0 / self.evaluations.min(8) as f64;
                self.rollout.0 += (cost.0 - self.rollout.0) * part;
                self.rollout.1 += (cost.1 - self.rollout.1) * part;
            } else {
                self.proposal = (self.proposal.0.max(cost.0), self.proposal.1.max(cost.1));
            }
        }
    }

    /// Counts a step that is over: whether the best is a better one now.
    pub(crate) fn stepped(&mut self, better: bool) {
        self.since_best = if better { 0 } else { self.since_best + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(key: u8, tokens: u64) -> Used {
        let spend = Spend { nanodollars: tokens, ..Spend::tokens(tokens, 0) };
        Used { key: Digest([key; 16]), spend, evaluation: true }
    }

    #[test]
    fn what_is_under_way_counts_and_nothing_counts_twice() {
        let mut ledger = Ledger::new(Budget { evaluations: Some(10), ..Budget::default() }, 0);
        ledger.reserve(0, 6, false).unwrap();
        assert_eq!(ledger.reserve(1, 5, false), Err(Limit::Evaluations));
        ledger.reserve(1, 4, false).unwrap();
        ledger.settle(0, &[used(1, 1), used(2, 1), used(1, 1)]);
        assert_eq!((ledger.evaluations(), ledger.evaluations_left()), (2, Some(8)));
        ledger.settle(1, &[used(2, 1)]);
        assert_eq!(ledger.evaluations(), 2);
    }

    #[test]
    fn tokens_and_money_are_estimated_by_those_before() {
        let limits = [
            (Budget { tokens: Some(1000), ..Budget::default() }, Limit::Tokens),
            (Budget { dollars: Some(1e-6), ..Budget::default() }, Limit::Money),
        ];
        for (budget, limit) in limits {
            let mut ledger = Ledger::new(budget, 2);
            ledger.reserve(0, 1, false).unwrap();
            ledger.settle(0, &[used(1, 100)]);
            assert_eq!(
                ledger.reserve(1, 8, false),
                Err(limit),
                "100 + 8 * 100, and 2 * 100 for the final check"
            );
            ledger.reserve(1, 7, false).unwrap();
        }
    }

    #[test]
    fn patience_ends() {
        let mut ledger = Ledger::new(Budget { patience: Some(2), ..Budget::default() }, 0);
        for better in [false, true, false, false] {
            ledger.reserve(0, 1, false).unwrap();
            ledger.stepped(better);
        }
        assert_eq!(ledger.reserve(0, 1, false), Err(Limit::Patience));
    }
}
