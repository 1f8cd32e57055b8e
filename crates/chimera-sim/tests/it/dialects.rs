//! What each dialect says, unary and streamed.

use chimera_sim::{Framing, Settings, Sim};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::{ask, chat, connect, events, post, text};

fn sim() -> Sim {
    Sim::new(Settings::default())
}

fn openai_text(stream: &str) -> String {
    let events = events(stream);
    let parts = events.iter().filter_map(|event| event.pointer("/choices/0/delta/content")?.as_str());
    parts.collect()
}

#[tokio::test]
async fn openai_stream_says_what_the_unary_answer_says() {
    let sim = sim();
    let body = |stream| {
        json!({"model": "m", "stream": stream, "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": "Tell me of rivers"}]})
    };
    let (status, unary) = ask(&sim, "/v1/chat/completions", &body(false)).await;
    assert_eq!(status, 200);
    assert_eq!(unary["usage"]["completion_tokens"], 32);
    let stream = text(sim.respond(post("/v1/chat/completions", &body(true))).await).await;
    assert!(stream.ends_with("data: [DONE]\n\n"));
    let events = events(&stream);
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events.last().unwrap()["usage"], unary["usage"]);
    let said = openai_text(&stream);
    assert!(said.starts_with("You said: Tell me of rivers"), "{said}");
}

#[tokio::test]
async fn equal_requests_get_equal_bytes_under_any_framing() {
    let whole = text(sim().respond(chat("same", true)).await).await;
    for framing in [Framing::Burst, Framing::Bytes(1), Framing::Bytes(7)] {
        let sim = Sim::new(Settings { framing, ..Settings::default() });
        assert_eq!(text(sim.respond(chat("same", true)).await).await, whole);
    }
}

