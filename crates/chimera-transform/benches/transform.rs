//! What steps cost for each byte, and a pipeline for a prompt.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;

use chimera_transform::{
    Budget, BudgetSettings, Normalize, Pipeline, PoolSettings, Priority, Redact, RedactSettings, Seed, Step,
    WorkerPool,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SENTENCES: [&str; 8] = [
    "The committee met on the second floor and spoke for most of the afternoon about the new library. ",
    "Nobody had expected that the river would rise so quickly, or that the bridge would hold. ",
    "In 2019 the museum counted about 12,500 visitors, a third more than in the year before. ",
    "She closed the door, put the kettle on, and began to read the letter once more. ",
    "A well-known method sorts the values first and then walks through them from both ends. ",
    "The recipe calls for two cups of flour, a pinch of salt, and as much water as it takes. ",
    "Most of these questions were answered long ago; the others will wait until the spring: it is late. ",
    "\"We will see,\" he said, and nobody at the table asked him what he meant by that. ",
];

fn english(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 128);
    let mut seed = 7_usize;
    while text.len() < bytes {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push_str(SENTENCES[(seed >> 33) % SENTENCES.len()]);
    }
    text
}

fn redact() -> Redact {
    Redact::new(RedactSettings::default()).unwrap()
}

fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("steps");
    let texts = [
        ("english", english(64 << 10)),
        ("personal", "Mail ada@example.com or call +49 30 1234567 about 4111 1111 1111 1111. ".repeat(900)),
        ("digits", "10 20 30 40 50 60 70 80 90 ".repeat(2400)),
        ("ats", "a@".repeat(32 << 10)),
        ("hex", "0123456789abcdef:".repeat(3800)),
    ];
    for (name, text) in &texts {
        group.throughput(Throughput::Bytes(text.len() as u64));
        let step = redact();
        group.bench_function(format!("redact/{name}"), |b| b.iter(|| step.find(black_box(text)).len()));
    }
    let normalize = Normalize::default();
    let text = &texts[0].1;
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("normalize/english", |b| b.iter(|| normalize.text(black_box(text)).len()));
    group.bench_function("tokens/english", |b| {
        b.iter(|| chimera_transform::tokens::count_text(black_box(text), "gpt-4o"));
    });
    group.bench_function("tokens/oracle", |b| b.iter(|| bpe_openai::o200k_base().count(black_box(text))));
    group.finish();
}

fn pipelines(c: &mut Criterion) {
    let seed = Seed::random();
    let steps = [
        Step::new(Normalize::default()),
        Step::new(redact()),
        Step::new(Budget::new(BudgetSettings { tokens: 100_000, model: "gpt-4o".into() })),
    ];
    let pipeline = Pipeline::new("bench", steps);
    let mut group = c.benchmark_group("pipeline");
    for kib in [8, 32, 128] {
        let body = format!(
            r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":{}}}]}}"#,
            serde_json::Value::from(english(kib << 10))
        );
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(format!("normalize+redact+budget/{kib}KiB"), |b| {
            b.iter(|| pipeline.run_body(black_box(body.as_bytes()), &seed).unwrap().text.is_some());
        });
    }
    group.finish();
}

/// What the way to a thread of the pool and back costs: the size from which it is worth it follows.
fn pool(c: &mut Criterion) {
    let pool = WorkerPool::new(PoolSettings::default());
    let mut group = c.benchmark_group("pool");
    group.bench_function("hop", |b| {
        b.iter(|| pool.submit(Priority::Interactive, None, |_| ()).unwrap().wait());
    });
    // A thousand items of 2 KiB on one thread and on two: what a second core is worth.
    let pipeline = Pipeline::new("bench", [Step::new(Normalize::default()), Step::new(redact())]);
    let text: std::sync::Arc<str> = english(2 << 10).into();
    for threads in [1, 2] {
        let pool = WorkerPool::new(PoolSettings { threads, ..PoolSettings::default() });
        group.bench_function(format!("batch of 1000/{threads}"), |b| {
            b.iter(|| {
                let seed = Seed::random();
                let jobs: Vec<_> = (0..1000)
                    .map(|_| {
                        let (pipeline, text, seed) = (pipeline.clone(), text.clone(), seed.clone());
                        let work =
                            move |_: &_| (0..16).filter(|_| pipeline.run_text(&text, &seed).is_ok()).count();
                        pool.submit(Priority::Batch, None, work).unwrap()
                    })
                    .collect();
                jobs.into_iter().map(|job| job.wait().unwrap()).sum::<usize>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steps, pipelines, pool);
criterion_main!(benches);
