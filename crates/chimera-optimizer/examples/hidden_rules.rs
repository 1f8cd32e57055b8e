//! Optimises the prompts of three tasks with hidden rules, by every strategy: what each finds, and at what
//! cost. Time is simulated: each call takes 200 ms, and 32 are under way at once.
//!
//! `cargo run -p chimera-optimizer --example hidden_rules -- [SEEDS] [BUDGET] [SEARCHES] [WIDTH] [STEP]`, where
//! SEARCHES is how many with each seed's examples, and STEP that of `reflective`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/hidden_rules.rs"]
mod hidden_rules;

use std::time::Duration;

use chimera_optimizer::{
    Budget, Event, Optimization, Settings, Strategy,
    strategies::{Bandit, Gradient, Random, Reflective, ReflectiveSettings},
};
use tokio::time::Instant;

fn strategies(step: usize) -> Vec<Box<dyn Strategy>> {
    vec![
        Box::new(Reflective::new(ReflectiveSettings { step, ..ReflectiveSettings::default() })),
        Box::new(Gradient::default()),
        Box::new(Bandit::default()),
        Box::new(Random::default()),
    ]
}

fn main() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(run());
}

async fn run() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let mut arg = |otherwise| args.next().unwrap_or(otherwise);
    let (seeds, budget, searches, width, step) = (arg(20) as u64, arg(500), arg(1) as u64, arg(5), arg(2));
    println!("| task | strategy | held-out | roll-outs | to 90 % of best | s |\n|---|---|---|---|---|---|");
    for task in hidden_rules::TASKS {
        for place in 0..4 {
            let (mut held_out, mut spent, mut to_90, mut seconds) = (vec![], vec![], vec![], vec![]);
            for number in 0..seeds * searches {
                let (of, seed) = (number % seeds, number % seeds + 1000 * (number / seeds));
                let strategy = strategies(step).remove(place);
                let limits = Budget { evaluations: Some(budget), ..Budget::default() };
                let model = hidden_rules::model(Duration::from_millis(200));
                let job = Optimization::new(hidden_rules::task(task, of), model, hidden_rules::evaluator())
                    .strategy(strategy)
                    .settings(Settings {
                        seed,
                        width,
                        concurrency: 32,
                        budget: limits,
                        ..Settings::default()
                    })
                    .build()
                    .unwrap();
                let (began, mut events) = (Instant::now(), job.handle().events());
                // The final check is no part of the search.
                let clock = tokio::spawn(async move {
                    let mut searched = 0.0;
                    while let Ok(event) = events.recv().await {
                        if matches!(event, Event::Budget(_)) {
                            searched = began.elapsed().as_secs_f64();
                        }
                    }
                    searched
                });
                let found = job.run().await.unwrap();
                seconds.push(clock.await.unwrap());
                held_out.push(found.scores.held_out.unwrap().mean);
                spent.push(found.evaluations as f64);
                let best = found.curve.last().unwrap().score;
                let there = found.curve.iter().find(|point| point.score >= 0.9 * best).unwrap();
                to_90.push(there.evaluations as f64);
            }
            let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
            let name = strategies(step).remove(place).name();
            println!(
                "| {task} | {name} | {:.3} | {:.0} | {:.0} | {:.1} |",
                mean(&held_out),
                mean(&spent),
                mean(&to_90),
                mean(&seconds)
            );
        }
    }
}
