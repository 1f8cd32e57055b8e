//! Which train examples a parent and its child are tried on.

use crate::{
    board::{Board, SAME},
    chance::Chance,
    task::Set,
};

/// Deals train examples in shuffled rounds, so that every example comes up before any comes up again.
#[derive(Debug, Clone, Default)]
pub(super) struct Minibatches {
    left: Vec<usize>,
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

    /// Examples that a parent is known to be wrong on; others that it is not known to be right on where there are
    /// too few.
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
        let mut dealt = wrong.unwrap_or_default();
        chance.shuffle(&mut dealt);
        dealt.truncate(size);
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
