//! A job written down: the form of task files and of requests.
//!
//! Unknown fields are refused. Data stands in the form itself or in files of JSON lines; files are opened, and
//! commands run, only where the [`Surroundings`] say so, and never for a request from afar.

mod evaluator;
mod strategy;

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;

pub use evaluator::EvaluatorSpec;
pub use strategy::StrategySpec;

use crate::{
    Budget, Candidate, DataLimits, Dataset, Example, ModelProposer, Optimization, Program, Second, Settings,
    SharedEvaluator, SharedModel, Stage, Task, TaskError, dataset, evaluators::Weighted,
};

/// What a form is turned into a job with.
pub trait Surroundings {
    /// The model of a name.
    fn model(&self, name: &str) -> Result<SharedModel, String>;

    /// Whether it is known what a model costs, so that dollars can be counted. Yes, unless somebody says otherwise.
    fn has_price(&self, name: &str) -> bool {
        let _ = name;
        true
    }

    /// The text of a file of data. Refused unless somebody says otherwise.
    fn file(&self, name: &str) -> Result<String, String> {
        let _ = name;
        Err("files are not read here; put the examples into the form".into())
    }

    /// Whether evaluators may run commands. No, unless somebody says otherwise.
    fn may_run_commands(&self) -> bool {
        false
    }
}

/// A job as it is written down.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// What the job is called.
    pub name: String,
    /// What the task is about, told to whoever proposes.
    #[serde(default)]
    pub about: String,
    /// The model that is put to work.
    pub model: String,
    /// The model that proposes; the same one if nothing is said.
    pub reflection_model: Option<String>,
    /// The prompt to improve: short for one component `instruction`.
    pub prompt: Option<String>,
    /// The texts to improve, by name.
    #[serde(default)]
    pub components: BTreeMap<String, String>,
    /// How they are put to work; one call with all of them if nothing is said.
    #[serde(default)]
    pub stages: Vec<StageSpec>,
    /// Sampling temperature of these calls. None is sent if nothing is said: there are models that take none.
    pub temperature: Option<f64>,
    /// That of the calls that propose.
    pub reflection_temperature: Option<f64>,
    /// The longest answer wanted, in tokens.
    pub max_output_tokens: Option<u32>,
    /// The examples.
    pub data: DataSpec,
    /// Who judges; the weighted mean of several.
    pub evaluators: Vec<EvaluatorSpec>,
    /// What is tried.
    #[serde(default)]
    pub strategy: StrategySpec,
    /// What may be spent.
    pub budget: BudgetSpec,
    /// What all chance is drawn from.
    #[serde(default)]
    pub seed: u64,
    /// Calls under way at once. Default 16.
    pub concurrency: Option<usize>,
    /// Steps under way at once. Default 5.
    pub width: Option<usize>,
    /// Whether clear losers are given up. Default true.
    pub race: Option<bool>,
    /// Score taken for every thousand characters of the prompt.
    pub length_weight: Option<f64>,
    /// Score taken for every thousand tokens of a roll-out.
    pub cost_weight: Option<f64>,
    /// What whoever runs the job allows at most: time, and calls at once.
    #[serde(skip)]
    most: Option<(Duration, usize)>,
}

/// A stage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// Its name.
    pub name: String,
    /// The template of its instruction.
    #[serde(default)]
    pub system: String,
    /// The template of what that is applied to.
    pub user: String,
}

/// Examples: three sets, or one that is dealt into three.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// What proposals are made from.
    pub train: Option<Source>,
    /// What candidates are chosen by.
    pub validation: Option<Source>,
    /// What is looked at once, at the end.
    pub held_out: Option<Source>,
    /// All examples, to be dealt into the three sets.
    pub examples: Option<Source>,
    /// The validation set's share of these. Default 0.4.
    pub validation_share: Option<f64>,
    /// The held-out set's. Default 0.2.
    pub held_out_share: Option<f64>,
}

/// Where examples stand.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// Here.
    Here(Vec<Value>),
    /// In a file of JSON lines.
    File(String),
}

/// Limits.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// Roll-outs.
    pub evaluations: Option<usize>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Dollars.
    pub dollars: Option<f64>,
    /// Time, as `90s`, `8m` or `2h`.
    pub wall: Option<String>,
    /// Steps in a row without a better best.
    pub patience: Option<usize>,
}

impl JobSpec {
    /// Holds the job to so much time and so many calls at once, whatever is written down.
    pub fn limit(&mut self, wall: Duration, concurrency: usize) {
        self.most = Some((wall, concurrency));
    }

