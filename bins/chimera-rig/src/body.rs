//! The bodies that travel: a 2 KB chat request, a 1.5 KB answer, a stream of events.

use std::fmt::Write;

const FILLER: &str = "The quick brown fox jumps over the lazy dog while the river keeps its own time. ";

/// A chat request of about 2 KB whose text, but not whose length, depends on `number`.
pub(crate) fn request(number: u64, stream: bool) -> String {
    let system = FILLER.repeat(9);
    let user = FILLER.repeat(14);
    let stream = if stream { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
    format!(
        r#"{{"model":"gpt-perf","messages":[{{"role":"system","content":"{system}"}},{{"role":"user","content":"Question {number:016}. {user}"}}],"temperature":0.7,"max_tokens":512{stream}}}"#
    )
}

/// The same as an Anthropic caller asks it: for a stream, with its usage.
pub(crate) fn messages(number: u64) -> String {
    let system = FILLER.repeat(9);
    let user = FILLER.repeat(14);
    format!(
        r#"{{"model":"gpt-perf","system":"{system}","messages":[{{"role":"user","content":"Question {number:016}. {user}"}}],"temperature":0.7,"max_tokens":512,"stream":true}}"#
    )
}

/// The whole HTTP request.
pub(crate) fn http_request(host: &str, path: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer sk-perf\r\naccept: application/json\r\ncontent-type: application/json\r\nuser-agent: chimera-rig\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// A chat answer of about 1.5 KB.
pub(crate) fn answer() -> String {
    let text = FILLER.repeat(14);
    format!(
        r#"{{"id":"chatcmpl-perf","object":"chat.completion","created":1760000000,"model":"gpt-perf","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":480,"completion_tokens":280,"total_tokens":760}},"system_fingerprint":"fp_perf"}}"#
    )
}

/// The events of one stream, each already one HTTP chunk; the last ends the body.
pub(crate) fn event_chunks(events: usize) -> Vec<Vec<u8>> {
    let mut all: Vec<String> = (0..events.max(1))
        .map(|index| {
            let delta = if index == 0 {
                r#"{"role":"assistant","content":"The"}"#.to_owned()
            } else {
                format!(r#"{{"content":" word{index}"}}"#)
            };
            event(&format!(r#"[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":null}}]"#))
        })
        .collect();
    all.push(event(r#"[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]"#));
    let usage = format!(
        r#"[],"usage":{{"prompt_tokens":480,"completion_tokens":{events},"total_tokens":{}}}"#,
        480 + events
    );
    all.push(event(&usage));
    all.push("data: [DONE]\n\n".into());
    let mut chunks: Vec<_> = all.iter().map(|event| chunk(event)).collect();
    if let Some(last) = chunks.last_mut() {
        last.extend_from_slice(b"0\r\n\r\n");
    }
    chunks
}

fn event(choices: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-perf\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"gpt-perf\",\"system_fingerprint\":\"fp_perf\",\"choices\":{choices}}}\n\n"
    )
}

fn chunk(data: &str) -> Vec<u8> {
    let mut chunk = String::new();
    // Writing into a string cannot fail.
    let _ = write!(chunk, "{:x}\r\n{data}\r\n", data.len());
    chunk.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_the_measurement_promises() {
        assert!((1900..2300).contains(&request(7, false).len()));
        assert_eq!(request(7, false).len(), request(1 << 40, false).len());
        assert!(messages(7).len().abs_diff(request(7, true).len()) < 100);
        assert!((1400..1700).contains(&answer().len()));
    }

    #[test]
    fn bodies_are_json() {
        for text in [request(1, true), request(1, false), messages(1), answer()] {
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
        let chunks = event_chunks(3);
        assert_eq!(chunks.len(), 6);
        for chunk in &chunks[..5] {
            let text = std::str::from_utf8(chunk).unwrap();
            let data = text.split_once("data: ").unwrap().1;
            serde_json::from_str::<serde_json::Value>(data.trim()).unwrap();
        }
    }
}
