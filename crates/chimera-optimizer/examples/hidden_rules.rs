//! Optimises the prompts of three tasks with hidden rules, by every strategy: what each finds, and at what
//! cost.
//!
//! `cargo run -p chimera-optimizer --example hidden_rules -- [SEEDS] [BUDGET]`
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "support/hidden_rules.rs"]
mod hidden_rules;

use std::time::Duration;

use chimera_optimizer::{
    Budget, Optimization, Settings, Strategy,
    strategies::{Bandit, Gradient, Random, Reflective},
};

fn strategies() -> Vec<Box<dyn Strategy>> {
    vec![
        Box::new(Reflective::default()),
        Box::new(Gradient::default()),
        Box::new(Bandit::default()),
        Box::new(Random::default()),
    ]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let (seeds, budget) = (args.next().unwrap_or(20) as u64, args.next().unwrap_or(500));
    println!("| task | strategy | held-out | roll-outs | to 90 % of best |\n|---|---|---|---|---|");
    for task in hidden_rules::TASKS {
        for place in 0..4 {
            let (mut held_out, mut spent, mut to_90) = (Vec::new(), 0, Vec::new());
            for seed in 0..seeds {
                let strategy = strategies().remove(place);
                let limits = Budget { evaluations: Some(budget), ..Budget::default() };
                let model = hidden_rules::model(Duration::ZERO);
                let job = Optimization::new(hidden_rules::task(task, seed), model, hidden_rules::evaluator())
                    .strategy(strategy)
                    .settings(Settings { seed, budget: limits, ..Settings::default() })
                    .build()
                    .unwrap();
                let found = job.run().await.unwrap();
                held_out.push(found.scores.held_out.unwrap().mean);
                spent += found.evaluations;
                let best = found.curve.last().unwrap().score;
                let there = found.curve.iter().find(|point| point.score >= 0.9 * best).unwrap();
                to_90.push(there.evaluations as f64);
            }
            let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
            let name = strategies().remove(place).name();
            println!(
                "| {task} | {name} | {:.3} | {:.0} | {:.0} |",
                mean(&held_out),
                spent as f64 / seeds as f64,
                mean(&to_90)
            );
        }
    }
}
