//! Traces: what a collector is told of a request, and what of it when it does not listen.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{
    Client, PATIENCE, Provider, Server, Step, answer, chat, done, event, json, stream_head,
};

const CONTEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn gateway(provider: &Provider, collector: &Provider, rest: &str) -> Server {
    let traces = format!("[traces]\nendpoint = \"http://{}\"\n{rest}\n", collector.address);
    Server::start(&(traces + &provider.config("")))
}

fn traced(request: &str, context: &str) -> String {
    request.replacen("\r\n", &format!("\r\ntraceparent: {context}\r\n"), 1)
}

/// The spans of so many exports.
fn spans(collector: &Provider, exports: usize) -> Vec<Value> {
    collector.await_requests(exports);
    let requests = collector.requests();
    assert!(requests.iter().all(|request| request.starts_with("POST /v1/traces HTTP/1.1\r\n")));
    let bodies = requests.iter().map(|request| request.split_once("\r\n\r\n").unwrap().1);
    let exports = bodies.map(|body| serde_json::from_str::<Value>(body).unwrap());
    exports
        .flat_map(|export| export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone())
        .collect()
}

fn attribute(span: &Value, key: &str) -> Option<String> {
    let found = span["attributes"].as_array()?.iter().find(|pair| pair["key"] == key)?;
    let value = found["value"].as_object()?.values().next()?;
    Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

#[test]
fn a_request_and_its_call_are_spans_under_the_callers_and_above_the_providers() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let collector = Provider::start(|_| vec![json(200, "{}")]);
    let server = gateway(&provider, &collector, "service_name = \"edge\"");
    let mut client = Client::connect(server.data);
    for _ in 0..2 {
        client.send(traced(&chat("gpt-test", "a secret", false), CONTEXT));
        assert_eq!(client.answer().status, 200);
    }
    let spans = spans(&collector, 1);
    assert_eq!(spans.len(), 3, "two requests, and one call: the other was a hit");
    let (request, call, hit) = (&spans[0], &spans[1], &spans[2]);
    for span in &spans {
        assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    }
    assert_eq!(
        (&request["parentSpanId"], &hit["parentSpanId"]),
        (&"00f067aa0ba902b7".into(), &"00f067aa0ba902b7".into())
    );
    assert_eq!(call["parentSpanId"], request["spanId"]);
    let told = provider.requests()[0].clone();
    let context = format!(
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01\r\n",
        call["spanId"].as_str().unwrap()
    );
    assert!(told.contains(&context) && !told.contains("00f067aa0ba902b7"), "{told}");
    let said = |span: &Value, key: &str| attribute(span, key).unwrap_or_default();
    assert_eq!(
        (said(request, "http.response.status_code"), said(request, "chimera.cache")),
        ("200".into(), "miss; reason=cold".into())
    );
    assert_eq!(said(hit, "chimera.cache"), "l1");
    assert_eq!(
        (said(call, "gen_ai.operation.name"), said(call, "gen_ai.request.model")),
        ("chat".into(), "gpt-test".into())
    );
    assert_eq!(said(call, "chimera.provider"), "openai");
    assert_eq!(call["events"].as_array().unwrap().len(), 1);
    let text = collector.requests().concat();
    assert!(text.contains("edge") && !text.contains("a secret"), "prompts stay here by default");
    assert_eq!(server.metric("chimera_trace_spans_total{result=\"sent\"}"), Some(3.0));
}

#[test]
fn streams_failures_and_prompts_are_told_where_that_is_wanted() {
    let provider = Provider::start(|request| match request.contains("break") {
        true => vec![stream_head(), event("x"), Step::Close],
        false => vec![stream_head(), event("hello"), done()],
    });
    let collector = Provider::start(|_| vec![json(200, "{}")]);
    let server = gateway(&provider, &collector, "prompts = true\nheaders = { x-key = \"canary\" }");
    for text in ["whole", "break"] {
        let mut client = Client::connect(server.data);
        client.send(chat("gpt-test", text, true));
        client.head().unwrap();
        while client.chunk().is_some_and(|chunk| !chunk.is_empty()) {}
    }
    // A caller that does not want to be traced is not.
    let mut client = Client::connect(server.data);
    client.send(traced(&chat("gpt-test", "unseen", true), &CONTEXT.replace("-01", "-00")));
    client.head().unwrap();
    while client.chunk().is_some_and(|chunk| !chunk.is_empty()) {}
    let spans = spans(&collector, 1);
    assert_eq!(spans.len(), 4);
    let (whole, broken) = (&spans[1], &spans[3]);
    assert_eq!(attribute(whole, "chimera.stream").unwrap(), "true");
    assert!(attribute(whole, "chimera.prompt").unwrap().contains("whole"));
    assert_eq!((whole["kind"].as_u64(), &whole["status"]), (Some(3), &serde_json::json!({})));
    assert_eq!(attribute(&spans[2], "error.type").unwrap(), "upstream_unreachable", "{broken}");
    assert!(collector.requests()[0].to_ascii_lowercase().contains("x-key: canary"));
    assert!(!server.log().contains("canary"));
}

#[test]
fn a_collector_that_is_away_costs_traces_and_nothing_else() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let traces = format!("[traces]\nendpoint = \"http://{gone}\"\n");
    let mut server = Server::start(&(traces + &provider.config("")));
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "x", false));
    assert_eq!(client.answer().status, 200);
    let deadline = Instant::now() + PATIENCE;
    while server.metric("chimera_trace_spans_total{result=\"failed\"}").unwrap_or(0.0) < 2.0 {
        assert!(Instant::now() < deadline, "the failure was not counted");
        thread::sleep(Duration::from_millis(20));
    }
    drop(client);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn what_waits_at_the_end_is_sent_before_it() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let collector = Provider::start(|_| vec![json(200, "{}")]);
    let mut server = gateway(&provider, &collector, "");
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "x", false));
    assert_eq!(client.answer().status, 200);
    drop(client);
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert_eq!(spans(&collector, 1).len(), 2);
}
