//! Settings of `guard`.

use std::time::Duration;

use chimera_transform::{Guard, GuardSettings, OnMatch};
use serde::{Deserialize, Serialize};

use super::SpecError;
use crate::transforms::moderator::{INSTRUCTIONS, Moderator};

/// What is done about a match of a guard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MatchSpec {
    /// The request, or the answer, is refused.
    #[default]
    Deny,
    /// The report says so, and `x-chimera-transforms` of a call.
    Flag,
}

/// Settings of `guard`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardSpec {
    /// What is done about a match.
    pub on_match: MatchSpec,
    /// Whether requests are looked at.
    pub requests: bool,
    /// Whether answers are.
    pub answers: bool,
    /// The longest match of a pattern in an answer, in bytes.
    pub longest: usize,
    /// The most characters of a request's texts together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_chars: Option<usize>,
    /// Languages in which users may ask; all where there is none.
    pub languages: Vec<String>,
    /// Patterns.
    pub patterns: Vec<String>,
    /// Words and phrases.
    pub words: Vec<String>,
    /// The model that is asked whether a request may pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moderation: Option<ModerationSpec>,
}

/// A model that is asked whether a request may pass.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ModerationSpec {
    /// The model, or the group of deployments.
    pub model: String,
    /// What it is told. It answers `safe` or `unsafe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// What is done about a request that it calls unsafe.
    #[serde(default)]
    pub on_match: MatchSpec,
    /// Whether a request passes when it gives no verdict in time.
    #[serde(default)]
    pub fail_open: bool,
    /// How long it may take.
    #[serde(default = "patience")]
    pub timeout_ms: u64,
}

fn patience() -> u64 {
    5000
}

impl Default for GuardSpec {
    fn default() -> Self {
        let GuardSettings { requests, answers, longest, .. } = GuardSettings::default();
        Self {
            on_match: MatchSpec::Deny,
            requests,
            answers,
            longest,
            max_chars: None,
            languages: Vec::new(),
            patterns: Vec::new(),
            words: Vec::new(),
            moderation: None,
        }
    }
}

impl GuardSpec {
    pub(super) fn step(&self) -> Result<Guard, SpecError> {
        let on_match = match self.on_match {
            MatchSpec::Deny => OnMatch::Deny,
            MatchSpec::Flag => OnMatch::Flag,
        };
        Guard::new(GuardSettings {
            patterns: self.patterns.clone(),
            words: self.words.clone(),
            languages: self.languages.clone(),
            max_chars: self.max_chars,
            on_match,
            requests: self.requests,
            answers: self.answers,
            longest: self.longest,
        })
        .map_err(|error| SpecError::new(format!("guard.{}", error.key), error.why))
    }

    /// The model that is asked, if one is.
    pub(super) fn moderator(&self) -> Result<Option<Moderator>, SpecError> {
        let Some(spec) = &self.moderation else { return Ok(None) };
        if spec.model.is_empty() {
            return Err(SpecError::new("guard.moderation.model", "it names a model"));
        }
        if spec.timeout_ms == 0 {
            return Err(SpecError::new("guard.moderation.timeout_ms", "it must be above zero"));
        }
        Ok(Some(Moderator {
            model: spec.model.clone(),
            instructions: spec.instructions.clone().unwrap_or_else(|| INSTRUCTIONS.to_owned()),
            denies: spec.on_match == MatchSpec::Deny,
            fails_open: spec.fail_open,
            timeout: Duration::from_millis(spec.timeout_ms),
        }))
    }
}
