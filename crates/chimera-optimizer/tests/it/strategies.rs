//! What the strategies are worth, on tasks whose rules have to be discovered.

use std::{sync::Arc, time::Duration};

use chimera_optimizer::{
    Candidate, Case, Dataset, Ended, Example, Judgement, ModelAnswer, ModelRequest, Optimization, Program,
    Second, Settings, Stage, Task,
    evaluators::{Exact, evaluator_fn},
    model_fn,
};

use crate::{
    hidden_rules::TASKS,
    support::{counted, evaluations, job, settings},
};

async fn held_out(task: &str, strategy: &str, seed: u64, budget: usize) -> f64 {
    let model = counted(&Arc::default(), |_| Duration::ZERO);
    let found = job(task, strategy, settings(seed, budget), model).build().unwrap().run().await.unwrap();
    found.scores.held_out.unwrap().mean
}

/// Mean difference and the half width of its 95 % interval, by Student's t for eight pairs.
fn paired(differences: &[f64]) -> (f64, f64) {
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let spread = differences.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, 2.365 * (spread / count).sqrt())
}

#[tokio::test(start_paused = true)]
async fn feedback_beats_chance_on_every_task() {
    for task in TASKS {
        let mut chance = Vec::new();
        for seed in 0..8 {
            chance.push(held_out(task, "random", seed, 300).await);
        }
        for strategy in ["gradient", "reflective", "bandit"] {
            let mut differences = Vec::new();
            for (seed, chance) in chance.iter().enumerate() {
                differences.push(held_out(task, strategy, seed as u64, 300).await - chance);
            }
            let (mean, half) = paired(&differences);
            assert!(mean - half > 0.0, "{strategy} on {task}: {mean:.3} ± {half:.3}");
        }
    }
}

/// Two stages with a prompt each; each prompt needs one word, and feedback asks for it.
#[tokio::test(start_paused = true)]
async fn several_components_are_improved_together() {
    let model = model_fn(|request: ModelRequest| async move {
        let text = if request.system.contains("improve prompts") {
            let word = if request.user.contains("prompt `first`") { "DOUBLE" } else { "QUOTE" };
            format!("Missing.\n```\nDo it: {word}.\n```")
        } else if request.system.contains("DOUBLE") {
            format!("aa{}", request.user)
        } else if request.system.contains("QUOTE") {
            format!("'{}'", request.user)
        } else {
            request.user
        };
        Ok(ModelAnswer { text, ..ModelAnswer::default() })
    });
    let program = Program::chain(vec![
        Stage::new("draft", "{{first}}", "{{input}}").unwrap(),
        Stage::new("final", "{{second}}", "{{draft}}").unwrap(),
    ]);
    let judge = evaluator_fn("parts", |case: Case<'_>| {
        let parts = [case.output.contains("aa"), case.output.contains('\'')];
        Judgement::new(parts.iter().map(|part| f64::from(*part) / 2.0).sum(), "Something is missing.")
    });
    let set =
        |from: usize| (from..from + 4).map(|n| Example::new(n.to_string(), format!("b{n}"), "x")).collect();
    let data = Dataset { train: set(0), validation: set(4), held_out: set(8) };
    let seed = Candidate::new([("first", "Do it."), ("second", "Do it.")]);
    let task = Task::new("two", seed, program, data).unwrap();
    let found = Optimization::new(task, model, judge)
        .settings(settings(1, 120))
        .build()
        .unwrap()
        .run()
        .await
        .unwrap();
    assert_eq!(found.best.text("first"), Some("Do it: DOUBLE."));
    assert_eq!(found.best.text("second"), Some("Do it: QUOTE."));
    assert_eq!(found.scores.held_out.unwrap().mean, 1.0);
}

#[tokio::test(start_paused = true)]
async fn of_equals_the_shorter_and_length_can_weigh() {
    // Both texts are right; the long one comes first.
    let model = model_fn(|request: ModelRequest| async move {
        let text = if request.system.contains("improve prompts") {
            let text = if request.user.contains("long winded") { "Good." } else { "Good, and long winded." };
            format!("```\n{text}\n```")
        } else if request.system.contains("Good") {
            "yes".into()
        } else {
            "no".into()
        };
        Ok(ModelAnswer { text, ..ModelAnswer::default() })
    });
    let set = |n: usize| vec![Example::new("e", n.to_string(), "yes")];
    let data = Dataset { train: set(0), validation: set(1), held_out: vec![] };
    let task = Task::prompt("short", "seed", data).unwrap();
    let settings =
        Settings { second: Second::Length(0.1), budget: evaluations(40), width: 1, ..Settings::default() };
    let found =
        Optimization::new(task, model, Exact).settings(settings).build().unwrap().run().await.unwrap();
    assert_eq!(found.scores.validation.unwrap().mean, 1.0);
    assert_eq!(found.scores.held_out, None);
}

/// A train example that no prompt is right on, and a best that is right on everything else.
#[tokio::test(start_paused = true)]
async fn what_is_right_on_the_whole_validation_set_is_soon_the_end() {
    let model = model_fn(|request: ModelRequest| async move {
        let text = if request.system.contains("improve prompts") {
            format!("```\nGOOD, try {}.\n```", request.seed.unwrap_or(0))
        } else if request.system.contains("GOOD") && !request.user.contains("never") {
            "yes".into()
        } else {
            "no".into()
        };
        Ok(ModelAnswer { text, ..ModelAnswer::default() })
    });
    let set = |name: &'static str| {
        (0..4).map(move |n| Example::new(format!("{name}{n}"), format!("{name}{n}"), "yes"))
    };
    let train = set("train").chain([Example::new("never", "never", "yes")]).collect();
    let data = Dataset { train, validation: set("validation").collect(), held_out: Vec::new() };
    let task = Task::prompt("never", "seed", data).unwrap();
    let job = Optimization::new(task, model, Exact).settings(settings(1, 1000)).build().unwrap();
    let found = job.run().await.unwrap();
    assert_eq!(found.scores.validation.unwrap().mean, 1.0);
    assert_eq!(found.ended, Ended::Finished);
    assert!(found.evaluations < 100, "{} roll-outs", found.evaluations);
}
