//! Several evaluators as one, and closures as evaluators.

use std::future::ready;

use crate::{
    error::TaskError,
    evaluator::{Case, Evaluator, Judgement, SharedEvaluator},
    model::CallError,
    spend::Spend,
};

/// The weighted mean of several evaluators; their feedback one after another.
#[derive(Debug, Clone)]
pub struct Weighted {
    parts: Vec<(f64, SharedEvaluator)>,
}

impl Weighted {
    /// Evaluators with their weights, all above zero.
    pub fn new(parts: Vec<(f64, SharedEvaluator)>) -> Result<Self, TaskError> {
        if parts.is_empty() {
            return Err(TaskError::new("evaluators", "there must be at least one"));
        }
        if let Some(place) = parts.iter().position(|(weight, _)| !(*weight > 0.0 && weight.is_finite())) {
            return Err(TaskError::new(format!("evaluators.{place}.weight"), "must be above zero"));
        }
        Ok(Self { parts })
    }
}

impl Evaluator for Weighted {
    async fn evaluate<'a>(&'a self, case: Case<'a>) -> Result<Judgement, CallError> {
        let (mut sum, mut total, mut feedback, mut spend) = (0.0, 0.0, String::new(), Spend::default());
        for (weight, evaluator) in &self.parts {
            let judgement = evaluator.evaluate(case).await.map_err(|error| error.after(spend))?;
            sum += weight * judgement.score;
            total += weight;
            spend += judgement.spend;
            if !judgement.feedback.is_empty() {
                if !feedback.is_empty() {
                    feedback.push('\n');
                }
                feedback.push_str(&judgement.feedback);
            }
        }
        Ok(Judgement { spend, ..Judgement::new(sum / total, feedback) })
    }

    fn version(&self) -> String {
        let parts: Vec<_> =
            self.parts.iter().map(|(weight, part)| format!("{weight} {}", part.version())).collect();
        parts.join("; ")
    }
}

/// A closure as an evaluator.
///
/// ```
/// use chimera_optimizer::{Case, Judgement, evaluators::evaluator_fn};
///
/// let short = evaluator_fn("short", |case: Case<'_>| {
///     Judgement::passed(case.output.len() < 80, || "Too long.".into())
/// });
/// # let _ = short;
/// ```
pub fn evaluator_fn<F>(version: impl Into<String>, judge: F) -> ByClosure<F>
where
    F: Fn(Case<'_>) -> Judgement + Send + Sync + 'static,
{
    ByClosure { judge, version: version.into() }
}

/// See [`evaluator_fn`].
pub struct ByClosure<F> {
    judge: F,
    version: String,
}

impl<F> Evaluator for ByClosure<F>
where
    F: Fn(Case<'_>) -> Judgement + Send + Sync + 'static,
{
    fn evaluate<'a>(
        &'a self,
        case: Case<'a>,
    ) -> impl Future<Output = Result<Judgement, CallError>> + Send + 'a {
        ready(Ok((self.judge)(case)))
    }

    fn version(&self) -> String {
        self.version.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Example;

    #[tokio::test]
    async fn weights_weigh_and_words_add_up() {
        let part = |score: f64, words: &'static str| {
            SharedEvaluator::new(evaluator_fn(words, move |_: Case<'_>| Judgement::new(score, words)))
        };
        let all =
            Weighted::new(vec![(3.0, part(1.0, "")), (1.0, part(0.0, "bad")), (1.0, part(0.5, "so so"))]);
        let example = Example::new("1", "in", "out");
        let found = all.unwrap().evaluate(Case { example: &example, output: "" }).await.unwrap();
        assert!((found.score - 0.7).abs() < 1e-9);
        assert_eq!(found.feedback, "bad\nso so");
        let wrong = Weighted::new(vec![(0.0, part(1.0, ""))]).unwrap_err();
        assert_eq!(wrong.to_string(), "evaluators.0.weight: must be above zero");
    }
}
