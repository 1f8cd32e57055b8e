//! What one step wants changed: kept apart until the step has ended well.

use std::borrow::Cow;

use crate::{notes::Notes, prompt::Role, turns::Added};

/// The changes of one step. They are made when it returns without an error, and not at all otherwise.
#[derive(Debug, Default)]
pub struct Changes {
    pub(crate) texts: Vec<(usize, String)>,
    pub(crate) dropped: Vec<usize>,
    pub(crate) added: Vec<Added>,
    pub(crate) used_up: Vec<&'static str>,
    pub(crate) notes: Notes,
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

    /// Puts a turn before the conversation, behind those that were put there. The steps that follow see
    /// it like any other.
    pub fn add_turn(&mut self, role: Role, text: String) {
        self.added.push((role, text));
    }

    /// Leaves out a member of the body, which was meant for the step and for nobody behind it.
    pub fn leave_out(&mut self, member: &'static str) {
        self.used_up.push(member);
    }

    /// Counts something for the report, under a name from a closed set.
    pub fn note(&mut self, what: impl Into<Cow<'static, str>>, count: u64) {
        self.notes.add(what.into(), count);
    }

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty() && self.dropped.is_empty() && !self.reshapes()
    }

    /// Whether the body gets another shape by it.
    pub(crate) fn reshapes(&self) -> bool {
        !self.added.is_empty() || !self.used_up.is_empty()
    }
}
