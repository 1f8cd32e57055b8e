//! Same dialect, same name: bytes go through untouched, both ways.

use std::{sync::Arc, time::Duration};

use chimera_gateway::{DialectId, Gateway, Models, Settings};

use crate::support::{
    ANSWER, Act, CHAT, DONE, ROLE, STOP, Script, Scripted, USAGE, call, chat, delta, gateway, post, provider,
    stream, unary,
};

const TOOL_ANSWER: &str = r#"{ "id":"c",  "object":"chat.completion","created":1,"model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"x\": 1.0}"}}]},"finish_reason":"tool_calls"}],"x_unknown":[1.50, 1e3]}"#;

/// C10: big integers, spelling, order, escapes and unknown fields go on as they came.
const ODD: &str = r#"{ "messages" : [ {"role":"user","content":"h\u0069 \ud83d\ude00"} ],
  "model":"gpt-x", "seed": 9007199254740993, "temperature": 1.0, "x_unknown": {"b":1,"a":[1.50]},
  "tools":[{"type":"function","function":{"name":"f","parameters":{"const":1E2}}}] }"#;

#[tokio::test]
async fn c10_openai_bytes_are_forwarded_untouched_tool_calls_included() {
    let upstream = Scripted::answering(unary(200, TOOL_ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let answer = call(&gateway, post("/v1/chat/completions", ODD)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, TOOL_ANSWER);
    assert_eq!(upstream.body(0), ODD);
    assert!(upstream.request(0).starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
}

/// Providers cache prompts by their prefix, byte for byte: what has been said must be sent again as it
/// was, or every turn is billed in full.
#[tokio::test]
async fn pain_18_each_turn_of_a_conversation_begins_with_the_bytes_of_the_last() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let mut said = r#"{ "model" : "gpt-x","messages":[ {"role":"system","content":"be \u00e9 brief","cache_control":{ "type":"ephemeral" } }"#.to_owned();
    for turn in 0..4 {
        said.push_str(&format!(r#" , {{"content":"turn {turn}", "role":"user"}},{{"role":"assistant","content":null,"tool_calls":[]}}"#));
        let body = format!("{said}]}}");
        assert_eq!(call(&gateway, post(CHAT, &body)).await.status, 200);
        assert_eq!(upstream.body(turn), body);
        assert!(upstream.body(turn).starts_with(&said));
    }
}

#[tokio::test]
async fn anthropic_bytes_and_versions_are_forwarded_untouched() {
    let body = r#"{"model":"claude-x","max_tokens":5,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":"hi"}]}"#;
    let reply = r#"{"type":"message","content":[{"type":"tool_use","id":"t","name":"f","input":{ "x":1 }}],"usage":{"input_tokens":1,"output_tokens":1}}"#;
    let upstream = Scripted::answering(unary(200, reply));
    let gateway = gateway(DialectId::Anthropic, &upstream);
    let mut request = post("/v1/messages?beta=true", body);
    request.headers_mut().insert("anthropic-version", "2024-01-01".parse().unwrap());
    request.headers_mut().insert("anthropic-beta", "a-1,b-2".parse().unwrap());
    request.headers_mut().append("anthropic-beta", "c-3".parse().unwrap());
    let answer = call(&gateway, request).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, reply));
    assert_eq!(upstream.body(0), body);
    let head = upstream.request(0);
    assert!(head.starts_with("POST /v1/messages?beta=true HTTP/1.1\r\n"), "{head}");
    for line in
        ["anthropic-version: 2024-01-01\r\n", "anthropic-beta: a-1,b-2\r\n", "anthropic-beta: c-3\r\n"]
    {
        assert_eq!(head.matches(line).count(), 1, "{line} in {head}");
    }
    assert_eq!(head.matches("anthropic-version").count(), 1, "{head}");
    assert!(!answer.header("request-id").is_empty());
}

#[tokio::test]
async fn gemini_unary_stream_and_array_are_forwarded_untouched() {
    let body = r#"{"contents":[{"role":"user","parts":[{"text":"hi"}]}]}"#;
    let reply = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}},"thoughtSignature":"AA=="}]},"finishReason":"STOP"}]}"#;
    let upstream = Scripted::answering(unary(200, reply));
    let answer = call(
        &gateway(DialectId::Gemini, &upstream),
        post("/v1beta/models/gemini-x:generateContent?key=client", body),
    )
    .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, reply));
    assert!(upstream.request(0).starts_with("POST /v1beta/models/gemini-x:generateContent HTTP/1.1\r\n"));
    assert_eq!(upstream.body(0), body);

    let events = [format!("data: {reply}\r\n\r\n")];
    let upstream = Scripted::answering(stream(&[&events[0]]));
    let answer = call(
        &gateway(DialectId::Gemini, &upstream),
        post("/v1beta/models/gemini-x:streamGenerateContent?alt=sse", body),
    )
    .await;
    assert_eq!(answer.body, events[0]);
    assert!(
        upstream
            .request(0)
            .starts_with("POST /v1beta/models/gemini-x:streamGenerateContent?alt=sse HTTP/1.1\r\n")
    );

    let array = format!("[{reply},\r\n{reply}]");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=UTF-8\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    for piece in [&array[..40], &array[40..]] {
        bytes.extend(crate::support::chunk(piece));
    }
    bytes.extend_from_slice(crate::support::END);
    let upstream = Scripted::answering(bytes);
    let gateway = gateway(DialectId::Gemini, &upstream);
    let request = || post("/v1beta/models/gemini-x:streamGenerateContent", body);
    let answer = call(&gateway, request()).await;
    assert_eq!((answer.body.as_str(), answer.aborted), (array.as_str(), false));
    // Again, from the cache, and as events.
    let again = call(&gateway, request()).await;
    assert_eq!(again.header("x-chimera-cache"), "l1");
    let whole: serde_json::Value = serde_json::from_str(&again.body).unwrap();
    assert_eq!(whole, serde_json::from_str::<serde_json::Value>(&array).unwrap());
    assert_eq!(upstream.count(), 1);
}

