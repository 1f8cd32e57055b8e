//! What users suffer from, with two things broken at once: outages seldom come alone.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use chimera_gateway::{Admin, AdminHooks, DialectId, Gateway, Models, SecondTier, Settings};
use chimera_provider_pool::{Failover, Group, InOrder};
use http::Request;
use http_body_util::Empty;
use tokio::time::{Instant, timeout};

use crate::{
    redis_server::free_port,
    support::{
        ANSWER, Act, DONE, ROLE, SSE_HEAD, STOP, Script, Scripted, USAGE, call, chat, chunk, delta,
        deployment, finish, next, provider, settle, stream, unary, unary_with,
    },
};

const FAILED: &str = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";

/// The group `trio`, asked in order.
fn trio(upstreams: [&Arc<Scripted>; 3], failover: Failover) -> Settings {
    let mut models = Models::default();
    let names = ["one", "two", "three"];
    for (name, upstream) in names.into_iter().zip(upstreams) {
        models.add_provider(provider(name, DialectId::OpenAi, upstream));
    }
    let member = |name| deployment(name, &models.provider(name).unwrap().provider, Some("m"));
    let members = names.map(member).to_vec();
    models.add_group(Group::new("trio", members, Arc::new(InOrder), failover));
    Settings::new(models)
}

fn gateway(upstreams: [&Arc<Scripted>; 3], failover: Failover) -> Gateway {
    Gateway::new(trio(upstreams, failover), [7; 32]).unwrap()
}

/// The same with a Redis that nobody listens for.
fn without_its_redis(settings: Settings) -> Gateway {
    let second = SecondTier::new(&format!("redis://127.0.0.1:{}", free_port()), b"shared").unwrap();
    Gateway::with_second_tier(settings, &second).unwrap()
}

async fn page(gateway: &Gateway) -> serde_json::Value {
    let hooks = AdminHooks::default();
    let request = Request::get("/api/v1/cache/metrics").header("host", "localhost");
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    finish(Admin::new(gateway.clone(), hooks).handle(request).await).await.json()
}

fn acts(acts: Vec<Act>) -> Arc<Scripted> {
    Scripted::new([Script::Acts(acts)])
}

/// The provider that stands in for one that failed behind its 200 is held back just the same.
#[tokio::test]
async fn pain_04_two_faults_behind_a_200_still_move_on() {
    let events = [ROLE, &delta("a"), STOP, DONE];
    let first = Scripted::answering(stream(&[ROLE, FAILED]));
    for second in [&[": ping\n\n", ROLE, FAILED][..], &[FAILED]] {
        let (second, third) = (Scripted::answering(stream(second)), Scripted::answering(stream(&events)));
        let gateway = gateway([&first, &second, &third], Failover::default());
        let answer = call(&gateway, chat("trio", "x", true)).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.aborted), (200, &*events.concat(), false));
        assert_eq!(
            (answer.header("x-chimera-attempts"), answer.header("x-chimera-provider")),
            ("3", "three")
        );
    }
}

