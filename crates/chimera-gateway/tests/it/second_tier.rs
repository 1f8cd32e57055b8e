//! Two gateways and one Redis, a real one; and what a gateway does without it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chimera_gateway::{
    Admin, AdminHooks, DialectId, Gateway, Limits, Models, SecondTier, Settings, Tenant, Tenants, key_digest,
};
use http::Request;
use http_body_util::{Empty, Full};

use crate::{
    redis_server::{Server, free_port, skipped},
    support::{
        ANSWER, Act, Answer, DONE, ROLE, STOP, Script, Scripted, USAGE, call, chat, delta, finish, provider,
        stream, unary,
    },
};

/// How many values hold a text.
const WITH: &str = "local n = 0 for _, key in ipairs(redis.call('KEYS', '*')) do \
                    if string.find(redis.call('GET', key), ARGV[1], 1, true) then n = n + 1 end end return n";

fn settings(upstream: &Arc<Scripted>) -> Settings {
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, upstream));
    Settings::new(models)
}

fn keyed(upstream: &Arc<Scripted>) -> Settings {
    let mut settings = settings(upstream);
    settings.tenants = Tenants::keyed(
        ["a", "b"].map(|name| (key_digest(&format!("key-{name}")), Tenant::new(name, Default::default()))),
    );
    settings
}

fn behind(url: &str, settings: Settings) -> Gateway {
    let mut second = SecondTier::new(url, b"shared").unwrap();
    // A busy machine is no slow Redis.
    second.limits.get = Duration::from_millis(500);
    second.limits.slow = Duration::from_millis(400);
    second.redis.proof = Duration::from_millis(100);
    Gateway::with_second_tier(settings, &second).unwrap()
}

fn admin(gateway: &Gateway) -> Admin {
    let hooks = AdminHooks::default();
    Admin::new(gateway.clone(), hooks)
}