    /// The job, without a journal. The error names the field.
    pub fn build(self, around: &impl Surroundings) -> Result<Optimization, TaskError> {
        let model = model(around, "model", &self.model)?;
        let reflection_name = self.reflection_model.clone().unwrap_or_else(|| self.model.clone());
        let reflection = self::model(around, "reflection_model", &reflection_name)?;
        let proposing = temperature("reflection_temperature", self.reflection_temperature)?;
        let evaluator = self.evaluator(around)?;
        let (settings, strategy) = (self.settings()?, self.strategy.build()?);
        self.check_prices(around)?;
        let model_name = self.model.clone();
        let task = self.task(around)?;
        Ok(Optimization::new(task, model, evaluator)
            .model_name(model_name)
            .proposer(ModelProposer::new(reflection, reflection_name).temperature(proposing))
            .strategy(strategy)
            .settings(settings))
    }

    /// A limit in dollars that nothing is counted against would never end the job.
    fn check_prices(&self, around: &impl Surroundings) -> Result<(), TaskError> {
        let judges = self.evaluators.iter().filter(|evaluator| evaluator.kind == "judge");
        let others = judges.filter_map(|judge| judge.model.as_ref()).chain(&self.reflection_model);
        match std::iter::once(&self.model).chain(others).find(|name| !around.has_price(name)) {
            Some(name) if self.budget.dollars.is_some() => {
                let why = format!("no price is known of `{name}`, so that dollars cannot be counted");
                Err(TaskError::new("budget.dollars", why))
            }
            _ => Ok(()),
        }
    }

    fn evaluator(&self, around: &impl Surroundings) -> Result<Weighted, TaskError> {
        let parts: Result<Vec<(f64, SharedEvaluator)>, TaskError> = self
            .evaluators
            .iter()
            .enumerate()
            .map(|(place, spec)| {
                let section = format!("evaluators.{place}");
                spec.clone().build(around, &self.model).map_err(|error| error.under(&section))
            })
            .collect();
        Weighted::new(parts?)
    }

    fn settings(&self) -> Result<Settings, TaskError> {
        let standard = Settings::default();
        let second = match (self.length_weight, self.cost_weight) {
            (None, None) => Second::Nothing,
            (Some(weight), None) => Second::Length(weight),
            (None, Some(weight)) => Second::Cost(weight),
            _ => return Err(TaskError::new("cost_weight", "cannot go with length_weight")),
        };
        let wall = self.budget.wall.as_deref().map(duration).transpose();
        let mut wall = wall.map_err(|why| TaskError::new("budget.wall", why))?;
        let mut concurrency = self.concurrency.unwrap_or(standard.concurrency);
        if let Some((longest, most)) = self.most {
            wall = Some(wall.map_or(longest, |wall| wall.min(longest)));
            concurrency = concurrency.min(most);
        }
        let budget = Budget {
            evaluations: self.budget.evaluations,
            tokens: self.budget.tokens,
            dollars: self.budget.dollars,
            wall,
            patience: self.budget.patience,
        };
        let settings = Settings {
            seed: self.seed,
            concurrency,
            width: self.width.unwrap_or(standard.width),
            race: self.race.unwrap_or(standard.race),
            budget,
            second,
            ..standard
        };
        settings.validate()?;
        Ok(settings)
    }

    fn task(mut self, around: &impl Surroundings) -> Result<Task, TaskError> {
        if let Some(prompt) = self.prompt.take() {
            if !self.components.is_empty() {
                return Err(TaskError::new("prompt", "cannot go with components"));
            }
            self.components.insert("instruction".into(), prompt);
        }
        let stages: Result<Vec<Stage>, String> =
            self.stages.iter().map(|stage| Stage::new(&*stage.name, &stage.system, &stage.user)).collect();
        let stages = stages.map_err(|why| TaskError::new("stages", why))?;
        let program = if stages.is_empty() {
            let names = self.components.keys().map(String::as_str);
            Program::single(names).map_err(|why| TaskError::new("components", why))?
        } else {
            Program::chain(stages)
        };
        let program = program
            .temperature(temperature("temperature", self.temperature)?)
            .max_output_tokens(self.max_output_tokens);
        let data = self.data.load(around, self.seed)?;
        Ok(Task::new(&self.name, Candidate::new(self.components), program, data)?.about(self.about))
    }
}

/// A sampling temperature, in the range that providers take.
fn temperature(field: &str, temperature: Option<f64>) -> Result<Option<f64>, TaskError> {
    match temperature {
        Some(given) if !(0.0..=2.0).contains(&given) => Err(TaskError::new(field, "must be from 0 to 2")),
        _ => Ok(temperature),
    }
}

