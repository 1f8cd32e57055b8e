//! Who may call, how much, and that tenants never meet; and bad input on the data listener.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use chimera_gateway::{DialectId, Gateway, Limits, Models, Settings, Tenant, Tenants, key_digest};
use http::Method;
use tokio::time::Instant;

use crate::{
    cancel::Counting,
    support::{
        ANSWER, Act, DONE, SSE_HEAD, STOP, Script, Scripted, Silent, call, chat, chunk, delta, finish,
        gateway, next, post, provider, stream, unary,
    },
};

fn keyed(limits: Limits, upstream: &Arc<Scripted>) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, upstream));
    let mut settings = Settings::new(models);
    settings.tenants = Tenants::keyed([
        (key_digest("key-a"), Tenant::new("a", limits)),
        (key_digest("key-b"), Tenant::new("b", Limits::default())),
    ]);
    Gateway::new(settings, [7; 32]).unwrap()
}

fn with_key(key: &str, prompt: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = chat("gpt-x", prompt, false);
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

/// Pain 7: the same bytes of two tenants are two calls.
#[tokio::test]
async fn pain_7_tenants_never_share_an_answer() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = keyed(Limits::default(), &upstream);
    for key in ["key-a", "key-b"] {
        assert_eq!(call(&gateway, with_key(key, "x")).await.header("x-chimera-cache"), "miss; reason=cold");
        for _ in 0..2 {
            assert_eq!(call(&gateway, with_key(key, "x")).await.header("x-chimera-cache"), "l1");
        }
    }
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_key_is_needed_and_wrong_ones_look_alike() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = keyed(Limits::default(), &upstream);
    assert_eq!(call(&gateway, chat("gpt-x", "x", false)).await.status, 401);
    let unknown = call(&gateway, with_key("key-c", "x")).await;
    let mut malformed = chat("gpt-x", "x", false);
    malformed.headers_mut().insert("authorization", "Basic abc".parse().unwrap());
    let malformed = call(&gateway, malformed).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (401, "authentication_failed"));
    assert_eq!(unknown.body, malformed.body);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn limits_are_429_with_retry_after_and_the_dialects_headers() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = keyed(Limits { requests_per_minute: Some(2), ..Limits::default() }, &upstream);
    let first = call(&gateway, with_key("key-a", "1")).await;
    assert_eq!(
        (first.header("x-ratelimit-limit-requests"), first.header("x-ratelimit-remaining-requests")),
        ("2", "1")
    );
    call(&gateway, with_key("key-a", "2")).await;
    let third = call(&gateway, with_key("key-a", "3")).await;
    assert_eq!((third.status, third.code().as_str()), (429, "rate_limited"));
    assert!(third.header("retry-after").parse::<u64>().unwrap() <= 31);
    assert!(third.body.contains("requests per minute"));
    let left = |answer: &crate::support::Answer| {
        ["limit", "remaining"].map(|what| answer.header(&format!("x-ratelimit-{what}-requests")).to_owned())
    };
    assert_eq!(left(&third), ["2", "0"], "a refusal says what is left, too");
    let mut anthropic = post("/v1/messages", r#"{"model":"claude-x","max_tokens":1,"messages":[]}"#);
    anthropic.headers_mut().insert("x-api-key", "key-a".parse().unwrap());
    let anthropic = call(&gateway, anthropic).await;
    assert_eq!(anthropic.status, 429);
    assert_eq!(anthropic.header("anthropic-ratelimit-requests-remaining"), "0");
    assert_eq!(call(&gateway, with_key("key-b", "3")).await.status, 200, "another tenant is not touched");

    let gateway = keyed(Limits { tokens_per_minute: Some(10), ..Limits::default() }, &upstream);
    assert_eq!(call(&gateway, with_key("key-a", "4")).await.status, 200);
    assert_eq!(call(&gateway, with_key("key-a", "5")).await.status, 200);
    let spent = call(&gateway, with_key("key-a", "6")).await;
    assert!(spent.status == 429 && spent.body.contains("tokens per minute"), "{}", spent.body);
}

