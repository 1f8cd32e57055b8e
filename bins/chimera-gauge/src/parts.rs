//! The operations of single crates.

use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use chimera_cache::{MemorySettings, MemoryTier};
use chimera_circuit_breaker::{Breaker, Outcome, Settings};
use chimera_protocol::{
    DialectId, Fingerprint, LookOver, Operation, Scope, StreamWatch,
    json::{Document, Scratch},
    sse::{Event, Framer},
    translate::{AnswerContext, StreamTranslator},
};

type Counted<'a> = &'a mut dyn FnMut(&mut dyn FnMut(u64));
type Done = Result<(), Box<dyn Error>>;

const DELTA: &str = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}"#;

/// A request of 2 KB is parsed, looked over and fingerprinted.
pub(crate) fn look(counted: Counted<'_>) -> Done {
    let text = "The quick brown fox jumps over the lazy dog and says \\\"hello\\\". ".repeat(26);
    let body = format!(
        r#"{{"model":"gpt-4o","temperature":0.5,"max_tokens":256,"messages":[{{"role":"system","content":"You are helpful."}},{{"role":"user","content":"{text}"}}]}}"#
    );
    let scope = Scope { model: "gpt-4o", ..Scope::new("acme", DialectId::OpenAi) };
    let mut scratch = Scratch::default();
    let mut buffer = Vec::new();
    counted(&mut |_| {
        let Ok(document) = Document::parse_with(black_box(body.as_bytes()), &mut scratch) else { return };
        let over = LookOver::of(DialectId::OpenAi, Operation::Chat, &document);
        _ = black_box(over.is_ok());
        _ = black_box(Fingerprint::compute(&[7; 32], &scope, &document, &mut buffer));
    });
    Ok(())
}

/// An event of a stream is framed, read and watched.
pub(crate) fn event(counted: Counted<'_>) -> Done {
    let raw = Bytes::from(format!("data: {DELTA}\n\n"));
    let mut framer = Framer::new(1 << 20);
    let mut watch = StreamWatch::new(DialectId::OpenAi);
    counted(&mut |_| {
        framer.push(raw.clone());
        while let Ok(Some(event)) = framer.next_event() {
            let event = Event::parse(&event);
            _ = black_box(watch.event(event.event, event.data()));
        }
    });
    Ok(())
}

/// An event of OpenAI's becomes one of Anthropic's.
pub(crate) fn translated_event(counted: Counted<'_>) -> Done {
    let context = AnswerContext { id: "id-1", model: "m", created: 1 };
    let mut out = BytesMut::with_capacity(1 << 16);
    let mut translator = StreamTranslator::new(DialectId::OpenAi, DialectId::Anthropic, false, &context);
    counted(&mut |_| {
        out.clear();
        _ = black_box(translator.event(DELTA.as_bytes(), &mut out).is_ok());
    });
    Ok(())
}

/// A hundred values are taken out of the memory tier: filling it costs each run something else, which would
/// show in fewer.
pub(crate) fn l1_get(counted: Counted<'_>) -> Done {
    const KEYS: u64 = 10_000;
    let key = |number: u64| {
        let mut key = [7_u8; 32];
        key[..8].copy_from_slice(&(number % KEYS).to_le_bytes());
        key
    };
    let settings = MemorySettings::new("gauge", 256 << 20, 1 << 20);
    let tier = MemoryTier::new(settings, |_: &[u8; 32], value: &Bytes| value.len())?;
    let now = Instant::now();
    let value = Bytes::from(vec![1; 2048]);
    for number in 0..KEYS {
        tier.put(key(number), value.clone(), Duration::from_secs(3600), now);
    }
    counted(&mut |number| {
        for step in 0..100 {
            _ = black_box(tier.get(&key(number.wrapping_mul(700).wrapping_add(7 * step)), now));
        }
    });
    Ok(())
}

/// A breaker admits a call and hears how it went.
pub(crate) fn breaker(counted: Counted<'_>) -> Done {
    let now = Instant::now();
    let breaker = Breaker::new(Settings::default(), now);
    counted(&mut |_| {
        if let Ok(permit) = black_box(&breaker).try_acquire(now) {
            permit.record(Outcome::Success, Duration::from_millis(1), now);
        }
    });
    Ok(())
}
