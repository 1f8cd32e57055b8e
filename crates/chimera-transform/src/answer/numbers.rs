//! The numbers of a stream's events, where its dialect numbers them: an event that is put in moves those
//! behind it on.

use std::ops::Range;

use chimera_protocol::json::{Document, Value};

use crate::prompt::splice;

const MEMBER: &str = "sequence_number";

/// How far the events of one stream were moved on.
#[derive(Default)]
pub(super) struct Numbers {
    added: u64,
    /// The number that the next event has, if events have any.
    next: Option<u64>,
}

fn number_of(root: Value<'_>) -> Option<(Range<usize>, u64)> {
    let member = root.get(MEMBER)?;
    Some((member.range(), member.raw().parse().ok()?))
}

impl Numbers {
    /// Looks at the event that comes next.
    pub(super) fn comes(&mut self, root: Value<'_>) {
        if let Some((_, number)) = number_of(root) {
            self.next = Some(number + self.added);
        }
    }

    /// An event that is put in: it takes the number that is next.
    pub(super) fn put_in(&mut self, data: String) -> String {
        let Some(next) = self.next else { return data };
        let renumbered = Document::parse(data.as_bytes()).ok().and_then(|document| {
            let (range, _) = number_of(document.root())?;
            Some(splice(document.text(), vec![(range, next.to_string())]))
        });
        let Some(renumbered) = renumbered else { return data };
        self.added += 1;
        self.next = Some(next + 1);
        renumbered
    }

    /// What the event that came gets for a number, where it is another.
    pub(super) fn told(&mut self, root: Value<'_>) -> Option<(Range<usize>, String)> {
        let (range, number) = number_of(root)?;
        let told = number + self.added;
        self.next = Some(told + 1);
        (self.added > 0).then(|| (range, told.to_string()))
    }
}
