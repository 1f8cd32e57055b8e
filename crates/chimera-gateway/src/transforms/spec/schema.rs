//! Settings of `schema`.

use chimera_transform::{Schema, SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SpecError, template::TextSpec};

/// Settings of `schema`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchemaSpec {
    /// The schema; without, the one that a request asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<DocumentSpec>,
    /// Whether trivial slips are put right.
    pub repair: bool,
    /// Whether the model is asked once more when its answer does not fit; streams are held back whole for it.
    pub retry: bool,
}

/// A JSON document: as members, as its text, or in a file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum DocumentSpec {
    /// Its text, here or in a file.
    Text(TextSpec),
    /// Its members.
    Members(serde_json::Map<String, Value>),
}

impl Default for SchemaSpec {
    fn default() -> Self {
        let SchemaSettings { repair, retry, .. } = SchemaSettings::default();
        Self { schema: None, repair, retry }
    }
}

const KEY: &str = "schema.schema";

impl SchemaSpec {
    /// Puts what its file holds in its place.
    pub(super) fn read_files(&mut self) -> Result<(), SpecError> {
        match &mut self.schema {
            Some(DocumentSpec::Text(text)) => text.read(KEY),
            _ => Ok(()),
        }
    }

    pub(super) fn step(&self) -> Result<Schema, SpecError> {
        let schema = match &self.schema {
            None => None,
            Some(DocumentSpec::Members(members)) => Some(Value::Object(members.clone())),
            Some(DocumentSpec::Text(text)) => {
                let parsed = serde_json::from_str(text.text(KEY)?);
                Some(parsed.map_err(|_| SpecError::new(KEY, "it is not JSON"))?)
            }
        };
        let Self { repair, retry, .. } = *self;
        Schema::new(SchemaSettings { schema, repair, retry })
            .map_err(|error| SpecError::new(KEY, error.to_string()))
    }
}
