//! Two candidates that grew apart from a common ancestor, put together component by component.

use crate::{
    board::{Board, Member},
    candidate::Candidate,
    chance::Chance,
};

/// The two members that promise most, of those that changed different things since their
/// nearest common ancestor, and what they make together; none when there is none that is new.
pub(super) fn merge(
    board: &Board,
    members: &[usize],
    seen: impl Fn(&(usize, usize)) -> bool,
    chance: &mut Chance,
) -> Option<((usize, usize), Candidate)> {
    let mut pairs: Vec<(usize, usize)> = members
        .iter()
        .flat_map(|one| members.iter().filter(move |other| one < *other).map(move |other| (*one, *other)))
        .filter(|pair| !seen(pair))
        .collect();
    chance.shuffle(&mut pairs);
    pairs.sort_by(|one, other| promise(board, *other).total_cmp(&promise(board, *one)));
    pairs.into_iter().find_map(|pair| {
        let (one, other) = (board.members().get(pair.0)?, board.members().get(pair.1)?);
        let ancestor = board.members().get(ancestor(board, one, other)?)?;
        if [one.id, other.id].contains(&ancestor.id) {
            return None;
        }
        Some((pair, together(ancestor, one, other)?))
    })
}

/// What a pair would score if it were as good on each example as the better of the two.
fn promise(board: &Board, (one, other): (usize, usize)) -> f64 {
    let scores = |id: usize| board.members().get(id).map(|member| &member.validation);
    let (Some(one), Some(other)) = (scores(one), scores(other)) else { return 0.0 };
    let both: Vec<f64> =
        one.iter().filter_map(|(place, score)| Some(score.max(*other.get(place)?))).collect();
    both.iter().sum::<f64>() / both.len().max(1) as f64
}

/// What all of some members changed since their nearest common ancestors, in one; none when it is nothing new.
pub(super) fn all_together(board: &Board, members: &[usize]) -> Option<Candidate> {
    let (first, others) = members.split_first()?;
    let first = board.members().get(*first)?;
    let mut all = first.candidate.clone();
    for other in others {
        let other = board.members().get(*other)?;
        let ancestor = board.members().get(ancestor(board, first, other)?)?;
        all = three_way(&ancestor.candidate, &all, &other.candidate);
    }
    let is_new = members.iter().all(|id| board.members().get(*id).is_none_or(|one| one.candidate != all));
    is_new.then_some(all)
}

/// What both changed since their ancestor; none when that is nothing new.
fn together(ancestor: &Member, one: &Member, other: &Member) -> Option<Candidate> {
    let (better, worse) = if one.mean() >= other.mean() { (one, other) } else { (other, one) };
    let merged = three_way(&ancestor.candidate, &better.candidate, &worse.candidate);
    (merged != better.candidate && merged != worse.candidate).then_some(merged)
}

/// For each component, the text that was changed. Where both changed it, the changes of both, line by line.
pub(super) fn three_way(old: &Candidate, first: &Candidate, second: &Candidate) -> Candidate {
    let mut merged = first.clone();
    for (name, text) in old.iter() {
        let (Some(first), Some(second)) = (first.text(name), second.text(name)) else { continue };
        if second != text && first == text {
            merged = merged.with(name, second);
        } else if second != text && first != second {
            merged = merged.with(name, lines(text, first, second));
        }
    }
    merged
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
