//! What translation costs in each direction: a stream of a thousand words, a request and an answer.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use chimera_protocol::{
    DialectId, StreamWatch,
    json::Document,
    sse::{Event, Framer},
    translate::{self, AnswerContext, RequestContext, StreamTranslator},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ALL: [DialectId; 3] = [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini];
const CALLERS: [DialectId; 4] =
    [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini, DialectId::Responses];
const CONTEXT: AnswerContext<'static> = AnswerContext { id: "id-1", model: "m", created: 1 };
const WORDS: usize = 1000;

/// A stream of so many words, as the provider sends it.
fn stream(dialect: DialectId) -> Bytes {
    let mut out = String::new();
    match dialect {
        DialectId::OpenAi => {
            let chunk = |delta: &str, finish: &str| {
                format!(
                    "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
                )
            };
            out.push_str(&chunk(r#"{"role":"assistant","content":""}"#, "null"));
            out.push_str(&chunk(r#"{"content":" word"}"#, "null").repeat(WORDS));
            out.push_str(&chunk("{}", "\"stop\""));
            out.push_str("data: [DONE]\n\n");
        }
        DialectId::Anthropic => {
            out.push_str("event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n");
            out.push_str("event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
            out.push_str(&"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word\"}}\n\n".repeat(WORDS));
            out.push_str(
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            );
            out.push_str("event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":9}}\n\n");
            out.push_str("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        }
        _ => {
            out.push_str(&"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" word\"}],\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"m\",\"responseId\":\"r\"}\n\n".repeat(WORDS));
            out.push_str("data: {\"candidates\":[{\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":9},\"modelVersion\":\"m\",\"responseId\":\"r\"}\n\n");
        }
    }
    out.into()
}

fn each_event(stream: &Bytes, mut each: impl FnMut(&Event<'_>)) {
    let mut framer = Framer::new(1 << 20);
    framer.push(stream.clone());
    while let Ok(Some(raw)) = framer.next_event() {
        each(&Event::parse(&raw));
    }
}

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream of 1,000 words");
    group.throughput(Throughput::Elements(WORDS as u64));
    for from in ALL {
        let stream = stream(from);
        // What a stream costs that only passes by.
        group.bench_function(format!("{} watched", from.as_str()), |b| {
            b.iter(|| {
                let mut watch = StreamWatch::new(from);
                each_event(&stream, |event| _ = black_box(watch.event(event.event, event.data())));
                watch.may_end_here()
            });
        });
        for to in CALLERS.into_iter().filter(|to| *to != from) {
            let mut out = BytesMut::with_capacity(1 << 20);
            group.bench_function(format!("{} to {}", from.as_str(), to.as_str()), |b| {
                b.iter(|| {
                    out.clear();
                    let mut translator = StreamTranslator::new(from, to, true, &CONTEXT);
                    each_event(&stream, |event| translator.event(event.data(), &mut out).unwrap());
                    translator.end(&mut out).unwrap();
                    out.len()
                });
            });
        }
    }
    group.finish();
}

/// The same question of 2 KB in each caller's words.
fn question(dialect: DialectId) -> String {
    let text = "The quick brown fox jumps over the lazy dog and says \\\"hello\\\". ".repeat(26);
    match dialect {
        DialectId::OpenAi => format!(
            r#"{{"model":"m","temperature":0.5,"max_tokens":256,"messages":[{{"role":"system","content":"You are helpful."}},{{"role":"user","content":"{text}"}}]}}"#
        ),
        DialectId::Anthropic => format!(
            r#"{{"model":"m","temperature":0.5,"max_tokens":256,"system":"You are helpful.","messages":[{{"role":"user","content":"{text}"}}]}}"#
        ),
        DialectId::Gemini => format!(
            r#"{{"systemInstruction":{{"parts":[{{"text":"You are helpful."}}]}},"generationConfig":{{"temperature":0.5,"maxOutputTokens":256}},"contents":[{{"role":"user","parts":[{{"text":"{text}"}}]}}]}}"#
        ),
        DialectId::Responses => format!(
            r#"{{"model":"m","temperature":0.5,"max_output_tokens":256,"instructions":"You are helpful.","input":"{text}"}}"#
        ),
    }
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request of 2 KB");
    for from in CALLERS {
        let body = question(from);
        let document = Document::parse(body.as_bytes()).unwrap();
        group.throughput(Throughput::Bytes(body.len() as u64));
        for to in ALL.into_iter().filter(|to| *to != from) {
            let context = RequestContext { from, to, model: "m", stream: false };
            let mut out = BytesMut::with_capacity(1 << 16);
            group.bench_function(format!("{} to {}", from.as_str(), to.as_str()), |b| {
                b.iter(|| {
                    out.clear();
                    translate::request(black_box(&document), &context, &mut out).unwrap().stream
                });
            });
        }
    }
    group.finish();
}

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("answer of 1,000 words");
    for from in ALL {
        let answer = from.dialect().fold(&stream(from)).unwrap();
        group.throughput(Throughput::Bytes(answer.len() as u64));
        for to in CALLERS.into_iter().filter(|to| *to != from) {
            let mut out = BytesMut::with_capacity(1 << 16);
            group.bench_function(format!("{} to {}", from.as_str(), to.as_str()), |b| {
                b.iter(|| {
                    out.clear();
                    translate::answer(black_box(&answer), from, to, &CONTEXT, &mut out).unwrap();
                    out.len()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, streams, requests, answers);
criterion_main!(benches);
