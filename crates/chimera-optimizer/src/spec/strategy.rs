//! Strategies as they are written down.

use serde::Deserialize;

use crate::{
    Strategy, TaskError,
    strategies::{
        Bandit, BanditSettings, Gradient, GradientSettings, Random, RandomSettings, Reflective,
        ReflectiveSettings,
    },
};

/// A strategy: its kind and the fields of its kind, each with a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrategySpec {
    /// `reflective` (if nothing is said), `gradient`, `bandit` or `random`.
    #[serde(default)]
    pub kind: Option<String>,
    /// All but `bandit`: examples of a minibatch.
    pub minibatch: Option<usize>,
    /// `reflective`: merges at most.
    pub merges: Option<usize>,
    /// `gradient`: candidates kept from round to round.
    pub beam: Option<usize>,
    /// `gradient`: rewrites of each.
    pub branches: Option<usize>,
    /// `reflective`: things that a rewrite may change; `gradient`: those at first.
    pub step: Option<usize>,
    /// `gradient`: earlier gradients that are told again.
    pub momentum: Option<usize>,
    /// All but `random`: validation examples of the first rung.
    pub rung: Option<usize>,
    /// `bandit`: examples shown.
    pub shots: Option<usize>,
    /// `bandit`: arms of a tournament.
    pub arms: Option<usize>,
}

impl StrategySpec {
    pub(super) fn build(&self) -> Result<Box<dyn Strategy>, TaskError> {
        self.check().map_err(|error| error.under("strategy"))?;
        Ok(match self.kind() {
            "gradient" => {
                let standard = GradientSettings::default();
                Box::new(Gradient::new(GradientSettings {
                    minibatch: self.minibatch.unwrap_or(standard.minibatch),
                    beam: self.beam.unwrap_or(standard.beam),
                    branches: self.branches.unwrap_or(standard.branches),
                    step: self.step.unwrap_or(standard.step),
                    momentum: self.momentum.unwrap_or(standard.momentum),
                    rung: self.rung.unwrap_or(standard.rung),
                }))
            }
            "bandit" => {
                let standard = BanditSettings::default();
                Box::new(Bandit::new(BanditSettings {
                    shots: self.shots.unwrap_or(standard.shots),
                    arms: self.arms.unwrap_or(standard.arms),
                    rung: self.rung.unwrap_or(standard.rung),
                }))
            }
            "random" => {
                let minibatch = self.minibatch.unwrap_or(RandomSettings::default().minibatch);
                Box::new(Random::new(RandomSettings { minibatch }))
            }
            _ => {
                let standard = ReflectiveSettings::default();
                Box::new(Reflective::new(ReflectiveSettings {
                    minibatch: self.minibatch.unwrap_or(standard.minibatch),
                    step: self.step.unwrap_or(standard.step),
                    merges: self.merges.unwrap_or(standard.merges),
                    rung: self.rung.unwrap_or(standard.rung),
                    patience: standard.patience,
                }))
            }
        })
    }

    fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or("reflective")
    }

    fn check(&self) -> Result<(), TaskError> {
        const KINDS: &[&str] = &["reflective", "gradient", "bandit", "random"];
        if !KINDS.contains(&self.kind()) {
            return Err(TaskError::new("kind", "must be reflective, gradient, bandit or random"));
        }
        let fields: [(&str, Option<usize>, &[&str]); 9] = [
            ("minibatch", self.minibatch, &["reflective", "gradient", "random"]),
            ("merges", self.merges, &["reflective"]),
            ("beam", self.beam, &["gradient"]),
            ("branches", self.branches, &["gradient"]),
            ("step", self.step, &["reflective", "gradient"]),
            ("momentum", self.momentum, &["gradient"]),
            ("rung", self.rung, &["reflective", "gradient", "bandit"]),
            ("shots", self.shots, &["bandit"]),
            ("arms", self.arms, &["bandit"]),
        ];
        for (field, value, kinds) in fields {
            match value {
                Some(_) if !kinds.contains(&self.kind()) => {
                    return Err(TaskError::new(field, format!("is not a field of `{}`", self.kind())));
                }
                Some(0) if !["merges", "momentum"].contains(&field) => {
                    return Err(TaskError::new(field, "must be above zero"));
                }
                Some(many) if many > 1000 => return Err(TaskError::new(field, "must be at most 1000")),
                _ => {}
            }
        }
        Ok(())
    }
}
