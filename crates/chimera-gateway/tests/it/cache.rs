//! What is cached, for whom, for how long, and in which forms.

use std::{sync::Arc, time::Duration};

use chimera_gateway::{
    CachePolicy, DialectId, Gateway, Limits, Models, Settings, Tenant, Tenants, key_digest,
};
use chimera_provider_pool::{Failover, Group, InOrder};

use crate::support::{
    ANSWER, Act, DONE, END, ROLE, SSE_HEAD, STOP, Script, Scripted, USAGE, call, chat, chunk, delta, gateway,
    next, post, provider, stream, unary,
};

fn upstream() -> Arc<Scripted> {
    Scripted::answering(unary(200, ANSWER))
}

fn with(settings: impl FnOnce(&mut Settings), upstream: &Arc<Scripted>) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, upstream));
    let mut all = Settings::new(models);
    settings(&mut all);
    Gateway::new(all, [7; 32]).unwrap()
}

#[tokio::test]
async fn a_second_request_is_answered_from_the_cache_and_says_so() {
    let upstream = upstream();
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let miss = call(&gateway, chat("gpt-x", "x", false)).await;
    assert_eq!(miss.header("x-chimera-cache"), "miss; reason=cold");
    assert!(miss.header("server-timing").contains("upstream;dur="));
    // Looked at, then known byte for byte, then known by its meaning.
    let respelled = r#"{"messages": [{"content":"x","role":"user"}], "user":"u", "model":"gpt-x"}"#;
    for request in
        [chat("gpt-x", "x", false), chat("gpt-x", "x", false), post("/v1/chat/completions", respelled)]
    {
        let hit = call(&gateway, request).await;
        assert_eq!((hit.header("x-chimera-cache"), hit.header("age")), ("l1", "0"));
        assert_eq!((hit.body.as_str(), hit.header("cache-control")), (ANSWER, "private, no-store"));
        assert_eq!((hit.header("x-chimera-provider"), hit.header("x-chimera-model")), ("one", "gpt-x"));
    }
    assert_eq!(upstream.count(), 1);
    let other = call(&gateway, chat("gpt-x", "y", false)).await;
    assert_eq!(other.header("x-chimera-cache"), "miss; reason=cold");
}

/// Pain 8: one entry serves unary and streaming callers.
#[tokio::test]
async fn pain_8_one_entry_serves_both_forms() {
    let upstream = upstream();
    let gateway = gateway(DialectId::OpenAi, &upstream);
    call(&gateway, chat("gpt-x", "x", false)).await;
    let streamed = call(&gateway, chat("gpt-x", "x", true)).await;
    assert_eq!(streamed.header("x-chimera-cache"), "l1");
    assert_eq!(streamed.header("content-type"), "text/event-stream");
    assert!(streamed.body.matches("data: ").count() >= 4 && streamed.body.ends_with(DONE));
    assert!(!streamed.body.contains("usage"), "it was not asked for");

    let events = [ROLE, &delta("a"), &delta("b"), STOP, USAGE, DONE];
    let upstream = Scripted::answering(stream(&events));
    let gateway = crate::support::gateway(DialectId::OpenAi, &upstream);
    call(&gateway, chat("gpt-x", "x", true)).await;
    let whole = call(&gateway, chat("gpt-x", "x", false)).await;
    assert_eq!(whole.header("x-chimera-cache"), "l1");
    assert_eq!(whole.json()["choices"][0]["message"]["content"], "ab");
    assert_eq!(whole.json()["usage"]["completion_tokens"], 2, "a unary answer always tells its usage");
    assert_eq!(upstream.count(), 1);
}

/// Pain 8, for Gemini: its three forms differ in path and query, and are one question.
#[tokio::test]
async fn pain_8_one_gemini_entry_serves_all_three_forms() {
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let reply = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#;
    let forms = [":generateContent", ":streamGenerateContent?alt=sse", ":streamGenerateContent"];
    let sse = stream(&[&format!("data: {reply}\r\n\r\n")]);
    for (first, answer) in [(0, unary(200, reply)), (1, sse)] {
        let upstream = Scripted::answering(answer);
        let gateway = gateway(DialectId::Gemini, &upstream);
        let ask = |form: &str| call(&gateway, post(&format!("/v1beta/models/gemini-x{form}"), body));
        assert_eq!(ask(forms[first]).await.header("x-chimera-cache"), "miss; reason=cold");
        for form in forms {
            assert_eq!(ask(form).await.header("x-chimera-cache"), "l1", "{form} after {}", forms[first]);
        }
        assert_eq!(upstream.count(), 1);
    }
}

