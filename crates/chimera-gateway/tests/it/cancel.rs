//! A caller that leaves ends its upstream call, whatever it was waiting for.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use chimera_circuit_breaker::{Breaker, Settings as BreakerSettings};
use chimera_gateway::{DialectId, Gateway, Limits, Models, Settings, Tenant, Tenants, key_digest};
use chimera_provider_pool::{Deployment, Failover, Group, InOrder};
use tokio::time::{Instant, timeout};

use crate::support::{
    Act, DONE, END, SSE_HEAD, STOP, Script, Scripted, USAGE, call, chat, chunk, delta, finish, gateway,
    narrow, next, provider, settle,
};

/// Starts a request, lets it get as far as it can, and drops it; the upstream must see the end at once,
/// without any time passing.
async fn leaves(upstream: &Arc<Scripted>, stream: bool) {
    let gateway = gateway(DialectId::OpenAi, upstream);
    let request = gateway.handle(chat("gpt-x", "x", stream));
    assert!(timeout(Duration::from_millis(50), request).await.is_err(), "it was still waiting");
    let began = Instant::now();
    settle().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn c05_while_connecting() {
    let upstream = Scripted::new([Script::Hang]);
    leaves(&upstream, false).await;
    assert_eq!((upstream.connects.load(SeqCst), upstream.count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn c05_while_waiting_for_a_place() {
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    let gateway = narrow(&upstream);
    let mut first = Box::pin(gateway.handle(chat("narrow", "first", false)));
    assert!(timeout(Duration::from_millis(10), &mut first).await.is_err());
    assert_eq!(upstream.count(), 1);
    let waiting = gateway.handle(chat("narrow", "second", false));
    assert!(timeout(Duration::from_millis(10), waiting).await.is_err());
    drop(first);
    settle().await;
    assert_eq!(upstream.closed.load(SeqCst), 1);
    // The place is free, and the one that left its queue did not take it along.
    let third = gateway.handle(chat("narrow", "third", false));
    assert!(timeout(Duration::from_millis(10), third).await.is_err());
    settle().await;
    assert_eq!((upstream.count(), upstream.closed.load(SeqCst)), (2, 2));
}

/// While the gateway waits to ask the same provider again, nothing is held for a caller that has left, and
/// nothing is asked for it.
#[tokio::test(start_paused = true)]
async fn c05_while_pausing_before_a_retry() {
    let no = crate::support::unary_with(503, "retry-after: 3\r\n", r#"{"error":{"message":"no"}}"#);
    let good = crate::support::unary(200, crate::support::ANSWER);
    for stays in [true, false] {
        let upstream = Scripted::new([Script::Acts(vec![
            Act::Read,
            Act::Write(no.clone()),
            Act::Read,
            Act::Write(good.clone()),
            Act::Read,
            Act::Write(good.clone()),
            Act::AwaitClose,
        ])]);
        let mut models = Models::default();
        models.add_provider(provider("one", DialectId::OpenAi, &upstream));
        let breaker = Breaker::new(BreakerSettings::default(), std::time::Instant::now());
        let deployment =
            Deployment::new("narrow", models.provider("one").unwrap().provider.clone(), None, breaker, 1);
        let failover = Failover { retries: 3, ..Failover::default() };
        models.add_group(Group::new("narrow", vec![deployment], Arc::new(InOrder), failover));
        let mut settings = Settings::new(models);
        let limits = Limits { concurrency: Some(1), ..Limits::default() };
        settings.tenants = Tenants::keyed([(key_digest("k"), Tenant::new("t", limits))]);
        let gateway = Gateway::new(settings, [7; 32]).unwrap();
        let ask = |text: &str| {
            let mut request = chat("narrow", text, false);
            request.headers_mut().insert("x-api-key", "k".parse().unwrap());
            gateway.handle(request)
        };
        let mut first = Box::pin(ask("first"));
        assert!(timeout(Duration::from_secs(1), &mut first).await.is_err());
        assert_eq!(upstream.count(), 1, "it was refused, and waits");
        // Its caller's one place is taken.
        assert_eq!(finish(ask("second").await).await.status, 429);
        if stays {
            assert_eq!(finish(first.await).await.status, 200);
            assert_eq!(upstream.count(), 2, "it is asked again");
            continue;
        }
        drop(first);
        let began = Instant::now();
        settle().await;
        assert_eq!(finish(ask("third").await).await.status, 200);
        assert_eq!(began.elapsed(), Duration::ZERO, "both places are free at once");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(upstream.count(), 2, "nothing more is asked for who has left");
        assert!(!upstream.request(1).contains("first"));
    }
}

/// A provider that bills whole answers may be heard out, for as long as its setting says and no longer.
#[tokio::test(start_paused = true)]
async fn pain_12_a_stream_is_drained_for_its_usage_where_that_is_wanted() {
    let rest = [delta("b").as_str(), STOP, USAGE, DONE].map(chunk).concat();
    let script = vec![
        Act::Read,
        Act::Write([SSE_HEAD.as_bytes(), &chunk(&delta("a"))].concat()),
        Act::Sleep(Duration::from_secs(10)),
        Act::Write([rest.as_slice(), END].concat()),
        Act::Again,
    ];
    for (patience, ends) in [(30, true), (5, false)] {
        let upstream = Scripted::new([Script::Acts(script.clone())]);
        let recorder = Counting("chimera_tokens_total", Arc::default());
        let gateway = metrics::with_local_recorder(&recorder, || {
            let mut models = Models::default();
            let mut provider = provider("one", DialectId::OpenAi, &upstream);
            provider.drain_for_usage = Duration::from_secs(patience);
            models.add_provider(provider);
            Gateway::new(Settings::new(models), [7; 32]).unwrap()
        });
        let mut body = gateway.handle(chat("gpt-x", "x", true)).await.into_body();
        assert!(next(&mut body).await.is_some());
        drop(body);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!((upstream.closed.load(SeqCst), recorder.1.load(SeqCst)), (0, 0), "it is read on");
        tokio::time::sleep(Duration::from_secs(7)).await;
        let (closed, tokens) = if ends { (0, 7) } else { (1, 0) };
        assert_eq!((upstream.closed.load(SeqCst), recorder.1.load(SeqCst)), (closed, tokens));
        if ends {
            let again = call(&gateway, chat("gpt-x", "x", true)).await;
            assert_eq!(again.header("x-chimera-cache"), "l1", "what was paid for is kept");
        }
    }
}

#[tokio::test]
async fn p07_a_panic_ends_one_request_and_nothing_else() {
    let good = crate::support::unary(200, crate::support::ANSWER);
    let upstream =
        Scripted::new([Script::Panic, Script::Acts(vec![Act::Read, Act::Write(good), Act::Again])]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let other = gateway.clone();
    let answer = call(&gateway, chat("gpt-x", "x", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal_error"));
    assert_eq!(answer.header("connection"), "close");
    assert!(!answer.body.contains("planted"), "{}", answer.body);
    // The same question is asked anew: nobody waits for the flight that fell.
    for gateway in [gateway, other] {
        assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, 200);
    }
}

/// Counts one metric and forgets the others.
pub(crate) struct Counting(pub(crate) &'static str, pub(crate) Arc<std::sync::atomic::AtomicU64>);

impl metrics::Recorder for Counting {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        if key.name() == self.0 {
            metrics::Counter::from_arc(self.1.clone())
        } else {
            metrics::Counter::noop()
        }
    }

    fn register_gauge(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::noop()
    }

    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn p07_panics_are_counted_once_each() {
    let begun = [SSE_HEAD.as_bytes(), &chunk(&delta("a"))].concat();
    let planted = chunk("data: planted\n\n");
    let upstream = Scripted::new([
        Script::Panic,
        Script::Acts(vec![
            Act::Read,
            Act::Write(begun),
            Act::Sleep(Duration::from_secs(1)),
            Act::Write(planted),
            Act::AwaitClose,
        ]),
        Script::Acts(vec![
            Act::Read,
            Act::Write(crate::support::unary(200, crate::support::ANSWER)),
            Act::Again,
        ]),
    ]);
    let panics = Arc::default();
    let recorder = Counting("chimera_panics_total", panics);
    let gateway = metrics::with_local_recorder(&recorder, || gateway(DialectId::OpenAi, &upstream));
    let counted = || recorder.1.load(SeqCst);
    assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, 500);
    assert_eq!(counted(), 1);
    assert!(call(&gateway, chat("gpt-x", "x", true)).await.aborted);
    assert_eq!(counted(), 2);
    assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, 200);
    assert_eq!(counted(), 2);
}

/// In the middle of a stream, too, whoever follows it: the transfer is cut and the connection, on which
/// others may have streams, goes on. Every caller is told of it, and the next one begins anew.
#[tokio::test(start_paused = true)]
async fn p07_a_panic_in_mid_stream_cuts_that_stream_alone() {
    let begun = [SSE_HEAD.as_bytes(), &chunk(&delta("a"))].concat();
    let script = vec![
        Act::Read,
        Act::Write(begun),
        Act::Sleep(Duration::from_secs(1)),
        Act::Write(chunk("data: planted\n\n")),
        Act::AwaitClose,
    ];
    for no_store in [false, true] {
        let upstream = Scripted::new([Script::Acts(script.clone())]);
        let gateway = gateway(DialectId::OpenAi, &upstream);
        let ask = || {
            let mut request = chat("gpt-x", "x", true);
            if no_store {
                request.headers_mut().insert("x-chimera-cache", "no-store".parse().unwrap());
            }
            gateway.handle(request)
        };
        let (one, two) = tokio::join!(ask(), ask());
        let answers = [finish(one).await, finish(two).await];
        for answer in &answers {
            assert!(answer.aborted && answer.body.starts_with(&delta("a")), "{}", answer.body);
            let told = &answer.body[delta("a").len()..];
            assert!(told.contains(r#""code":"internal_error""#), "{told}");
            assert!(!told.contains("planted"), "{told}");
        }
        assert_eq!(upstream.count(), if no_store { 2 } else { 1 });
        call(&gateway, chat("gpt-x", "x", true)).await;
        assert_eq!(upstream.count(), if no_store { 3 } else { 2 });
    }
}

/// Whoever waits for a call that panics is answered in its own dialect, whole or streamed.
#[tokio::test(start_paused = true)]
async fn p07_followers_of_a_call_that_panics_are_answered() {
    let planted = crate::support::unary(200, r#"{"planted":0}"#);
    let begun = [SSE_HEAD.as_bytes(), &chunk(&delta("a"))].concat();
    let second = Act::Sleep(Duration::from_secs(1));
    let unary = vec![Act::Read, second.clone(), Act::Write(planted), Act::AwaitClose];
    let planted = Act::Write(chunk("data: planted\n\n"));
    let streamed = vec![Act::Read, Act::Write(begun), second, planted, Act::AwaitClose];
    for (script, stream) in [(unary, ""), (streamed, r#","stream":true"#)] {
        let upstream = Scripted::new([Script::Acts(script)]);
        let gateway = gateway(DialectId::OpenAi, &upstream);
        let body = format!(
            r#"{{"model":"gpt-x","max_tokens":5,"messages":[{{"role":"user","content":"x"}}]{stream}}}"#
        );
        let ask =
            || async { finish(gateway.handle(crate::support::post("/v1/messages", &body)).await).await };
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        for answer in [one, two, three] {
            let error = if stream.is_empty() { "{" } else { "event: error\ndata: {" };
            assert!(
                answer.body.contains(&format!(r#"{error}"type":"error","error":{{"type":"api_error""#)),
                "{}",
                answer.body
            );
            assert_eq!(
                (answer.status, answer.aborted),
                if stream.is_empty() { (500, false) } else { (200, true) }
            );
        }
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn c05_pain_12_while_awaiting_a_unary_answer() {
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    leaves(&upstream, false).await;
    assert_eq!((upstream.count(), upstream.closed.load(SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn c05_pain_12_while_the_head_is_held_back() {
    let head = [SSE_HEAD.as_bytes(), &chunk(": ping\n\n")].concat();
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::Write(head), Act::AwaitClose])]);
    leaves(&upstream, true).await;
    assert_eq!(upstream.closed.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn c05_in_mid_stream() {
    let begun = [SSE_HEAD.as_bytes(), &chunk(&delta("a"))].concat();
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::Write(begun), Act::AwaitClose])]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let mut body = gateway.handle(chat("gpt-x", "x", true)).await.into_body();
    assert_eq!(next(&mut body).await.unwrap().unwrap(), delta("a"));
    assert_eq!(upstream.closed.load(SeqCst), 0);
    drop(body);
    settle().await;
    assert_eq!(upstream.closed.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn c05_a_leader_that_leaves_hands_over() {
    let script = vec![
        Act::Read,
        Act::Write([SSE_HEAD.as_bytes(), &chunk(&delta("a"))].concat()),
        Act::Sleep(Duration::from_secs(1)),
        Act::Write([chunk(&delta("b")), chunk(STOP), chunk(DONE), b"0\r\n\r\n".to_vec()].concat()),
        Act::AwaitClose,
    ];
    let upstream = Scripted::new([Script::Acts(script)]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let mut leader = gateway.handle(chat("gpt-x", "x", true)).await.into_body();
    assert_eq!(next(&mut leader).await.unwrap().unwrap(), delta("a"));
    let follower = gateway.handle(chat("gpt-x", "x", true)).await;
    assert_eq!(follower.headers()["x-chimera-cache"], "coalesced");
    drop(leader);
    let answer = finish(follower).await;
    assert_eq!(answer.body, [&delta("a"), &delta("b"), STOP, DONE].concat());
    assert_eq!(upstream.count(), 1);
    assert_eq!(call(&gateway, chat("gpt-x", "x", true)).await.header("x-chimera-cache"), "l1");
}

#[tokio::test(start_paused = true)]
async fn u06_followers_get_the_error_too() {
    let cut = vec![
        Act::Read,
        Act::Write([SSE_HEAD.as_bytes(), &chunk(&delta("a"))].concat()),
        Act::Sleep(Duration::from_secs(1)),
    ];
    let upstream = Scripted::new([Script::Acts(cut)]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let leader = gateway.handle(chat("gpt-x", "x", true)).await;
    let follower = gateway.handle(chat("gpt-x", "x", true)).await;
    let (leader, follower) = tokio::join!(finish(leader), finish(follower));
    for answer in [leader, follower] {
        assert!(answer.aborted && answer.body.contains("upstream_unreachable"));
    }
    assert_eq!(upstream.count(), 1);
}
