//! The event that comes thousands of times in a stream is translated without an allocation.
#![allow(clippy::unwrap_used, missing_docs)]

use std::alloc::System;

use bytes::BytesMut;
use chimera_protocol::{
    DialectId,
    translate::{AnswerContext, StreamTranslator},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TRIES: usize = 5;

const ALL: [DialectId; 3] = [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini];

/// What opens a stream, and the event that goes on.
fn events(dialect: DialectId) -> (&'static [&'static str], &'static str) {
    match dialect {
        DialectId::OpenAi => (
            &[
                r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}"#,
            ],
            r#"{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":" w\u00f6rd\n"},"finish_reason":null}]}"#,
        ),
        DialectId::Anthropic => (
            &[
                r#"{"type":"message_start","message":{"id":"m","model":"m","usage":{"input_tokens":1,"output_tokens":1}}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
            ],
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" w\u00f6rd\n"}}"#,
        ),
        _ => (
            &[
                r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"index":0}],"responseId":"r"}"#,
            ],
            r#"{"candidates":[{"content":{"parts":[{"text":" w\u00f6rd\n"}],"role":"model"},"index":0}],"responseId":"r"}"#,
        ),
    }
}

/// Allocations and reallocations for a hundred words, the least of some tries: the count is the process's,
/// and the test's harness has a thread of its own, which only ever adds.
fn of_a_hundred_words(from: DialectId, to: DialectId) -> (usize, usize) {
    let context = AnswerContext { id: "id", model: "m", created: 1 };
    let mut out = BytesMut::with_capacity(1 << 20);
    let (opening, word) = events(from);
    let mut translator = StreamTranslator::new(from, to, false, &context);
    for event in opening.iter().chain([&word]) {
        translator.event(event.as_bytes(), &mut out).unwrap();
    }
    let counts = (0..TRIES).map(|_| {
        out.clear();
        let region = Region::new(ALLOCATOR);
        for _ in 0..100 {
            translator.event(word.as_bytes(), &mut out).unwrap();
        }
        let change = region.change();
        assert!(out.len() > 100 * 10);
        (change.allocations, change.reallocations)
    });
    counts.min().unwrap()
}

/// One test: two at a time would count each other's.
#[test]
fn a_word_of_a_stream_is_translated_without_an_allocation() {
    for from in ALL {
        for to in ALL.into_iter().filter(|to| *to != from) {
            assert_eq!(of_a_hundred_words(from, to), (0, 0), "{from:?} to {to:?}");
        }
        // Responses repeat the whole text at their end, so it is gathered, in room that doubles.
        let (allocations, reallocations) = of_a_hundred_words(from, DialectId::Responses);
        assert!(allocations == 0 && reallocations <= 1, "{from:?}: {allocations} {reallocations}");
    }
}