#[tokio::test]
async fn o05_identical_requests_at_once_make_one_call() {
    let upstream = Scripted::new([Script::Acts(vec![
        Act::Read,
        Act::Sleep(Duration::from_millis(20)),
        Act::Write(unary(200, ANSWER)),
        Act::AwaitClose,
    ])]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let gateway = gateway.clone();
        calls.spawn(async move { call(&gateway, chat("gpt-x", "x", false)).await });
    }
    let mut coalesced = 0;
    while let Some(answer) = calls.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.body, ANSWER);
        coalesced += usize::from(answer.header("x-chimera-cache") == "coalesced");
    }
    assert_eq!((upstream.count(), coalesced), (1, 999));
}

#[tokio::test]
async fn request_directives_are_honoured() {
    let upstream = upstream();
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let with = |name: &'static str, value: &str| {
        let mut request = chat("gpt-x", "x", false);
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let absent = call(&gateway, with("x-chimera-cache", "only-if-cached")).await;
    assert_eq!((absent.status, absent.code().as_str(), upstream.count()), (504, "not_cached", 0));
    let unkept = call(&gateway, with("cache-control", "no-store")).await;
    assert_eq!(unkept.header("x-chimera-cache"), "miss; reason=no-store");
    assert_eq!(
        call(&gateway, chat("gpt-x", "x", false)).await.header("x-chimera-cache"),
        "miss; reason=cold"
    );
    assert_eq!(
        call(&gateway, with("x-chimera-cache", "only-if-cached")).await.header("x-chimera-cache"),
        "l1"
    );
    let anew = call(&gateway, with("x-chimera-cache", "no-cache")).await;
    assert_eq!(anew.header("x-chimera-cache"), "miss; reason=no-cache");
    let bypass = call(&gateway, with("cache-control", "no-cache, no-store")).await;
    assert_eq!(bypass.header("x-chimera-cache"), "bypass");
    assert_eq!(call(&gateway, with("x-chimera-cache", "max-age=60")).await.header("x-chimera-cache"), "l1");
    assert_eq!(upstream.count(), 4);
    // A caller's shorter life for its answer.
    let short = call(&gateway, {
        let mut request = chat("gpt-x", "short", false);
        request.headers_mut().insert("x-chimera-cache-ttl", "0".parse().unwrap());
        request
    });
    short.await;
    assert_eq!(
        call(&gateway, chat("gpt-x", "short", false)).await.header("x-chimera-cache"),
        "miss; reason=cold"
    );
}

/// A body is needed until a provider has begun to answer; a stream goes on for minutes.
#[tokio::test]
async fn m01_an_open_stream_does_not_hold_the_body_that_asked_for_it() {
    let acts =
        vec![Act::Read, Act::Write([SSE_HEAD.as_bytes(), &chunk(&delta("first"))].concat()), Act::AwaitClose];
    for no_store in [false, true] {
        let upstream = Scripted::new([Script::Acts(acts.clone())]);
        let gateway = gateway(DialectId::OpenAi, &upstream);
        let mut request = chat("gpt-x", &"x".repeat(100_000), true);
        if no_store {
            request.headers_mut().insert("x-chimera-cache", "no-store".parse().unwrap());
        }
        let body = bytes::Bytes::from(
            http_body_util::BodyExt::collect(request.body_mut()).await.unwrap().to_bytes().to_vec(),
        );
        let request = request.map(|_| http_body_util::Full::new(body.clone()));
        let response = gateway.handle(request).await;
        assert_eq!(response.status(), 200);
        let mut stream = response.into_body();
        assert_eq!(next(&mut stream).await.unwrap().unwrap(), delta("first"));
        assert!(body.is_unique(), "no_store: {no_store}");
    }
}

