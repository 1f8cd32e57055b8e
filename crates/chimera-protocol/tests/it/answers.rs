//! Answers: a stream folded into an answer and unfolded again says the same (pain 8).

use bytes::Bytes;
use chimera_protocol::{DialectId, Observed, Operation, StreamWatch, UnfoldOptions, sse};
use proptest::prelude::*;
use serde_json::{Value, json};

const WITH_USAGE: UnfoldOptions = UnfoldOptions { include_usage: true };

fn openai(text: &str, arguments: &str, tools: usize) -> Value {
    let calls: Vec<_> = (0..tools)
        .map(|n| json!({ "id": format!("call_{n}"), "type": "function", "function": { "name": "f", "arguments": arguments } }))
        .collect();
    let mut message = json!({ "role": "assistant", "content": text });
    if tools > 0 {
        message["tool_calls"] = calls.into();
    }
    let finish = if tools > 0 { "tool_calls" } else { "stop" };
    json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
    })
}

fn anthropic(text: &str, tools: usize) -> Value {
    let mut content = vec![json!({ "type": "text", "text": text })];
    content.extend(
        (0..tools).map(
            |n| json!({ "type": "tool_use", "id": format!("t{n}"), "name": "f", "input": { "q": text } }),
        ),
    );
    json!({
        "id": "m", "type": "message", "role": "assistant", "model": "c", "content": content,
        "stop_reason": if tools > 0 { "tool_use" } else { "end_turn" }, "stop_sequence": null,
        "usage": { "input_tokens": 3, "output_tokens": 4 },
    })
}

