//! What a job found, with the evidence.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    board::{Board, Member},
    candidate::Candidate,
    diff::{Change, diff},
    search::{Ended, Point},
    spend::Spend,
    stats::Estimate,
};

/// Scores of one candidate on the three sets.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Scores {
    /// On those train examples that it was tried on.
    pub train: Option<Estimate>,
    /// On the validation set. It was chosen by these: they flatter it.
    pub validation: Option<Estimate>,
    /// On the held-out set, looked at once, after the search. None when there is no such set, or the job was
    /// stopped before.
    pub held_out: Option<Estimate>,
}

/// A candidate in the lineage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// Its number.
    pub member: usize,
    /// What it comes from.
    pub parents: Vec<usize>,
    /// How it was made.
    pub by: &'static str,
    /// What was said of the change.
    pub note: String,
    /// Its mean score on the validation examples that it was tried on.
    pub validation: Option<f64>,
    /// How many these were.
    pub tried_on: usize,
    /// Whether it was given up within its validation.
    pub given_up: bool,
    /// Whether it is on the frontier.
    pub on_frontier: bool,
    /// How long it is, in characters.
    pub length: usize,
}

/// What a job found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// The task's name.
    pub task: String,
    /// The strategy's name.
    pub strategy: &'static str,
    /// How the job ended.
    pub ended: Ended,
    /// The texts of the best candidate.
    pub best: Candidate,
    /// Its number.
    pub best_member: usize,
    /// Its scores.
    pub scores: Scores,
    /// The texts that the job began with.
    pub seed: Candidate,
    /// Their scores.
    pub seed_scores: Scores,
    /// What changed from them to the best, by component.
    pub changes: BTreeMap<String, Vec<Change>>,
    /// Where every candidate comes from.
    pub lineage: Vec<Node>,
    /// The best validation score by roll-outs spent.
    pub curve: Vec<Point>,
    /// Roll-outs of the search.
    pub evaluations: usize,
    /// Roll-outs of the final check.
    pub check_evaluations: usize,
    /// What everything cost, the final check included.
    pub spend: Spend,
    /// Candidates that were tried.
    pub tried: usize,
    /// Calls that failed for good.
    pub errors: usize,
    /// Seconds, those of earlier runs of the same job included.
    pub seconds: f64,
}

impl Findings {
    /// The findings as a page of HTML that needs nothing from elsewhere.
    pub fn html(&self) -> String {
        crate::report::page(self)
    }
}

pub(crate) fn lineage(board: &Board) -> Vec<Node> {
    let node = |member: &Member| Node {
        member: member.id,
        parents: member.parents.clone(),
        by: member.by,
        note: member.note.clone(),
        validation: member.mean(),
        tried_on: member.validation.len(),
        given_up: member.given_up,
        on_frontier: board.frontier().iter().any(|(id, _)| *id == member.id),
        length: member.candidate.length(),
    };
    board.members().iter().map(node).collect()
}

pub(crate) fn changes(seed: &Candidate, best: &Candidate) -> BTreeMap<String, Vec<Change>> {
    best.iter()
        .map(|(name, text)| (name.to_owned(), diff(seed.text(name).unwrap_or_default(), text)))
        .filter(|(_, changes)| changes.iter().any(|change| !matches!(change, Change::Same(_))))
        .collect()
}
