//! Jobs over the model with hidden rules, and models that count, delay and fail.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chimera_optimizer::{
    Budget, CallError, Chance, Findings, LanguageModel, ModelAnswer, ModelRequest, Optimization, Settings,
    SharedModel, Strategy, model_fn,
    strategies::{Bandit, Gradient, Random, Reflective},
};

use crate::hidden_rules;

pub(crate) fn strategy(name: &str) -> Box<dyn Strategy> {
    match name {
        "reflective" => Box::new(Reflective::default()),
        "gradient" => Box::new(Gradient::default()),
        "bandit" => Box::new(Bandit::default()),
        _ => Box::new(Random::default()),
    }
}

pub(crate) const STRATEGIES: [&str; 4] = ["reflective", "gradient", "bandit", "random"];

pub(crate) fn evaluations(limit: usize) -> Budget {
    Budget { evaluations: Some(limit), ..Budget::default() }
}

pub(crate) fn settings(seed: u64, limit: usize) -> Settings {
    Settings { seed, budget: evaluations(limit), ..Settings::default() }
}

/// A job of a task with hidden rules.
pub(crate) fn job(
    task: &str,
    strategy_name: &str,
    settings: Settings,
    model: impl LanguageModel,
) -> Optimization {
    Optimization::new(hidden_rules::task(task, settings.seed), model, hidden_rules::evaluator())
        .strategy(strategy(strategy_name))
        .settings(settings)
}

/// What does not depend on time.
pub(crate) fn essence(mut found: Findings) -> Findings {
    found.seconds = 0.0;
    found
}

/// What a model was asked.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls: AtomicUsize,
    pub(crate) roll_outs: AtomicUsize,
    pub(crate) under_way: AtomicUsize,
    pub(crate) tokens: AtomicUsize,
}

/// Counts a call as under way for as long as it is.
struct UnderWay(Arc<Seen>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// The model with hidden rules, counted; each call takes what `latency` says of its number.
pub(crate) fn counted(
    seen: &Arc<Seen>,
    latency: impl Fn(usize) -> Duration + Send + Sync + 'static,
) -> SharedModel {
    let seen = Arc::clone(seen);
    let inner = SharedModel::new(hidden_rules::model(Duration::ZERO));
    let latency = Arc::new(latency);
    SharedModel::new(model_fn(move |request: ModelRequest| {
        let (seen, inner, latency) = (Arc::clone(&seen), inner.clone(), Arc::clone(&latency));
        async move {
            let number = seen.calls.fetch_add(1, Relaxed);
            seen.under_way.fetch_add(1, Relaxed);
            let _guard = UnderWay(Arc::clone(&seen));
            if !request.system.contains("improve prompts") {
                seen.roll_outs.fetch_add(1, Relaxed);
            }
            let wait = latency(number);
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            let answer: Result<ModelAnswer, CallError> = inner.ask(request).await;
            if let Ok(answer) = &answer {
                seen.tokens.fetch_add(answer.spend.all_tokens() as usize, Relaxed);
            }
            answer
        }
    }))
}

/// Latencies from nothing to 200 ms, other ones for each seed.
pub(crate) fn any_latency(seed: u64) -> impl Fn(usize) -> Duration + Send + Sync + 'static {
    move |number| Duration::from_millis(Chance::new(seed, number as u64).number() % 200)
}

/// A folder that is removed when the test is over.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chimera-optimizer-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.0.join("job.journal")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