#[tokio::test]
async fn the_routes_policy_decides() {
    let upstream = upstream();
    let off = with(|settings| settings.cache.policy = CachePolicy::Off, &upstream);
    assert_eq!(call(&off, chat("gpt-x", "x", false)).await.header("x-chimera-cache"), "bypass");
    let gateway = with(|settings| settings.cache.policy = CachePolicy::Deterministic, &upstream);
    let cold = r#"{"model":"gpt-x","messages":[],"temperature":0}"#;
    for (body, second) in [(r#"{"model":"gpt-x","messages":[]}"#, "bypass"), (cold, "l1")] {
        call(&gateway, post("/v1/chat/completions", body)).await;
        let again = call(&gateway, post("/v1/chat/completions", body)).await;
        assert_eq!(again.header("x-chimera-cache"), second);
    }
}

#[tokio::test]
async fn errors_are_never_kept() {
    for status in [400, 404, 429, 500] {
        let upstream = Scripted::answering(unary(status, r#"{"error":{"message":"m"}}"#));
        let gateway = gateway(DialectId::OpenAi, &upstream);
        for _ in 0..2 {
            assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, status);
        }
        assert_eq!(upstream.count(), 2);
    }
}

#[tokio::test]
async fn answers_are_compressed_as_the_client_asks_and_hits_compress_nothing() {
    let text = (0..400).map(|n| format!("word{} of the answer, ", n % 37)).collect::<String>();
    let answer = ANSWER.replace("hello there", &text);
    let upstream = Scripted::answering(unary(200, &answer));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let asking = |accept: &str| {
        let mut request = chat("gpt-x", "x", false);
        request.headers_mut().insert("accept-encoding", accept.parse().unwrap());
        request
    };
    for (accept, encoding) in
        [("gzip, br;q=0.5", "gzip"), ("br", "br"), ("zstd", "zstd"), ("br", "br"), ("identity", "")]
    {
        let response = gateway.handle(asking(accept)).await;
        let found = response.headers().get("content-encoding").map_or("", |value| value.to_str().unwrap());
        assert_eq!(found, encoding);
        let length = response.body().as_bytes().unwrap().len();
        assert!(
            encoding.is_empty() || length * 10 < answer.len() * 3,
            "{encoding}: {length} of {}",
            answer.len()
        );
        assert_eq!(response.headers()["vary"], "accept-encoding");
    }
    let first = gateway.handle(asking("br")).await.into_body();
    let second = gateway.handle(asking("br")).await.into_body();
    assert_eq!(
        first.as_bytes().unwrap().as_ptr(),
        second.as_bytes().unwrap().as_ptr(),
        "the same bytes, made once"
    );
    // Streams are left alone, and so are small answers.
    let mut streamed = chat("gpt-x", "x", true);
    streamed.headers_mut().insert("accept-encoding", "br".parse().unwrap());
    assert!(gateway.handle(streamed).await.headers().get("content-encoding").is_none());
}

#[tokio::test]
async fn event_streams_are_compressed_event_by_event_where_that_is_configured() {
    let first = [SSE_HEAD.as_bytes(), &chunk(&delta("first"))].concat();
    let rest = [chunk(&delta("second")), chunk(STOP), chunk(DONE), END.to_vec()].concat();
    for encoding in ["gzip", "br", "zstd"] {
        let acts = vec![
            Act::Read,
            Act::Write(first.clone()),
            Act::Sleep(Duration::from_millis(30)),
            Act::Write(rest.clone()),
            Act::Again,
        ];
        let upstream = Scripted::new([Script::Acts(acts)]);
        let mut models = Models::default();
        models.add_provider(provider("one", DialectId::OpenAi, &upstream));
        let mut settings = Settings::new(models);
        settings.compression.event_streams = true;
        let gateway = Gateway::new(settings, [7; 32]).unwrap();
        let mut request = chat("gpt-x", "x", true);
        request.headers_mut().insert("accept-encoding", encoding.parse().unwrap());
        let response = gateway.handle(request).await;
        assert_eq!(response.headers()["content-encoding"], encoding);
        let mut body = response.into_body();
        let mut encoded = next(&mut body).await.unwrap().unwrap().to_vec();
        // What has come can be read before the rest is there.
        assert_eq!(decoded(encoding, &encoded), delta("first"));
        while let Some(piece) = next(&mut body).await {
            encoded.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(decoded(encoding, &encoded), [&delta("first"), &delta("second"), STOP, DONE].concat());
    }
}

/// As much as can be read of what has come.
fn decoded(encoding: &str, bytes: &[u8]) -> String {
    use std::io::Read;
    let mut reader: Box<dyn Read + '_> = match encoding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 4096)),
        _ => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
    };
    let (mut text, mut piece) = (Vec::new(), [0; 512]);
    while let Ok(read @ 1..) = reader.read(&mut piece) {
        text.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(text).unwrap()
}

/// The cache weighs what its entries hold: the forms that were made of them, and those alone.
#[tokio::test]
async fn m01_forms_that_are_made_weigh_when_they_are_made() {
    let admin = |gateway: &Gateway| {
        let hooks = chimera_gateway::AdminHooks::default();
        chimera_gateway::Admin::new(gateway.clone(), hooks)
    };
    let text = (0..4000).map(|n| format!("word{} ", n % 37)).collect::<String>();
    let answer = ANSWER.replace("hello there", &text);
    let upstream = Scripted::answering(unary(200, &answer));
    // A quarter of the capacity: the most that the configuration allows.
    let small = |settings: &mut Settings| {
        (settings.cache.capacity, settings.cache.max_entry) = (256 << 10, 64 << 10);
    };
    let gateway = with(small, &upstream);
    let admin = admin(&gateway);
    let held = async || {
        let request = http::Request::get("/api/v1/cache/metrics").body(http_body_util::Empty::new()).unwrap();
        let told: serde_json::Value =
            serde_json::from_slice(admin.handle(request).await.body().as_bytes().unwrap()).unwrap();
        (told["tiers"][0]["entries"].as_u64().unwrap(), told["tiers"][0]["bytes"].as_u64().unwrap())
    };
    let ask = |stream: bool, accept: &'static str| {
        let mut request = chat("gpt-x", "x", stream);
        request.headers_mut().insert("accept-encoding", accept.parse().unwrap());
        let gateway = gateway.clone();
        async move { gateway.handle(request).await.into_body().as_bytes().unwrap().len() as u64 }
    };
    let mut sum = ask(false, "identity").await;
    let (entries, first) = held().await;
    assert!(entries == 1 && first >= sum && first < sum + 1024, "{first} for {sum}");
    for accept in ["br", "gzip", "zstd"] {
        sum += ask(false, accept).await;
        assert_eq!(ask(false, accept).await, ask(false, accept).await);
        let (_, now) = held().await;
        assert!(now >= sum && now < sum + 2048, "{accept}: {now} for {sum}");
    }
    let before = held().await.1;
    let streamed = ask(true, "identity").await;
    // The stream with its usage, and the one without it that was asked for.
    assert!(held().await.1 >= before + 2 * streamed, "{:?}", held().await);
    assert_eq!((held().await.0, upstream.count()), (1, 1));
}

/// A body that comes piece by piece.
struct Fed(tokio::sync::mpsc::UnboundedReceiver<bytes::Bytes>);

impl http_body::Body for Fed {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(http_body::Frame::data(piece))))
    }
}

