//! The protocol work of a request: the look-over, the fingerprint, and the events of a stream.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use bytes::Bytes;
use chimera_protocol::{
    DialectId, Fingerprint, LookOver, Operation, Scope, StreamWatch,
    json::{Document, Scratch},
    sse::{Event, Framer},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A chat request of about 2 KB.
fn request() -> String {
    let text = "The quick brown fox jumps over the lazy dog and says \\\"hello\\\". ".repeat(26);
    format!(
        r#"{{"model":"gpt-4o","temperature":0.5,"max_tokens":256,"messages":[{{"role":"system","content":"You are helpful."}},{{"role":"user","content":"{text}"}}]}}"#
    )
}

fn looking(c: &mut Criterion) {
    let body = request();
    let mut group = c.benchmark_group("request of 2 KB");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("look-over", |b| {
        let mut scratch = Scratch::default();
        b.iter(|| {
            let document = Document::parse_with(black_box(body.as_bytes()), &mut scratch).unwrap();
            LookOver::of(DialectId::OpenAi, Operation::Chat, &document).unwrap().stream
        });
    });
    let document = Document::parse(body.as_bytes()).unwrap();
    let scope = Scope { model: "gpt-4o", ..Scope::new("acme", DialectId::OpenAi) };
    let mut buffer = Vec::new();
    group.bench_function("fingerprint", |b| {
        b.iter(|| Fingerprint::compute(&[7; 32], &scope, black_box(&document), &mut buffer));
    });
    group.finish();
}

/// What is done with each event.
type Each = Box<dyn FnMut(&[u8])>;

fn decoding(c: &mut Criterion) {
    let event = r#"data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}"#;
    let stream = Bytes::from(format!("{event}\n\n").repeat(1000));
    let mut group = c.benchmark_group("stream of 1,000 events");
    group.throughput(Throughput::Bytes(stream.len() as u64));
    let frame = |mut each: Each| {
        let mut framer = Framer::new(1 << 20);
        framer.push(stream.clone());
        while let Ok(Some(event)) = framer.next_event() {
            each(&event);
        }
    };
    group.bench_function("framing", |b| b.iter(|| frame(Box::new(|event| _ = black_box(event)))));
    group.bench_function("framing and reading", |b| {
        b.iter(|| frame(Box::new(|event| _ = black_box(Event::parse(event)))));
    });
    group.bench_function("framing, reading and watching", |b| {
        b.iter(|| {
            let mut watch = StreamWatch::new(DialectId::OpenAi);
            frame(Box::new(move |event| {
                let event = Event::parse(event);
                watch.event(event.event, event.data());
            }));
        });
    });
    group.finish();
}

criterion_group!(benches, looking, decoding);
criterion_main!(benches);
