//! The control: the same proposer, the same minibatches, the same validation, but nothing of how a text did
//! reaches whoever rewrites it. What is no better than this has learnt nothing from feedback.

use super::minibatch::Minibatches;
use crate::{
    board::Board,
    chance::Chance,
    proposer::Guidance,
    strategy::{Accept, Make, Plan, Step, Strategy, Validate},
};

/// The knobs of [`Random`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomSettings {
    /// Examples of a minibatch. Default 3.
    pub minibatch: usize,
}

impl Default for RandomSettings {
    fn default() -> Self {
        Self { minibatch: 3 }
    }
}

/// The strategy `random`.
#[derive(Debug, Default)]
pub struct Random {
    settings: RandomSettings,
    minibatches: Minibatches,
}

impl Random {
    /// The strategy with these settings.
    pub fn new(settings: RandomSettings) -> Self {
        Self { settings, ..Self::default() }
    }
}

impl Strategy for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn version(&self) -> String {
        format!("random {:?}", self.settings)
    }

    fn plan(&mut self, board: &Board, chance: &mut Chance) -> Plan {
        if board.is_perfect() {
            return Plan::Done;
        }
        let complete: Vec<_> = board.members().iter().filter(|member| board.is_complete(member)).collect();
        let Some(parent) = complete.get(chance.below(complete.len())) else { return Plan::Wait };
        let names: Vec<&str> = parent.candidate.names().collect();
        let component = names.get(chance.below(names.len())).copied().unwrap_or_default().to_owned();
        Plan::Step(Step {
            by: "blind",
            make: Make::Rewrite { component, guidance: Guidance::default(), blind: true },
            parents: vec![parent.id],
            minibatch: self.minibatches.deal(board, self.settings.minibatch, chance),
            accept: Accept::Better,
            validate: Validate::All,
        })
    }
}
