//! What a step counted.

use std::borrow::Cow;

use smallvec::SmallVec;

/// Counts by name, in the order in which they were first noted.
///
/// As many as a step notes of a request that it leaves alone are kept in place: a report of clean text
/// takes no memory of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes(SmallVec<[(Cow<'static, str>, u64); 2]>);

impl Notes {
    /// What was counted under a name; nothing, if nothing was.
    pub fn get(&self, name: &str) -> u64 {
        self.iter().find(|(noted, _)| *noted == name).map_or(0, |(_, count)| count)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, count)| (&**name, *count))
    }

    pub(crate) fn add(&mut self, name: Cow<'static, str>, count: u64) {
        match self.0.iter_mut().find(|(noted, _)| *noted == name) {
            Some((_, so_far)) => *so_far += count,
            None => self.0.push((name, count)),
        }
    }
}