/// A limit of the tenant's own is no want of a provider: no old answer stands in for what it may not ask.
#[tokio::test(start_paused = true)]
async fn a_tenant_whose_own_limit_is_used_up_gets_no_old_answer() {
    let slow = Act::Sleep(Duration::from_secs(5));
    let acts = vec![Act::Read, slow, Act::Write(unary(200, ANSWER)), Act::Again];
    let upstream = Scripted::new([Script::Acts(acts)]);
    let limits = Limits { tokens_per_minute: Some(100), ..Limits::default() };
    let gateway = with(
        |settings| {
            settings.tenants = Tenants::keyed([(key_digest("key"), Tenant::new("t", limits))]);
            settings.cache.ttl = Duration::from_secs(60);
            settings.cache.stale_if_error = Duration::from_secs(600);
        },
        &upstream,
    );
    let asked = |prompt: &str| {
        let mut request = chat("gpt-x", prompt, false);
        request.headers_mut().insert("x-api-key", "key".parse().unwrap());
        request
    };
    assert_eq!(call(&gateway, asked("old")).await.status, 200);
    tokio::time::advance(Duration::from_secs(100)).await;
    let (feed, fed) = tokio::sync::mpsc::unbounded_channel();
    let (parts, body) = asked("old").into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    // It is let in, and another call takes what is left before it asks.
    let request = http::Request::from_parts(parts, Fed(fed));
    let other = async {
        let other = call(&gateway, asked("new"));
        let rest = async {
            crate::support::settle().await;
            feed.send(body).unwrap();
            drop(feed);
        };
        tokio::join!(other, rest).0
    };
    let (second, other) = tokio::join!(gateway.handle(request), other);
    assert_eq!(
        (second.status(), other.status, upstream.count()),
        (http::StatusCode::TOO_MANY_REQUESTS, 200, 2)
    );
}

