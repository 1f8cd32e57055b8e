//! A pipeline as settings: the same words in the configuration file and in requests of the API.

mod guard;
mod schema;
mod template;

use std::collections::BTreeMap;

use chimera_transform::{
    Budget, BudgetSettings, Compress, CompressSettings, Custom, CustomSearch, Kind, Normalize,
    NormalizeSettings, OnFailure, Pipeline, Policy, Redact, RedactSettings, Step, UnicodeForm,
};
use serde::{Deserialize, Serialize};

use guard::GuardSpec;
use schema::SchemaSpec;
use template::TemplateSpec;

use super::moderator::Moderator;

/// A pipeline that cannot be built: the key at fault, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct SpecError {
    /// The key.
    pub key: String,
    /// Why.
    pub why: String,
}

impl SpecError {
    pub(crate) fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self { key: key.into(), why: why.into() }
    }
}

/// Steps with their settings, and whose they are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineSpec {
    /// The steps in their order: those of [`STEPS`](Self::STEPS).
    pub steps: Vec<String>,
    /// Routes whose calls all go through it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Clients whose calls all go through it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// Steps that are passed over when they fail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fail_open: Vec<String>,
    /// Settings of `template`.
    #[serde(skip_serializing_if = "is_default")]
    pub template: TemplateSpec,
    /// Settings of `normalize`.
    pub normalize: NormalizeSpec,
    /// Settings of `redact`.
    pub redact: RedactSpec,
    /// Settings of `budget`.
    pub budget: BudgetSpec,
    /// Settings of `compress`.
    pub compress: CompressSpec,
    /// Settings of `guard`.
    pub guard: GuardSpec,
    /// Settings of `schema`.
    #[serde(skip_serializing_if = "is_default")]
    pub schema: SchemaSpec,
}

/// Settings of `compress`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompressSpec {
    /// The share of bytes that is to be left at most; 1.0 loses nothing.
    pub ratio: f64,
    /// Texts below so many bytes are left alone.
    pub min_size: usize,
    /// Leaves alone what a provider's prompt cache may hold.
    pub protect_prefix: bool,
}

impl Default for CompressSpec {
    fn default() -> Self {
        let CompressSettings { ratio, min_size, protect_prefix } = CompressSettings::default();
        Self { ratio, min_size, protect_prefix }
    }
}

/// Settings of `normalize`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NormalizeSpec {
    /// `nfc`, `nfkc` or `keep`.
    pub form: FormSpec,
    /// Takes out characters that nobody sees.
    pub invisible: bool,
    /// Makes every line end a line feed.
    pub line_ends: bool,
    /// Takes out white space at the ends of lines and needless empty lines.
    pub white_space: bool,
    /// Takes the white space out of texts that are JSON.
    pub json: bool,
}

impl Default for NormalizeSpec {
    fn default() -> Self {
        let NormalizeSettings { invisible, line_ends, white_space, json, .. } = NormalizeSettings::default();
        Self { form: FormSpec::Nfc, invisible, line_ends, white_space, json }
    }
}

/// A form of Unicode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FormSpec {
    /// Composed.
    Nfc,
    /// Composed, compatibility characters replaced.
    Nfkc,
    /// As it is.
    Keep,
}

/// What is done with a finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicySpec {
    /// A placeholder, undone in the answer.
    #[default]
    Redact,
    /// Stars.
    Mask,
    /// A keyed hash.
    Hash,
    /// The request is refused.
    Block,
    /// Left alone.
    Allow,
}

impl From<PolicySpec> for Policy {
    fn from(policy: PolicySpec) -> Self {
        match policy {
            PolicySpec::Redact => Self::Redact,
            PolicySpec::Mask => Self::Mask,
            PolicySpec::Hash => Self::Hash,
            PolicySpec::Block => Self::Block,
            PolicySpec::Allow => Self::Allow,
        }
    }
}

/// Settings of `redact`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedactSpec {
    /// What is done with what `kinds` does not name.
    pub policy: PolicySpec,
    /// Placeholders stay the same throughout a conversation.
    pub protect_prefix: bool,
    /// What is done with kinds, patterns and dictionaries, by their names.
    pub kinds: BTreeMap<String, PolicySpec>,
    /// Patterns by name.
    pub patterns: BTreeMap<String, String>,
    /// Dictionaries by name.
    pub dictionaries: BTreeMap<String, Vec<String>>,
}

/// Settings of `budget`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSpec {
    /// Tokens that a request may have.
    pub tokens: u64,
    /// The model whose encoding counts where the request names none.
    pub model: String,
}