fn gemini(text: &str) -> Value {
    json!({
        "candidates": [{ "content": { "parts": [{ "text": text }], "role": "model" }, "finishReason": "STOP", "index": 0 }],
        "usageMetadata": { "promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7 },
        "modelVersion": "g", "responseId": "r",
    })
}

/// Unfolds, checks the stream's grammar as a watch sees it, folds, and compares.
fn round_trip(id: DialectId, answer: &Value) -> Result<(), TestCaseError> {
    let dialect = id.dialect();
    let body = answer.to_string();
    let stream = dialect.unfold(body.as_bytes(), WITH_USAGE).unwrap();
    let mut watch = StreamWatch::new(id);
    let mut framer = sse::Framer::new(1 << 20);
    framer.push(Bytes::from(stream.clone()));
    let mut last = Observed::Lifecycle;
    while let Some(raw) = framer.next_event().unwrap() {
        let event = sse::Event::parse(&raw);
        last = watch.event(event.event, event.data());
        prop_assert_ne!(last, Observed::Error);
    }
    prop_assert!(watch.may_end_here() && watch.content_seen());
    prop_assert!(id == DialectId::Gemini || last == Observed::End);
    let usage = dialect.read_answer(Operation::Chat, body.as_bytes()).unwrap();
    prop_assert_eq!(watch.usage(), usage);
    let folded: Value = serde_json::from_slice(&dialect.fold(&stream).unwrap()).unwrap();
    prop_assert_eq!(&folded, answer);
    // A stream that was cut is never taken for a whole one.
    let cut = &stream[..stream.len() / 2];
    prop_assert!(dialect.fold(cut).is_err());
    Ok(())
}

proptest! {
    #[test]
    fn pain_8_openai_answers_survive_the_round_trip(text in any::<String>(), arguments in any::<String>(), tools in 0_usize..3) {
        round_trip(DialectId::OpenAi, &openai(&text, &arguments, tools))?;
    }

    #[test]
    fn pain_8_anthropic_answers_survive_the_round_trip(text in ".{1,80}", tools in 0_usize..3) {
        round_trip(DialectId::Anthropic, &anthropic(&text, tools))?;
    }

    #[test]
    fn pain_8_gemini_answers_survive_the_round_trip(text in ".{1,80}") {
        round_trip(DialectId::Gemini, &gemini(&text))?;
    }

    /// Whatever a provider sends, looking at it ends without a panic.
    #[test]
    fn any_bytes_may_come(bytes in prop::collection::vec(any::<u8>(), 0..200), name in prop::option::of("[a-z_]{0,12}")) {
        for id in [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini] {
            let dialect = id.dialect();
            StreamWatch::new(id).event(name.as_deref().map(str::as_bytes), &bytes);
            let _ = dialect.fold(&bytes);
            let _ = dialect.unfold(&bytes, WITH_USAGE);
            for operation in [Operation::Chat, Operation::Embed, Operation::CountTokens] {
                let _ = dialect.read_answer(operation, &bytes);
            }
        }
    }

    #[test]
    fn u26_counts_never_overflow(count in any::<i128>()) {
        let body = format!("{{\"choices\":[],\"usage\":{{\"prompt_tokens\":{count},\"completion_tokens\":{count}}}}}");
        let usage = DialectId::OpenAi.dialect().read_answer(Operation::Chat, body.as_bytes()).unwrap().unwrap();
        prop_assert!(usage.total() < u64::MAX);
        if count < 0 {
            prop_assert_eq!(usage.total(), 0);
        }
    }
}

/// A stream of OpenAI's whose deltas are these, as the answer that it means.
fn folded(deltas: &[Value]) -> Result<Value, chimera_protocol::FoldError> {
    let mut stream = String::new();
    for (at, delta) in deltas.iter().enumerate() {
        let finish = (at + 1 == deltas.len()).then_some("stop");
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        stream += &format!("data: {}\n\n", json!({ "id": "c", "model": "m", "choices": [choice] }));
    }
    stream += "data: [DONE]\n\n";
    let answer = DialectId::OpenAi.dialect().fold(stream.as_bytes())?;
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    Ok(answer["choices"][0]["message"].clone())
}

/// Whatever a stream tells in pieces is whole in the answer that a unary caller is given of it.
#[test]
fn pain_8_what_comes_in_pieces_is_joined() {
    let call = |pieces: &[&str]| -> Vec<Value> {
        let mut deltas =
            vec![json!({ "role": "assistant", "function_call": { "name": "f", "arguments": "" } })];
        deltas.extend(pieces.iter().map(|piece| json!({ "function_call": { "arguments": piece } })));
        deltas
    };
    assert_eq!(
        folded(&call(&["{\"x\":", "1}"])).unwrap()["function_call"],
        json!({ "name": "f", "arguments": "{\"x\":1}" })
    );
    let custom = |input: &str| json!({ "tool_calls": [{ "index": 0, "custom": { "input": input } }] });
    let first = json!({ "tool_calls": [{ "index": 0, "id": "t", "type": "custom", "custom": { "name": "c", "input": "" } }] });
    assert_eq!(
        folded(&[first, custom("SELECT "), custom("1")]).unwrap()["tool_calls"],
        json!([{ "id": "t", "type": "custom", "custom": { "name": "c", "input": "SELECT 1" } }])
    );
    let audio = |data: &str| json!({ "audio": { "data": data } });
    let said = |text: &str| json!({ "audio": { "transcript": text } });
    let first = json!({ "role": "assistant", "audio": { "id": "a" } });
    let last = json!({ "audio": { "expires_at": 5 } });
    assert_eq!(
        folded(&[first.clone(), audio("AAAA"), said("he"), audio("BBBB"), said("llo"), last]).unwrap()["audio"],
        json!({ "id": "a", "data": "AAAABBBB", "transcript": "hello", "expires_at": 5 })
    );
    // Bytes that were padded piece by piece are not joined by joining their letters.
    assert!(folded(&[first, audio("AA=="), audio("BBBB")]).is_err());
    let detail = |index: u64, text: &str| json!({ "reasoning_details": [{ "type": "reasoning.text", "text": text, "index": index, "format": "f" }] });
    assert_eq!(
        folded(&[detail(0, "Let "), detail(0, "me"), detail(1, "see")]).unwrap()["reasoning_details"],
        json!([
            { "type": "reasoning.text", "text": "Let me", "index": 0, "format": "f" },
            { "type": "reasoning.text", "text": "see", "index": 1, "format": "f" },
        ])
    );
}
