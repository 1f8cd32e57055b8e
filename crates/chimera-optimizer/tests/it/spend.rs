//! What calls cost that bring nothing: it is counted, it ends a job at its limit, and what was paid for before it
//! is not paid for again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chimera_optimizer::{
    Budget, CallError, Candidate, Ended, Findings, LanguageModel, Limit, ModelAnswer, ModelProposer,
    ModelRequest, Optimization, Program, Settings, SharedEvaluator, SharedModel, Spend, Stage, Task,
    evaluators::{Judge, Weighted},
    model_fn,
};

use crate::{
    hidden_rules,
    support::{Folder, Seen, any_latency, counted, essence, settings},
};

/// A model that answers by what `say` says of the number of its call and of what it is asked, and costs ten tokens.
fn tens(
    seen: &Arc<Seen>,
    say: impl Fn(usize, &ModelRequest) -> Result<String, CallError> + Send + Sync + 'static,
) -> SharedModel {
    let seen = Arc::clone(seen);
    let calls = AtomicUsize::new(0);
    SharedModel::new(model_fn(move |request: ModelRequest| {
        let said = say(calls.fetch_add(1, Relaxed), &request);
        let paid = if said.is_ok() { 10 } else { 0 };
        seen.tokens.fetch_add(paid, Relaxed);
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(ModelAnswer { text: said?, spend: Spend::tokens(paid as u64, 0) })
        }
    }))
}

fn score(request: &ModelRequest) -> String {
    format!("So so.\nScore: {}", request.user.len() % 8)
}

fn judged(
    seen: &Arc<Seen>,
    settings: Settings,
    judge: impl Fn(usize, &ModelRequest) -> Result<String, CallError> + Send + Sync + 'static,
) -> Optimization {
    let judge = Judge::new(tens(seen, judge), "judge", "Be right.");
    let model = counted(seen, any_latency(1));
    Optimization::new(hidden_rules::task("invoices", settings.seed), model, judge).settings(settings)
}

async fn run(job: Optimization) -> Findings {
    job.build().unwrap().run().await.unwrap()
}