impl Default for BudgetSpec {
    fn default() -> Self {
        Self { tokens: 100_000, model: "gpt-4o".into() }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl PipelineSpec {
    /// The steps that there are.
    pub const STEPS: [&str; 7] = ["template", "normalize", "guard", "schema", "compress", "redact", "budget"];

    /// The same with what its files hold in their place. For a configuration: whoever calls the API has
    /// no business with files.
    pub fn with_files(&self) -> Result<Self, SpecError> {
        let mut spec = self.clone();
        spec.template.read_files()?;
        spec.schema.read_files()?;
        Ok(spec)
    }

    /// The model that its guard asks at a call.
    pub(super) fn moderator(&self) -> Result<Option<Moderator>, SpecError> {
        let moderator = self.guard.moderator()?;
        if moderator.is_some() && !self.steps.iter().any(|step| step == "guard") {
            return Err(SpecError::new("guard.moderation", "`guard` is no step of this pipeline"));
        }
        Ok(moderator)
    }

    /// The pipeline, under a name.
    pub fn build(&self, name: &str) -> Result<Pipeline, SpecError> {
        if self.steps.is_empty() {
            return Err(SpecError::new("steps", "a pipeline has at least one step"));
        }
        if let Some(step) = self.fail_open.iter().find(|step| !self.steps.contains(step)) {
            return Err(SpecError::new("fail_open", format!("`{step}` is no step of this pipeline")));
        }
        let steps = self.steps.iter().enumerate().map(|(index, step)| {
            if self.steps.iter().take(index).any(|before| before == step) {
                return Err(SpecError::new("steps", format!("`{step}` stands there twice")));
            }
            let open = self.fail_open.contains(step);
            let on_failure = if open { OnFailure::Open } else { OnFailure::Closed };
            Ok(self.step(step)?.on_failure(on_failure))
        });
        Ok(Pipeline::new(name, steps.collect::<Result<Vec<_>, _>>()?))
    }

    fn step(&self, name: &str) -> Result<Step, SpecError> {
        match name {
            "template" => Ok(Step::new(self.template.step()?)),
            "normalize" => Ok(Step::new(Normalize::new(self.normalize.settings()))),
            "redact" => Ok(Step::new(self.redact.step()?)),
            "budget" if self.budget.tokens == 0 => {
                Err(SpecError::new("budget.tokens", "it must be above zero"))
            }
            "budget" => {
                let BudgetSpec { tokens, model } = self.budget.clone();
                Ok(Step::new(Budget::new(BudgetSettings { tokens, model })))
            }
            "compress" if !(0.0..=1.0).contains(&self.compress.ratio) => {
                Err(SpecError::new("compress.ratio", "it is from 0.0 to 1.0"))
            }
            "compress" => {
                let CompressSpec { ratio, min_size, protect_prefix } = self.compress.clone();
                Ok(Step::new(Compress::new(CompressSettings { ratio, min_size, protect_prefix })))
            }
            "guard" => Ok(Step::new(self.guard.step()?)),
            "schema" => Ok(Step::new(self.schema.step()?)),
            other => {
                let why = format!("there is no step `{other}`; there are {}", Self::STEPS.join(", "));
                Err(SpecError::new("steps", why))
            }
        }
    }
}

impl NormalizeSpec {
    fn settings(&self) -> NormalizeSettings {
        NormalizeSettings {
            form: match self.form {
                FormSpec::Nfc => UnicodeForm::Nfc,
                FormSpec::Nfkc => UnicodeForm::Nfkc,
                FormSpec::Keep => UnicodeForm::Keep,
            },
            invisible: self.invisible,
            line_ends: self.line_ends,
            white_space: self.white_space,
            json: self.json,
        }
    }
}

impl RedactSpec {
    fn step(&self) -> Result<Redact, SpecError> {
        let policy = |name: &str| Policy::from(self.kinds.get(name).copied().unwrap_or(self.policy));
        let patterns =
            self.patterns.iter().map(|(name, pattern)| (name, CustomSearch::Pattern(pattern.clone())));
        let dictionaries =
            self.dictionaries.iter().map(|(name, words)| (name, CustomSearch::Words(words.clone())));
        let custom: Vec<Custom> = patterns
            .chain(dictionaries)
            .map(|(name, search)| Custom { name: name.clone(), search, policy: policy(name) })
            .collect();
        let built_in = |name: &str| Kind::ALL.into_iter().find(|kind| kind.as_str() == name);
        let mut kinds = BTreeMap::new();
        for (name, policy) in &self.kinds {
            match built_in(name) {
                Some(kind) => drop(kinds.insert(kind, (*policy).into())),
                None if custom.iter().any(|custom| custom.name == *name) => {}
                None => {
                    return Err(SpecError::new("redact.kinds", format!("there is no kind `{name}`")));
                }
            }
        }
        if let Some(custom) = custom.iter().find(|custom| built_in(&custom.name).is_some()) {
            let why = format!("`{}` is the name of a built-in kind", custom.name);
            return Err(SpecError::new("redact.patterns", why));
        }
        let (policy, protect_prefix) = (self.policy.into(), self.protect_prefix);
        Redact::new(RedactSettings { policy, kinds, custom, protect_prefix }).map_err(|error| {
            let section = if self.patterns.contains_key(&error.name) { "patterns" } else { "dictionaries" };
            SpecError::new(format!("redact.{section}.{}", error.name), error.why)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(json: &str) -> String {
        let spec: PipelineSpec = serde_json::from_str(json).unwrap();
        spec.build("p").unwrap_err().key
    }

    #[test]
    fn p04_a_bad_pipeline_is_refused_by_the_name_of_its_key() {
        assert_eq!(key("{}"), "steps");
        assert_eq!(key(r#"{"steps":["fly"]}"#), "steps");
        assert_eq!(key(r#"{"steps":["redact","redact"]}"#), "steps");
        assert_eq!(key(r#"{"steps":["redact"],"fail_open":["budget"]}"#), "fail_open");
        assert_eq!(key(r#"{"steps":["template"]}"#), "template.prompts");
        let file =
            r#"{"steps":["template"],"template":{"prompts":[{"id":"a","system":{"file":"/etc/hosts"}}]}}"#;
        assert_eq!(key(file), "template.prompts[0].system");
        assert_eq!(key(r#"{"steps":["budget"],"budget":{"tokens":0}}"#), "budget.tokens");
        assert_eq!(key(r#"{"steps":["compress"],"compress":{"ratio":1.5}}"#), "compress.ratio");
        assert_eq!(key(r#"{"steps":["guard"],"guard":{"patterns":["("]}}"#), "guard.patterns[0]");
        assert_eq!(key(r#"{"steps":["guard"],"guard":{"languages":["xx"]}}"#), "guard.languages");
        for schema in [r#"{"type":"shoe"}"#, r#""not JSON""#, r#"{"file":"/etc/hosts"}"#] {
            assert_eq!(
                key(&format!(r#"{{"steps":["schema"],"schema":{{"schema":{schema}}}}}"#)),
                "schema.schema"
            );
        }
        assert_eq!(key(r#"{"steps":["redact"],"redact":{"kinds":{"shoe":"mask"}}}"#), "redact.kinds");
        assert_eq!(key(r#"{"steps":["redact"],"redact":{"patterns":{"x":"("}}}"#), "redact.patterns.x");
        assert_eq!(key(r#"{"steps":["redact"],"redact":{"patterns":{"email":"x"}}}"#), "redact.patterns");
        assert_eq!(
            key(r#"{"steps":["redact"],"redact":{"dictionaries":{"x":[]}}}"#),
            "redact.dictionaries.x"
        );
    }

    #[test]
    fn a_moderator_needs_a_guard_a_model_and_time() {
        let key = |steps: &str, moderation: &str| {
            let json = format!(r#"{{"steps":["{steps}"],"guard":{{"moderation":{moderation}}}}}"#);
            let spec: PipelineSpec = serde_json::from_str(&json).unwrap();
            spec.moderator().err().map(|error| error.key)
        };
        assert_eq!(key("redact", r#"{"model":"m"}"#).unwrap(), "guard.moderation");
        assert_eq!(key("guard", r#"{"model":""}"#).unwrap(), "guard.moderation.model");
        assert_eq!(key("guard", r#"{"model":"m","timeout_ms":0}"#).unwrap(), "guard.moderation.timeout_ms");
        assert_eq!(key("guard", r#"{"model":"m"}"#), None);
    }

    #[test]
    fn steps_are_built_in_their_order() {
        let json = r#"{"steps":["redact","normalize"],"redact":{"kinds":{"ip":"allow","staff":"mask"},"patterns":{"staff":"EMP-\\d+"}}}"#;
        let spec: PipelineSpec = serde_json::from_str(json).unwrap();
        assert_eq!(spec.build("p").unwrap().described(), "redact, normalize");
    }
}
