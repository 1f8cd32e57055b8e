//! Settings of `template`: prompts with variables, in versions.

use std::{collections::BTreeMap, fs, path::PathBuf};

use chimera_transform::{Role, Template, TemplateSettings, Templates, Variable, VariableKind};
use serde::{Deserialize, Serialize};

use super::SpecError;

/// Settings of `template`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TemplateSpec {
    /// The template of requests that name none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Instructions that the rendering of a turn may take.
    pub fuel: u64,
    /// Bytes that a rendered turn may have.
    pub max_size: usize,
    /// The templates; of several versions of one, the last is the one that is meant without a version.
    pub prompts: Vec<PromptSpec>,
}

impl Default for TemplateSpec {
    fn default() -> Self {
        let TemplateSettings { fuel, max_size, .. } = TemplateSettings::default();
        Self { default: None, fuel, max_size, prompts: Vec::new() }
    }
}

/// One version of a template.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSpec {
    /// Its name.
    pub id: String,
    /// Its version.
    #[serde(default = "first_version")]
    pub version: String,
    /// The instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<TextSpec>,
    /// Questions with the answers that are wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<ExampleSpec>,
    /// What is asked, where the template says that too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<TextSpec>,
    /// Its variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, VariableSpec>,
}

fn first_version() -> String {
    "1".to_owned()
}

/// An example.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleSpec {
    /// A question.
    pub user: TextSpec,
    /// The answer to it.
    pub assistant: TextSpec,
}

/// A text, here or in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum TextSpec {
    /// The text.
    Here(String),
    /// The file that holds it. Only a configuration may name files.
    File {
        /// Its path.
        file: PathBuf,
    },
}

impl TextSpec {
    /// Puts what its file holds in its place.
    pub(super) fn read(&mut self, key: &str) -> Result<(), SpecError> {
        if let Self::File { file } = self {
            let text = fs::read_to_string(&*file);
            let text = text.map_err(|why| SpecError::new(key, format!("{}: {why}", file.display())))?;
            *self = Self::Here(text);
        }
        Ok(())
    }

    pub(super) fn text(&self, key: &str) -> Result<&str, SpecError> {
        match self {
            Self::Here(text) => Ok(text),
            Self::File { .. } => Err(SpecError::new(key, "a file can be named in the configuration alone")),
        }
    }
}

/// A variable: its kind, or more about it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum VariableSpec {
    /// Its kind.
    Kind(KindSpec),
    /// Its kind, and what it is when nobody says.
    Full {
        /// Its kind.
        r#type: KindSpec,
        /// What it is when a request does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<serde_json::Value>,
    },
}

/// What a variable may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KindSpec {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Yes or no.
    Boolean,
    /// A list.
    List,
    /// An object.
    Object,
}

impl From<&VariableSpec> for Variable {
    fn from(spec: &VariableSpec) -> Self {
        let (kind, default) = match spec {
            VariableSpec::Kind(kind) => (*kind, None),
            VariableSpec::Full { r#type, default } => (*r#type, default.clone()),
        };
        let kind = match kind {
            KindSpec::String => VariableKind::String,
            KindSpec::Integer => VariableKind::Integer,
            KindSpec::Number => VariableKind::Number,
            KindSpec::Boolean => VariableKind::Boolean,
            KindSpec::List => VariableKind::List,
            KindSpec::Object => VariableKind::Object,
        };
        Self { kind, default }
    }
}

impl PromptSpec {
    /// Its texts by their keys, with the role of each.
    fn texts(&mut self) -> impl Iterator<Item = (String, Role, &mut TextSpec)> {
        let system = self.system.iter_mut().map(|text| ("system".to_owned(), Role::System, text));
        let examples = self.examples.iter_mut().enumerate().flat_map(|(index, example)| {
            let key = |name: &str| format!("examples[{index}].{name}");
            [
                (key("user"), Role::User, &mut example.user),
                (key("assistant"), Role::Assistant, &mut example.assistant),
            ]
        });
        let user = self.user.iter_mut().map(|text| ("user".to_owned(), Role::User, text));
        system.chain(examples).chain(user)
    }

    fn template(mut self, at: &str) -> Result<Template, SpecError> {
        let turns = self.texts().map(|(key, role, text)| {
            let text = text.text(&format!("{at}.{key}"))?;
            Ok((role, text.to_owned()))
        });
        let turns = turns.collect::<Result<_, SpecError>>()?;
        let variables =
            self.variables.iter().map(|(name, variable)| (name.clone(), variable.into())).collect();
        Ok(Template { id: self.id, version: self.version, variables, turns })
    }
}

impl TemplateSpec {
    /// Puts what its files hold in their place.
    pub(super) fn read_files(&mut self) -> Result<(), SpecError> {
        for (index, prompt) in self.prompts.iter_mut().enumerate() {
            for (key, _, text) in prompt.texts() {
                text.read(&format!("template.prompts[{index}].{key}"))?;
            }
        }
        Ok(())
    }

    pub(super) fn step(&self) -> Result<Templates, SpecError> {
        let prompts = self.prompts.iter().cloned().enumerate();
        let templates = prompts.map(|(index, prompt)| prompt.template(&format!("template.prompts[{index}]")));
        let templates = templates.collect::<Result<Vec<_>, _>>()?;
        let Self { default, fuel, max_size, .. } = self.clone();
        Templates::new(TemplateSettings { templates, default, fuel, max_size })
            .map_err(|error| SpecError::new(format!("template.{}", error.key), error.why))
    }
}