/// Their blogs tell of it: Redis and the provider away together, and what is tried again piles up.
#[tokio::test]
async fn pain_09_two_faults_no_redis_and_a_dead_provider_are_answered_once_each() {
    let (dead, alive) = (Scripted::new([Script::Refuse]), Scripted::answering(unary(200, ANSWER)));
    let gateway = without_its_redis(trio([&dead, &alive, &alive], Failover::default()));
    for n in 0..50 {
        let answer = call(&gateway, chat("trio", &n.to_string(), false)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
        assert_eq!(answer.header("x-chimera-provider"), "two");
    }
    assert_eq!(alive.count(), 50, "nothing is asked twice");
    assert_eq!(dead.connects.load(SeqCst), 5, "its breaker is open");
    assert_eq!(page(&gateway).await["tiers"][1]["up"], false);
}

/// Memory stays within its bounds while writes have nowhere to go and callers leave in mid-stream.
#[tokio::test]
async fn pain_10_two_faults_no_redis_and_callers_that_leave_hold_no_memory() {
    let long = delta(&"x".repeat(100_000));
    let whole = Scripted::answering(stream(&[&long, STOP, USAGE, DONE]));
    let endless =
        acts(vec![Act::Read, Act::Write([SSE_HEAD.as_bytes(), &chunk(&long)].concat()), Act::AwaitClose]);
    for (upstream, leaves) in [(&whole, false), (&endless, true)] {
        let mut settings = trio([upstream, upstream, upstream], Failover::default());
        settings.sizes.streams_in_flight = 250_000;
        settings.cache.capacity = 1 << 20;
        settings.cache.max_entry = 1 << 18;
        let gateway = without_its_redis(settings);
        for n in 0..40 {
            let response = gateway.handle(chat("trio", &n.to_string(), true)).await;
            if leaves {
                let mut body = response.into_body();
                assert!(next(&mut body).await.unwrap().is_ok());
            } else {
                assert!(finish(response).await.body.ends_with(DONE));
            }
        }
        settle().await;
        let page = page(&gateway).await;
        assert_eq!(page["flights"], 0, "{page}");
        assert!(page["tiers"][0]["bytes"].as_u64().unwrap() <= 1 << 20, "{page}");
        let (queued, writes) = (page["writes"]["queued"].as_u64().unwrap(), &page["writes"]);
        assert!(queued <= 40, "no write is queued twice: {writes}");
    }
    assert_eq!(endless.closed.load(SeqCst), endless.count(), "nobody listens: nobody is asked to go on");
}

/// A deadline is the request's, not each attempt's.
#[tokio::test(start_paused = true)]
async fn pain_11_two_faults_share_one_deadline() {
    let silent = acts(vec![Act::Read, Act::AwaitClose]);
    for first in [Script::Hang, Script::Acts(vec![Act::Read, Act::Sleep(Duration::from_secs(50))])] {
        for stream in [false, true] {
            let first = Scripted::new([first.clone()]);
            let mut settings =
                trio([&first, &silent, &silent], Failover { broken: true, ..Failover::default() });
            settings.timeouts.first_event = Some(Duration::from_secs(45));
            let gateway = Gateway::new(settings, [7; 32]).unwrap();
            let began = Instant::now();
            let answer = call(&gateway, chat("trio", "x", stream)).await;
            assert_eq!(answer.status, 504, "{}", answer.body);
            let longest = if stream { 45 } else { 120 };
            assert!(began.elapsed().as_secs() <= longest, "{:?} of {longest} s", began.elapsed());
            settle().await;
            assert_eq!(silent.closed.load(SeqCst), silent.count(), "what was asked is cancelled");
        }
    }
}

/// Whoever was asked in another's stead is let go of, too.
#[tokio::test(start_paused = true)]
async fn pain_12_two_faults_and_a_caller_that_leaves_end_the_second_call() {
    let overloaded = Scripted::answering(unary(503, r#"{"error":{"message":"m"}}"#));
    for begun in [Vec::new(), [SSE_HEAD.as_bytes(), &chunk(ROLE)].concat()] {
        let slow = acts(vec![Act::Read, Act::Write(begun), Act::AwaitClose]);
        let never = Scripted::answering(unary(200, ANSWER));
        let gateway = gateway([&overloaded, &slow, &never], Failover::default());
        let request = gateway.handle(chat("trio", "x", true));
        assert!(timeout(Duration::from_secs(5), request).await.is_err(), "it was still waiting");
        settle().await;
        assert_eq!((slow.count(), slow.closed.load(SeqCst), never.count()), (1, 1, 0));
    }
}

/// Two that are throttled, one of them for longer, and a third that is down: neither is asked before its time,
/// and callers hear when to come back.
#[tokio::test(start_paused = true)]
async fn pain_20_two_faults_rest_for_as_long_as_each_was_told() {
    let no = |wait: &str| {
        let headers = format!("retry-after: {wait}\r\n");
        Scripted::answering(unary_with(429, &headers, r#"{"error":{"message":"slow down"}}"#))
    };
    let (short, long, down) = (no("7"), no("20"), Scripted::new([Script::Refuse]));
    let gateway = gateway([&short, &long, &down], Failover::default());
    let asked = || (short.count(), long.count());
    let told = async |prompt: &str| {
        let answer = call(&gateway, chat("trio", prompt, false)).await;
        (answer.status, answer.header("retry-after").parse::<u64>().ok())
    };
    assert_eq!(told("a refusal says more than a broken connection").await, (429, Some(20)));
    for n in 0..4 {
        // The only one that was asked could not be reached, and did not say for how long.
        assert_eq!(told(&n.to_string()).await, (502, None));
        assert_eq!(asked(), (1, 1), "both rest");
    }
    let (status, wait) = told("all rest").await;
    assert!([429, 503].contains(&status) && (1..=7).contains(&wait.unwrap()), "{status} {wait:?}");
    tokio::time::advance(Duration::from_secs(8)).await;
    told("the first may be asked").await;
    assert_eq!(asked(), (2, 1), "the second still rests");
    tokio::time::advance(Duration::from_secs(13)).await;
    told("both may").await;
    assert_eq!(asked(), (3, 2));
}