fn model(around: &impl Surroundings, field: &str, name: &str) -> Result<SharedModel, TaskError> {
    around.model(name).map_err(|why| TaskError::new(field, why))
}

impl DataSpec {
    fn load(self, around: &impl Surroundings, seed: u64) -> Result<Dataset, TaskError> {
        let set = |field: &str, source: Option<Source>| match source {
            Some(source) => source.load(around, field).map_err(|error| error.under("data")),
            None => Ok(Vec::new()),
        };
        let apart = self.train.is_some() || self.validation.is_some() || self.held_out.is_some();
        if self.examples.is_some() == apart {
            return Err(TaskError::new("data", "needs either examples, or train and validation"));
        }
        if apart {
            return Ok(Dataset {
                train: set("train", self.train)?,
                validation: set("validation", self.validation)?,
                held_out: set("held_out", self.held_out)?,
            });
        }
        let share = |field: &str, share: Option<f64>, standard: f64| match share.unwrap_or(standard) {
            share if (0.0..=0.9).contains(&share) => Ok(share),
            _ => Err(TaskError::new(format!("data.{field}"), "must be from 0 to 0.9")),
        };
        let validation = share("validation_share", self.validation_share, 0.4)?;
        let held_out = share("held_out_share", self.held_out_share, 0.2)?;
        Ok(Dataset::split(set("examples", self.examples)?, validation, held_out, seed))
    }
}

impl Source {
    fn load(self, around: &impl Surroundings, field: &str) -> Result<Vec<Example>, TaskError> {
        match self {
            Self::File(name) => {
                let text = around.file(&name).map_err(|why| TaskError::new(field, why))?;
                dataset::read_examples(&text, &DataLimits::default())
                    .map_err(|error| TaskError::data(field, &error))
            }
            Self::Here(values) => {
                let limits = DataLimits::default();
                let each = values.into_iter().enumerate().map(|(place, value)| {
                    let wrong = |(name, why): (String, String)| {
                        TaskError::new(format!("{field}.{place}.{name}"), why)
                    };
                    if value.to_string().len() > limits.example_bytes {
                        return Err(wrong((
                            "(all)".into(),
                            format!("longer than {} bytes", limits.example_bytes),
                        )));
                    }
                    dataset::from_value(value, &(place + 1).to_string()).map_err(wrong)
                });
                each.collect()
            }
        }
    }
}

