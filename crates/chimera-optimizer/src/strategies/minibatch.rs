//! Which train examples a parent and its child are tried on.

use std::collections::HashMap;

use crate::{
    board::{Board, SAME},
    chance::Chance,
    task::Set,
};

/// Deals train examples in shuffled rounds, so that every example comes up before any comes up again.
#[derive(Debug, Clone, Default)]
pub(super) struct Minibatches {
    left: Vec<usize>,
    /// Of each parent of this round, the examples that it is wrong on and that did not come up yet.
    wrong: HashMap<usize, Vec<usize>>,
}

impl Minibatches {
    /// The next `size` examples, all different.
    pub(super) fn deal(&mut self, board: &Board, size: usize, chance: &mut Chance) -> Vec<usize> {
        let all = board.task().examples(Set::Train).len();
        let mut dealt = Vec::new();
        while dealt.len() < size.min(all) {
            if self.left.is_empty() {
                self.left = chance.sample(all, all);
            }
            dealt.extend(self.left.pop().filter(|place| !dealt.contains(place)));
        }
        dealt
    }

    /// Begins a round.
    pub(super) fn begin(&mut self) {
        self.wrong.clear();
    }

    /// Examples that a parent is known to be wrong on, each before any comes up again within a round; others that
    /// it is not known to be right on where there are too few.
    pub(super) fn deal_wrong(
        &mut self,
        board: &Board,
        parent: usize,
        size: usize,
        chance: &mut Chance,
    ) -> Vec<usize> {
        let wrong = board.members().get(parent).map(|parent| {
            let wrong = parent.train.iter().filter(|(_, score)| **score < 1.0 - SAME);
            wrong.map(|(place, _)| *place).collect::<Vec<_>>()
        });
        let wrong = wrong.unwrap_or_default();
        let left = self.wrong.entry(parent).or_default();
        let mut dealt: Vec<usize> = Vec::new();
        while dealt.len() < size.min(wrong.len()) {
            if left.is_empty() {
                left.clone_from(&wrong);
                chance.shuffle(left);
            }
            dealt.extend(left.pop().filter(|place| !dealt.contains(place)));
        }
        if dealt.len() < size {
            let more = self.deal_to(board, parent, size, chance);
            dealt.extend(more.into_iter().filter(|place| !dealt.contains(place)).collect::<Vec<_>>());
            dealt.truncate(size);
        }
        dealt
    }

    /// Deals for one parent, without the examples that it is known to be right on, as far as there are others:
    /// from those nothing is learnt.
    pub(super) fn deal_to(
        &mut self,
        board: &Board,
        parent: usize,
        size: usize,
        chance: &mut Chance,
    ) -> Vec<usize> {
        if size == 0 {
            return Vec::new();
        }
        let all = board.task().examples(Set::Train).len();
        let right = |place: &usize| {
            let known = board.members().get(parent).and_then(|parent| parent.train.get(place));
            known.is_some_and(|score| *score >= 1.0 - SAME)
        };
        let mut dealt: Vec<usize> = Vec::new();
        for _ in 0..all {
            let Some(next) = self.deal(board, 1, chance).pop() else { break };
            if dealt.len() < size && !dealt.contains(&next) && !right(&next) {
                dealt.push(next);
            }
            if dealt.len() == size {
                return dealt;
            }
        }
        let rest = self.deal(board, all, chance);
        dealt.extend(rest.into_iter().take(size.saturating_sub(dealt.len())));
        dealt.dedup();
        dealt
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        dataset::{Dataset, Example},
        lane::{Done, Verdict},
        rollout::Rollout,
        settings::Second,
        strategy::{Accept, Make, Step, Validate},
        task::Task,
    };

    #[test]
    fn what_a_parent_is_wrong_on_comes_up_once_in_a_round() {
        let train = (0..9).map(|n| Example::new(n.to_string(), n.to_string(), "x")).collect();
        let validation = vec![Example::new("v", "v", "x")];
        let data = Dataset { train, validation, held_out: Vec::new() };
        let task = Arc::new(Task::prompt("any", "seed", data).unwrap());
        let mut board = Board::new(task, Second::Nothing, Arc::from([0]), 1);
        let before = (0..6).map(|place| (place, Arc::new(Rollout::default()))).collect();
        board.settle(&Done {
            number: 0,
            step: Step {
                by: "test",
                make: Make::Again(0),
                parents: vec![0],
                minibatch: Vec::new(),
                accept: Accept::Always,
                validate: Validate::First(0),
            },
            child: None,
            before,
            after: Vec::new(),
            validation: Vec::new(),
            verdict: Verdict::Scored,
            note: String::new(),
            used: Vec::new(),
        });
        let (mut minibatches, mut chance) = (Minibatches::default(), Chance::new(1, 1));
        for _ in 0..5 {
            minibatches.begin();
            let mut dealt: Vec<usize> =
                (0..3).flat_map(|_| minibatches.deal_wrong(&board, 0, 2, &mut chance)).collect();
            dealt.sort_unstable();
            assert_eq!(dealt, [0, 1, 2, 3, 4, 5]);
            let mut more = minibatches.deal_wrong(&board, 0, 4, &mut chance);
            more.sort_unstable();
            more.dedup();
            assert_eq!(more.len(), 4, "and then again, never twice in one");
        }
    }
}