/// What a stream said of its usage is billed, although it breaks or its caller leaves.
#[tokio::test]
async fn u06_c05_a_stream_without_its_end_is_billed_for_what_it_told() {
    let start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":50,\"output_tokens\":1}}}\n\n";
    let delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n";
    for leaves in [false, true] {
        let upstream = Scripted::answering(stream(&[start, delta]));
        let mut models = Models::default();
        models.add_provider(provider("one", DialectId::Anthropic, &upstream));
        let mut settings = Settings::new(models);
        let limits = Limits { tokens_per_minute: Some(1000), ..Limits::default() };
        settings.tenants = Tenants::keyed([(key_digest("k"), Tenant::new("t", limits))]);
        let gateway = Gateway::new(settings, [7; 32]).unwrap();
        let ask = || {
            let mut request = post("/v1/messages", r#"{"model":"claude-x","messages":[],"stream":true}"#);
            request.headers_mut().insert("x-api-key", "k".parse().unwrap());
            gateway.handle(request)
        };
        let mut body = ask().await.into_body();
        assert!(next(&mut body).await.unwrap().is_ok());
        if !leaves {
            while next(&mut body).await.is_some_and(|piece| piece.is_ok()) {}
        }
        drop(body);
        let mut models =
            http::Request::get("/v1/models").header("host", "localhost").body(Default::default()).unwrap();
        models.headers_mut().insert("x-api-key", "k".parse().unwrap());
        models.headers_mut().insert("anthropic-version", "2023-06-01".parse().unwrap());
        let next = call(&gateway, models).await;
        let left: u64 = next.header("anthropic-ratelimit-tokens-remaining").parse().unwrap();
        assert!((940..=950).contains(&left), "leaves: {leaves}: {left}");
    }
}

/// Revocation is a reload without the key: it ends the streams of whoever came by it, silent ones included, and no
/// other's.
#[tokio::test]
async fn a_key_that_is_not_valid_any_more_ends_its_streams() {
    let acts =
        vec![Act::Read, Act::Write([SSE_HEAD.as_bytes(), &chunk(&delta("a"))].concat()), Act::AwaitClose];
    let upstream = Scripted::new([Script::Acts(acts)]);
    let settings = |keys: &[&str]| {
        let mut models = Models::default();
        models.add_provider(provider("one", DialectId::OpenAi, &upstream));
        let mut settings = Settings::new(models);
        let tenants = keys.iter().map(|key| (key_digest(key), Tenant::new("t", Limits::default())));
        settings.tenants = Tenants::keyed(tenants);
        settings
    };
    let gateway = Gateway::new(settings(&["key-a", "key-b"]), [7; 32]).unwrap();
    let begin = async |key: &str| {
        let mut request = chat("gpt-x", key, true);
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        let mut body = gateway.handle(request).await.into_body();
        assert!(next(&mut body).await.unwrap().is_ok());
        body
    };
    let (mut revoked, mut other) = (begin("key-a").await, begin("key-b").await);
    gateway.reload(settings(&["key-a", "key-b", "key-c"]));
    assert!(at_once(next(&mut revoked)).await.is_none(), "nothing has happened to it");
    gateway.reload(settings(&["key-b", "key-c"]));
    let told = next(&mut revoked).await.unwrap().unwrap();
    let told = String::from_utf8(told.to_vec()).unwrap();
    assert!(told.starts_with("data: ") && told.contains("authentication_failed"), "{told}");
    assert!(next(&mut revoked).await.unwrap().is_err(), "and no proper end");
    assert!(at_once(next(&mut other)).await.is_none(), "another's goes on");
}

/// How many of fifty at once get past a limit of tokens: what they may come to is taken before they are sent.
async fn of_fifty(
    limits: Limits,
    ask: impl Fn(usize) -> http::Request<http_body_util::Full<bytes::Bytes>>,
) -> (usize, usize) {
    let reply = |asked: &str| match asked.contains(r#""stream":true"#) {
        true => stream(&[&delta("a"), STOP, DONE]),
        false => unary(200, ANSWER),
    };
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::Reply(reply), Act::Again])]);
    let gateway = keyed(limits, &upstream);
    let asking: Vec<_> = (0..50)
        .map(|n| {
            let (gateway, request) = (gateway.clone(), ask(n));
            tokio::spawn(async move { call(&gateway, request).await.status })
        })
        .collect();
    let mut passed = 0;
    for one in asking {
        match one.await.unwrap() {
            200 => passed += 1,
            status => assert_eq!(status, 429),
        }
    }
    (passed, upstream.count())
}

