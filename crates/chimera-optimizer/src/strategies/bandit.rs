//! Which examples to show: few-shot demonstrations chosen by a best-arm bandit.
//!
//! An arm is a set of train examples, shown in the component `examples`. Arms are pulled by being tried on
//! validation examples. A tournament is sequential halving, which spends its pulls where it is close: all arms
//! on a few examples, the better half on twice as many, until one is left and tried on all. The next
//! tournament is between that one, sets that differ from it in one example, and new sets.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    board::Board,
    candidate::Candidate,
    chance::Chance,
    program::EXAMPLES,
    strategy::{Accept, Make, Outcome, Plan, Step, Strategy, Validate},
    task::Set,
};

/// The knobs of [`Bandit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanditSettings {
    /// Examples shown. Default 4.
    pub shots: usize,
    /// Arms of a tournament. Default 8.
    pub arms: usize,
    /// Validation examples of the first rung. Default 4.
    pub rung: usize,
}

impl Default for BanditSettings {
    fn default() -> Self {
        Self { shots: 4, arms: 8, rung: 4 }
    }
}

/// The strategy `bandit`.
#[derive(Debug, Default)]
pub struct Bandit {
    settings: BanditSettings,
    /// The set of examples that a member shows, by member.
    sets: Vec<(usize, Vec<usize>)>,
    drawn: BTreeSet<Vec<usize>>,
    queue: VecDeque<Pull>,
    /// What was planned and is not settled, oldest first.
    open: VecDeque<Option<Vec<usize>>>,
    field: Vec<usize>,
    rung: usize,
    /// Tournaments in a row that could draw no new set.
    dry: usize,
}

#[derive(Debug)]
enum Pull {
    New(Vec<usize>),
    Again(usize),
}

impl Bandit {
    /// The strategy with these settings.
    pub fn new(settings: BanditSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Draws the arms of a tournament: half of them near the best set, once there is one.
    fn tournament(&mut self, board: &Board, chance: &mut Chance) {
        let train = board.task().examples(Set::Train).len();
        let best = board.best().map(|best| best.id);
        let near = self.sets.iter().find(|(member, _)| Some(*member) == best).map(|(_, set)| set.clone());
        self.field = best.into_iter().collect();
        self.rung = self.settings.rung.max(1);
        for arm in 0..self.settings.arms.max(2) {
            let mut set = match &near {
                Some(near) if arm % 2 == 0 => {
                    let mut set = near.clone();
                    let place = chance.below(set.len());
                    set.get_mut(place).into_iter().for_each(|one| *one = chance.below(train));
                    set
                }
                _ => chance.sample(train, self.settings.shots.max(1)),
            };
            set.sort_unstable();
            set.dedup();
            if self.drawn.insert(set.clone()) {
                self.queue.push_back(Pull::New(set));
            }
        }
        self.dry = if self.queue.is_empty() { self.dry + 1 } else { 0 };
    }

    fn advance(&mut self, board: &Board, chance: &mut Chance) {
        let total = board.task().examples(Set::Validation).len();
        if self.rung == 0 || self.field.len() < 2 || self.rung >= total {
            self.tournament(board, chance);
            return;
        }
        let order = board.validation_order();
        let mean = |member: &usize| board.mean_of_first(*member, order, self.rung).unwrap_or(0.0);
        self.field.sort_by(|one, other| mean(other).total_cmp(&mean(one)).then(one.cmp(other)));
        self.field.truncate(self.field.len().div_ceil(2));
        self.rung = if self.field.len() < 2 { total } else { (self.rung * 2).min(total) };
        let lacking = self.field.iter().filter(|member| {
            board.members().get(**member).is_some_and(|member| member.validation.len() < self.rung)
        });
        self.queue = lacking.map(|member| Pull::Again(*member)).collect();
    }

    fn step(&self, board: &Board, pull: &Pull) -> Step {
        let (make, parent) = match pull {
            Pull::Again(member) => (Make::Again(*member), *member),
            Pull::New(set) => (Make::Ready(shown(board, set)), 0),
        };
        Step {
            by: "examples",
            make,
            parents: vec![parent],
            minibatch: Vec::new(),
            accept: Accept::Always,
            validate: Validate::First(self.rung),
        }
    }
}

/// The seed prompt with a set of examples shown.
fn shown(board: &Board, set: &[usize]) -> Candidate {
    let mut text = String::from("Examples:");
    for example in set.iter().filter_map(|place| board.task().examples(Set::Train).get(*place)) {
        text.push_str(&format!("\n\nInput: {}\nOutput: {}", example.input_text(), example.expected_text()));
    }
    board.task().seed().with(EXAMPLES, text)
}

impl Strategy for Bandit {
    fn name(&self) -> &'static str {
        "bandit"
    }

    fn version(&self) -> String {
        format!("bandit {:?}", self.settings)
    }

    fn plan(&mut self, board: &Board, chance: &mut Chance) -> Plan {
        if board.is_perfect() {
            return Plan::Done;
        }
        while self.open.is_empty() && self.queue.is_empty() {
            if self.dry >= 3 {
                return Plan::Done;
            }
            self.advance(board, chance);
        }
        let Some(pull) = self.queue.pop_front() else { return Plan::Wait };
        let step = self.step(board, &pull);
        self.open.push_back(match pull {
            Pull::New(set) => Some(set),
            Pull::Again(_) => None,
        });
        Plan::Step(step)
    }

    fn settle(&mut self, _: &Board, outcome: &Outcome) {
        let Some(Some(set)) = self.open.pop_front() else { return };
        if let Some(member) = outcome.member
            && !self.field.contains(&member)
        {
            self.field.push(member);
            self.sets.push((member, set));
        }
    }
}
