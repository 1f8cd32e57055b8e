//! The grammar of each dialect's stream, checked by rules that share nothing with the code under test.

use bytes::Bytes;
use chimera_protocol::{DialectId, sse};
use serde_json::Value;

/// What a stream told.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) text: String,
    pub(crate) thoughts: String,
    /// The arguments of each call, in the order of their beginnings.
    pub(crate) calls: Vec<String>,
    /// Whether the stated reason to end is that tools are called.
    pub(crate) tools_end: bool,
}

/// Checks that a stream keeps its grammar: it ends once and properly, or with one error and no end.
pub(crate) fn check(stream: &[u8], dialect: DialectId, proper: bool) -> Seen {
    let mut framer = sse::Framer::new(1 << 20);
    framer.push(Bytes::copy_from_slice(stream));
    let mut events = Vec::new();
    while let Some(raw) = framer.next_event().unwrap() {
        let event = sse::Event::parse(&raw);
        let name = event.event.map(|name| String::from_utf8(name.to_vec()).unwrap());
        events.push((name, String::from_utf8(event.data().to_vec()).unwrap()));
    }
    assert_eq!(framer.unfinished(), 0);
    match dialect {
        DialectId::OpenAi => openai(&events, proper),
        DialectId::Anthropic => anthropic(&events, proper),
        DialectId::Gemini => gemini(&events, proper),
        DialectId::Responses => responses(&events, proper),
    }
}

type Events = [(Option<String>, String)];

fn anthropic(events: &Events, proper: bool) -> Seen {
    let mut seen = Seen::default();
    let (mut open, mut next, mut started, mut stopped, mut over) = (None, 0, false, false, false);
    for (name, data) in events {
        assert!(!over, "nothing follows the end");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.as_deref(), data["type"].as_str());
        match data["type"].as_str().unwrap() {
            "message_start" => {
                assert!(!started);
                started = true;
            }
            "content_block_start" => {
                assert!(started && !stopped && open.is_none());
                assert_eq!(data["index"], next);
                let kind = data["content_block"]["type"].as_str().unwrap().to_owned();
                if kind == "tool_use" {
                    seen.calls.push(String::new());
                }
                open = Some(kind);
            }
            "content_block_delta" => {
                assert_eq!(data["index"], next);
                let text = |name: &str| data["delta"][name].as_str().unwrap();
                match (open.as_deref().unwrap(), data["delta"]["type"].as_str().unwrap()) {
                    ("text", "text_delta") => seen.text.push_str(text("text")),
                    ("thinking", "thinking_delta") => seen.thoughts.push_str(text("thinking")),
                    ("thinking", "signature_delta") | ("text", "citations_delta") => {}
                    ("tool_use", "input_json_delta") => {
                        seen.calls.last_mut().unwrap().push_str(text("partial_json"));
                    }
                    other => panic!("{other:?}"),
                }
            }
            "content_block_stop" => {
                assert_eq!(data["index"], next);
                assert!(open.take().is_some());
                next += 1;
            }
            "message_delta" => {
                assert!(started && !stopped && open.is_none());
                stopped = true;
                seen.tools_end = data["delta"]["stop_reason"] == "tool_use";
            }
            "message_stop" => {
                assert!(stopped && proper);
                over = true;
            }
            "error" => {
                assert!(!proper && !stopped);
                over = true;
            }
            other => panic!("{other}"),
        }
    }
    assert!(over);
    seen
}

