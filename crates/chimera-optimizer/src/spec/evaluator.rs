//! Evaluators as they are written down.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Surroundings, duration, temperature};
use crate::{
    SharedEvaluator, TaskError,
    evaluators::{
        Command, Contains, Exact, JsonFields, JsonSchema, Judge, Normalized, Numeric, Pattern, TokenF1,
    },
};

/// An evaluator: its kind, its weight, and the fields of its kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluatorSpec {
    /// `exact`, `normalized`, `contains`, `regex`, `numeric`, `json_fields`, `json_schema`, `token_f1`, `judge`
    /// or `command`.
    pub kind: String,
    /// Its weight among the others. Default 1.
    pub weight: Option<f64>,
    /// `regex`: what an output matches.
    pub pattern: Option<String>,
    /// `numeric`: how far off a number may be. Default 0.
    pub absolute: Option<f64>,
    /// `numeric`: the same as a share of the number. Default 0.
    pub relative: Option<f64>,
    /// `json_fields`: the fields looked at. Default all.
    pub only: Option<Vec<String>>,
    /// `json_schema`: the schema.
    pub schema: Option<Value>,
    /// `judge`: what it judges by.
    pub rubric: Option<String>,
    /// `judge`: the model. Default the task's.
    pub model: Option<String>,
    /// `judge`: its sampling temperature. None is sent if nothing is said.
    pub temperature: Option<f64>,
    /// `command`: the program and its arguments.
    pub argv: Option<Vec<String>>,
    /// `command`: how long it may take. Default `10s`.
    pub timeout: Option<String>,
}

impl EvaluatorSpec {
    pub(super) fn build(
        mut self,
        around: &impl Surroundings,
        task_model: &str,
    ) -> Result<(f64, SharedEvaluator), TaskError> {
        let evaluator = match &*self.kind {
            "exact" => SharedEvaluator::new(Exact),
            "normalized" => SharedEvaluator::new(Normalized),
            "contains" => SharedEvaluator::new(Contains),
            "token_f1" => SharedEvaluator::new(TokenF1),
            "regex" => SharedEvaluator::new(Pattern::new(&needed("pattern", self.pattern.take())?)?),
            "numeric" => SharedEvaluator::new(Numeric {
                absolute: self.absolute.take().unwrap_or(0.0),
                relative: self.relative.take().unwrap_or(0.0),
            }),
            "json_fields" => SharedEvaluator::new(JsonFields { only: self.only.take().unwrap_or_default() }),
            "json_schema" => SharedEvaluator::new(JsonSchema::new(&needed("schema", self.schema.take())?)?),
            "judge" => self.judge(around, task_model)?,
            "command" if around.may_run_commands() => self.command()?,
            "command" => return Err(TaskError::new("kind", "commands are not run here")),
            _ => {
                let why = "must be exact, normalized, contains, regex, numeric, json_fields, json_schema, \
                           token_f1, judge or command";
                return Err(TaskError::new("kind", why));
            }
        };
        match self.idle() {
            Some(field) => Err(TaskError::new(field, format!("is not a field of `{}`", self.kind))),
            None => Ok((self.weight.unwrap_or(1.0), evaluator)),
        }
    }

    fn judge(&mut self, around: &impl Surroundings, task_model: &str) -> Result<SharedEvaluator, TaskError> {
        let name = self.model.take().unwrap_or_else(|| task_model.to_owned());
        let model = around.model(&name).map_err(|why| TaskError::new("model", why))?;
        let told = temperature("temperature", self.temperature.take())?;
        let judge = Judge::new(model, name, needed("rubric", self.rubric.take())?);
        Ok(SharedEvaluator::new(judge.temperature(told)))
    }

    fn command(&mut self) -> Result<SharedEvaluator, TaskError> {
        let timeout = self.timeout.take().map_or(Ok(Duration::from_secs(10)), |text| duration(&text));
        let timeout = timeout.map_err(|why| TaskError::new("timeout", why))?;
        Ok(SharedEvaluator::new(Command::new(&needed("argv", self.argv.take())?, timeout)?))
    }

    /// A field that is there and that the kind has no use for.
    fn idle(&self) -> Option<&'static str> {
        [
            ("pattern", self.pattern.is_some()),
            ("absolute", self.absolute.is_some()),
            ("relative", self.relative.is_some()),
            ("only", self.only.is_some()),
            ("schema", self.schema.is_some()),
            ("rubric", self.rubric.is_some()),
            ("model", self.model.is_some()),
            ("temperature", self.temperature.is_some()),
            ("argv", self.argv.is_some()),
            ("timeout", self.timeout.is_some()),
        ]
        .into_iter()
        .find_map(|(field, there)| there.then_some(field))
    }
}

fn needed<T>(field: &str, value: Option<T>) -> Result<T, TaskError> {
    value.ok_or_else(|| TaskError::new(field, "is missing"))
}