/// A time as `250ms`, `90s`, `8m` or `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time as `90s`, `8m` or `2h`");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{ModelAnswer, model_fn};

    struct Afar;

    impl Surroundings for Afar {
        fn model(&self, name: &str) -> Result<SharedModel, String> {
            match name {
                "m" | "dear" => Ok(SharedModel::new(model_fn(|_| async { Ok(ModelAnswer::default()) }))),
                _ => Err(format!("there is no model `{name}`")),
            }
        }

        fn has_price(&self, name: &str) -> bool {
            name != "dear"
        }
    }

    fn form(change: impl FnOnce(&mut Value)) -> Result<(), String> {
        let example = |n: usize| json!({"input": n.to_string(), "expected": n});
        let mut form = json!({
            "name": "t", "model": "m", "prompt": "p", "budget": {"evaluations": 10, "wall": "8m"},
            "data": {"examples": (0..10).map(example).collect::<Vec<_>>()},
            "evaluators": [{"kind": "exact"}, {"kind": "numeric", "absolute": 0.5, "weight": 2}],
        });
        change(&mut form);
        let spec: JobSpec = serde_json::from_value(form).map_err(|error| error.to_string())?;
        let job = spec.build(&Afar).map_err(|error| error.to_string())?;
        job.build().map(drop).map_err(|error| error.to_string())
    }

    #[test]
    fn a_form_becomes_a_job_or_the_field_is_named() {
        assert_eq!(form(|_| {}), Ok(()));
        let error = |change: fn(&mut Value)| form(change).unwrap_err();
        assert_eq!(error(|form| form["model"] = json!("x")), "model: there is no model `x`");
        assert!(error(|form| form["modle"] = json!("x")).starts_with("unknown field `modle`"));
        assert_eq!(
            error(|form| form["data"]["examples"][3]["input"] = json!(1)),
            "data.examples.3.input: must be text or an object"
        );
        assert_eq!(
            error(|form| form["budget"]["wall"] = json!("8 m")),
            "budget.wall: `8 m` is not a time as `90s`, `8m` or `2h`"
        );
        assert_eq!(error(|form| form["budget"] = json!({})), "budget: a job without any limit never ends");
        assert_eq!(
            error(|form| form["evaluators"][0] = json!({"kind": "regex"})),
            "evaluators.0.pattern: is missing"
        );
        assert_eq!(
            error(|form| form["evaluators"][0]["rubric"] = json!("r")),
            "evaluators.0.rubric: is not a field of `exact`"
        );
        assert_eq!(
            error(|form| form["strategy"] = json!({"kind": "x"})),
            "strategy.kind: must be reflective, gradient, bandit or random"
        );
        assert_eq!(
            error(|form| form["strategy"] = json!({"kind": "random", "beam": 1})),
            "strategy.beam: is not a field of `random`"
        );
    }

    #[test]
    fn dollars_need_prices() {
        let dollars = |change: fn(&mut Value)| {
            form(|form| {
                form["budget"]["dollars"] = json!(2.0);
                change(form);
            })
        };
        assert_eq!(dollars(|_| {}), Ok(()));
        let changes: [fn(&mut Value); 3] = [
            |form| form["model"] = json!("dear"),
            |form| form["reflection_model"] = json!("dear"),
            |form| form["evaluators"][0] = json!({"kind": "judge", "rubric": "r", "model": "dear"}),
        ];
        for change in changes {
            let error = dollars(change).unwrap_err();
            assert_eq!(
                error,
                "budget.dollars: no price is known of `dear`, so that dollars cannot be counted"
            );
            assert_eq!(form(change), Ok(()), "without dollars nothing has to be known");
        }
    }

    /// Keeps the temperatures that it is asked with, sorted by what it is asked for.
    #[derive(Default)]
    struct Thermometer(std::sync::Arc<std::sync::Mutex<BTreeMap<&'static str, Option<f64>>>>);

    impl Surroundings for Thermometer {
        fn model(&self, _: &str) -> Result<SharedModel, String> {
            let seen = self.0.clone();
            Ok(SharedModel::new(model_fn(move |request: crate::ModelRequest| {
                let (what, text) = match &*request.system {
                    system if system.contains("improve prompts") => ("propose", "```\nbetter\n```"),
                    system if system.contains("You judge") => ("judge", "Bad.\nScore: 3"),
                    _ => ("work", "x"),
                };
                seen.lock().unwrap().insert(what, request.temperature);
                async move { Ok(ModelAnswer { text: text.into(), ..ModelAnswer::default() }) }
            })))
        }
    }

    async fn temperatures(change: impl FnOnce(&mut Value)) -> Vec<(&'static str, Option<f64>)> {
        let example = |n: usize| json!({"input": n.to_string(), "expected": n});
        let mut form = json!({
            "name": "t", "model": "m", "prompt": "p", "budget": {"evaluations": 12},
            "data": {"examples": (0..5).map(example).collect::<Vec<_>>()},
            "evaluators": [{"kind": "judge", "rubric": "r"}],
        });
        change(&mut form);
        let (around, spec) = (Thermometer::default(), serde_json::from_value::<JobSpec>(form).unwrap());
        spec.build(&around).unwrap().build().unwrap().run().await.unwrap();
        let seen = around.0.lock().unwrap();
        seen.iter().map(|(what, temperature)| (*what, *temperature)).collect()
    }

    #[tokio::test]
    async fn no_temperature_is_sent_unless_one_is_set() {
        let none = temperatures(|_| {}).await;
        assert_eq!(none, [("judge", None), ("propose", None), ("work", None)]);
        let set = temperatures(|form| {
            form["temperature"] = json!(0.0);
            form["reflection_temperature"] = json!(1.0);
            form["evaluators"][0]["temperature"] = json!(0.5);
        });
        let told = [("judge", Some(0.5)), ("propose", Some(1.0)), ("work", Some(0.0))];
        assert_eq!(set.await, told);
        assert_eq!(
            form(|form| form["temperature"] = json!(3)).unwrap_err(),
            "temperature: must be from 0 to 2"
        );
        let idle = form(|form| form["evaluators"][0]["temperature"] = json!(1)).unwrap_err();
        assert_eq!(idle, "evaluators.0.temperature: is not a field of `exact`");
    }

    #[test]
    fn from_afar_no_file_is_read_and_nothing_is_run() {
        let file = form(|form| form["data"]["examples"] = json!("/etc/passwd")).unwrap_err();
        assert_eq!(file, "data.examples: files are not read here; put the examples into the form");
        let command =
            form(|form| form["evaluators"][0] = json!({"kind": "command", "argv": ["true"]})).unwrap_err();
        assert_eq!(command, "evaluators.0.kind: commands are not run here");
    }
}