#[tokio::test]
async fn c16_fifty_at_once_do_not_overdraw_a_limit_by_more_than_one_call() {
    let body = |n: usize, more: &str| {
        let mut request = post(
            "/v1/chat/completions",
            &format!(r#"{{"model":"gpt-x"{more},"messages":[{{"role":"user","content":"question {n}"}}]}}"#),
        );
        request.headers_mut().insert("authorization", "Bearer key-a".parse().unwrap());
        request
    };
    let tokens = |most| Limits { tokens_per_minute: Some(most), ..Limits::default() };
    assert_eq!(of_fifty(tokens(1), |n| body(n, "")).await, (1, 1));
    // Some thirty bytes of text and a bound of 90: nearly a hundred tokens each.
    assert_eq!(of_fifty(tokens(950), |n| body(n, ",\"max_tokens\":90")).await, (10, 10));
    assert_eq!(of_fifty(tokens(950), |n| body(n, r#","stream":true,"max_tokens":90"#)).await, (10, 10));
    let requests = Limits { requests_per_minute: Some(1), ..Limits::default() };
    assert_eq!(of_fifty(requests, |n| body(n, "")).await, (1, 1));
    // The same question is asked of a provider once, and its limit debited once.
    assert_eq!(of_fifty(tokens(1), |_| body(0, "")).await.1, 1);
}

/// What a call took is given back if it brought nothing, and settled if it brought something.
#[tokio::test(start_paused = true)]
async fn c16_what_was_set_aside_is_settled_on_every_ending() {
    let left = async |gateway: &Gateway| {
        let mut request =
            http::Request::get("/v1/models").header("host", "localhost").body(Default::default()).unwrap();
        request.headers_mut().insert("authorization", "Bearer key-a".parse().unwrap());
        call(gateway, request).await.header("x-ratelimit-remaining-tokens").parse::<u64>().unwrap()
    };
    let limits = Limits { tokens_per_minute: Some(60), ..Limits::default() };
    let mute = vec![Act::Read, Act::AwaitClose];
    let gateway = keyed(limits, &Scripted::new([Script::Acts(mute)]));
    let waiting = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.handle(with_key("key-a", "1")).await }
    });
    crate::support::settle().await;
    assert_eq!(left(&gateway).await, 0, "a call is under way");
    let refused = call(&gateway, with_key("key-a", "2")).await;
    assert!(refused.status == 429 && refused.body.contains("tokens per minute"), "{}", refused.body);
    waiting.abort();
    let _ = waiting.await;
    assert_eq!(left(&gateway).await, 60, "its caller has left");
    let failing = Scripted::answering(unary(500, r#"{"error":{"message":"down"}}"#));
    let gateway = keyed(limits, &failing);
    assert_eq!(call(&gateway, with_key("key-a", "1")).await.status, 500);
    assert_eq!(left(&gateway).await, 60, "it brought nothing");
    let gateway = keyed(limits, &Scripted::answering(unary(200, ANSWER)));
    assert_eq!(call(&gateway, with_key("key-a", "1")).await.status, 200);
    assert_eq!(left(&gateway).await, 53, "it used seven");
}

#[tokio::test]
async fn concurrency_is_bounded_per_tenant() {
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    let gateway = keyed(Limits { concurrency: Some(1), ..Limits::default() }, &upstream);
    let waiting = tokio::spawn({
        let gateway = gateway.clone();
        async move { gateway.handle(with_key("key-a", "1")).await }
    });
    crate::support::settle().await;
    assert_eq!(call(&gateway, with_key("key-a", "2")).await.status, 429);
    waiting.abort();
    let _ = waiting.await;
    let mut again = Box::pin(gateway.handle(with_key("key-a", "3")));
    assert!(futures_poll(&mut again).await, "its place is free again");
}

/// What a future comes to when it is polled once.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> bool {
    tokio::select! {
        biased;
        _ = future => false,
        () = crate::support::settle() => true,
    }
}

/// UTF-16 in both orders, with its mark and without.
fn utf_16(text: &str) -> [Vec<u8>; 4] {
    [true, false]
        .map(|mark| {
            let units: Vec<u16> = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16()).collect();
            [u16::to_le_bytes, u16::to_be_bytes]
                .map(|bytes| units.iter().flat_map(|unit| bytes(*unit)).collect())
        })
        .concat()
        .try_into()
        .unwrap()
}

#[tokio::test]
async fn c07_c08_c09_bad_bodies_are_400_with_an_offset_and_without_an_echo() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let good = r#"{"model":"gpt-x","max_tokens":9,"messages":[{"role":"user","content":"secret"}]}"#;
    let deep = format!(r#"{{"model":"gpt-x","messages":["secret"],"tools":{}"#, "[".repeat(10_000));
    let bad = [
        "",
        "secret",
        "{\"model\":\"secret",
        "{\"model\":\"gpt-x\",\"messages\":[]} secret",
        "\u{feff}{\"secret\":1}",
        r#"{"model":"gpt-x","messages":["secret"],"x":NaN}"#,
        r#"{"model":"gpt-x","messages":["secret"],"x":-Infinity}"#,
        r#"{"model":"gpt-x","messages":["secret"],"x":1e999}"#,
        r#"{"model":"gpt-x","messages":["secret\ud800"]}"#,
        r#"{"model":"gpt-x","messages":["secret"],"model":"gpt-y"}"#,
        r#"{"model":"gpt-x","messages":["secret"],"mod\u0065l":"gpt-y"}"#,
        &deep,
    ];
    let bad = bad.map(|body| body.as_bytes().to_vec()).into_iter().chain(utf_16(good));
    for (body, path) in bad.flat_map(|body| {
        let paths = [
            "/v1/chat/completions",
            "/v1/messages",
            "/v1/responses",
            "/v1beta/models/gpt-x:generateContent",
            "/v1/embeddings",
            "/api/v1/generate",
        ];
        paths.map(|path| (body.clone(), path))
    }) {
        let mut request = post(path, "");
        *request.body_mut() = bytes::Bytes::from(body.clone()).into();
        let answer = call(&gateway, request).await;
        let way = format!("{path} {:.60}: {}", String::from_utf8_lossy(&body), answer.body);
        assert_eq!(answer.status, 400, "{way}");
        let offset = answer.body.split_once("at byte ").expect(&way).1;
        let digits = offset.find(|c: char| !c.is_ascii_digit()).unwrap();
        assert!(offset[..digits].parse::<usize>().expect(&way) <= body.len(), "{way}");
        assert!(!answer.body.replace("\\u0000", "").replace('\0', "").contains("secret"), "{way}");
    }
    assert_eq!(call(&gateway, post("/v1/chat/completions", good)).await.status, 200, "it is good as UTF-8");
    let calls = upstream.count();
    for (body, param) in
        [("[]", "body"), (r#"{"messages":[]}"#, "model"), (r#"{"model":"gpt-x"}"#, "messages")]
    {
        let answer = call(&gateway, post("/v1/chat/completions", body)).await;
        assert_eq!(answer.json()["error"]["param"], param);
    }
    let mut kind = chat("gpt-x", "x", false);
    kind.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(call(&gateway, kind).await.status, 400);
    let mut gzip = chat("gpt-x", "x", false);
    gzip.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(call(&gateway, gzip).await.status, 415);
    assert_eq!(upstream.count(), calls);
}

/// A body that comes piece by piece, with a pause before each.
struct Slow(Duration, std::pin::Pin<Box<tokio::time::Sleep>>);

impl http_body::Body for Slow {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::task::ready!(self.1.as_mut().poll(cx));
        let pause = self.0;
        self.1.as_mut().reset(Instant::now() + pause);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(bytes::Bytes::from_static(b" ")))))
    }
}