async fn ask(gateway: &Gateway, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    finish(admin(gateway).handle(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await).await
}

async fn page(gateway: &Gateway) -> serde_json::Value {
    ask(gateway, "GET", "/api/v1/cache/metrics").await.json()
}

async fn until(what: &str, gateway: &Gateway, is_so: impl Fn(&serde_json::Value) -> bool) {
    let began = Instant::now();
    while !is_so(&page(gateway).await) {
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ready(gateway: &Gateway) {
    until("changes are told", gateway, |page| page["tracking"]["state"] == "on").await;
}

fn with_key(key: &str, prompt: &str) -> Request<Full<bytes::Bytes>> {
    let mut request = chat("gpt-x", prompt, false);
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

#[tokio::test]
async fn one_gateways_answer_is_anothers_hit() {
    let Some(server) = Server::or_skip().await else { return };
    let upstream = Scripted::answering(unary(200, ANSWER));
    let (a, b) = (behind(&server.url(), settings(&upstream)), behind(&server.url(), settings(&upstream)));
    ready(&a).await;
    ready(&b).await;
    assert_eq!(call(&a, chat("gpt-x", "x", false)).await.header("x-chimera-cache"), "miss; reason=cold");
    a.flush().await;
    let far = call(&b, chat("gpt-x", "x", false)).await;
    assert_eq!((far.header("x-chimera-cache"), far.body.as_str()), ("l2", ANSWER));
    assert_eq!((far.header("x-chimera-provider"), far.header("x-chimera-model")), ("one", "gpt-x"));
    let near = call(&b, chat("gpt-x", "x", false)).await;
    assert_eq!((near.header("x-chimera-cache"), near.body.as_str()), ("l1", ANSWER));
    assert_eq!(upstream.count(), 1);
    let page = page(&b).await;
    assert_eq!((&page["tiers"][1]["tier"], &page["tiers"][1]["up"]), (&"l2".into(), &true.into()));
    assert_eq!((&page["tiers"][1]["hits"], &page["moves"]["promote"]), (&1.into(), &1.into()));
    // What lies there says little to who does not know the secret: names are keyed, answers sealed, labels open.
    assert!(!server.text(&["KEYS", "*"]).await.contains("gpt-x"));
    for (text, entries) in [("gpt-x", 1), ("hello there", 0), ("assistant", 0)] {
        assert_eq!(server.text(&["EVAL", WITH, "0", text]).await, format!(":{entries}\r\n"), "{text}");
    }
}

#[tokio::test]
async fn a_stream_from_the_second_tier_is_the_one_that_was_kept() {
    let Some(server) = Server::or_skip().await else { return };
    let upstream = Scripted::answering(stream(&[ROLE, &delta("a"), &delta("b"), STOP, USAGE, DONE]));
    let (a, b) = (behind(&server.url(), settings(&upstream)), behind(&server.url(), settings(&upstream)));
    ready(&a).await;
    ready(&b).await;
    let first = call(&a, chat("gpt-x", "x", true)).await;
    a.flush().await;
    let again = call(&b, chat("gpt-x", "x", true)).await;
    assert_eq!((again.header("x-chimera-cache"), again.body.as_str()), ("l2", first.body.as_str()));
    let folded = call(&b, chat("gpt-x", "x", false)).await;
    assert_eq!(folded.json()["choices"][0]["message"]["content"], "ab");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn pain_07_tenants_do_not_share_an_answer_in_the_second_tier() {
    let Some(server) = Server::or_skip().await else { return };
    let upstream = Scripted::answering(unary(200, ANSWER));
    let (a, b) = (behind(&server.url(), keyed(&upstream)), behind(&server.url(), keyed(&upstream)));
    ready(&a).await;
    ready(&b).await;
    call(&a, with_key("key-a", "x")).await;
    a.flush().await;
    let other = call(&b, with_key("key-b", "x")).await;
    assert_eq!(other.header("x-chimera-cache"), "miss; reason=cold");
    assert_eq!(call(&b, with_key("key-a", "x")).await.header("x-chimera-cache"), "l2");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_purge_of_one_tenant_or_model_reaches_every_gateway() {
    let Some(server) = Server::or_skip().await else { return };
    let upstream = Scripted::answering(unary(200, ANSWER));
    let (a, b) = (behind(&server.url(), keyed(&upstream)), behind(&server.url(), keyed(&upstream)));
    ready(&a).await;
    ready(&b).await;
    for key in ["key-a", "key-b"] {
        call(&a, with_key(key, "x")).await;
        a.flush().await;
        assert_eq!(call(&b, with_key(key, "x")).await.header("x-chimera-cache"), "l2");
    }
    let purged = ask(&a, "POST", "/api/v1/cache/purge?tenant=a").await;
    assert_eq!(purged.json(), serde_json::json!({ "purged": 1, "purged_l2": 1 }));
    until("the purge is told", &b, |page| page["tiers"][0]["entries"] == 1).await;
    assert_eq!(call(&b, with_key("key-b", "x")).await.header("x-chimera-cache"), "l1");
    assert_eq!(call(&b, with_key("key-a", "x")).await.header("x-chimera-cache"), "miss; reason=cold");
    b.flush().await;
    assert_eq!(ask(&b, "POST", "/api/v1/cache/purge?model=gpt-x").await.json()["purged_l2"], 2);
    assert_eq!(ask(&b, "POST", "/api/v1/cache/purge?modl=gpt-x").await.status, 400);
    let breaker = &ask(&b, "GET", "/api/v1/cache/metrics").await.json()["tiers"][1]["breaker"];
    assert_eq!(*breaker, serde_json::json!({ "get": "closed", "put": "closed" }));
}

#[tokio::test]
async fn r01_without_its_redis_a_gateway_answers_and_is_ready() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = behind(&format!("redis://127.0.0.1:{}", free_port()), settings(&upstream));
    assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, 200);
    assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.header("x-chimera-cache"), "l1");
    assert_eq!(ask(&gateway, "GET", "/health/ready").await.status, 200);
    let page = page(&gateway).await;
    assert_eq!((&page["tiers"][1]["up"], &page["tiers"][1]["why"]), (&false.into(), &"not connected".into()));
    assert_eq!(page["tracking"]["state"], "lost");
}

#[tokio::test]
async fn r02_r03_a_redis_that_freezes_and_dies_fails_no_request() {
    let Some(mut server) = Server::or_skip().await else { return };
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = behind(&server.url(), settings(&upstream));
    ready(&gateway).await;
    for n in 0..90 {
        match n {
            30 => server.freeze(),
            60 => server.kill(),
            _ => {}
        }
        let answer = call(&gateway, chat("gpt-x", &format!("prompt {n}"), false)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ANSWER));
    }
    assert_eq!(upstream.count(), 90);
    assert_eq!(ask(&gateway, "GET", "/health/ready").await.status, 200);
    until("it is left alone", &gateway, |page| page["tiers"][1]["up"] == false).await;
}

/// A gateway with an answer that is 100 s old, 40 s too old, and may stand in for ten minutes.
async fn with_an_old_answer(upstream: &Arc<Scripted>) -> Gateway {
    let mut settings = settings(upstream);
    settings.cache.ttl = Duration::from_secs(60);
    settings.cache.stale_if_error = Duration::from_secs(600);
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    call(&gateway, chat("gpt-x", "x", false)).await;
    tokio::time::advance(Duration::from_secs(100)).await;
    gateway
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_stands_in_for_none_and_says_that_it_is_stale() {
    let acts = vec![Act::Read, Act::Write(unary(200, ANSWER))];
    let upstream = Scripted::new([Script::Acts(acts), Script::Refuse]);
    let gateway = with_an_old_answer(&upstream).await;
    let stale = call(&gateway, chat("gpt-x", "x", false)).await;
    assert_eq!((stale.status, stale.header("x-chimera-cache"), stale.header("age")), (200, "stale", "100"));
    tokio::time::advance(Duration::from_secs(600)).await;
    assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, 502);
}

/// A provider that refuses for reasons of its own has given no answer; one that refuses the request has.
#[tokio::test(start_paused = true)]
async fn an_old_answer_stands_in_for_a_providers_refusal_of_its_own() {
    let error = r#"{"error":{"message":"busy","type":"server_error"}}"#;
    for (status, stream, stands_in) in [
        (500, false, true),
        (503, true, true),
        (529, false, true),
        (429, false, true),
        (429, true, true),
        (400, false, false),
        (404, true, false),
    ] {
        let answer = vec![Act::Read, Act::Write(unary(200, ANSWER))];
        let refusal = vec![Act::Read, Act::Write(unary(status, error)), Act::Again];
        let upstream = Scripted::new([Script::Acts(answer), Script::Acts(refusal)]);
        let gateway = with_an_old_answer(&upstream).await;
        for _ in 0..2 {
            let second = call(&gateway, chat("gpt-x", "x", stream)).await;
            let expected = if stands_in { (200, "stale") } else { (status, "miss; reason=cold") };
            assert_eq!((second.status, second.header("x-chimera-cache")), expected);
        }
        assert_eq!(upstream.count(), 3, "{status}: it is asked each time");
    }
}

#[tokio::test]
async fn a_purge_by_key_prefix_and_tag_reaches_every_gateway() {
    let Some(server) = Server::or_skip().await else { return };
    let upstream = Scripted::answering(unary(200, ANSWER));
    let (a, b) = (behind(&server.url(), settings(&upstream)), behind(&server.url(), settings(&upstream)));
    ready(&a).await;
    ready(&b).await;
    let prompt = |prompt: &str, tags: &str| {
        let mut request = chat("gpt-x", prompt, false);
        request.headers_mut().insert("x-chimera-cache-tags", tags.parse().unwrap());
        request.headers_mut().insert("x-chimera-cache", "show-key".parse().unwrap());
        request
    };
    let mut keys = Vec::new();
    for (name, tags) in [("one", "red"), ("two", "red, blue"), ("three", "blue"), ("four", "")] {
        let answer = call(&a, prompt(name, tags)).await;
        keys.push(answer.header("x-chimera-cache-key").to_owned());
        a.flush().await;
        let far = call(&b, prompt(name, tags)).await;
        assert_eq!(
            (far.header("x-chimera-cache"), far.header("x-chimera-cache-key")),
            ("l2", &*keys[keys.len() - 1])
        );
    }
    let plain = call(&a, chat("gpt-x", "one", false)).await;
    assert_eq!(plain.header("x-chimera-cache-key"), "", "only who asks is told");
    let purge = async |by: String, left: u64| {
        let purged = ask(&a, "POST", &format!("/api/v1/cache/purge?{by}")).await.json();
        until("the purge is told", &b, |page| page["tiers"][0]["entries"] == left).await;
        purged
    };
    let both = |count: u64| serde_json::json!({ "purged": count, "purged_l2": count });
    assert_eq!(purge("tag=red".to_owned(), 2).await, both(2));
    assert_eq!(call(&b, prompt("two", "")).await.header("x-chimera-cache"), "miss; reason=cold");
    b.flush().await;
    assert_eq!(call(&b, prompt("three", "")).await.header("x-chimera-cache"), "l1");
    assert_eq!(purge(format!("key={}", keys[2]), 2).await["purged_l2"], 1);
    assert_eq!(call(&b, prompt("three", "")).await.header("x-chimera-cache"), "miss; reason=cold");
    b.flush().await;
    assert_eq!(purge(format!("prefix={}", &keys[3][..16]), 2).await["purged_l2"], 1);
    assert_eq!(call(&b, prompt("four", "")).await.header("x-chimera-cache"), "miss; reason=cold");
    assert_eq!(ask(&a, "POST", "/api/v1/cache/purge?prefix=xyz").await.status, 400);
    let refused = call(&a, prompt("five", "not a word")).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "invalid_request"));
}

