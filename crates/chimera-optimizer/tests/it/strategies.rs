//! What the strategies are worth, on tasks whose rules have to be discovered.

use std::{sync::Arc, time::Duration};

use chimera_optimizer::{
    Accept, Board, Candidate, Case, Chance, Dataset, Ended, Example, Judgement, Make, ModelAnswer,
    ModelRequest, Optimization, Outcome, Plan, Program, Second, Settings, Stage, Step, Strategy, Task,
    Validate, Verdict,
    evaluators::{Exact, evaluator_fn},
    model_fn,
    strategies::Bandit,
};

use crate::{
    hidden_rules::{self, TASKS},
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

/// Tries a text that is there already, first a long one.
struct Given(Vec<usize>);

impl Strategy for Given {
    fn name(&self) -> &'static str {
        "given"
    }

    fn version(&self) -> String {
        "given".into()
    }

    fn plan(&mut self, board: &Board, _: &mut Chance) -> Plan {
        let Some(length) = self.0.pop() else { return Plan::Done };
        Plan::Step(Step {
            by: "given",
            make: Make::Ready(board.task().seed().with("instruction", "x".repeat(length))),
            parents: vec![0],
            minibatch: vec![0],
            accept: Accept::Always,
            validate: Validate::All,
        })
    }

    fn settle(&mut self, _: &Board, outcome: &Outcome) {
        let expected = if self.0.is_empty() { Verdict::Scored } else { Verdict::NothingNew };
        assert_eq!(outcome.verdict, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn no_text_becomes_longer_than_it_may() {
    let limited = |longest: usize, strategy: Box<dyn Strategy>| {
        let model = model_fn(move |request: ModelRequest| async move {
            let text = request.system.split_once("Examples:").map_or(&*request.system, |(_, shown)| shown);
            assert!(text.len() <= longest, "{} bytes", text.len());
            Ok(ModelAnswer::default())
        });
        let task = hidden_rules::task("invoices", 1).max_text(longest);
        let judge = evaluator_fn("any", |_: Case<'_>| Judgement::new(0.5, ""));
        let settings = Settings { width: 1, ..settings(1, 200) };
        let job = Optimization::new(task, model, judge).strategy(strategy).settings(settings);
        job.build().unwrap().run()
    };
    let given = limited(200, Box::new(Given(vec![200, 201])));
    assert_eq!(given.await.unwrap().lineage.len(), 2);
    let found = limited(300, Box::<Bandit>::default()).await.unwrap();
    assert!(found.best.iter().all(|(_, text)| text.len() <= 300));
}
