//! Two candidates that grew apart from a common ancestor, put together component by component.

use crate::{
    board::{Board, Member},
    candidate::Candidate,
    chance::Chance,
};

/// Two members of the frontier whose changes since their nearest common ancestor are in different components
/// at least in part, and what they make together. The pair is drawn; none when there is none that is new.
pub(super) fn merge(
    board: &Board,
    seen: impl Fn(&(usize, usize)) -> bool,
    chance: &mut Chance,
) -> Option<((usize, usize), Candidate)> {
    let members: Vec<usize> = board.frontier().iter().map(|(member, _)| *member).collect();
    let mut pairs: Vec<(usize, usize)> = members
        .iter()
        .flat_map(|one| members.iter().filter(move |other| one < *other).map(move |other| (*one, *other)))
        .filter(|pair| !seen(pair))
        .collect();
    chance.shuffle(&mut pairs);
    pairs.into_iter().find_map(|pair| {
        let (one, other) = (board.members().get(pair.0)?, board.members().get(pair.1)?);
        let ancestor = board.members().get(ancestor(board, one, other)?)?;
        if [one.id, other.id].contains(&ancestor.id) {
            return None;
        }
        Some((pair, together(ancestor, one, other)?))
    })
}

/// For each component, the text that was changed. Where both changed it, the changes of both, line by line.
fn together(ancestor: &Member, one: &Member, other: &Member) -> Option<Candidate> {
    let (better, worse) = if one.mean() >= other.mean() { (one, other) } else { (other, one) };
    let mut merged = better.candidate.clone();
    for (name, old) in ancestor.candidate.iter() {
        let (Some(first), Some(second)) = (better.candidate.text(name), worse.candidate.text(name)) else {
            continue;
        };
        if second != old && first == old {
            merged = merged.with(name, second);
        } else if second != old && first != second {
            merged = merged.with(name, lines(old, first, second));
        }
    }
    let new = merged.digest() != better.candidate.digest() && merged.digest() != worse.candidate.digest();
    new.then_some(merged)
}

/// The first text with what the second changed of the old one: its new lines at the end, without the lines
/// that it dropped.
fn lines(old: &str, first: &str, second: &str) -> String {
    let dropped = |line: &str| old.lines().any(|one| one == line) && !second.lines().any(|one| one == line);
    let known = |line: &str| first.lines().chain(old.lines()).any(|one| one == line);
    let kept = first.lines().filter(|line| !dropped(line));
    let added = second.lines().filter(|line| !known(line));
    kept.chain(added).collect::<Vec<_>>().join("\n")
}

/// The nearest common ancestor, themselves included: the youngest one.
fn ancestor(board: &Board, one: &Member, other: &Member) -> Option<usize> {
    let others = line(board, other);
    line(board, one).into_iter().filter(|member| others.contains(member)).max()
}

/// A member and all that it comes from.
fn line(board: &Board, member: &Member) -> Vec<usize> {
    let mut line = vec![member.id];
    let mut next = 0;
    while let Some(id) = line.get(next).copied() {
        let parents = board.members().get(id).map(|member| member.parents.as_slice()).unwrap_or_default();
        let new: Vec<usize> = parents.iter().copied().filter(|parent| !line.contains(parent)).collect();
        line.extend(new);
        next += 1;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_are_there_and_what_either_dropped_is_not() {
        assert_eq!(lines("a\nb\nc", "a\nb\nc\nd", "a\nc\ne"), "a\nc\nd\ne");
        assert_eq!(lines("a", "a\nx", "a\nx"), "a\nx");
    }
}
