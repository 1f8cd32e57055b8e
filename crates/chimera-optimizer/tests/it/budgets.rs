//! Limits hold, whatever is under way, and nothing is paid for twice.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, atomic::Ordering::Relaxed},
    time::Duration,
};

use chimera_optimizer::{
    Budget, Ended, LanguageModel, Limit, ModelRequest, OptimizeError, Price, Settings, SharedModel, model_fn,
};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::{
    hidden_rules,
    support::{STRATEGIES, Seen, any_latency, counted, job, settings},
};

/// Roll-outs of the final check: seed and best on 60 held-out examples.
const CHECK: usize = 120;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn evaluations_are_never_overspent(
        limit in 30..400usize, width in 1..40usize, concurrency in 1..80usize, strategy in 0..4usize, seed in 0..1000u64
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let seen: Arc<Seen> = Arc::default();
        let settings = Settings { width, concurrency, ..settings(seed, limit) };
        let job = job("invoices", STRATEGIES[strategy], settings, counted(&seen, any_latency(seed)));
        let found = runtime.block_on(job.build().unwrap().run()).unwrap();
        prop_assert!(found.evaluations <= limit);
        prop_assert_eq!(seen.roll_outs.load(Relaxed), found.evaluations + found.check_evaluations);
        prop_assert!(found.check_evaluations <= CHECK);
        prop_assert_eq!(seen.tokens.load(Relaxed) as u64, found.spend.all_tokens());
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_and_money_are_kept_with_the_final_check_inside() {
    let price = Price { input: 10.0, output: 30.0 };
    for concurrency in [1, 16] {
        let inner = SharedModel::new(hidden_rules::model(Duration::from_millis(10)));
        let model = model_fn(move |request| {
            let inner = inner.clone();
            async move {
                let mut answer = inner.ask(request).await?;
                answer.spend = answer.spend.at(price);
                Ok(answer)
            }
        });
        let model = SharedModel::new(model);
        let limits = [
            Budget { tokens: Some(30_000), ..Budget::default() },
            Budget { dollars: Some(0.4), ..Budget::default() },
        ];
        for budget in limits {
            let settings = Settings { budget, concurrency, ..Settings::default() };
            let found =
                job("tickets", "gradient", settings, model.clone()).build().unwrap().run().await.unwrap();
            let batch = 64 * concurrency as u64;
            assert!(
                found.spend.all_tokens() <= budget.tokens.unwrap_or(u64::MAX).saturating_add(batch),
                "{found:?}"
            );
            let dollars = budget.dollars.unwrap_or(f64::MAX);
            assert!(found.spend.dollars() <= dollars * 1.02, "{} of {dollars}", found.spend.dollars());
            assert!(matches!(found.ended, Ended::Budget(Limit::Tokens | Limit::Money)), "{:?}", found.ended);
            assert_eq!(found.check_evaluations, if found.best_member == 0 { CHECK / 2 } else { CHECK });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_suddenly_costs_more_stops_the_job_with_the_calls_under_way() {
    let asked = Mutex::new(0u64);
    let model = model_fn(move |request: ModelRequest| {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        let tokens = if *asked > 60 { 5_000 } else { 10 };
        let text = hidden_rules::answer(&request.system, &request.user, 0);
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(chimera_optimizer::ModelAnswer { text, spend: chimera_optimizer::Spend::tokens(tokens, 0) })
        }
    });
    let budget = Budget { tokens: Some(20_000), ..Budget::default() };
    let settings = Settings { budget, concurrency: 4, ..Settings::default() };
    let error = job("tickets", "reflective", settings, model).build().unwrap().run().await;
    let found = error.unwrap();
    assert_eq!(found.ended, Ended::Budget(Limit::Tokens));
    assert!(found.spend.all_tokens() <= 20_000 + 4 * 5_000, "{}", found.spend.all_tokens());
}

#[tokio::test(start_paused = true)]
async fn the_same_prompt_and_example_are_asked_once() {
    for name in STRATEGIES {
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let inner = SharedModel::new(hidden_rules::model(Duration::from_millis(3)));
        let model = model_fn(move |request: ModelRequest| {
            let (seen, inner) = (Arc::clone(&seen), inner.clone());
            async move {
                if !request.system.contains("improve prompts") {
                    let question = (request.system.clone(), request.user.clone());
                    assert!(seen.lock().unwrap().insert(question), "asked twice");
                }
                inner.ask(request).await
            }
        });
        job("catalogue", name, settings(2, 300), model).build().unwrap().run().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn time_ends_a_job_and_leaves_enough_for_the_final_check() {
    let seen = Arc::default();
    let wall = Duration::from_secs(20);
    let settings =
        Settings { budget: Budget { wall: Some(wall), ..Budget::default() }, ..Settings::default() };
    let began = Instant::now();
    let model = counted(&seen, |_| Duration::from_millis(200));
    let found = job("invoices", "random", settings, model).build().unwrap().run().await.unwrap();
    assert_eq!(found.ended, Ended::Budget(Limit::Wall));
    assert!(began.elapsed() <= wall, "{:?}", began.elapsed());
    assert_eq!(found.scores.held_out.map(|scores| scores.count), Some(60));
}

#[tokio::test(start_paused = true)]
async fn patience_and_too_small_a_budget_end_a_job() {
    let seen = Arc::default();
    let budget = Budget { patience: Some(6), ..Budget::default() };
    let settings = Settings { budget, ..Settings::default() };
    let model = counted(&seen, |_| Duration::ZERO);
    let found = job("invoices", "random", settings, model).build().unwrap().run().await.unwrap();
    assert_eq!(found.ended, Ended::Budget(Limit::Patience));
    let model = counted(&seen, |_| Duration::ZERO);
    let error =
        job("invoices", "random", crate::support::settings(0, 10), model).build().unwrap().run().await;
    assert!(matches!(error, Err(OptimizeError::BudgetTooSmall)));
}
