//! What opens a breaker, and how it closes again: rows U13 and U14 of the fault catalogue.

use std::{sync::Arc, time::Duration};

use chimera_circuit_breaker::State;
use chimera_gateway::{DialectId, Gateway};
use tokio::time::Instant;

use crate::support::{ANSWER, Act, Script, Scripted, call, chat, gateway, settle, unary};

const NO: &str = r#"{"error":{"message":"no"}}"#;

/// A provider that gives each answer in turn, on a connection each, and the last for ever.
fn in_turn(statuses: impl IntoIterator<Item = u16>) -> Arc<Scripted> {
    let answer = |status| unary(status, if status == 200 { ANSWER } else { NO });
    Scripted::new(
        statuses.into_iter().map(|status| Script::Acts(vec![Act::Read, Act::Write(answer(status))])),
    )
}

fn state(gateway: &Gateway) -> State {
    gateway.with_models(|models| models.deployments()[0].breaker().state(Instant::now().into_std()))
}

/// Sends requests until the breaker opens; how many that took.
async fn until_open(gateway: &Gateway, most: usize) -> Option<usize> {
    for n in 1..=most {
        call(gateway, chat("gpt-x", &n.to_string(), false)).await;
        if state(gateway) == State::Open {
            return Some(n);
        }
    }
    None
}

#[tokio::test(start_paused = true)]
async fn u13_failures_in_a_row_or_by_share_open_the_breaker_and_throttling_does_not() {
    for status in [500, 503, 529] {
        assert_eq!(
            until_open(&gateway(DialectId::OpenAi, &in_turn([status])), 10).await,
            Some(5),
            "{status}"
        );
    }
    let every_other = in_turn((0..100).map(|n| if n % 2 == 0 { 200 } else { 500 }));
    assert_eq!(until_open(&gateway(DialectId::OpenAi, &every_other), 50).await, Some(20), "at the floor");
    let every_fourth = in_turn((0..100).map(|n| if n % 4 == 0 { 500 } else { 200 }));
    assert_eq!(until_open(&gateway(DialectId::OpenAi, &every_fourth), 50).await, None);
    assert_eq!(until_open(&gateway(DialectId::OpenAi, &in_turn([429])), 50).await, None);
}

/// Opens the breaker and waits until it is due.
async fn due(upstream: &Arc<Scripted>) -> Gateway {
    let gateway = gateway(DialectId::OpenAi, upstream);
    until_open(&gateway, 10).await.unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    gateway
}

#[tokio::test(start_paused = true)]
async fn u13_a_probe_that_is_throttled_opens_it_again() {
    let gateway = due(&in_turn([500, 500, 500, 500, 500, 429])).await;
    call(&gateway, chat("gpt-x", "probe", false)).await;
    assert_eq!(state(&gateway), State::Open);
}

#[tokio::test(start_paused = true)]
async fn u14_a_hundred_at_once_are_three_probes_and_one_that_leaves_frees_its_place() {
    let fails = Script::Acts(vec![Act::Read, Act::Write(unary(500, NO))]);
    let silent = Script::Acts(vec![Act::Read, Act::AwaitClose]);
    let upstream = Scripted::new(std::iter::repeat_n(fails, 5).chain([silent]));
    let gateway = due(&upstream).await;
    for round in 1..=3 {
        let before = upstream.count();
        let callers: Vec<_> = (0..100)
            .map(|n| {
                let gateway = gateway.clone();
                tokio::spawn(
                    async move { call(&gateway, chat("gpt-x", &format!("{round}.{n}"), false)).await },
                )
            })
            .collect();
        settle().await;
        assert_eq!(upstream.count() - before, 3, "in round {round}");
        let mut refused = 0;
        for caller in callers {
            if caller.is_finished() {
                assert_eq!(caller.await.unwrap().code(), "circuit_open");
                refused += 1;
            } else {
                // The caller of a probe leaves: that says nothing, and another may probe.
                caller.abort();
            }
        }
        assert_eq!(refused, 97);
        settle().await;
        assert_eq!(state(&gateway), State::HalfOpen);
    }
}

/// With active probes no caller has to find out that the provider is back, or that it is not.
#[tokio::test(start_paused = true)]
async fn an_active_probe_closes_the_breaker_without_a_caller() {
    let upstream = in_turn([500, 500, 500, 500, 500, 503, 200, 200]);
    let gateway = due(&upstream).await;
    let asked = upstream.count();
    gateway.probe().await;
    assert_eq!((state(&gateway), upstream.count()), (State::Open, asked + 1), "still down");
    gateway.probe().await;
    assert_eq!(upstream.count(), asked + 1, "not due");
    tokio::time::advance(Duration::from_secs(11)).await;
    gateway.probe().await;
    gateway.probe().await;
    assert_eq!(state(&gateway), State::Closed);
    let probe = upstream.request(asked + 1);
    assert!(probe.starts_with("GET /v1/models HTTP/1.1\r\n") && probe.contains("Bearer"), "{probe}");
    gateway.probe().await;
    assert_eq!(upstream.count(), asked + 3, "who is well is not probed");
}