fn leasing(url: &str, settings: Settings) -> Gateway {
    let mut second = SecondTier::new(url, b"shared").unwrap();
    second.limits.get = Duration::from_secs(5);
    second.limits.slow = Duration::from_secs(4);
    second.redis.proof = Duration::from_millis(100);
    second.lease = Some(Duration::from_secs(20));
    Gateway::with_second_tier(settings, &second).unwrap()
}

#[tokio::test]
async fn o05_identical_requests_at_once_on_two_gateways_with_the_lease_make_one_call() {
    if skipped() {
        return;
    }
    let whole = unary(200, ANSWER);
    let events = stream(&[ROLE, &delta("hello there"), STOP, USAGE, DONE]);
    for (streams, answer) in [(false, whole), (true, events)] {
        let server = Server::start().await;
        let acts = vec![Act::Read, Act::Sleep(Duration::from_millis(100)), Act::Write(answer), Act::Again];
        let upstream = Scripted::new([Script::Acts(acts)]);
        let gateways =
            [leasing(&server.url(), settings(&upstream)), leasing(&server.url(), settings(&upstream))];
        for gateway in &gateways {
            ready(gateway).await;
        }
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..1000 {
            let gateway = gateways[number % 2].clone();
            calls.spawn(async move { call(&gateway, chat("gpt-x", "x", streams)).await });
        }
        while let Some(answer) = calls.join_next().await {
            let answer = answer.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.body);
            assert!(answer.body.contains("hello there") && !answer.aborted);
        }
        assert_eq!(upstream.count(), 1, "streams: {streams}");
    }
}