#[tokio::test(start_paused = true)]
async fn c02_a_body_has_a_time_for_each_pause_and_one_for_all() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    for (pause, first, ends) in [(11, 0, 10), (11, 9, 19), (9, 0, 30), (1, 1, 30)] {
        let [pause, first] = [pause, first].map(Duration::from_secs);
        let body = Slow(pause, Box::pin(tokio::time::sleep(first)));
        let request =
            http::Request::post("/v1/chat/completions").header("host", "localhost").body(body).unwrap();
        let began = Instant::now();
        let answer = finish(gateway.handle(request).await).await;
        assert_eq!((answer.status, answer.header("connection")), (408, "close"));
        assert_eq!(began.elapsed().as_secs(), ends, "{pause:?} {first:?}");
    }
    assert_eq!(upstream.connects.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn c02_a_body_that_never_comes_is_408_and_nobody_is_called() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let request =
        http::Request::post("/v1/chat/completions").header("host", "localhost").body(Silent).unwrap();
    let answer = finish(gateway.handle(request).await).await;
    assert_eq!(
        (answer.status, answer.header("connection"), upstream.connects.load(SeqCst)),
        (408, "close", 0)
    );
}

/// A large body is looked at on another thread: the event loop serves others meanwhile.
/// A body that has come in part, and comes no further.
struct Half(Option<bytes::Bytes>);

