//! Prompts kept in one place and asked for by name: templates with typed variables, in versions.
//!
//! A request names one as OpenAI's own API does, `"prompt": {"id", "version", "variables"}`; the member is
//! left out of what goes on. Which turns there are, and who speaks in each, is the template's: the text of
//! a turn is rendered by itself and becomes one string, so that nothing in a variable can make a turn of
//! its own. What a template may cost is bounded, and an error names the template, the line and the
//! variable, never a value.

mod render;
mod variables;

use std::collections::BTreeMap;

use chimera_protocol::json::Kind;
use serde_json::{Map, Value};

use crate::{
    changes::Changes,
    prompt::{Prompt, Role},
    seed::Seed,
    transform::{StepError, Stepped, Transform},
};
use render::Renderer;
pub use variables::{Variable, VariableKind};

/// The member of a request that names a template.
const MEMBER: &str = "prompt";

/// One version of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    /// Its name.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its variables by name; a template uses no others.
    pub variables: BTreeMap<String, Variable>,
    /// Its turns, before those of the request: instructions, examples, a question. Each a Jinja template.
    pub turns: Vec<(Role, String)>,
}

/// Which templates there are, and what one may cost.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateSettings {
    /// Of several versions of one template, the last is meant where a request names none.
    pub templates: Vec<Template>,
    /// The template of requests that name none; without, they pass as they are.
    pub default: Option<String>,
    /// Instructions that the rendering of a turn may take. Default 100,000.
    pub fuel: u64,
    /// Bytes that a rendered turn may have. Default 256 KiB.
    pub max_size: usize,
}

impl Default for TemplateSettings {
    fn default() -> Self {
        Self { templates: Vec::new(), default: None, fuel: 100_000, max_size: 256 << 10 }
    }
}

/// A template that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct TemplateError {
    /// The setting at fault.
    pub key: String,
    /// Why.
    pub why: String,
}

/// The step that renders templates.
#[derive(Debug)]
pub struct Templates {
    settings: TemplateSettings,
    renderer: Renderer,
}

impl Templates {
    /// The step, with every template compiled and its variables looked for.
    pub fn new(settings: TemplateSettings) -> Result<Self, TemplateError> {
        let error = |key: String, why: String| TemplateError { key, why };
        if settings.templates.is_empty() {
            return Err(error("prompts".into(), "there is no template".into()));
        }
        if settings.fuel == 0 || settings.max_size == 0 {
            let key = if settings.fuel == 0 { "fuel" } else { "max_size" };
            return Err(error(key.into(), "it must be above zero".into()));
        }
        let mut renderer = Renderer::new(settings.fuel, settings.max_size);
        for (index, template) in settings.templates.iter().enumerate() {
            let key = format!("prompts[{index}]");
            let same = |other: &&Template| other.id == template.id && other.version == template.version;
            if settings.templates.iter().filter(same).count() > 1 {
                let why = format!("`{}` has version `{}` twice", template.id, template.version);
                return Err(error(key, why));
            }
            if template.id.is_empty() || template.turns.is_empty() {
                return Err(error(key, "a template has an id and at least one turn".into()));
            }
            for (name, variable) in &template.variables {
                variable.check_default().map_err(|why| error(format!("{key}.variables.{name}"), why))?;
            }
            renderer.add(template).map_err(|why| error(key, why))?;
        }
        let known = |id: &String| settings.templates.iter().any(|template| template.id == *id);
        if let Some(id) = settings.default.as_ref().filter(|id| !known(id)) {
            return Err(error("default".into(), format!("there is no template `{id}`")));
        }
        Ok(Self { settings, renderer })
    }

    /// The template that is asked for.
    fn find(&self, id: &str, version: Option<&str>) -> Result<&Template, StepError> {
        let mut of_id = self.settings.templates.iter().filter(|template| template.id == id).peekable();
        if of_id.peek().is_none() {
            return Err(StepError::refused("prompt.id: there is no such template"));
        }
        match version {
            None => of_id.last(),
            Some(version) => of_id.find(|template| template.version == version),
        }
        .ok_or_else(|| StepError::refused(format!("prompt.version: `{id}` has no such version")))
    }
}

/// What a request says of its template.
struct Asked {
    id: Option<String>,
    version: Option<String>,
    variables: Map<String, Value>,
}

impl Asked {
    fn of(prompt: &Prompt<'_>) -> Result<Option<Self>, StepError> {
        let Some(member) = prompt.member(MEMBER).filter(|member| member.kind() == Kind::Object) else {
            return Ok(None);
        };
        let wrong = |what: &str| StepError::refused(format!("prompt.{what}"));
        let members: Map<String, Value> =
            serde_json::from_str(member.raw()).map_err(|_| wrong("id: it cannot be read"))?;
        let mut asked = Self { id: None, version: None, variables: Map::new() };
        for (name, value) in members {
            match (name.as_str(), value) {
                ("id", Value::String(id)) => asked.id = Some(id),
                ("version", Value::String(version)) => asked.version = Some(version),
                ("variables", Value::Object(variables)) => asked.variables = variables,
                ("version" | "variables", Value::Null) => {}
                ("id" | "version", _) => return Err(wrong(&format!("{name}: it must be a string"))),
                ("variables", _) => return Err(wrong("variables: it must be an object")),
                _ => return Err(StepError::refused("prompt: it has id, version and variables, no others")),
            }
        }
        Ok(Some(asked))
    }
}

impl Transform for Templates {
    fn name(&self) -> &str {
        "template"
    }

    fn version(&self) -> String {
        format!("1 {:?}", self.settings)
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        let asked = Asked::of(prompt)?;
        let (id, version, variables) = match asked {
            Some(Asked { id: Some(id), version, variables }) => (id, version, variables),
            Some(Asked { id: None, .. }) => return Err(StepError::refused("prompt.id: it is required")),
            None => match &self.settings.default {
                Some(id) if !prompt.is_text() => (id.clone(), None, Map::new()),
                _ => return Ok(None),
            },
        };
        let template = self.find(&id, version.as_deref())?;
        let variables = variables::checked(&template.variables, variables).map_err(StepError::refused)?;
        for (index, (role, _)) in template.turns.iter().enumerate() {
            let text = self.renderer.render(template, index, &variables).map_err(StepError::refused)?;
            // An example or a question that renders to nothing is none.
            if !text.is_empty() {
                changes.add_turn(*role, text);
                changes.note("turns", 1);
            }
        }
        if prompt.member(MEMBER).is_some() {
            changes.leave_out(MEMBER);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
