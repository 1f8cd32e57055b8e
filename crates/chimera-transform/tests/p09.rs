//! The async runtime is never blocked by what the worker pool does.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::{Duration, Instant};

use chimera_transform::{Pipeline, PoolSettings, Priority, Redact, RedactSettings, Seed, Step, WorkerPool};

/// Ten mebibytes with something to find in every line.
fn large() -> String {
    let line = "Mail ada@example.com or call +49 30 1234567 about the order of last week, please. ";
    line.repeat((10 << 20) / line.len() + 1)
}

/// On one thread: were the work done on it, no timer would fire until its end. The lag itself is printed, not
/// judged: a busy machine is nobody's fault.
#[tokio::test(flavor = "current_thread")]
async fn p09_a_canary_task_runs_on_while_ten_mebibytes_are_redacted() {
    let pool = WorkerPool::new(PoolSettings { threads: 1, ..PoolSettings::default() });
    let step = Step::new(Redact::new(RedactSettings::default()).unwrap());
    let pipeline = Pipeline::new("p", [step]);
    let text = large();
    assert!(pipeline.wants_pool(text.len(), 32 << 10));
    let job = pool.submit(Priority::Interactive, None, move |_| {
        let done = pipeline.run_text(&text, &Seed::random()).unwrap();
        done.report.first().unwrap().notes.clone()
    });
    let mut job = std::pin::pin!(job.unwrap());
    let (mut ticks, mut worst) = (0_u32, Duration::ZERO);
    let found = loop {
        let began = Instant::now();
        tokio::select! {
            found = &mut job => break found.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                ticks += 1;
                worst = worst.max(began.elapsed().saturating_sub(Duration::from_millis(2)));
            }
        }
    };
    println!("ticks {ticks}, worst lag {worst:?}");
    assert!(found.get("email") > 100_000);
    assert!(ticks > 3, "the canary ran {ticks} times");
}