/// Pains 5 and 16: usage is always asked for, and taken out again for callers who did not ask.
#[tokio::test]
async fn pain_5_usage_is_asked_for_and_stripped() {
    let events = [ROLE, &delta("a"), &delta("b"), STOP, USAGE, DONE];
    let upstream = Scripted::answering(stream(&events));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let answer = call(&gateway, chat("gpt-x", "one", true)).await;
    assert_eq!(answer.body, [ROLE, &delta("a"), &delta("b"), STOP, DONE].concat());
    let asked = r#"{"stream_options":{"include_usage":true},"model":"gpt-x","messages":[{"role":"user","content":"one"}],"stream":true}"#;
    assert_eq!(upstream.body(0), asked, "one member is added and every other byte stays");
    // A caller who asks gets every byte, from the same entry.
    let body = r#"{"model":"gpt-x","messages":[{"role":"user","content":"one"}],"stream":true,"stream_options":{"include_usage":true}}"#;
    let asking = call(&gateway, post("/v1/chat/completions", body)).await;
    assert_eq!(asking.header("x-chimera-cache"), "l1");
    assert_eq!(asking.body, events.concat());
}

#[tokio::test]
async fn a_stream_that_asks_for_usage_is_untouched_both_ways() {
    let events = [ROLE, &delta("a"), STOP, USAGE, DONE];
    let upstream = Scripted::answering(stream(&events));
    let body = r#"{"model":"gpt-x","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
    let answer = call(&gateway(DialectId::OpenAi, &upstream), post("/v1/chat/completions", body)).await;
    assert_eq!(answer.body, events.concat());
    assert_eq!(upstream.body(0), body);
}

#[tokio::test]
async fn a_prefixed_model_and_the_gateways_own_member_are_the_only_changes() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let body = r#"{"model":"one/gpt-x", "cache":{"no-store":true},"messages":[ ]}"#;
    let answer = call(&gateway, post("/v1/chat/completions", body)).await;
    assert_eq!(answer.header("x-chimera-cache"), "miss; reason=no-store");
    assert_eq!(upstream.body(0), r#"{"model":"gpt-x", "messages":[ ]}"#);
}

