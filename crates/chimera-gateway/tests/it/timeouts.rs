//! Pain 11: each of the timers fires, on every dialect, and says which it was.

use std::time::Duration;

use chimera_circuit_breaker::Snapshot;
use chimera_gateway::{DialectId, Gateway};
use tokio::time::Instant;

use crate::support::{Act, Script, Scripted, call, chat, gateway};

fn breaker(gateway: &Gateway) -> Snapshot {
    gateway.with_models(|models| models.deployments()[0].breaker().snapshot(Instant::now().into_std()))
}

/// A caller that leaves early says nothing about the provider; the tier's own deadline does, whoever
/// began the call.
#[tokio::test(start_paused = true)]
async fn pain_11_a_shared_call_that_meets_its_tiers_deadline_counts_whoever_began_it() {
    let silent = Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    let gateway = gateway(DialectId::OpenAi, &silent);
    let hasty = |extra: Option<&str>| {
        let mut request = chat("gpt-x", "x", false);
        request.headers_mut().insert("x-chimera-timeout-ms", "500".parse().unwrap());
        if let Some(cache) = extra {
            request.headers_mut().insert("x-chimera-cache", cache.parse().unwrap());
        }
        call(&gateway, request)
    };
    let began = Instant::now();
    let (first, second) = tokio::join!(hasty(None), call(&gateway, chat("gpt-x", "x", false)));
    assert_eq!((first.status, second.status, silent.count()), (504, 504, 1));
    assert_eq!(began.elapsed().as_secs(), 120);
    assert_eq!(breaker(&gateway).failures, 1);
    // A call whose own deadline the caller shortened is neutral, alone or given up by all.
    for cache in [None, Some("no-store")] {
        assert_eq!(hasty(cache).await.status, 504);
        assert_eq!(breaker(&gateway).failures, 1, "{cache:?}");
    }
}
