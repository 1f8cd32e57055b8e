//! Results do not depend on which call comes back first, and calls do come back at the same time.

use std::{sync::Arc, time::Duration};

use chimera_optimizer::{Settings, strategies::Reflective};
use tokio::time::Instant;

use crate::support::{STRATEGIES, Seen, any_latency, counted, essence, evaluations, job, settings};

#[tokio::test(start_paused = true)]
async fn the_order_of_answers_changes_nothing() {
    for name in STRATEGIES {
        let mut all = Vec::new();
        for latencies in 0..4 {
            let seen = Arc::default();
            let model = counted(&seen, any_latency(latencies));
            all.push(essence(
                job("tickets", name, settings(3, 300), model).build().unwrap().run().await.unwrap(),
            ));
        }
        assert!(all[0].tried > 5, "{name} tried {}", all[0].tried);
        assert!(all.iter().all(|one| *one == all[0]), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn concurrency_changes_nothing() {
    let mut all = Vec::new();
    for concurrency in [1, 7, 64] {
        let seen = Arc::default();
        let settings = Settings { concurrency, ..settings(5, 300) };
        let model = counted(&seen, any_latency(9));
        all.push(essence(
            job("invoices", "reflective", settings, model).build().unwrap().run().await.unwrap(),
        ));
    }
    assert!(all.iter().all(|one| *one == all[0]));
}

#[tokio::test(start_paused = true)]
async fn another_seed_is_another_search() {
    let run = |seed| {
        let seen = Arc::default();
        job("invoices", "reflective", settings(seed, 200), counted(&seen, |_| Duration::ZERO))
            .build()
            .unwrap()
    };
    let (one, other) = (run(1).run().await.unwrap(), run(2).run().await.unwrap());
    assert_ne!(one.lineage, other.lineage);
}

/// Virtual time, so this counts slots that stand idle and nothing else.
#[tokio::test(start_paused = true)]
async fn at_64_calls_at_once_nine_tenths_of_the_ideal_speed() {
    let seen: Arc<Seen> = Arc::default();
    let latency = Duration::from_millis(200);
    let settings =
        Settings { concurrency: 64, width: 128, budget: evaluations(12_000), race: false, ..settings(1, 0) };
    // Minibatches of 8, so that there are always enough calls to make.
    let reflective = Reflective::new(chimera_optimizer::strategies::ReflectiveSettings {
        minibatch: 8,
        step: 2,
        merges: 5,
        rung: 30,
        patience: 4,
    });
    let job = job("catalogue", "reflective", settings, counted(&seen, move |_| latency)).strategy(reflective);
    let began = Instant::now();
    let found = job.build().unwrap().run().await.unwrap();
    let took = began.elapsed().as_secs_f64();
    let calls = seen.calls.load(std::sync::atomic::Ordering::Relaxed) as f64;
    let ideal = calls * latency.as_secs_f64() / 64.0;
    assert!(found.evaluations > 3000, "{}", found.evaluations);
    assert!(ideal / took >= 0.9, "{calls} calls took {took} s, ideal were {ideal} s: {}", ideal / took);
}