/// What was found of a request with the old configuration says nothing of the same request under the new one.
#[tokio::test(start_paused = true)]
async fn a_request_that_is_read_during_a_reload_leaves_nothing_of_the_old_configuration() {
    let group = |dialect, upstream: &Arc<Scripted>| {
        let mut models = Models::default();
        models.add_provider(provider("one", dialect, upstream));
        let provider = models.provider("one").unwrap().provider.clone();
        let one = crate::support::deployment("one/m", &provider, Some("m"));
        models.add_group(Group::new("m", vec![one], Arc::new(InOrder), Failover::default()));
        models
    };
    let (old, new) = (Scripted::answering(unary(200, ANSWER)), Scripted::answering(unary(500, "{}")));
    // A tenant that is the same before and after is one value.
    let tenant = Tenant::new("t", Limits::default());
    let settings = |dialect, upstream| {
        let mut settings = Settings::new(group(dialect, upstream));
        settings.tenants = Tenants::keyed([(key_digest("key"), tenant.clone())]);
        settings
    };
    let gateway = Gateway::new(settings(DialectId::OpenAi, &old), [7; 32]).unwrap();
    let next = settings(DialectId::Anthropic, &new);
    let asked = || {
        let mut request = chat("m", "x", false);
        request.headers_mut().insert("x-api-key", "key".parse().unwrap());
        request
    };
    call(&gateway, asked()).await;
    let (feed, fed) = tokio::sync::mpsc::unbounded_channel();
    let (parts, body) = asked().into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    feed.send(body.slice(..10)).unwrap();
    let change = async {
        crate::support::settle().await;
        gateway.reload(next);
        feed.send(body.slice(10..)).unwrap();
        drop(feed);
    };
    let request = http::Request::from_parts(parts, Fed(fed));
    let (during, ()) = tokio::join!(gateway.handle(request), change);
    assert_eq!(during.headers()["x-chimera-cache"], "l1", "it goes on under the old one");
    let after = call(&gateway, asked()).await;
    assert_eq!((after.status, old.count(), new.count()), (500, 1, 1), "{}", after.body);
    assert!(new.request(0).starts_with("POST /v1/messages "), "{}", new.request(0));
}

/// A client may close its connection as soon as it has read the end.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_left_with_its_end_in_hand_is_kept() {
    let events = [ROLE, &delta("a"), STOP, DONE];
    let mut bytes = SSE_HEAD.as_bytes().to_vec();
    events.iter().for_each(|event| bytes.extend(chunk(event)));
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::Write(bytes), Act::AwaitClose])]);
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let mut body = gateway.handle(chat("gpt-x", "x", true)).await.into_body();
    let mut told = Vec::new();
    while !told.ends_with(DONE.as_bytes()) {
        told.extend_from_slice(&next(&mut body).await.unwrap().unwrap());
    }
    drop(body);
    let again = call(&gateway, chat("gpt-x", "x", true)).await;
    assert_eq!((again.header("x-chimera-cache"), again.body.as_str()), ("l1", &*events.concat()));
}

/// What comes of a connection behind the end of a stream says nothing of the answer.
#[tokio::test(start_paused = true)]
async fn a_provider_that_breaks_off_behind_the_end_has_answered() {
    let mut bytes = SSE_HEAD.as_bytes().to_vec();
    [ROLE, &delta("a"), STOP, DONE].iter().for_each(|event| bytes.extend(chunk(event)));
    let last = bytes.split_off(bytes.len() - chunk(DONE).len());
    let acts = vec![Act::Read, Act::Write(bytes), Act::Sleep(Duration::from_secs(1)), Act::Write(last)];
    let gateway = gateway(DialectId::OpenAi, &Scripted::new([Script::Acts(acts)]));
    assert!(!call(&gateway, chat("gpt-x", "x", true)).await.aborted);
    let breaker = gateway.with_models(|models| models.deployments()[0].breaker().clone());
    assert_eq!(breaker.snapshot(std::time::Instant::now()).failures, 0);
}
