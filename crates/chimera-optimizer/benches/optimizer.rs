//! What the crate itself costs: a roll-out from plan to settlement, and the frontier.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../examples/support/hidden_rules.rs"]
mod hidden_rules;

use std::hint::black_box;

use chimera_optimizer::{
    Budget, Case, Chance, Frontier, Judgement, ModelAnswer, Optimization, Settings, evaluators::evaluator_fn,
    model_fn, strategies::Random,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Roll-outs of a job.
const ROLL_OUTS: usize = 2000;

/// A model and an evaluator that cost next to nothing, so that what is left is the crate's own.
fn job(journal: Option<&std::path::Path>) -> Optimization {
    let count = std::sync::atomic::AtomicU64::new(0);
    let model = model_fn(move |request| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        async move {
            let text = match request.system.starts_with("You improve") {
                true => format!("```\nAnother prompt, number {number}, about as long as prompts are.\n```"),
                false => number.to_string(),
            };
            Ok(ModelAnswer { text, ..ModelAnswer::default() })
        }
    });
    let judge = evaluator_fn("any", |case: Case<'_>| {
        let number = case.output.parse().unwrap_or(0);
        Judgement::new(Chance::new(number, 1).unit() * 0.99, "It could be better.")
    });
    let budget = Budget { evaluations: Some(ROLL_OUTS), ..Budget::default() };
    let job = Optimization::new(hidden_rules::task("tickets", 1), model, judge)
        .strategy(Random::default())
        .settings(Settings { budget, race: false, ..Settings::default() });
    match journal {
        Some(path) => job.journal(path),
        None => job,
    }
}

fn roll_outs(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("roll_out");
    group.throughput(Throughput::Elements(ROLL_OUTS as u64)).sample_size(10);
    let found = runtime.block_on(job(None).build().unwrap().run()).unwrap();
    assert!(found.evaluations > ROLL_OUTS * 9 / 10, "{} roll-outs are too few", found.evaluations);
    group.bench_function("in memory", |bencher| {
        bencher.iter(|| runtime.block_on(job(None).build().unwrap().run()).unwrap());
    });
    let path = std::env::temp_dir().join(format!("chimera-bench-{}.journal", std::process::id()));
    group.bench_function("with a journal", |bencher| {
        bencher.iter(|| {
            let _ = std::fs::remove_file(&path);
            runtime.block_on(job(Some(&path)).build().unwrap().run()).unwrap()
        });
    });
    let _ = std::fs::remove_file(&path);
    group.finish();
}

fn frontier(criterion: &mut Criterion) {
    let mut chance = Chance::new(1, 1);
    let rows: Vec<Vec<f64>> = (0..100).map(|_| (0..100).map(|_| chance.unit()).collect()).collect();
    criterion.bench_function("frontier of 100 candidates on 100 examples", |bencher| {
        bencher.iter(|| Frontier::of(black_box(&rows)));
    });
}

criterion_group!(benches, roll_outs, frontier);
criterion_main!(benches);
