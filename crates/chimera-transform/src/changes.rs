//! What one step wants changed: kept apart until the step has ended well.

use std::collections::BTreeMap;

/// The changes of one step. They are made when it returns without an error, and not at all otherwise.
#[derive(Debug, Default)]
pub struct Changes {
    pub(crate) texts: Vec<(usize, String)>,
    pub(crate) dropped: Vec<usize>,
    pub(crate) notes: BTreeMap<String, u64>,
}

impl Changes {
    /// Replaces the text of a part, named by its number.
    pub fn replace(&mut self, part: usize, text: String) {
        self.texts.push((part, text));
    }

    /// Leaves out a turn of the conversation.
    pub fn drop_turn(&mut self, turn: usize) {
        self.dropped.push(turn);
    }

    /// Counts something for the report, under a name from a closed set.
    pub fn note(&mut self, what: &str, count: u64) {
        match self.notes.get_mut(what) {
            Some(so_far) => *so_far += count,
            None => drop(self.notes.insert(what.to_owned(), count)),
        }
    }

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.dropped.is_empty()
    }
}