impl http_body::Body for Half {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(data) => std::task::Poll::Ready(Some(Ok(http_body::Frame::data(data)))),
            None => std::task::Poll::Pending,
        }
    }
}

#[tokio::test]
async fn c02_the_bodies_of_all_requests_share_one_budget() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &upstream));
    let mut settings = Settings::new(models);
    settings.sizes.requests_in_flight = 1000;
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    let half = Half(Some(bytes::Bytes::from(vec![b' '; 900])));
    let request = http::Request::post("/v1/chat/completions").header("host", "localhost").body(half).unwrap();
    let mut slow = Box::pin(gateway.handle(request));
    assert!(at_once(&mut slow).await.is_none());
    let refused = call(&gateway, chat("gpt-x", &"x".repeat(100), false)).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    assert!(!refused.header("retry-after").is_empty() && refused.header("connection") == "close");
    drop(slow);
    assert_eq!(call(&gateway, chat("gpt-x", &"x".repeat(100), false)).await.status, 200);
}

#[tokio::test]
async fn errors_speak_the_callers_dialect() {
    let gateway = gateway(DialectId::OpenAi, &Scripted::answering(unary(200, ANSWER)));
    let openai = call(&gateway, post("/v1/chat/completions", "{")).await.json();
    assert_eq!(
        (&openai["error"]["type"], &openai["error"]["code"]),
        (&"invalid_request_error".into(), &"invalid_request".into())
    );
    let anthropic = call(&gateway, post("/v1/messages", "{")).await.json();
    assert_eq!(
        (&anthropic["type"], &anthropic["error"]["type"]),
        (&"error".into(), &"invalid_request_error".into())
    );
    assert!(anthropic["request_id"].as_str().unwrap().starts_with("req_"));
    let gemini = call(&gateway, post("/v1beta/models/gemini-x:generateContent", "{")).await.json();
    assert_eq!(
        (&gemini["error"]["code"], &gemini["error"]["status"]),
        (&400.into(), &"INVALID_ARGUMENT".into())
    );
}

