//! A job that was killed and is run again.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use chimera_optimizer::{
    Case, Chance, Ended, JournalError, Judgement, Optimization, OptimizeError, Spend,
    evaluators::evaluator_fn,
};

use crate::{
    hidden_rules,
    support::{Folder, STRATEGIES, Seen, any_latency, counted, essence, job, settings},
};

/// Runs a job until its model was asked so often, and then lets go of everything at once.
async fn killed_after(calls: usize, name: &str, folder: &Folder, seen: &Arc<Seen>) {
    let goal = seen.calls.load(Relaxed) + calls;
    let job = job("tickets", name, settings(4, 300), counted(seen, any_latency(1))).journal(folder.journal());
    let run = Box::pin(job.build().unwrap().run());
    let watch = async {
        while seen.calls.load(Relaxed) < goal {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = watch => {}
        _ = run => {}
    }
}

#[tokio::test(start_paused = true)]
async fn ten_kills_change_nothing_and_no_answer_is_paid_for_twice() {
    for name in STRATEGIES {
        let whole: Arc<Seen> = Arc::default();
        let model = counted(&whole, any_latency(1));
        let expected = job("tickets", name, settings(4, 300), model).build().unwrap().run().await.unwrap();

        let (folder, seen) = (Folder::new(&format!("kills-{name}")), Arc::<Seen>::default());
        let mut chance = Chance::new(11, 0);
        for _ in 0..10 {
            killed_after(20 + chance.below(25), name, &folder, &seen).await;
        }
        let model = counted(&seen, any_latency(2));
        let job = job("tickets", name, settings(4, 300), model).journal(folder.journal()).build().unwrap();
        let found = job.run().await.unwrap();
        assert_eq!(essence(found), essence(expected), "{name}");
        // A kill loses the calls under way, 16 at most, and nothing else.
        let (paid, needed) = (seen.calls.load(Relaxed), whole.calls.load(Relaxed));
        assert!(paid <= needed + 10 * 16, "{name}: {paid} calls, {needed} are needed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_over_costs_nothing_when_it_is_run_again() {
    let (folder, seen) = (Folder::new("again"), Arc::<Seen>::default());
    let mut all = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..2 {
        let model = counted(&seen, any_latency(1));
        let job = job("invoices", "gradient", settings(4, 200), model).journal(folder.journal());
        all.push(essence(job.build().unwrap().run().await.unwrap()));
        calls.push(seen.calls.load(Relaxed));
    }
    assert_eq!(all[0], all[1]);
    assert_eq!(calls[0], calls[1]);
}

#[tokio::test(start_paused = true)]
async fn a_larger_budget_goes_on_and_another_task_does_not() {
    let (folder, seen) = (Folder::new("larger"), Arc::<Seen>::default());
    let run = |task: &str, seed, limit| {
        let model = counted(&seen, any_latency(1));
        job(task, "reflective", settings(seed, limit), model).journal(folder.journal()).build().unwrap().run()
    };
    let small = run("invoices", 4, 150).await.unwrap();
    let before = seen.roll_outs.load(Relaxed);
    let large = run("invoices", 4, 300).await.unwrap();
    assert!(large.evaluations > small.evaluations);
    assert!(seen.roll_outs.load(Relaxed) - before <= 300, "what was paid for is not paid for again");
    for (task, seed) in [("tickets", 4), ("invoices", 5)] {
        let error = run(task, seed, 300).await.unwrap_err();
        assert!(matches!(error, OptimizeError::Journal(JournalError::Other { .. })), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_goes_on_where_it_was() {
    let (folder, seen) = (Folder::new("cancelled"), Arc::<Seen>::default());
    let model = counted(&seen, any_latency(1));
    let cancelled =
        job("invoices", "reflective", settings(4, 300), model).journal(folder.journal()).build().unwrap();
    let handle = cancelled.handle();
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        handle.cancel();
    };
    let (found, ()) = tokio::join!(cancelled.run(), stop);
    assert_eq!(found.unwrap().ended, Ended::Cancelled);
    assert_eq!(seen.under_way.load(Relaxed), 0, "calls under way are dropped");
    let whole = job("invoices", "reflective", settings(4, 300), counted(&Arc::default(), any_latency(1)));
    let again = job("invoices", "reflective", settings(4, 300), counted(&seen, any_latency(3)));
    let again = again.journal(folder.journal()).build().unwrap().run().await.unwrap();
    assert_eq!(essence(again), essence(whole.build().unwrap().run().await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_score_that_is_no_number_is_nothing_and_the_journal_can_be_read() {
    let (folder, seen) = (Folder::new("no-number"), Arc::<Seen>::default());
    let mut calls = Vec::new();
    for _ in 0..2 {
        let judge = evaluator_fn("odd", |case: Case<'_>| {
            let odd = [f64::NAN, f64::INFINITY, -3.0, 0.1 + 0.2, 10.0 / 11.0];
            let score = odd.get(case.example.input_text().len() % odd.len()).copied().unwrap_or(0.0);
            Judgement { score, feedback: "So so.".into(), spend: Spend::default() }
        });
        let task = hidden_rules::task("invoices", 4);
        let job = Optimization::new(task, counted(&seen, any_latency(1)), judge);
        let job = job.settings(settings(4, 200)).journal(folder.journal());
        let found = job.build().unwrap().run().await.unwrap();
        let best = found.scores.validation.unwrap().mean;
        assert!((0.0..=1.0).contains(&best), "{best}");
        calls.push(seen.calls.load(Relaxed));
    }
    assert_eq!(calls[0], calls[1], "nothing is paid for again");
}
