//! How a candidate is put to work on an example: one call of the model, or a chain of them.

use std::{borrow::Cow, collections::BTreeSet};

use crate::{candidate::Candidate, dataset::Example, model::ModelRequest, spend::Spend, template::Template};

/// The component that holds demonstrations. Where no stage has a place for it, the first stage's
/// instruction ends with it.
pub const EXAMPLES: &str = "examples";

/// One call of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    name: String,
    system: Template,
    user: Template,
}

impl Stage {
    /// A stage. Its templates have places for components, for `input` and `input.FIELD` of the example,
    /// and for the outputs of earlier stages, by name.
    pub fn new(name: impl Into<String>, system: &str, user: &str) -> Result<Self, String> {
        let name = name.into();
        let parse = |what: &str, text: &str| {
            Template::parse(text).map_err(|why| format!("stage `{name}`: {what}: {why}"))
        };
        Ok(Self { system: parse("system", system)?, user: parse("user", user)?, name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn places(&self) -> impl Iterator<Item = &str> {
        self.system.names().chain(self.user.names())
    }
}

/// What a stage was given and what it answered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Trace {
    /// The stage.
    pub stage: String,
    /// What it was given.
    pub input: String,
    /// What it answered.
    pub output: String,
}

/// Stages in order. The output of the last is the program's.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    stages: Vec<Stage>,
    temperature: Option<f64>,
    max_output_tokens: Option<u32>,
    answer_bytes: usize,
}

/// What a program made of an example, as far as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Made {
    /// What each stage that is done was given and answered.
    pub(crate) traces: Vec<Trace>,
    /// What was paid so far, for calls that brought nothing as well.
    pub(crate) spend: Spend,
}

impl Made {
    /// What the last stage answered.
    pub(crate) fn output(&self) -> &str {
        self.traces.last().map_or("", |last| &last.output)
    }
}

impl Program {
    /// One call: all components are its instruction, the example's input is what it is applied to.
    pub fn single<'a>(components: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let system: Vec<String> = components.into_iter().map(|name| format!("{{{{{name}}}}}")).collect();
        Ok(Self::chain(vec![Stage::new("answer", &system.join("\n\n"), "{{input}}")?]))
    }

    /// Several calls, one after another.
    pub fn chain(stages: Vec<Stage>) -> Self {
        Self { stages, temperature: None, max_output_tokens: None, answer_bytes: 64 << 10 }
    }

    /// The sampling temperature of all calls; none is sent if nothing is said, for there are models that take none.
    #[must_use]
    pub fn temperature(mut self, temperature: Option<f64>) -> Self {
        self.temperature = temperature;
        self
    }

    /// The longest answer wanted, in tokens.
    #[must_use]
    pub fn max_output_tokens(mut self, tokens: Option<u32>) -> Self {
        self.max_output_tokens = tokens;
        self
    }

    /// Fails with a place that nothing fills, or a component without a place.
    pub(crate) fn check(&self, candidate: &Candidate) -> Result<(), String> {
        if self.stages.is_empty() {
            return Err("a program needs at least one stage".into());
        }
        let mut known: BTreeSet<&str> = candidate.names().collect();
        known.insert(EXAMPLES);
        let mut used = BTreeSet::from([EXAMPLES]);
        for stage in &self.stages {
            for place in stage.places() {
                if place != "input" && !place.starts_with("input.") && !known.contains(place) {
                    return Err(format!("stage `{}`: nothing is called `{place}`", stage.name));
                }
                used.insert(place);
            }
            if stage.name == "input" || !known.insert(&stage.name) {
                return Err(format!("stage `{}`: the name is taken", stage.name));
            }
        }
        match candidate.names().find(|name| !used.contains(name)) {
            Some(idle) => Err(format!("no stage has a place for the component `{idle}`")),
            None => Ok(()),
        }
    }

    /// Everything about it that changes an answer.
    pub(crate) fn version(&self) -> String {
        format!("{self:?}")
    }

    /// The stages that a component has a place in.
    pub(crate) fn stages_of<'a>(&'a self, component: &'a str) -> impl Iterator<Item = &'a str> {
        self.stages
            .iter()
            .filter(move |stage| stage.places().any(|place| place == component))
            .map(Stage::name)
    }

    /// What the next stage asks, after those that were answered; none when all were.
    pub(crate) fn next(
        &self,
        candidate: &Candidate,
        example: &Example,
        traces: &[Trace],
        seed: u64,
    ) -> Option<ModelRequest> {
        let stage = self.stages.get(traces.len())?;
        let takes_examples = self.stages.iter().any(|stage| stage.places().any(|place| place == EXAMPLES));
        let value = |name: &str| value(name, candidate, example, traces);
        let mut system = stage.system.render(value);
        if let (true, false, Some(examples)) = (traces.is_empty(), takes_examples, candidate.text(EXAMPLES)) {
            system.push_str("\n\n");
            system.push_str(examples);
        }
        Some(ModelRequest {
            system,
            user: stage.user.render(value),
            temperature: self.temperature,
            max_output_tokens: self.max_output_tokens,
            seed: Some(seed),
        })
    }

    /// Takes what the next stage was asked and answered.
    pub(crate) fn take(&self, traces: &mut Vec<Trace>, input: String, mut output: String) {
        let Some(stage) = self.stages.get(traces.len()) else { return };
        cut(&mut output, self.answer_bytes);
        traces.push(Trace { stage: stage.name.clone(), input, output });
    }
}

fn value<'a>(
    name: &str,
    candidate: &'a Candidate,
    example: &'a Example,
    traces: &'a [Trace],
) -> Option<Cow<'a, str>> {
    if name == "input" {
        return Some(example.input_text());
    }
    if let Some(field) = name.strip_prefix("input.") {
        return example.field(field);
    }
    let output = || traces.iter().find(|trace| trace.stage == name).map(|trace| trace.output.as_str());
    candidate.text(name).or_else(output).map(Cow::Borrowed)
}

/// Cuts a text to so many bytes, between characters.
pub(crate) fn cut(text: &mut String, bytes: usize) {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_nothing_fills_is_named() {
        let candidate = Candidate::new([("plan", "p"), ("solve", "s")]);
        let chain = |stages: &[(&str, &str, &str)]| {
            Program::chain(stages.iter().map(|(name, s, u)| Stage::new(*name, s, u).unwrap()).collect())
                .check(&candidate)
        };
        assert_eq!(chain(&[("a", "{{plan}}", "{{input}}"), ("b", "{{solve}}", "{{a}} {{input.x}}")]), Ok(()));
        let wrong = chain(&[("a", "{{plan}}{{solve}}", "{{b}}"), ("b", "", "")]).unwrap_err();
        assert_eq!(wrong, "stage `a`: nothing is called `b`");
        let wrong = chain(&[("a", "{{plan}}", "{{input}}")]).unwrap_err();
        assert_eq!(wrong, "no stage has a place for the component `solve`");
        assert_eq!(
            chain(&[("plan", "{{plan}}{{solve}}", "")]).unwrap_err(),
            "stage `plan`: the name is taken"
        );
    }
}