/// What another gateway was answered is no answer to who wants a new one, or one that is not so old.
#[tokio::test]
async fn a_lease_brings_nobody_an_answer_that_is_too_old_for_them() {
    let Some(server) = Server::or_skip().await else { return };
    let upstream = Scripted::answering(unary(200, ANSWER));
    let (a, b) = (leasing(&server.url(), settings(&upstream)), leasing(&server.url(), settings(&upstream)));
    ready(&a).await;
    ready(&b).await;
    call(&a, chat("gpt-x", "x", false)).await;
    a.flush().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for (n, (directive, said)) in
        [("no-cache", "miss; reason=no-cache"), ("max-age=1", "miss; reason=max-age")].into_iter().enumerate()
    {
        let mut request = chat("gpt-x", "x", false);
        request.headers_mut().insert("x-chimera-cache", directive.parse().unwrap());
        assert_eq!(call(&b, request).await.header("x-chimera-cache"), said);
        assert_eq!(upstream.count(), n + 2, "{directive}");
        b.flush().await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert_eq!(call(&b, chat("gpt-x", "x", false)).await.header("x-chimera-cache"), "l1");
}

#[tokio::test]
async fn a_caller_who_leaves_gives_the_lease_back() {
    let Some(server) = Server::or_skip().await else { return };
    let acts = vec![Act::Read, Act::AwaitClose];
    let silent = Scripted::new([Script::Acts(acts)]);
    let upstream = Scripted::answering(unary(200, ANSWER));
    let (a, b) = (leasing(&server.url(), settings(&silent)), leasing(&server.url(), settings(&upstream)));
    ready(&a).await;
    ready(&b).await;
    let leaving = tokio::spawn({
        let a = a.clone();
        async move { call(&a, chat("gpt-x", "x", false)).await }
    });
    while silent.count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    leaving.abort();
    // Well before the twenty seconds that the lease would last.
    let answer = tokio::time::timeout(Duration::from_secs(10), call(&b, chat("gpt-x", "x", false))).await;
    assert_eq!(answer.unwrap().body, ANSWER);
}

#[tokio::test]
async fn with_a_lease_and_no_redis_a_gateway_answers() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = leasing(&format!("redis://127.0.0.1:{}", free_port()), settings(&upstream));
    assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, 200);
}

/// Limits are each gateway's own: with nothing to be shared, nothing is lost, and they stay closed.
#[tokio::test]
async fn r13_limits_hold_while_redis_is_away() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let mut limited = settings(&upstream);
    let limits = Limits { requests_per_minute: Some(3), ..Limits::default() };
    limited.tenants = Tenants::keyed([(key_digest("key-a"), Tenant::new("a", limits))]);
    let gateway = behind(&format!("redis://127.0.0.1:{}", free_port()), limited);
    for n in 0..5 {
        let answer = call(&gateway, with_key("key-a", &n.to_string())).await;
        assert_eq!(answer.status, if n < 3 { 200 } else { 429 }, "{n}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_purge_that_is_asked_for_by_a_body_is_refused() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = Gateway::new(settings(&upstream), [7; 32]).unwrap();
    call(&gateway, chat("gpt-x", "x", false)).await;
    let request = Request::post("/api/v1/cache/purge").header("host", "localhost");
    let request = request.body(Full::from(r#"{"model":"other"}"#)).unwrap();
    let refused = finish(admin(&gateway).handle(request).await).await;
    assert!(refused.status == 400 && refused.body.contains("query"), "{}", refused.body);
    assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.header("x-chimera-cache"), "l1");
    assert_eq!(ask(&gateway, "POST", "/api/v1/cache/purge").await.json()["purged"], 1);
}