#[tokio::test]
async fn c12_heads_that_could_mean_two_things_are_refused() {
    let gateway = gateway(DialectId::OpenAi, &Scripted::answering(unary(200, ANSWER)));
    let with = |change: fn(&mut http::Request<http_body_util::Full<bytes::Bytes>>)| {
        let mut request = chat("gpt-x", "x", false);
        change(&mut request);
        request
    };
    let refused = [
        with(|r| {
            r.headers_mut().append("host", "other".parse().unwrap());
        }),
        with(|r| {
            r.headers_mut().insert("host", "a/b".parse().unwrap());
        }),
        with(|r| {
            r.headers_mut().insert("host", "a?b".parse().unwrap());
        }),
        with(|r| {
            r.headers_mut().insert("host", "a#b".parse().unwrap());
        }),
        with(|r| {
            r.headers_mut().remove("host");
        }),
        with(|r| *r.uri_mut() = "http://evil.test/v1/chat/completions".parse().unwrap()),
    ];
    for request in refused {
        assert_eq!(call(&gateway, request).await.status, 400);
    }
    for method in [Method::TRACE, Method::CONNECT] {
        let mut request = chat("gpt-x", "x", false);
        *request.method_mut() = method;
        assert_eq!(call(&gateway, request).await.status, 405);
    }
    let absolute = with(|r| *r.uri_mut() = "http://localhost/v1/chat/completions".parse().unwrap());
    assert_eq!(call(&gateway, absolute).await.status, 200);
    let upgrade = with(|r| {
        r.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    });
    assert_eq!(call(&gateway, upgrade).await.status, 200);
}

#[tokio::test]
async fn c17_methods_are_answered_as_http_says() {
    let gateway = gateway(DialectId::OpenAi, &Scripted::answering(unary(200, r#"{"data":[]}"#)));
    let with = |method: Method, path: &str| {
        http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .body(http_body_util::Full::new(bytes::Bytes::from("x")))
            .unwrap()
    };
    let options = call(&gateway, with(Method::OPTIONS, "/v1/chat/completions")).await;
    assert_eq!((options.status, options.header("allow")), (204, "POST"));
    let wrong = call(&gateway, with(Method::GET, "/v1/chat/completions")).await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, "POST"));
    assert_eq!(call(&gateway, with(Method::HEAD, "/v1/models")).await.status, 200);
    let admin = call(&gateway, with(Method::GET, "/metrics")).await;
    assert!(admin.status == 404 && admin.body.contains("admin listener"));
    assert_eq!(call(&gateway, with(Method::GET, "/nothing")).await.status, 404);
    assert_eq!(call(&gateway, with(Method::GET, "/health/live")).await.status, 200);
    gateway.set_ready(false);
    assert_eq!(call(&gateway, with(Method::GET, "/health/ready")).await.status, 503);
}

/// A balancer that hears of the drain is told what it asked: no request of anybody's failed, and none succeeded.
#[tokio::test]
async fn probes_of_health_are_not_counted_as_requests() {
    let recorder = Counting("chimera_requests_total", Arc::default());
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = metrics::with_local_recorder(&recorder, || gateway(DialectId::OpenAi, &upstream));
    for (is_ready, status) in [(true, 200), (false, 503)] {
        gateway.set_ready(is_ready);
        for (path, status) in [("/health/ready", status), ("/health/live", 200), ("/health", 200)] {
            let probe = http::Request::get(path)
                .header("host", "localhost")
                .body(http_body_util::Empty::<bytes::Bytes>::new());
            assert_eq!(finish(gateway.handle(probe.unwrap()).await).await.status, status, "{path}");
        }
    }
    assert_eq!(recorder.1.load(SeqCst), 0);
    assert_eq!(call(&gateway, post("/nothing", "{}")).await.status, 404);
    assert_eq!(recorder.1.load(SeqCst), 1);
}
