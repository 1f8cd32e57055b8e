//! What changed from one text to another, line by line.

use serde::Serialize;

/// Texts with more lines are shown as removed and added whole.
const LONGEST: usize = 2000;

/// A line of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", content = "line", rename_all = "snake_case")]
pub enum Change {
    /// It is in both.
    Same(String),
    /// It was in the old text alone.
    Removed(String),
    /// It is in the new text alone.
    Added(String),
}

/// What changed, with the fewest lines removed and added.
pub(crate) fn diff(old: &str, new: &str) -> Vec<Change> {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old.len() > LONGEST || new.len() > LONGEST {
        let removed = old.iter().map(|line| Change::Removed((*line).to_owned()));
        return removed.chain(new.iter().map(|line| Change::Added((*line).to_owned()))).collect();
    }
    let shared = shared(&old, &new);
    let at =
        |row: usize, column: usize| shared.get(row).and_then(|row| row.get(column)).copied().unwrap_or(0);
    let (mut row, mut column, mut changes) = (0, 0, Vec::new());
    while row < old.len() || column < new.len() {
        match (old.get(row), new.get(column)) {
            (Some(line), Some(other)) if line == other => {
                changes.push(Change::Same((*line).to_owned()));
                (row, column) = (row + 1, column + 1);
            }
            (Some(line), other) if other.is_none() || at(row + 1, column) >= at(row, column + 1) => {
                changes.push(Change::Removed((*line).to_owned()));
                row += 1;
            }
            (_, Some(line)) => {
                changes.push(Change::Added((*line).to_owned()));
                column += 1;
            }
            _ => break,
        }
    }
    changes
}

/// How many lines the rests of two texts share at most, by where the rests begin.
fn shared(old: &[&str], new: &[&str]) -> Vec<Vec<u16>> {
    let mut table = vec![vec![0u16; new.len() + 1]; 1];
    for line in old.iter().rev() {
        let below = table.last().cloned().unwrap_or_default();
        let mut row = vec![0u16; new.len() + 1];
        for (column, other) in new.iter().enumerate().rev() {
            let get = |row: &[u16], column: usize| row.get(column).copied().unwrap_or(0);
            let longest = if line == other {
                get(&below, column + 1) + 1
            } else {
                get(&below, column).max(get(&row, column + 1))
            };
            row.get_mut(column).into_iter().for_each(|cell| *cell = longest);
        }
        table.push(row);
    }
    table.reverse();
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_fewest_lines_change() {
        let changes = diff("a\nb\nc", "a\nx\nc\nd");
        let line = |text: &str| text.to_owned();
        assert_eq!(
            changes,
            [
                Change::Same(line("a")),
                Change::Removed(line("b")),
                Change::Added(line("x")),
                Change::Same(line("c")),
                Change::Added(line("d")),
            ]
        );
        assert_eq!(diff("", ""), []);
    }

    proptest! {
        #[test]
        fn both_texts_are_in_it(old in "[ab\n]{0,20}", new in "[ab\n]{0,20}") {
            let changes = diff(&old, &new);
            let side = |wanted: fn(&Change) -> Option<&String>| changes.iter().filter_map(wanted).cloned().collect::<Vec<_>>();
            let olds = side(|change| match change {
                Change::Same(line) | Change::Removed(line) => Some(line),
                Change::Added(_) => None,
            });
            let news = side(|change| match change {
                Change::Same(line) | Change::Added(line) => Some(line),
                Change::Removed(_) => None,
            });
            prop_assert_eq!(olds, old.lines().collect::<Vec<_>>());
            prop_assert_eq!(news, new.lines().collect::<Vec<_>>());
        }
    }
}