fn spent(seen: &Seen) -> u64 {
    seen.tokens.load(Relaxed) as u64
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_gives_no_score_is_paid_for_and_is_not_dead() {
    let seen: Arc<Seen> = Arc::default();
    let found = run(judged(&seen, settings(1, 100), |number, request| {
        Ok(if number % 3 == 0 { score(request) } else { "I had rather not.".into() })
    }))
    .await;
    assert!(matches!(found.ended, Ended::Budget(Limit::Evaluations)), "{:?}", found.ended);
    assert_eq!(found.spend.all_tokens(), spent(&seen));

    let seen: Arc<Seen> = Arc::default();
    let mute = run(judged(&seen, settings(1, 100), |_, _| Ok("No.".into()))).await;
    assert!(matches!(mute.ended, Ended::Budget(Limit::Evaluations)), "{:?}", mute.ended);
    assert_eq!(mute.errors, mute.evaluations + mute.check_evaluations, "each counts as failed");
    assert_eq!(mute.spend.all_tokens(), spent(&seen));
}

#[tokio::test(start_paused = true)]
async fn what_brings_nothing_ends_a_job_at_its_limit() {
    let seen: Arc<Seen> = Arc::default();
    let budget = Budget { tokens: Some(6_000), ..Budget::default() };
    let settings = Settings { budget, concurrency: 4, ..Settings::default() };
    let job = judged(&seen, settings, |number, request| {
        Ok(if number < 30 { score(request) } else { "No.".into() })
    });
    let found = run(job).await;
    assert_eq!(found.ended, Ended::Budget(Limit::Tokens));
    // Four calls under way at most, of some 60 tokens.
    assert!(spent(&seen) <= 6_000 + 4 * 100, "{}", spent(&seen));
}

#[tokio::test(start_paused = true)]
async fn the_first_of_two_judges_is_paid_for_when_the_second_fails() {
    let seen: Arc<Seen> = Arc::default();
    let judge = |name: &str, fails: bool| {
        let model = tens(&seen, move |number, request| match number % 3 {
            0 if fails => Err(CallError::transient("busy")),
            _ => Ok(score(request)),
        });
        (1.0, SharedEvaluator::new(Judge::new(model, name, "Be right.")))
    };
    let both = Weighted::new(vec![judge("first", false), judge("second", true)]).unwrap();
    let model = counted(&seen, any_latency(1));
    let found =
        run(Optimization::new(hidden_rules::task("invoices", 1), model, both).settings(settings(1, 100)));
    assert_eq!(found.await.spend.all_tokens(), spent(&seen));
}

fn two_stages(model: impl LanguageModel, settings: Settings) -> Optimization {
    let stages = vec![
        Stage::new("first", "{{plan}}", "{{input}}").unwrap(),
        Stage::new("second", "{{solve}}", "{{first}} {{input}}").unwrap(),
    ];
    let seed = Candidate::new([("plan", "Plan."), ("solve", "Solve.")]);
    let data = hidden_rules::data("invoices", 1, [6, 8, 4]);
    let task = Task::new("two", seed, Program::chain(stages), data).unwrap();
    Optimization::new(task, model, hidden_rules::evaluator()).settings(settings)
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_was_answered_is_not_asked_again_when_the_next_one_fails() {
    let seen: Arc<Seen> = Arc::default();
    let (first, flaky) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let count = Arc::clone(&first);
    let model = tens(&seen, move |_, request| match (&*request.system, &*request.user) {
        (system, _) if system.contains("improve prompts") => Ok("```\nBetter.\n```".into()),
        (_, user) if !user.starts_with("a plan") => {
            count.fetch_add(1, Relaxed);
            Ok("a plan".into())
        }
        _ if flaky.fetch_add(1, Relaxed) % 3 == 0 => Err(CallError::transient("busy")),
        _ => Ok("{}".into()),
    });
    let found = run(two_stages(model, settings(1, 40))).await;
    assert_eq!(found.spend.all_tokens(), spent(&seen));
    assert_eq!(found.errors, 0);
    assert_eq!(first.load(Relaxed), found.evaluations + found.check_evaluations);
}

#[tokio::test(start_paused = true)]
async fn what_was_paid_before_a_stage_is_refused_is_counted() {
    let seen: Arc<Seen> = Arc::default();
    let model = tens(&seen, |_, request| match (&*request.system, &*request.user) {
        (system, _) if system.contains("improve prompts") => Ok("```\nBetter.\n```".into()),
        (_, user) if user.starts_with("a plan") => Err(CallError::refused("no")),
        _ => Ok("a plan".into()),
    });
    let found = run(two_stages(model, settings(1, 40))).await;
    assert_eq!(found.errors, found.evaluations + found.check_evaluations);
    assert_eq!(found.spend.all_tokens(), spent(&seen));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_a_prompt_is_paid_for_when_the_second_question_fails() {
    let seen: Arc<Seen> = Arc::default();
    let repairs = AtomicUsize::new(0);
    let proposer = tens(&seen, move |_, request| match request.user.starts_with("From the answer below") {
        true if repairs.fetch_add(1, Relaxed).is_multiple_of(2) => Err(CallError::transient("busy")),
        true => Ok("```\nAnother.\n```".into()),
        false => Ok("Another.".into()),
    });
    let job = Optimization::new(
        hidden_rules::task("invoices", 1),
        counted(&seen, any_latency(1)),
        hidden_rules::evaluator(),
    );
    let job = job.proposer(ModelProposer::new(proposer, "p")).settings(settings(1, 80));
    assert_eq!(run(job).await.spend.all_tokens(), spent(&seen));
}

#[tokio::test(start_paused = true)]
async fn outputs_that_wait_for_a_judge_are_kept_when_the_job_gives_up() {
    let whole: Arc<Seen> = Arc::default();
    let expected = run(judged(&whole, settings(1, 120), |_, request| Ok(score(request)))).await;
    let (folder, seen) = (Folder::new("judge-down"), Arc::<Seen>::default());
    let down = judged(&seen, settings(1, 120), |number, request| match number {
        0..50 => Ok(score(request)),
        _ => Err(CallError::unusable("wrong key")),
    });
    let paused = run(down.journal(folder.journal())).await;
    assert_eq!(paused.ended, Ended::Paused("wrong key".into()));
    let again = judged(&seen, settings(1, 120), |_, request| Ok(score(request))).journal(folder.journal());
    let found = run(again).await;
    assert_eq!(spent(&seen), spent(&whole), "no output is paid for twice");
    assert_eq!(found.spend.all_tokens(), spent(&seen));
    assert_eq!(essence(found), essence(expected));
}

#[tokio::test(start_paused = true)]
async fn what_brought_nothing_before_a_pause_is_counted_after_it() {
    let (folder, seen) = (Folder::new("paid-pause"), Arc::<Seen>::default());
    let odd = judged(&seen, settings(1, 120), |number, request| match number {
        0..50 => Ok(score(request)),
        50..60 => Ok("No.".into()),
        _ => Err(CallError::unusable("wrong key")),
    });
    let paused = run(odd.journal(folder.journal())).await;
    assert_eq!(paused.ended, Ended::Paused("wrong key".into()));
    let again = judged(&seen, settings(1, 120), |_, request| Ok(score(request))).journal(folder.journal());
    assert_eq!(run(again).await.spend.all_tokens(), spent(&seen));
}