#[tokio::test]
async fn the_short_form_goes_the_same_way() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let answer = call(&gateway, post("/api/v1/generate", r#"{"model":"gpt-x","prompt":"hi"}"#)).await;
    assert_eq!(answer.body, ANSWER);
    assert_eq!(upstream.body(0), r#"{"model":"gpt-x","messages":[{"role":"user","content":"hi"}]}"#);
    // The same question in the long form is the same question.
    let long = call(&gateway, chat("gpt-x", "hi", false)).await;
    assert_eq!(long.header("x-chimera-cache"), "l1");
}

/// A list that was asked for under the old configuration is not kept for the new one.
#[tokio::test(start_paused = true)]
async fn pain_25_a_list_that_a_reload_overtakes_is_not_kept() {
    let listing = |id: &str| {
        let list = format!(r#"{{"object":"list","data":[{{"id":"{id}","object":"model"}}]}}"#);
        let slow = Act::Sleep(Duration::from_secs(1));
        Scripted::new([Script::Acts(vec![Act::Read, slow, Act::Write(unary(200, &list)), Act::Again])])
    };
    let settings = |upstream: &Arc<Scripted>| {
        let mut models = Models::default();
        models.add_provider(provider("one", DialectId::OpenAi, upstream));
        Settings::new(models)
    };
    let gateway = Gateway::new(settings(&listing("gpt-old")), [7; 32]).unwrap();
    let listed = async || {
        let request = http::Request::get("/v1/models").header("host", "localhost");
        let list = call(&gateway, request.body(Default::default()).unwrap()).await.json();
        list["data"][0]["id"].as_str().unwrap().to_owned()
    };
    let reload = async {
        crate::support::settle().await;
        gateway.reload(settings(&listing("gpt-new")));
    };
    assert_eq!(tokio::join!(listed(), reload).0, "gpt-old");
    assert_eq!(listed().await, "gpt-new");
}

#[tokio::test]
async fn model_lists_are_merged_and_a_silent_provider_is_left_out() {
    let listing = Scripted::answering(unary(
        200,
        r#"{"object":"list","data":[{"id":"gpt-a","object":"model","owned_by":"x"}]}"#,
    ));
    let dead = Scripted::new([Script::Refuse]);
    let gateway = crate::support::duo(&listing, &dead, chimera_provider_pool::Failover::default());
    let list = |anthropic: bool, path: &str| {
        let mut request = http::Request::get(path).header("host", "localhost");
        if anthropic {
            request = request.header("anthropic-version", "2023-06-01");
        }
        request.body(http_body_util::Full::new(bytes::Bytes::new())).unwrap()
    };
    let openai = call(&gateway, list(false, "/v1/models")).await.json();
    let ids: Vec<_> = openai["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["duo", "gpt-a"]);
    let anthropic = call(&gateway, list(true, "/v1/models")).await.json();
    assert_eq!(anthropic["data"][1]["type"], "model");
    let gemini = call(&gateway, list(false, "/v1beta/models")).await.json();
    assert_eq!(gemini["models"][1]["name"], "models/gpt-a");
    assert_eq!(call(&gateway, list(false, "/v1/models/gpt-a")).await.json()["owned_by"], "x");
    assert_eq!(call(&gateway, list(false, "/v1/models/none")).await.status, 404);
}

/// Pain 15: what a client sends to us stays with us.
#[tokio::test]
async fn pain_15_client_headers_and_credentials_are_never_forwarded() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let mut request = chat("gpt-x", "x", false);
    for (name, value) in [
        ("authorization", "Bearer client-secret"),
        ("cookie", "client-secret"),
        ("x-forwarded-for", "client-secret"),
        ("x-api-key", "client-secret"),
        ("openai-organization", "client-secret"),
        ("connection", "x-custom"),
        ("x-custom", "client-secret"),
        ("anthropic-beta", "client-secret"),
        ("user-agent", "client-secret"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request.headers_mut().insert("traceparent", "00-abc-01".parse().unwrap());
    assert_eq!(call(&gateway, request).await.status, 200);
    let sent = upstream.request(0);
    assert!(!sent.contains("client-secret"), "{sent}");
    assert!(sent.contains("traceparent: 00-abc-01\r\n"));
    assert!(sent.contains("authorization: Bearer sk-canary-0123456789-one\r\n"));
    assert!(sent.contains("accept-encoding: identity\r\n") && sent.contains("host: upstream.test\r\n"));
}

/// Pain 16: events leave as they come; whatever the chunking, the same bytes.
#[tokio::test(start_paused = true)]
async fn pain_16_events_pass_one_by_one_and_any_chunking_gives_the_same_bytes() {
    let whole = [ROLE, &delta("grüße"), &delta("b"), STOP, DONE].concat();
    for size in [1, 7, 40, 4096] {
        let mut acts = vec![Act::Read, Act::Write(crate::support::SSE_HEAD.as_bytes().to_vec())];
        for piece in whole.as_bytes().chunks(size) {
            acts.push(Act::Write([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()));
            acts.push(Act::Sleep(Duration::from_millis(1)));
        }
        acts.push(Act::Write(crate::support::END.to_vec()));
        acts.push(Act::AwaitClose);
        let upstream = Scripted::new([Script::Acts(acts)]);
        let answer = call(&gateway(DialectId::OpenAi, &upstream), chat("gpt-x", "x", true)).await;
        assert_eq!((answer.body.as_str(), answer.aborted), (whole.as_str(), false), "{size}");
    }
}

/// OpenAI's responses of a provider that serves them: state of its own, streamed and whole, untouched.
#[tokio::test]
async fn responses_are_forwarded_untouched_where_the_provider_serves_them() {
    let body = r#"{ "model":"gpt-x","input":"hi","previous_response_id":"resp_0","tools":[{"type":"web_search"}],"stream":true}"#;
    let whole = r#"{"id":"resp_1","object":"response","status":"completed","output":[],"usage":{"input_tokens":5,"output_tokens":2}}"#;
    let events = [
        "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0}\n\n".to_owned(),
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"a\"}\n\n".to_owned(),
        format!("event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":2,\"response\":{whole}}}\n\n"),
    ];
    let upstream = Scripted::answering(stream(&[&events[0], &events[1], &events[2]]));
    let gateway = gateway(DialectId::Responses, &upstream);
    let answer = call(&gateway, post("/v1/responses", body)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, events.concat().as_str()));
    assert!(upstream.request(0).starts_with("POST /v1/responses HTTP/1.1\r\n"));
    assert_eq!(upstream.body(0), body);
    let unary = call(&gateway, post("/v1/responses", &body.replace("true", "false"))).await;
    assert_eq!((unary.header("x-chimera-cache"), unary.body.as_str()), ("l1", whole));
}

/// Beside chat completions: responses go where they are at home and are kept for their callers alone, since
/// their ids name state of the provider's. All others share the answer of the chat.
#[tokio::test]
async fn responses_of_a_provider_stand_apart_from_what_others_share() {
    let whole = r#"{"id":"resp_1","object":"response","status":"completed","output":[],"usage":{"input_tokens":5,"output_tokens":2}}"#;
    let acts = [unary(200, whole), unary(200, ANSWER)];
    let acts = acts.into_iter().flat_map(|answer| [Act::Read, Act::Write(answer)]).collect();
    let upstream = Scripted::new([Script::Acts(acts)]);
    let mut both = provider("one", DialectId::OpenAi, &upstream);
    both.dialects.push(DialectId::Responses);
    let mut models = Models::default();
    models.add_provider(both);
    let gateway = Gateway::new(Settings::new(models), [7; 32]).unwrap();
    let said = ["miss; reason=cold", "miss; reason=cold", "l1", "l1", "l1"];
    let callers = [
        DialectId::Responses,
        DialectId::Anthropic,
        DialectId::OpenAi,
        DialectId::Gemini,
        DialectId::Responses,
    ];
    for (caller, said) in callers.into_iter().zip(said) {
        let answer = call(&gateway, crate::dialects::ask(caller, "gpt-x", false)).await;
        assert_eq!((answer.status, answer.header("x-chimera-cache")), (200, said), "{caller:?}");
        assert_eq!(answer.body == whole, caller == DialectId::Responses);
    }
    assert!(upstream.request(0).starts_with("POST /v1/responses HTTP/1.1\r\n"));
    assert!(upstream.request(1).starts_with("POST /v1/chat/completions HTTP/1.1\r\n"));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_previous_response_is_refused_by_name_where_nobody_keeps_it() {
    for dialect in [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini] {
        let upstream = Scripted::answering(unary(200, ANSWER));
        let model = ["gpt-x", "claude-x", "gemini-x"][dialect as usize];
        let body = format!(r#"{{"model":"{model}","input":"hi","previous_response_id":"resp_0"}}"#);
        let answer = call(&gateway(dialect, &upstream), post("/v1/responses", &body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"));
        assert_eq!(answer.json()["error"]["param"], "previous_response_id");
        assert_eq!(upstream.count(), 0);
    }
}

#[tokio::test]
async fn a_model_that_nobody_serves_is_refused_by_name() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let unknown = call(&gateway, chat("nobody", "x", false)).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (404, "model_not_found"));
}

/// Whatever is listed can be called by the name under which it is listed.
#[tokio::test]
async fn pain_25_a_model_is_listed_under_a_name_that_leads_to_it() {
    let models =
        r#"{"object":"list","data":[{"id":"gpt-a","object":"model"},{"id":"llama","object":"model"}]}"#;
    let upstream = Scripted::answering(unary(200, models));
    let gateway = gateway(DialectId::OpenAi, &upstream);
    let get = |path: &str| {
        let request = http::Request::get(path).header("host", "localhost");
        request.body(http_body_util::Full::new(bytes::Bytes::new())).unwrap()
    };
    let listed = call(&gateway, get("/v1/models")).await.json();
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["gpt-a", "one/llama"]);
    for id in ids {
        // It reaches the provider, which answers everything with its list.
        assert_eq!(call(&gateway, chat(id, "x", false)).await.status, 502, "{id}");
        assert_eq!(call(&gateway, get(&format!("/v1/models/{id}"))).await.json()["id"], id);
    }
    assert_eq!(call(&gateway, get("/v1/models/llama")).await.status, 404);
    assert_eq!(call(&gateway, chat("llama", "x", false)).await.status, 404);
    let gemini = call(&gateway, get("/v1beta/models")).await.json();
    assert_eq!(gemini["models"][1]["name"], "models/one/llama");
}