#[tokio::test]
async fn openai_calls_tools_and_fills_schemas() {
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters":
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}});
    let mut body = json!({"model": "m", "tools": [tool],
        "messages": [{"role": "user", "content": "Call it in parallel"}]});
    let (_, answer) = ask(&sim(), "/v1/chat/completions", &body).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let arguments: Value = serde_json::from_str(calls[0]["function"]["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(arguments, json!({"city": "parallel"}));

    body["messages"].as_array_mut().unwrap().push(json!({"role": "tool", "content": "sunny"}));
    let (_, answer) = ask(&sim(), "/v1/chat/completions", &body).await;
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");

    let format = json!({"type": "json_schema", "json_schema": {"name": "a", "schema":
        {"type": "object", "properties": {"ok": {"type": "boolean"}}}}});
    let body = json!({"model": "m", "response_format": format, "n": 2,
        "messages": [{"role": "user", "content": "Yes?"}]});
    let (_, answer) = ask(&sim(), "/v1/chat/completions", &body).await;
    assert_eq!(answer["choices"][1]["message"]["content"], r#"{"ok":true}"#);
}

#[tokio::test]
async fn openai_embeds_in_batches_and_in_base64() {
    let body = json!({"model": "e", "input": ["one", "two"], "dimensions": 8});
    let (_, answer) = ask(&sim(), "/v1/embeddings", &body).await;
    assert_eq!(answer["data"][1]["embedding"].as_array().unwrap().len(), 8);
    let body = json!({"model": "e", "input": "one", "dimensions": 8, "encoding_format": "base64"});
    let (_, answer) = ask(&sim(), "/v1/embeddings", &body).await;
    assert_eq!(answer["data"][0]["embedding"].as_str().unwrap().len(), 44);
}

#[tokio::test]
async fn anthropic_streams_the_whole_grammar() {
    let mut body = json!({"model": "m", "max_tokens": 10, "stream": true,
        "messages": [{"role": "user", "content": "Hi"}]});
    let stream = text(sim().respond(post("/v1/messages", &body)).await).await;
    let names: Vec<_> = stream.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let edges = ["message_start", "content_block_start", "ping", "content_block_delta"];
    assert_eq!(names[..4], edges);
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    assert!(stream.contains(r#""stop_reason":"max_tokens""#));
    body["stream"] = false.into();
    let (_, unary) = ask(&sim(), "/v1/messages", &body).await;
    assert_eq!(unary["usage"]["output_tokens"], 10);
    assert_eq!(unary["content"][0]["type"], "text");
    let (_, count) = ask(&sim(), "/v1/messages/count_tokens", &body).await;
    assert_eq!(count["input_tokens"], unary["usage"]["input_tokens"]);
}

#[tokio::test]
async fn anthropic_uses_tools_in_a_stream() {
    let body = json!({"model": "m", "max_tokens": 99, "stream": true,
        "tools": [{"name": "look", "input_schema": {"type": "object", "properties": {"q": {"type": "string"}}}}],
        "messages": [{"role": "user", "content": "Look"}]});
    let stream = text(sim().respond(post("/v1/messages", &body)).await).await;
    let parts = events(&stream);
    let json: String =
        parts.iter().filter_map(|event| event.pointer("/delta/partial_json")?.as_str()).collect();
    assert_eq!(json, r#"{"q":"Look"}"#);
    assert!(stream.contains(r#""stop_reason":"tool_use""#));
}

#[tokio::test]
async fn gemini_streams_as_events_and_as_an_array() {
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]});
    let path = "/v1beta/models/sim-small:streamGenerateContent";
    let sse = text(sim().respond(post(&format!("{path}?alt=sse"), &body)).await).await;
    let array = text(sim().respond(post(path, &body)).await).await;
    let array: Vec<Value> = serde_json::from_str(&array).unwrap();
    assert_eq!(events(&sse), array);
    let last = array.last().unwrap();
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    let (_, unary) = ask(&sim(), "/v1beta/models/sim-small:generateContent", &body).await;
    assert_eq!(unary["usageMetadata"], last["usageMetadata"]);
    let (_, count) = ask(&sim(), "/v1beta/models/m:countTokens", &body).await;
    assert_eq!(count["totalTokens"], unary["usageMetadata"]["promptTokenCount"]);
    let request = json!({"content": {"parts": [{"text": "Hi"}]}, "outputDimensionality": 4});
    let (_, one) = ask(&sim(), "/v1beta/models/m:embedContent", &request).await;
    let batch = json!({"requests": [request]});
    let (_, many) = ask(&sim(), "/v1beta/models/m:batchEmbedContents", &batch).await;
    assert_eq!(one["embedding"], many["embeddings"][0]);
}

#[tokio::test]
async fn model_lists_come_in_the_dialect_that_asks() {
    let get = |path: &str, header: Option<(&str, &str)>| {
        let mut request = http::Request::get(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap()
    };
    let list = |path, header| {
        let request = get(path, header);
        async move { text(sim().respond(request).await).await }
    };
    assert!(list("/v1/models", None).await.contains(r#""object":"list""#));
    let anthropic = list("/v1/models", Some(("anthropic-version", "2023-06-01"))).await;
    assert!(anthropic.contains(r#""has_more":false"#));
    assert!(list("/v1beta/models", None).await.contains("models/sim-large"));
    assert!(list("/v1/models/sim-small", None).await.contains("sim-small"));
}

#[tokio::test]
async fn what_a_provider_refuses_is_refused_in_its_dialect() {
    let strict = Sim::new(Settings { any_model: false, ..Settings::default() });
    let (status, error) = ask(&strict, "/v1/chat/completions", &json!({"model": "x"})).await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("model_not_found")));
    let (status, error) = ask(&sim(), "/v1/chat/completions", &json!({"model": "x"})).await;
    assert_eq!((status, &error["error"]["type"]), (400, &json!("invalid_request_error")));
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "a"}]});
    let (status, error) = ask(&sim(), "/v1/messages", &body).await;
    assert_eq!((status, &error["type"]), (400, &json!("error")));
    let (status, error) = ask(&sim(), "/v1beta/models/m:generateContent", &json!({})).await;
    assert_eq!((status, &error["error"]["status"]), (400, &json!("INVALID_ARGUMENT")));
    assert_eq!(ask(&sim(), "/nowhere", &json!({})).await.0, 404);
    let keyed = Sim::new(Settings { required_key: Some("k".into()), ..Settings::default() });
    assert_eq!(ask(&keyed, "/v1/messages", &body).await.0, 401);
    assert_eq!(ask(&keyed, "/v1beta/models/m:embedContent", &json!({})).await.0, 401);
    let right = "/v1beta/models/m:embedContent?key=k";
    let content = json!({"content": {"parts": [{"text": "a"}]}});
    assert_eq!(ask(&keyed, right, &content).await.0, 200);
}

#[tokio::test]
async fn requests_are_remembered_byte_for_byte() {
    let sim = Sim::new(Settings { keep_seen: 2, ..Settings::default() });
    let mut client = connect(&sim).await;
    for prompt in ["a", "b", "c"] {
        let answer = client.send_request(chat(prompt, false)).await.unwrap();
        answer.into_body().collect().await.unwrap();
    }
    let seen = sim.seen();
    assert_eq!(seen.len(), 2);
    let sent = chat("c", false).into_body().collect().await.unwrap().to_bytes();
    assert_eq!(seen[1].body, sent);
    assert_eq!(seen[1].target, "/v1/chat/completions");
    assert_eq!(sim.counts().finished, 3);
    drop(client);
    sim.until(|counts| counts.connections == 0).await;
}
