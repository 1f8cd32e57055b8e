//! Pain 11: each of the timers fires, on every dialect, and says which it was.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use chimera_circuit_breaker::Snapshot;
use chimera_gateway::{DialectId, Gateway, Models, Settings};
use tokio::time::Instant;

use crate::support::{
    Act, Answer, CHAT, SSE_HEAD, Script, Scripted, call, chat, chunk, delta, gateway, post, provider, settle,
};

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

/// One vendor's words for a generation.
struct Words {
    dialect: DialectId,
    unary: (&'static str, &'static str),
    stream: (&'static str, &'static str),
    /// A first event with content.
    event: String,
}

fn words() -> [Words; 3] {
    [
        Words {
            dialect: DialectId::OpenAi,
            unary: (CHAT, r#"{"model":"gpt-x","messages":[]}"#),
            stream: (CHAT, r#"{"model":"gpt-x","messages":[],"stream":true}"#),
            event: delta("a"),
        },
        Words {
            dialect: DialectId::Anthropic,
            unary: ("/v1/messages", r#"{"model":"claude-x","max_tokens":1,"messages":[]}"#),
            stream: ("/v1/messages", r#"{"model":"claude-x","max_tokens":1,"messages":[],"stream":true}"#),
            event: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n".to_owned(),
        },
        Words {
            dialect: DialectId::Gemini,
            unary: ("/v1beta/models/gemini-x:generateContent", r#"{"contents":[]}"#),
            stream: ("/v1beta/models/gemini-x:streamGenerateContent?alt=sse", r#"{"contents":[]}"#),
            event: "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}]}\n\n".to_owned(),
        },
    ]
}

/// A gateway whose timers all differ.
fn timed(dialect: DialectId, upstream: &Arc<Scripted>) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", dialect, upstream));
    let mut settings = Settings::new(models);
    settings.timeouts.first_event = Some(Duration::from_secs(45));
    Gateway::new(settings, [7; 32]).unwrap()
}

/// What a call comes to, and after how many seconds.
async fn met(words: &Words, script: Script, (path, body): (&str, &str)) -> (Answer, u64) {
    let upstream = Scripted::new([script]);
    let began = Instant::now();
    let answer = call(&timed(words.dialect, &upstream), post(path, body)).await;
    let seconds = began.elapsed().as_secs();
    settle().await;
    let opened = usize::from(upstream.count() > 0);
    assert_eq!(upstream.closed.load(SeqCst), opened, "{path}: the upstream call is cancelled");
    (answer, seconds)
}

fn silent_after(written: &[Vec<u8>]) -> Script {
    let mut acts = vec![Act::Read];
    acts.extend(written.iter().cloned().map(Act::Write));
    acts.push(Act::AwaitClose);
    Script::Acts(acts)
}

#[tokio::test(start_paused = true)]
async fn pain_11_connecting_has_its_own_time_on_every_dialect() {
    for words in words() {
        for asked in [words.unary, words.stream] {
            let (answer, seconds) = met(&words, Script::Hang, asked).await;
            assert_eq!((answer.status, seconds), (504, 2), "{asked:?}");
            assert!(answer.body.contains("the connect timeout"), "{}", answer.body);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pain_11_the_first_event_has_its_own_time_on_every_dialect() {
    for words in words() {
        for begun in [Vec::new(), vec![SSE_HEAD.as_bytes().to_vec(), chunk(": ping\n\n")]] {
            let (answer, seconds) = met(&words, silent_after(&begun), words.stream).await;
            assert_eq!((answer.status, seconds), (504, 45), "{:?}", words.dialect);
            assert!(answer.body.contains("first content"), "{}", answer.body);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pain_11_silence_between_events_has_its_own_time_on_every_dialect() {
    for words in words() {
        let begun = [SSE_HEAD.as_bytes().to_vec(), chunk(&words.event)];
        let (answer, seconds) = met(&words, silent_after(&begun), words.stream).await;
        assert_eq!((answer.status, answer.aborted, seconds), (200, true, 60), "{:?}", words.dialect);
        let told = answer.body.strip_prefix(&words.event).unwrap();
        assert!(told.contains("timeout") || told.contains("DEADLINE_EXCEEDED"), "{told}");
        assert!(told.contains("sent nothing for 60 s"), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn pain_11_a_unary_answer_has_a_time_in_all_on_every_dialect() {
    for words in words() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n";
        let mut trickle = vec![Act::Read, Act::Write(head.to_vec())];
        trickle.extend((0..500).flat_map(|_| [Act::Sleep(Duration::from_secs(1)), Act::Write(b" ".into())]));
        for script in [silent_after(&[]), silent_after(&[head.to_vec()]), Script::Acts(trickle)] {
            let (answer, seconds) = met(&words, script, words.unary).await;
            assert_eq!((answer.status, seconds), (504, 120), "{:?}", words.dialect);
            assert!(answer.body.contains("the llm timeout"), "{}", answer.body);
        }
    }
}
