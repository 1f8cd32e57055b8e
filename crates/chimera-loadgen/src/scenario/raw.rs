//! The file as it is written, and how it becomes a [`Scenario`].

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{Arrivals, FOREVER, Limits, Overrides, Scenario, ScenarioError, Shape, Step, Watch, Watched};
use crate::{
    mix::{Mix, Repeats, Request},
    random::Weighted,
    target::Target,
    threshold::{DEFAULTS, Threshold},
    units::Span,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: String,
    seed: Option<u64>,
    target: RawTarget,
    #[serde(default)]
    load: RawLoad,
    closed: Option<RawClosed>,
    open: Option<RawOpen>,
    stress: Option<RawStress>,
    spike: Option<RawSpike>,
    replay: Option<RawReplay>,
    watch: Option<RawWatch>,
    thresholds: Option<Vec<String>>,
    mix: Vec<RawMix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    url: String,
    #[serde(default)]
    remote: bool,
    api_key_env: Option<String>,
    ca_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLoad {
    connections: Option<usize>,
    warm_up: Option<Span>,
    duration: Option<Span>,
    count: Option<u64>,
    timeout: Option<Span>,
    workers: Option<usize>,
    max_lag: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClosed {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOpen {
    rate: f64,
    arrivals: Option<Arrivals>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStress {
    from: f64,
    add: Option<f64>,
    factor: Option<f64>,
    most: f64,
    at_least: Option<f64>,
    step: Span,
    arrivals: Option<Arrivals>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpike {
    base: f64,
    peak: f64,
    before: Span,
    lasts: Span,
    after: Span,
    arrivals: Option<Arrivals>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReplay {
    trace: Option<PathBuf>,
    #[serde(default = "one")]
    speed: f64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawWatch {
    pid: Option<u32>,
    metrics: Option<String>,
    every: Option<Span>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a number of tokens or [least, most]")]
enum RawTokens {
    One(u32),
    Between([u32; 2]),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMix {
    name: String,
    #[serde(default = "one")]
    weight: f64,
    request: Request,
    model: String,
    path: Option<String>,
    #[serde(default)]
    stream: bool,
    prompt_tokens: RawTokens,
    #[serde(default = "some_tokens")]
    output_tokens: u32,
    prompts: Option<u32>,
    zipf: Option<f64>,
}

fn one() -> f64 {
    1.0
}

fn some_tokens() -> u32 {
    64
}

impl Raw {
    pub(super) fn apply(&mut self, overrides: &Overrides) {
        if let Some(url) = &overrides.url {
            self.target.url.clone_from(url);
        }
        self.target.remote |= overrides.remote;
        if overrides.api_key_env.is_some() {
            self.target.api_key_env.clone_from(&overrides.api_key_env);
        }
        if let Some(rate) = overrides.rate
            && let Some(open) = &mut self.open
        {
            open.rate = rate;
        }
        let load = &mut self.load;
        load.connections = overrides.connections.or(load.connections);
        load.workers = overrides.workers.or(load.workers);
        load.duration = overrides.duration.map(Span).or(load.duration);
        load.warm_up = overrides.warm_up.map(Span).or(load.warm_up);
        load.count = overrides.count.or(load.count);
        if let Some(replay) = &mut self.replay {
            replay.trace = overrides.trace.clone().or(replay.trace.take());
            replay.speed = overrides.speed.unwrap_or(replay.speed);
        }
        if overrides.pid.is_some() || overrides.metrics.is_some() {
            let watch = self.watch.get_or_insert_default();
            (watch.pid, watch.metrics) = (overrides.pid, overrides.metrics.clone());
        }
        if let Some(model) = &overrides.model {
            self.mix.iter_mut().for_each(|mix| mix.model.clone_from(model));
        }
    }

    pub(super) fn resolve(self) -> Result<Scenario, ScenarioError> {
        let shape = self.shape()?;
        let target = self.target.resolve()?;
        let limits = self.load.resolve(&shape)?;
        let mut mix: Vec<Mix> = Vec::new();
        for (at, raw) in self.mix.into_iter().enumerate() {
            let one = raw.resolve(at)?;
            if mix.iter().any(|other| other.name == one.name) {
                return Err(ScenarioError::new(format!("mix[{at}].name"), "another mix has it already"));
            }
            mix.push(one);
        }
        if mix.is_empty() {
            return Err(ScenarioError::new("mix", "there must be one"));
        }
        let thresholds = thresholds(self.thresholds.as_deref(), &mix)?;
        let watch = self.watch.map(RawWatch::resolve).transpose()?;
        Ok(Scenario { name: self.name, seed: self.seed, target, limits, shape, mix, watch, thresholds })
    }

    fn shape(&self) -> Result<Shape, ScenarioError> {
        let given = [
            self.closed.is_some(),
            self.open.is_some(),
            self.stress.is_some(),
            self.spike.is_some(),
            self.replay.is_some(),
        ];
        if given.iter().filter(|given| **given).count() != 1 {
            let why = "a scenario has exactly one of [closed], [open], [stress], [spike], [replay]";
            return Err(ScenarioError::new("scenario", why));
        }
        if let Some(open) = &self.open {
            positive("open.rate", open.rate)?;
            let lasts = self.load.duration.map_or(FOREVER, |span| span.0);
            let steps = vec![Step { rate: open.rate, lasts }];
            return Ok(Shape::Open { arrivals: gaps(open.arrivals), steps });
        }
        if let Some(stress) = &self.stress {
            return stress.shape();
        }
        if let Some(spike) = &self.spike {
            return spike.shape();
        }
        let Some(replay) = &self.replay else { return Ok(Shape::Closed) };
        positive("replay.speed", replay.speed)?;
        let trace = replay.trace.clone();
        let trace = trace.ok_or_else(|| ScenarioError::new("replay.trace", "name the file to replay"))?;
        Ok(Shape::Replay { trace, speed: replay.speed })
    }
}

fn gaps(arrivals: Option<Arrivals>) -> Arrivals {
    arrivals.unwrap_or(Arrivals::Poisson)
}

fn positive(key: &str, value: f64) -> Result<f64, ScenarioError> {
    if value.is_finite() && value > 0.0 && value <= 1e7 {
        Ok(value)
    } else {
        Err(ScenarioError::new(key, "it must be above 0 and at most 10 million"))
    }
}

fn lasting(key: &str, span: Span) -> Result<Duration, ScenarioError> {
    if span.0.is_zero() || span.0 > FOREVER {
        return Err(ScenarioError::new(key, "it must be above 0 and at most a week"));
    }
    Ok(span.0)
}

impl RawTarget {
    fn resolve(self) -> Result<Target, ScenarioError> {
        let mut target = Target::new(&self.url, self.remote)?;
        if let Some(name) = self.api_key_env {
            let key = std::env::var(&name).map_err(|_| {
                ScenarioError::new("target.api_key_env", format!("the variable {name} is not set"))
            })?;
            target = target.with_key(key.trim());
        }
        if let Some(path) = self.ca_file {
            let pem = std::fs::read_to_string(&path).map_err(|error| {
                ScenarioError::new("target.ca_file", format!("{}: {}", path.display(), error.kind()))
            })?;
            target = target.with_authorities(pem);
        }
        Ok(target)
    }
}

impl RawLoad {
    fn resolve(self, shape: &Shape) -> Result<Limits, ScenarioError> {
        let connections = self.connections.unwrap_or(64);
        if !(1..=100_000).contains(&connections) {
            return Err(ScenarioError::new("load.connections", "it must be from 1 to 100000"));
        }
        let workers = self.workers.unwrap_or(1);
        if !(1..=256).contains(&workers) || workers > connections {
            return Err(ScenarioError::new("load.workers", "from 1 to 256, and no more than connections"));
        }
        let bounded = matches!(shape, Shape::Stress { .. } | Shape::Replay { .. })
            || matches!(shape, Shape::Open { steps, .. } if steps.len() > 1);
        if !bounded && self.duration.is_none() && self.count.is_none() {
            return Err(ScenarioError::new(
                "load.duration",
                "give it or load.count: nothing else ends the run",
            ));
        }
        if bounded && !matches!(shape, Shape::Replay { .. }) && self.duration.is_some() {
            return Err(ScenarioError::new("load.duration", "the steps say how long the run takes"));
        }
        if self.count == Some(0) {
            return Err(ScenarioError::new("load.count", "it must be above 0"));
        }
        Ok(Limits {
            connections,
            warm_up: self.warm_up.map_or(Duration::ZERO, |span| span.0).min(FOREVER),
            duration: self.duration.map(|span| lasting("load.duration", span)).transpose()?,
            count: self.count,
            timeout: lasting("load.timeout", self.timeout.unwrap_or(Span(Duration::from_secs(120))))?,
            workers,
            max_lag: lasting("load.max_lag", self.max_lag.unwrap_or(Span(Duration::from_millis(1))))?,
        })
    }
}

impl RawStress {
    fn shape(&self) -> Result<Shape, ScenarioError> {
        positive("stress.from", self.from)?;
        positive("stress.most", self.most)?;
        let lasts = lasting("stress.step", self.step)?;
        let (add, factor) = match (self.add, self.factor) {
            (Some(add), None) => (positive("stress.add", add)?, 1.0),
            (None, Some(factor)) if factor.is_finite() && factor >= 1.01 => (0.0, factor),
            (None, Some(_)) => return Err(ScenarioError::new("stress.factor", "it must be at least 1.01")),
            _ => return Err(ScenarioError::new("stress.add", "give either add or factor")),
        };
        let mut steps = Vec::new();
        let mut rate = self.from;
        while rate <= self.most {
            if steps.len() == 1000 {
                return Err(ScenarioError::new("stress.add", "more than 1000 steps"));
            }
            steps.push(Step { rate, lasts });
            rate = rate * factor + add;
        }
        if steps.is_empty() {
            return Err(ScenarioError::new("stress.most", "it is below stress.from"));
        }
        let at_least = positive("stress.at_least", self.at_least.unwrap_or(self.from))?;
        Ok(Shape::Stress { arrivals: gaps(self.arrivals), steps, at_least })
    }
}

impl RawSpike {
    fn shape(&self) -> Result<Shape, ScenarioError> {
        let base = positive("spike.base", self.base)?;
        let peak = positive("spike.peak", self.peak)?;
        let steps = vec![
            Step { rate: base, lasts: lasting("spike.before", self.before)? },
            Step { rate: peak, lasts: lasting("spike.lasts", self.lasts)? },
            Step { rate: base, lasts: lasting("spike.after", self.after)? },
        ];
        Ok(Shape::Open { arrivals: gaps(self.arrivals), steps })
    }
}

impl RawWatch {
    fn resolve(self) -> Result<Watch, ScenarioError> {
        let whose = match (self.pid, self.metrics) {
            (Some(pid), None) => Watched::Pid(pid),
            (None, Some(url)) => {
                let target = Target::new(&url, false)
                    .map_err(|error| ScenarioError::new("watch.metrics", error.why))?;
                if target.tls {
                    return Err(ScenarioError::new("watch.metrics", "metrics are read over http://"));
                }
                Watched::Metrics(Box::new(target))
            }
            _ => return Err(ScenarioError::new("watch.pid", "give either pid or metrics")),
        };
        let every = lasting("watch.every", self.every.unwrap_or(Span(Duration::from_secs(1))))?;
        Ok(Watch { whose, every })
    }
}

impl RawMix {
    fn resolve(self, at: usize) -> Result<Mix, ScenarioError> {
        let wrong = |key: &str, why: &str| ScenarioError::new(format!("mix[{at}].{key}"), why);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(word) {
            return Err(wrong("name", "letters, digits, - and _"));
        }
        positive(&format!("mix[{at}].weight"), self.weight)?;
        let (least, most) = match self.prompt_tokens {
            RawTokens::One(tokens) => (tokens, tokens),
            RawTokens::Between([least, most]) => (least, most),
        };
        if least == 0 || most < least || most > 4_000_000 {
            return Err(wrong("prompt_tokens", "from 1 to 4 million, the least first"));
        }
        if self.stream && !self.request.generates() {
            return Err(wrong("stream", "embeddings and transforms do not stream"));
        }
        if self.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Err(wrong("path", "it begins with a slash"));
        }
        let repeats = match (self.prompts, self.zipf) {
            (None, None) => Repeats::Unique,
            (None, Some(_)) => return Err(wrong("zipf", "it needs prompts, of which some come more often")),
            (Some(prompts), zipf) => {
                if !(1..=10_000_000).contains(&prompts) {
                    return Err(wrong("prompts", "from 1 to 10 million"));
                }
                let exponent = zipf.unwrap_or(0.0);
                if !(0.0..=10.0).contains(&exponent) {
                    return Err(wrong("zipf", "an exponent from 0 (all alike) to 10"));
                }
                Repeats::Zipf(Weighted::zipf(prompts, exponent))
            }
        };
        Ok(Mix {
            name: self.name,
            weight: self.weight,
            request: self.request,
            model: self.model,
            path: self.path,
            stream: self.stream,
            prompt_tokens: (least, most),
            output_tokens: self.output_tokens.max(1),
            repeats,
        })
    }
}

fn thresholds(given: Option<&[String]>, mix: &[Mix]) -> Result<Vec<Threshold>, ScenarioError> {
    let names: Vec<_> = mix.iter().map(|mix| mix.name.as_str()).collect();
    match given {
        Some(given) => given.iter().map(|text| Threshold::parse(text, &names)).collect(),
        None => {
            let parse =
                |text: &&str| Threshold::parse(text, &names).map(|one| Threshold { by_default: true, ..one });
            DEFAULTS.iter().map(parse).collect()
        }
    }
}
