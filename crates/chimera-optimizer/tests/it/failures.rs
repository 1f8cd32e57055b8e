//! Calls that fail, providers that are dead, jobs that are let go.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use chimera_optimizer::{
    CallError, Ended, Event, LanguageModel, ModelRequest, OptimizeError, Settings, SharedModel, model_fn,
};
use tokio::time::Instant;

use crate::{
    hidden_rules,
    support::{Seen, any_latency, counted, essence, job, settings},
};

/// The model with hidden rules behind a door that may say no.
fn behind(
    door: impl Fn(usize, &ModelRequest) -> Result<(), CallError> + Send + Sync + 'static,
) -> impl LanguageModel + 'static {
    let inner = SharedModel::new(hidden_rules::model(Duration::from_millis(50)));
    let (calls, door) = (AtomicUsize::new(0), Arc::new(door));
    model_fn(move |request: ModelRequest| {
        let (number, inner, door) = (calls.fetch_add(1, Relaxed), inner.clone(), Arc::clone(&door));
        async move {
            door(number, &request)?;
            inner.ask(request).await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn single_errors_are_tried_again_and_leave_no_trace() {
    let flaky = behind(|number, _| if number % 5 == 0 { Err(CallError::transient("busy")) } else { Ok(()) });
    let found = job("invoices", "reflective", settings(1, 200), flaky).build().unwrap().run().await.unwrap();
    let steady = behind(|_, _| Ok(()));
    let expected =
        job("invoices", "reflective", settings(1, 200), steady).build().unwrap().run().await.unwrap();
    assert_eq!(essence(found), essence(expected));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_is_counted_and_scored_as_nothing() {
    let picky = behind(|_, request| match request.user.contains("Lovelace") {
        true if !request.system.contains("improve prompts") => Err(CallError::refused("no such names here")),
        _ => Ok(()),
    });
    let found = job("invoices", "reflective", settings(1, 100), picky).build().unwrap().run().await.unwrap();
    assert!(found.errors > 0);
    assert!(matches!(found.ended, Ended::Budget(_)));
}

#[tokio::test(start_paused = true)]
async fn a_dead_provider_pauses_the_job_and_its_return_resumes_it() {
    let began = Instant::now();
    let down = move || (Duration::from_secs(1)..Duration::from_secs(60)).contains(&began.elapsed());
    let asked = Arc::new(AtomicUsize::new(0));
    let while_down = Arc::clone(&asked);
    let model = behind(move |_, _| {
        if down() {
            while_down.fetch_add(1, Relaxed);
            return Err(CallError::transient("connection refused"));
        }
        Ok(())
    });
    let job_ = job("invoices", "reflective", settings(1, 200), model).build().unwrap();
    let (mut events, progress) = (job_.handle().events(), job_.handle().progress());
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let follow = async move {
        while let Ok(event) = events.recv().await {
            if let Event::Paused { .. } | Event::Resumed | Event::Finished { .. } = &event {
                if matches!(event, Event::Paused { .. }) {
                    assert_eq!(progress.borrow().paused.as_deref(), Some("connection refused"));
                }
                let last = matches!(event, Event::Finished { .. });
                tell.lock().unwrap().push(event);
                if last {
                    break;
                }
            }
        }
    };
    let (found, ()) = tokio::join!(job_.run(), follow);
    let found = found.unwrap();
    let told = told.lock().unwrap().clone();
    assert_eq!(told[0], Event::Paused { reason: "connection refused".into() });
    assert_eq!(told[1], Event::Resumed);
    assert_eq!(found.errors, 0, "what failed in the pause was asked again");
    assert!(asked.load(Relaxed) < 40, "a paused job asks with one call: {}", asked.load(Relaxed));
    let expected = job("invoices", "reflective", settings(1, 200), behind(|_, _| Ok(())));
    assert_eq!(essence(found), essence(expected.build().unwrap().run().await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_too_long_ends_the_job_with_the_reason() {
    let wrong_key =
        behind(|number, _| if number > 60 { Err(CallError::unusable("wrong key")) } else { Ok(()) });
    let found =
        job("invoices", "reflective", settings(1, 200), wrong_key).build().unwrap().run().await.unwrap();
    assert_eq!(found.ended, Ended::Paused("wrong key".into()));
    assert_eq!(found.scores.held_out, None, "nothing is looked at before the search is over");
    let never = behind(|_, _| Err(CallError::unusable("wrong key")));
    let error = job("invoices", "reflective", settings(1, 200), never).build().unwrap().run().await;
    assert!(matches!(error, Err(OptimizeError::PausedAtStart(reason)) if reason == "wrong key"));
}

#[tokio::test(start_paused = true)]
async fn letting_go_of_a_job_ends_its_calls_at_once() {
    let seen: Arc<Seen> = Arc::default();
    let settings = Settings { concurrency: 32, ..settings(1, 300) };
    let job = job("invoices", "reflective", settings, counted(&seen, any_latency(7)));
    let mut run = Box::pin(job.build().unwrap().run());
    let timed = tokio::time::timeout(Duration::from_millis(150), &mut run).await;
    assert!(timed.is_err() && seen.under_way.load(Relaxed) > 0);
    drop(run);
    assert_eq!(seen.under_way.load(Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn cancelling_takes_no_time() {
    let seen: Arc<Seen> = Arc::default();
    // Calls that would take for ever.
    let job = job("invoices", "reflective", settings(1, 300), counted(&seen, |_| Duration::from_secs(3600)));
    let job = job.build().unwrap();
    let handle = job.handle();
    let cancelled = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        handle.cancel();
        Instant::now()
    };
    let (error, at) = tokio::join!(job.run(), cancelled);
    assert!(matches!(error, Err(OptimizeError::CancelledAtStart)));
    assert!(at.elapsed() < Duration::from_millis(100));
    assert_eq!(seen.under_way.load(Relaxed), 0);
}
