//! The instance-wise Pareto frontier: the candidates that are best on some example.
//!
//! Choosing parents by their mean alone ends in the first local best. Whoever is best at anything has found
//! something that the others have not, and stays a parent as often as it is best.

/// The frontier of candidates by their scores on the same examples.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    /// Places in the list of candidates, and on how many examples each is best.
    members: Vec<(usize, usize)>,
}

impl Frontier {
    /// The frontier of rows of scores, one row a candidate, NaN where it was not tried. A candidate is left out
    /// when others are best on every example that it is best on.
    pub fn of<R: AsRef<[f64]>>(rows: &[R]) -> Self {
        let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
        let winners: Vec<Vec<usize>> = (0..width).map(|example| winners(rows, example)).collect();
        let mut wins = vec![0; rows.len()];
        let mut left = winners.iter().map(Vec::len).collect::<Vec<_>>();
        let mut won: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
        for (example, winners) in winners.iter().enumerate() {
            for row in winners {
                wins.get_mut(*row).into_iter().for_each(|wins| *wins += 1);
                won.get_mut(*row).into_iter().for_each(|won| won.push(example));
            }
        }
        let mut order: Vec<usize> = (0..rows.len()).filter(|row| wins.get(*row) > Some(&0)).collect();
        // The weakest first: who is best at little, and weak in the sum, is covered by others first.
        order.sort_by(|one, other| {
            let key = |row: &usize| rows.get(*row).map_or(0.0, |row| mean(row.as_ref()));
            key(one).total_cmp(&key(other)).then(other.cmp(one))
        });
        let mut members = Vec::new();
        for row in order {
            let examples = won.get(row).map(Vec::as_slice).unwrap_or_default();
            if examples.iter().all(|example| left.get(*example) > Some(&1)) {
                for example in examples {
                    left.get_mut(*example).into_iter().for_each(|left| *left -= 1);
                }
            } else {
                members.push((row, examples.len()));
            }
        }
        members.sort_unstable();
        Self { members }
    }

    /// Places in the list of candidates, in order, and on how many examples each is best.
    pub fn members(&self) -> &[(usize, usize)] {
        &self.members
    }
}

fn mean(row: &[f64]) -> f64 {
    let tried = || row.iter().filter(|score| !score.is_nan());
    tried().sum::<f64>() / tried().count().max(1) as f64
}

fn winners<R: AsRef<[f64]>>(rows: &[R], example: usize) -> Vec<usize> {
    let score = |row: &R| row.as_ref().get(example).copied().unwrap_or(f64::NAN);
    let best = rows.iter().map(score).fold(f64::NEG_INFINITY, f64::max);
    rows.iter().enumerate().filter(|(_, row)| score(row) >= best).map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_is_best_nowhere_alone_is_left_out() {
        let rows = [vec![1.0, 0.0, 0.0], vec![0.0, 1.0, 1.0], vec![1.0, 0.0, 0.5], vec![0.9, 0.9, 0.9]];
        assert_eq!(Frontier::of(&rows).members(), [(1, 2), (2, 1)]);
        assert_eq!(Frontier::of::<Vec<f64>>(&[]).members(), []);
        assert_eq!(Frontier::of(&[vec![0.5], vec![0.5]]).members(), [(0, 1)], "of equals, the older");
        assert_eq!(Frontier::of(&[vec![0.5, f64::NAN], vec![0.4, 0.1]]).members(), [(0, 1), (1, 1)]);
    }

    proptest! {
        #[test]
        fn every_example_has_its_best_on_the_frontier(
            rows in (1..6usize).prop_flat_map(|width| {
                prop::collection::vec(prop::collection::vec(0..4u8, width), 1..12)
            })
        ) {
            let rows: Vec<Vec<f64>> =
                rows.iter().map(|row| row.iter().map(|score| f64::from(*score)).collect()).collect();
            let frontier = Frontier::of(&rows);
            for example in 0..rows[0].len() {
                let best = rows.iter().map(|row| row[example]).fold(0.0, f64::max);
                prop_assert!(frontier.members().iter().any(|(row, _)| rows[*row][example] == best));
            }
            for (place, _) in frontier.members() {
                let others: Vec<_> = frontier.members().iter().filter(|(other, _)| other != place).collect();
                let alone = (0..rows[0].len()).any(|example| {
                    let best = rows.iter().map(|row| row[example]).fold(0.0, f64::max);
                    rows[*place][example] == best
                        && others.iter().all(|(other, _)| rows[*other][example] < best)
                });
                prop_assert!(alone, "{place} is covered by others");
            }
        }
    }
}
