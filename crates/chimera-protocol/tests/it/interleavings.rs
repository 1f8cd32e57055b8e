//! Every order in which Anthropic and Gemini may tell text, thoughts and calls, to the end and cut at every
//! event: a stream has exactly one legal end, or an error and none. OpenAI's, whose calls come in fragments
//! beside each other, are in `translation.rs`.

use chimera_protocol::{DialectId, FoldError};
use serde_json::{Value, json};

use crate::{grammar, translation::through};

/// The longest word. The letters are one of text, one of thought, and a call.
const LONGEST: u32 = 5;
const ALPHABET: [char; 3] = ['t', 'h', 'c'];

fn words() -> impl Iterator<Item = Vec<char>> {
    (1..=LONGEST).flat_map(|length| {
        (0..3_usize.pow(length)).map(move |mut number| {
            let letter = |_| {
                let letter = ALPHABET[number % 3];
                number /= 3;
                letter
            };
            (0..length).map(letter).collect()
        })
    })
}

/// Blocks one after the other: letters of a kind that follow each other are deltas of one block.
fn anthropic(word: &[char]) -> Vec<Value> {
    let mut events = vec![
        json!({"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1, "output_tokens": 1}}}),
    ];
    let (mut open, mut index) = (None, 0);
    for &letter in word {
        if open.is_some() && (open != Some(letter) || letter == 'c') {
            events.push(json!({"type": "content_block_stop", "index": index}));
            (open, index) = (None, index + 1);
        }
        if open.is_none() {
            let block = match letter {
                't' => json!({"type": "text", "text": ""}),
                'h' => json!({"type": "thinking", "thinking": "", "signature": ""}),
                _ => json!({"type": "tool_use", "id": format!("toolu_{index}"), "name": "f", "input": {}}),
            };
            events.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
            open = Some(letter);
        }
        let deltas = match letter {
            't' => vec![json!({"type": "text_delta", "text": "t"})],
            'h' => vec![json!({"type": "thinking_delta", "thinking": "h"})],
            _ => {
                ["{\"x\":", "1}"].map(|part| json!({"type": "input_json_delta", "partial_json": part})).into()
            }
        };
        let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
        events.extend(deltas.into_iter().map(delta));
    }
    events.push(json!({"type": "content_block_stop", "index": index}));
    let reason = if word.contains(&'c') { "tool_use" } else { "end_turn" };
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 2}}));
    events.push(json!({"type": "message_stop"}));
    events
}

/// A chunk for each letter; calls come whole, the last chunk says why it ends.
fn gemini(word: &[char]) -> Vec<Value> {
    let part = |letter: &char| match letter {
        't' => json!({"text": "t"}),
        'h' => json!({"text": "h", "thought": true}),
        _ => json!({"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln"}),
    };
    let chunk = |letter| json!({"candidates": [{"content": {"role": "model", "parts": [part(letter)]}, "index": 0}], "responseId": "r"});
    let mut chunks: Vec<_> = word.iter().map(chunk).collect();
    chunks.last_mut().unwrap()["candidates"][0]["finishReason"] = "STOP".into();
    chunks
}

fn sse(events: &[Value]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect()
}

fn check(from: DialectId, tell: fn(&[char]) -> Vec<Value>, callers: [DialectId; 3]) {
    let mut count = 0;
    for word in words() {
        let events = tell(&word);
        let said = |letter| word.iter().filter(|said| **said == letter).collect::<String>();
        let calls = word.iter().filter(|letter| **letter == 'c').count();
        for to in callers {
            let (out, ended) = through(&[sse(&events).as_bytes()], from, to);
            assert_eq!(ended, Ok(()), "{word:?}");
            let seen = grammar::check(&out, to, true);
            let told = (seen.text, seen.thoughts, seen.calls);
            assert_eq!(told, (said('t'), said('h'), vec!["{\"x\":1}".to_owned(); calls]), "{word:?} {to:?}");
            let tells_tools = matches!(to, DialectId::OpenAi | DialectId::Anthropic);
            assert_eq!(seen.tools_end, tells_tools && calls > 0, "{word:?} {to:?}");
            for cut in 0..events.len() {
                let (out, ended) = through(&[sse(&events[..cut]).as_bytes()], from, to);
                assert_eq!(ended, Err(FoldError::Truncated), "{word:?} {to:?} cut at {cut}");
                grammar::check(&out, to, false);
            }
            count += 1;
        }
    }
    assert_eq!(count, 3 * (3 + 9 + 27 + 81 + 243));
}

#[test]
fn pain_1_every_order_of_anthropics_blocks_has_one_legal_end() {
    check(DialectId::Anthropic, anthropic, [DialectId::OpenAi, DialectId::Gemini, DialectId::Responses]);
}

#[test]
fn pain_1_every_order_of_geminis_parts_has_one_legal_end() {
    check(DialectId::Gemini, gemini, [DialectId::OpenAi, DialectId::Anthropic, DialectId::Responses]);
}
