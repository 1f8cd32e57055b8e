//! For how long answers are good: by route, by request, and beyond their time.

use std::{sync::Arc, time::Duration};

use chimera_gateway::{CacheSettings, DialectId, Gateway, Models, Settings};
use http::Request;
use http_body_util::Full;

use crate::support::{
    ANSWER, Act, DONE, ROLE, STOP, Script, Scripted, USAGE, call, chat, delta, post, provider, settle,
    stream, unary, unary_with,
};

const SECOND: Duration = Duration::from_secs(1);
const WRONG: &str = r#"{"error":{"message":"no such parameter","type":"invalid_request_error"}}"#;

fn behind(upstream: &Arc<Scripted>, cache: impl FnOnce(&mut CacheSettings)) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, upstream));
    let mut settings = Settings::new(models);
    settings.cache.ttl = 100 * SECOND;
    cache(&mut settings.cache);
    Gateway::new(settings, [7; 32]).unwrap()
}

fn answering() -> Arc<Scripted> {
    Scripted::answering(unary(200, ANSWER))
}

fn saying(name: &'static str, value: &str) -> Request<Full<bytes::Bytes>> {
    let mut request = chat("gpt-x", "x", false);
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

fn plain() -> Request<Full<bytes::Bytes>> {
    chat("gpt-x", "x", false)
}

async fn said(gateway: &Gateway, request: Request<Full<bytes::Bytes>>) -> String {
    call(gateway, request).await.header("x-chimera-cache").to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_fresh_for_no_longer_than_its_time_and_a_tenth_less_at_most() {
    let upstream = answering();
    let gateway = behind(&upstream, |_| {});
    let mut early = 0;
    for number in 0..100 {
        call(&gateway, chat("gpt-x", &number.to_string(), false)).await;
    }
    tokio::time::advance(89 * SECOND).await;
    for number in 0..100 {
        assert_eq!(said(&gateway, chat("gpt-x", &number.to_string(), false)).await, "l1");
    }
    tokio::time::advance(6 * SECOND).await;
    for number in 0..100 {
        early += usize::from(said(&gateway, chat("gpt-x", &number.to_string(), false)).await != "l1");
    }
    assert!((20..80).contains(&early), "they are spread over the last tenth: {early} of 100 are gone");
    let upstream = answering();
    let gateway = behind(&upstream, |_| {});
    call(&gateway, plain()).await;
    tokio::time::advance(100 * SECOND).await;
    assert_eq!(said(&gateway, plain()).await, "miss; reason=cold");
}

#[tokio::test(start_paused = true)]
async fn a_route_has_its_own_times() {
    let upstream = answering();
    let gateway = behind(&upstream, |cache| {
        let mut generate = cache.everywhere();
        generate.ttl = 10 * SECOND;
        assert!(cache.routes.set("generate", generate) && !cache.routes.set("models", generate));
    });
    let generate = || post("/api/v1/generate", r#"{"model":"gpt-x","prompt":"other"}"#);
    call(&gateway, plain()).await;
    call(&gateway, generate()).await;
    tokio::time::advance(20 * SECOND).await;
    assert_eq!(said(&gateway, plain()).await, "l1");
    assert_eq!(said(&gateway, generate()).await, "miss; reason=cold");
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_is_served_at_once_and_renewed_once() {
    let acts = |answer| vec![Act::Read, Act::Sleep(SECOND), Act::Write(answer), Act::Again];
    let upstream = Scripted::new([Script::Acts(acts(unary(200, ANSWER)))]);
    let gateway = behind(&upstream, |cache| cache.stale_while_revalidate = 50 * SECOND);
    call(&gateway, plain()).await;
    tokio::time::advance(110 * SECOND).await;
    for _ in 0..10 {
        let old = call(&gateway, plain()).await;
        assert_eq!((old.status, old.header("x-chimera-cache"), old.header("age")), (200, "stale", "110"));
    }
    settle().await;
    tokio::time::sleep(2 * SECOND).await;
    settle().await;
    assert_eq!(upstream.count(), 2, "ten callers, one renewal");
    let new = call(&gateway, plain()).await;
    assert_eq!(new.header("x-chimera-cache"), "l1");
    assert!(new.header("age").parse::<u64>().unwrap() <= 2, "{}", new.header("age"));
    // Beyond the bound it is not served.
    tokio::time::advance(151 * SECOND).await;
    assert_eq!(said(&gateway, plain()).await, "miss; reason=cold");
}

#[tokio::test(start_paused = true)]
async fn an_old_stream_is_renewed_as_one() {
    let upstream = Scripted::answering(stream(&[ROLE, &delta("a"), STOP, USAGE, DONE]));
    let gateway = behind(&upstream, |cache| cache.stale_while_revalidate = 50 * SECOND);
    call(&gateway, chat("gpt-x", "x", true)).await;
    tokio::time::advance(110 * SECOND).await;
    assert_eq!(said(&gateway, chat("gpt-x", "x", true)).await, "stale");
    settle().await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(said(&gateway, chat("gpt-x", "x", true)).await, "l1");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn callers_may_narrow_what_is_stale_and_never_widen_it() {
    let upstream = answering();
    let gateway = behind(&upstream, |cache| cache.stale_while_revalidate = 50 * SECOND);
    call(&gateway, plain()).await;
    tokio::time::advance(120 * SECOND).await;
    let narrow = saying("cache-control", "stale-while-revalidate=5");
    assert_eq!(said(&gateway, narrow).await, "miss; reason=cold");
    tokio::time::advance(160 * SECOND).await;
    let wide = saying("cache-control", "stale-while-revalidate=3600");
    assert_eq!(said(&gateway, wide).await, "miss; reason=cold");
}

/// Whether an old answer may stand in is judged when the provider has failed, which may be long after the look-up.
#[tokio::test(start_paused = true)]
async fn an_answer_that_becomes_too_old_while_it_waits_does_not_stand_in() {
    for (at, bound, status, age) in [
        (130, "stale-if-error=600", 200, "145"),
        (149, "stale-if-error=600", 503, ""),
        (130, "stale-if-error=42", 503, ""),
    ] {
        let once = Script::Acts(vec![Act::Read, Act::Write(unary(200, ANSWER)), Act::AwaitClose]);
        let failing =
            vec![Act::Read, Act::Sleep(15 * SECOND), Act::Write(unary(503, WRONG)), Act::AwaitClose];
        let gateway = behind(&Scripted::new([once, Script::Acts(failing)]), |cache| {
            cache.stale_if_error = 60 * SECOND;
        });
        call(&gateway, plain()).await;
        tokio::time::advance(at * SECOND).await;
        let answer = call(&gateway, saying("cache-control", bound)).await;
        assert_eq!((answer.status, answer.header("age")), (status, age), "{at} {bound}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_leaves_the_old_answer_and_a_refusal_does_not_take_its_place() {
    let once = |answer| Script::Acts(vec![Act::Read, Act::Write(answer)]);
    let upstream = Scripted::new([once(unary(200, ANSWER)), once(unary(400, WRONG)), Script::Refuse]);
    let gateway = behind(&upstream, |cache| {
        cache.stale_while_revalidate = 50 * SECOND;
        cache.negative_ttl = 30 * SECOND;
    });
    call(&gateway, plain()).await;
    tokio::time::advance(110 * SECOND).await;
    for _ in 0..3 {
        let old = call(&gateway, plain()).await;
        assert_eq!((old.status, old.body.as_str()), (200, ANSWER));
        tokio::time::sleep(SECOND).await;
        settle().await;
    }
    assert!(upstream.connects.load(std::sync::atomic::Ordering::SeqCst) >= 3, "each tried to renew it");
}

#[tokio::test(start_paused = true)]
async fn what_is_dear_is_renewed_before_it_expires() {
    let acts = vec![Act::Read, Act::Sleep(5 * SECOND), Act::Write(unary(200, ANSWER)), Act::Again];
    let upstream = Scripted::new([Script::Acts(acts)]);
    let gateway = behind(&upstream, |_| {});
    call(&gateway, plain()).await;
    tokio::time::advance(80 * SECOND).await;
    assert_eq!(said(&gateway, plain()).await, "l1");
    settle().await;
    assert_eq!(upstream.count(), 1, "nothing is renewed before the last tenth");
    // In the last tenth, which begins 81 to 90 seconds on, each caller draws.
    for _ in 0..275 {
        tokio::time::advance(Duration::from_millis(40)).await;
        assert_eq!(said(&gateway, plain()).await, "l1");
        settle().await;
    }
    assert_eq!(upstream.count(), 2, "one call renews it, while every caller is served");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_request_itself_is_kept_for_a_moment() {
    let upstream = Scripted::answering(unary(400, WRONG));
    let gateway = behind(&upstream, |cache| cache.negative_ttl = 5 * SECOND);
    let first = call(&gateway, plain()).await;
    assert_eq!((first.status, first.header("x-chimera-cache")), (400, "miss; reason=cold"));
    for streams in [false, true] {
        let again = call(&gateway, chat("gpt-x", "x", streams)).await;
        assert_eq!((again.status, again.body.as_str(), again.header("age")), (400, WRONG, "0"));
        assert_eq!(again.header("x-chimera-cache"), "l1");
        assert_eq!(again.header("content-type"), "application/json");
    }
    assert_eq!(upstream.count(), 1);
    tokio::time::advance(5 * SECOND).await;
    assert_eq!(said(&gateway, plain()).await, "miss; reason=cold");
}

#[tokio::test(start_paused = true)]
async fn only_refusals_that_will_be_repeated_are_kept() {
    for (status, kept) in [(404, true), (413, true), (422, true), (409, false), (429, false), (500, false)] {
        let upstream = Scripted::answering(unary_with(status, "retry-after: 0\r\n", WRONG));
        let gateway = behind(&upstream, |cache| cache.negative_ttl = 5 * SECOND);
        call(&gateway, plain()).await;
        let again = said(&gateway, plain()).await;
        assert_eq!(again == "l1", kept, "{status}: {again}");
    }
    let upstream = Scripted::answering(unary(400, WRONG));
    let gateway = behind(&upstream, |_| {});
    call(&gateway, plain()).await;
    call(&gateway, plain()).await;
    assert_eq!(upstream.count(), 2, "by default none is");
}

#[tokio::test(start_paused = true)]
async fn a_caller_of_another_dialect_is_told_a_kept_refusal_in_its_own() {
    let upstream = Scripted::answering(unary(400, WRONG));
    let gateway = behind(&upstream, |cache| cache.negative_ttl = 5 * SECOND);
    let ask = || {
        let body = r#"{"model":"gpt-x","max_tokens":5,"messages":[{"role":"user","content":"x"}]}"#;
        post("/v1/messages", body)
    };
    let first = call(&gateway, ask()).await;
    let again = call(&gateway, ask()).await;
    assert_eq!((again.status, again.header("x-chimera-cache")), (400, "l1"));
    assert_eq!(again.json()["type"], "error");
    assert_eq!(again.json()["error"]["message"], first.json()["error"]["message"]);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn answers_from_the_cache_tell_how_long_they_are_fresh_where_that_is_asked_for() {
    let upstream = answering();
    let gateway = behind(&upstream, |cache| cache.tells_max_age = true);
    call(&gateway, plain()).await;
    tokio::time::advance(7 * SECOND).await;
    let hit = call(&gateway, plain()).await;
    let told = hit.header("cache-control").strip_prefix("private, max-age=").unwrap().parse::<u64>().unwrap();
    assert!((90..=100).contains(&told), "{told}");
    assert_eq!(hit.header("age"), "7");
}