fn openai(events: &Events, proper: bool) -> Seen {
    let mut seen = Seen::default();
    let (mut finished, mut over) = (false, false);
    for (_, data) in events {
        assert!(!over, "nothing follows the end");
        if data == "[DONE]" {
            assert!(finished && proper);
            over = true;
            continue;
        }
        let data: Value = serde_json::from_str(data).unwrap();
        if data.get("error").is_some() {
            assert!(!proper && !finished);
            over = true;
            continue;
        }
        for choice in data["choices"].as_array().unwrap() {
            assert!(!finished);
            finished = choice["finish_reason"].is_string();
            seen.tools_end |= choice["finish_reason"] == "tool_calls";
            seen.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            seen.thoughts.push_str(choice["delta"]["reasoning_content"].as_str().unwrap_or_default());
            for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
                let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
                if call.get("id").is_some() {
                    assert_eq!(index, seen.calls.len());
                    seen.calls.push(String::new());
                }
                seen.calls[index].push_str(call["function"]["arguments"].as_str().unwrap());
            }
        }
    }
    assert!(over);
    seen
}

fn gemini(events: &Events, proper: bool) -> Seen {
    let mut seen = Seen::default();
    let (mut finished, mut failed) = (false, false);
    for (_, data) in events {
        assert!(!finished && !failed, "nothing follows the end");
        let data: Value = serde_json::from_str(data).unwrap();
        if data.get("error").is_some() {
            failed = true;
            continue;
        }
        let candidate = &data["candidates"][0];
        finished = candidate["finishReason"].is_string();
        for part in candidate["content"]["parts"].as_array().unwrap() {
            if let Some(call) = part.get("functionCall") {
                seen.calls.push(call["args"].to_string());
            } else if part["thought"] == true {
                seen.thoughts.push_str(part["text"].as_str().unwrap());
            } else {
                seen.text.push_str(part["text"].as_str().unwrap());
            }
        }
    }
    assert_eq!((finished, failed), (proper, !proper));
    seen
}

fn responses(events: &Events, proper: bool) -> Seen {
    let mut seen = Seen::default();
    let mut items: Vec<(String, bool)> = Vec::new();
    let mut calls: Vec<(usize, String)> = Vec::new();
    let (mut over, mut failed, mut numbered) = (false, false, 0);
    for (at, (name, data)) in events.iter().enumerate() {
        assert!(!over && !failed, "nothing follows the end");
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.as_deref(), data["type"].as_str());
        let kind = data["type"].as_str().unwrap();
        if kind == "error" {
            failed = true;
            continue;
        }
        assert_eq!(data["sequence_number"], numbered);
        numbered += 1;
        let index = data["output_index"].as_u64().map(|index| usize::try_from(index).unwrap());
        match kind {
            "response.created" => assert_eq!(at, 0),
            "response.in_progress" => assert_eq!(at, 1),
            "response.output_item.added" => {
                assert_eq!(index, Some(items.len()));
                items.push((data["item"]["id"].as_str().unwrap().to_owned(), true));
                if data["item"]["type"] == "function_call" {
                    calls.push((index.unwrap(), String::new()));
                }
            }
            "response.output_item.done" => {
                let item = &mut items[index.unwrap()];
                assert!(item.1 && data["item"]["id"] == item.0.as_str());
                item.1 = false;
            }
            "response.completed" | "response.incomplete" => {
                assert!(proper && items.iter().all(|(_, open)| !open));
                let output = data["response"]["output"].as_array().unwrap();
                let ids: Vec<_> = output.iter().map(|item| item["id"].as_str().unwrap()).collect();
                assert_eq!(ids, items.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>());
                over = true;
            }
            _ => {
                let item = &items[index.unwrap()];
                assert!(item.1 && data["item_id"] == item.0.as_str(), "{kind}");
                let delta = data["delta"].as_str().unwrap_or_default();
                match kind {
                    "response.output_text.delta" => seen.text.push_str(delta),
                    "response.reasoning_summary_text.delta" => seen.thoughts.push_str(delta),
                    "response.function_call_arguments.delta" => {
                        calls.iter_mut().find(|call| Some(call.0) == index).unwrap().1.push_str(delta);
                    }
                    _ => {}
                }
            }
        }
    }
    assert_eq!((over, failed), (proper, !proper));
    seen.calls = calls.into_iter().map(|(_, arguments)| arguments).collect();
    seen
}
