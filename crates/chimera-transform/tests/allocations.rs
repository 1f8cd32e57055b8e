//! Clean text costs no allocation beyond the parse.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, missing_docs)]

use std::alloc::System;

use chimera_protocol::json::Document;
use chimera_transform::{
    Budget, BudgetSettings, Normalize, Pipeline, Prompt, Redact, RedactSettings, Seed, Step,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TRIES: usize = 5;

const SENTENCES: [&str; 4] = [
    "The committee met on the second floor and spoke for most of the afternoon about the new library. ",
    "Nobody had expected that the river would rise so quickly, or that the bridge would hold. ",
    "She closed the door, put the kettle on, and began to read the letter once more. ",
    "A well-known method sorts the values first and then walks through them from both ends. ",
];

/// A conversation of so many turns, and of so many bytes altogether.
fn body(turns: usize, bytes: usize) -> String {
    let mut text = String::new();
    for sentence in SENTENCES.iter().cycle() {
        if text.len() >= bytes / turns {
            break;
        }
        text.push_str(sentence);
    }
    let roles = ["system", "user", "assistant"].into_iter().chain(["user", "assistant"].into_iter().cycle());
    let turns: Vec<_> =
        roles.take(turns).map(|role| format!(r#"{{"role":"{role}","content":"{text}"}}"#)).collect();
    format!(r#"{{"model":"gpt-4o","messages":[{}]}}"#, turns.join(","))
}

/// Allocations and bytes of a run behind the parse, the least of some tries: the test's harness has a
/// thread of its own, which only ever adds.
fn of(pipeline: &Pipeline, body: &str) -> (usize, usize) {
    let seed = Seed::derive(&[0; 32], "");
    let counts = (0..TRIES).map(|_| {
        let document = Document::parse(body.as_bytes()).unwrap();
        let region = Region::new(ALLOCATOR);
        let done = pipeline.run(Prompt::of_request(&document), &seed).unwrap();
        let stats = region.change();
        assert!(done.text.is_none());
        (stats.allocations + stats.reallocations, stats.bytes_allocated)
    });
    counts.min().unwrap()
}

#[test]
fn clean_text_costs_no_allocation_beyond_the_parse() {
    let pipeline = Pipeline::new(
        "clean",
        [
            Step::new(Normalize::default()),
            Step::new(Redact::new(RedactSettings::default()).unwrap()),
            Step::new(Budget::new(BudgetSettings { tokens: 100_000, model: "gpt-4o".into() })),
        ],
    );
    // What is made once is made.
    of(&pipeline, &body(1, 1 << 10));
    for (turns, kib) in [(1, 1), (1, 8), (4, 8), (16, 8), (16, 64)] {
        let counted = of(&pipeline, &body(turns, kib << 10));
        println!("{turns} turns, {kib} KiB: allocations and bytes {counted:?}");
        assert_eq!(counted, (0, 0));
    }
    // What does not fit in place is in two lists, of texts and of turns, which the budget walks with a third.
    let (allocations, _) = of(&pipeline, &body(100, 64 << 10));
    println!("100 turns, 64 KiB: {allocations} allocations");
}
