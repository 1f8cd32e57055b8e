//! Pipelines around calls, and the API of their own.

use chimera_gateway::{DialectId, Gateway, Models, PipelineSpec, PoolSettings, Settings, Transforms};
use chimera_transform::{
    Changes, OnFailure, Pipeline, Place, Prompt, Seed, Step, StepError, Stepped, Transform,
};
use serde_json::{Value, json};

use crate::support::{
    ANSWER, Act, CHAT, DONE, ROLE, STOP, Script, Scripted, call, chat, delta, next, post, provider, stream,
    unary,
};

pub(crate) const MAIL: &str = "ada@example.com";

pub(crate) fn transforms(spec: Value) -> Transforms {
    let spec: PipelineSpec = serde_json::from_value(spec).unwrap();
    let mut transforms = Transforms::default();
    transforms.add("private", &spec).unwrap();
    transforms
}

pub(crate) fn gateway(dialect: DialectId, upstream: &std::sync::Arc<Scripted>, spec: Value) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", dialect, upstream));
    let mut settings = Settings::new(models);
    settings.transforms = transforms(spec);
    Gateway::new(settings, [7; 32]).unwrap()
}

pub(crate) fn redacting() -> Value {
    json!({ "steps": ["normalize", "redact"], "routes": ["chat_completions", "messages", "generate_content", "stream_generate_content"] })
}

/// The placeholder that a body holds.
pub(crate) fn placeholder(body: &str) -> String {
    let at = body.find("[EMAIL_1_").unwrap_or_else(|| panic!("{body}"));
    let end = body[at..].find(']').unwrap();
    body[at..=at + end].to_owned()
}

/// What a prompt with the address becomes on its way to the provider.
pub(crate) async fn sent(dialect: DialectId, path: &str, body: &str) -> String {
    let upstream = Scripted::answering(unary(200, ANSWER));
    call(&gateway(dialect, &upstream, redacting()), post(path, body)).await;
    upstream.body(0)
}

pub(crate) fn asking(stream: bool) -> String {
    let stream = if stream { r#","stream":true,"stream_options":{"include_usage":true}"# } else { "" };
    format!(r#"{{"model":"gpt-x","messages":[{{"role":"user","content":"I am {MAIL}"}}]{stream}}}"#)
}

#[tokio::test]
async fn what_is_redacted_never_leaves_and_comes_back_in_the_answer() {
    let seen = placeholder(&sent(DialectId::OpenAi, CHAT, &asking(false)).await);
    let upstream = Scripted::answering(unary(200, &ANSWER.replace("hello there", &format!("Hello {seen}!"))));
    let gateway = gateway(DialectId::OpenAi, &upstream, redacting());
    for cache in ["miss; reason=cold", "l1"] {
        let answer = call(&gateway, post(CHAT, &asking(false))).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("x-chimera-cache"), cache);
        assert_eq!(answer.header("x-chimera-transforms"), "private; normalize, redact");
        assert_eq!(answer.json()["choices"][0]["message"]["content"], format!("Hello {MAIL}!"));
    }
    assert!(!upstream.request(0).contains(MAIL));
    assert_eq!(upstream.count(), 1, "equal requests meet in the cache behind the pipeline");
}

#[tokio::test]
async fn u24_a_placeholder_that_straddles_chunks_comes_back_in_streams() {
    let seen = placeholder(&sent(DialectId::OpenAi, CHAT, &asking(true)).await);
    for cut in [1, 5, 12, seen.len() - 1] {
        let (one, two) = seen.split_at(cut);
        let (one, two) = (delta(&format!("Hello {one}")), delta(&format!("{two}!")));
        let upstream = Scripted::answering(stream(&[ROLE, &one, &two, STOP, DONE]));
        let gateway = gateway(DialectId::OpenAi, &upstream, redacting());
        for _ in ["from the provider", "from the cache"] {
            let answer = call(&gateway, post(CHAT, &asking(true))).await;
            assert!(!answer.aborted);
            let text: String = answer
                .body
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
                .filter_map(|event| Some(event["choices"][0]["delta"]["content"].as_str()?.to_owned()))
                .collect();
            assert_eq!(text, format!("Hello {MAIL}!"), "{}", answer.body);
            assert!(answer.body.ends_with(DONE), "the end stays the last: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn a_stream_of_gemini_as_an_array_is_restored_too() {
    let path = "/v1beta/models/gemini-x:streamGenerateContent";
    let body = format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"I am {MAIL}"}}]}}]}}"#);
    let seen = placeholder(&sent(DialectId::Gemini, path, &body).await);
    let (one, two) = seen.split_at(7);
    let element = |text: &str, end: &str| {
        format!(
            r#"{{"candidates":[{{"content":{{"role":"model","parts":[{{"text":"{text}"}}]}}{end},"index":0}}]}}"#
        )
    };
    let array = format!("[{},\r\n{}]", element(one, ""), element(two, r#","finishReason":"STOP""#));
    let upstream = Scripted::answering(unary(200, &array));
    let gateway = gateway(DialectId::Gemini, &upstream, redacting());
    for _ in ["from the provider", "from the cache"] {
        let answer = call(&gateway, post(path, &body)).await;
        let elements: Value =
            serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{}", answer.body));
        let text: String = elements
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["candidates"][0]["content"]["parts"][0]["text"].as_str())
            .collect();
        assert_eq!(text, MAIL, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_caller_of_another_dialect_gets_its_values_back() {
    let ask = format!(
        r#"{{"model":"gpt-x","max_tokens":9,"messages":[{{"role":"user","content":"I am {MAIL}"}}]}}"#
    );
    let seen = placeholder(&sent(DialectId::OpenAi, "/v1/messages", &ask).await);
    let upstream = Scripted::answering(unary(200, &ANSWER.replace("hello there", &seen)));
    let gateway = gateway(DialectId::OpenAi, &upstream, redacting());
    let answer = call(&gateway, post("/v1/messages", &ask)).await;
    assert_eq!(answer.json()["content"][0]["text"], MAIL, "{}", answer.body);
}

#[tokio::test]
async fn without_a_pipeline_nothing_is_altered() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let spec = json!({ "steps": ["redact"], "routes": ["embeddings"] });
    let gateway = gateway(DialectId::OpenAi, &upstream, spec);
    let answer = call(&gateway, post(CHAT, &asking(false))).await;
    assert_eq!(upstream.body(0), asking(false));
    assert_eq!(answer.header("x-chimera-transforms"), "");
}

#[tokio::test]
async fn a_pipeline_is_part_of_the_cache_keys_version() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream, json!({ "steps": ["normalize"] }));
    for pipeline in [None, Some("private"), None, Some("private")] {
        let mut request = chat("gpt-x", "plain", false);
        if let Some(name) = pipeline {
            request.headers_mut().insert("x-chimera-pipeline", name.parse().unwrap());
        }
        assert_eq!(call(&gateway, request).await.status, 200);
    }
    assert_eq!(upstream.count(), 2, "one call with it and one without");
}

#[tokio::test]
async fn a_pipeline_that_is_set_cannot_be_left_by_a_header() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &upstream));
    let mut settings = Settings::new(models);
    settings.transforms = transforms(redacting());
    let weak: PipelineSpec = serde_json::from_value(json!({ "steps": ["normalize"] })).unwrap();
    settings.transforms.add("weak", &weak).unwrap();
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    for (name, status) in [("private", 200), ("weak", 403), ("none", 400)] {
        let mut request = post(CHAT, &asking(false));
        request.headers_mut().insert("x-chimera-pipeline", name.parse().unwrap());
        assert_eq!(call(&gateway, request).await.status, status, "{name}");
    }
}

fn templates() -> Value {
    json!({
        "steps": ["template", "redact"],
        "routes": ["chat_completions", "messages", "generate"],
        "template": { "prompts": [
            { "id": "reply", "version": "1", "system": "Old." },
            {
                "id": "reply", "version": "2", "system": "You answer for {{ company }}.",
                "examples": [{ "user": "Hi", "assistant": "Hello from {{ company }}!" }],
                "user": "{{ question }}",
                "variables": { "company": { "type": "string", "default": "Acme" }, "question": "string" },
            },
        ] },
    })
}

#[tokio::test]
async fn a_template_is_asked_for_by_name_in_every_dialect() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream, templates());
    let question = format!("Where is {MAIL}?");
    let prompt = json!({ "id": "reply", "variables": { "question": question } });
    for (path, body) in [
        (CHAT, json!({ "model": "gpt-x", "prompt": prompt })),
        ("/v1/messages", json!({ "model": "gpt-x", "max_tokens": 9, "messages": [], "prompt": prompt })),
        ("/api/v1/generate", json!({ "model": "gpt-x", "prompt": prompt })),
    ] {
        let count = upstream.count();
        let mut request = post(path, &body.to_string());
        request.headers_mut().insert("x-chimera-cache", "no-cache".parse().unwrap());
        let answer = call(&gateway, request).await;
        assert_eq!(answer.status, 200, "{path} {}", answer.body);
        let sent: Value = serde_json::from_str(&upstream.body(count)).unwrap();
        assert!(sent.get("prompt").is_none(), "{sent}");
        let said: Vec<_> =
            sent["messages"].as_array().unwrap().iter().map(|turn| turn["content"].to_string()).collect();
        assert!(said[0].contains("You answer for Acme.") && said[2].contains("Hello from Acme!"), "{said:?}");
        // What follows sees what the template wrote.
        assert!(said[3].contains("[EMAIL_1_") && said.len() == 4, "{said:?}");
    }
}

#[tokio::test]
async fn what_is_wrong_about_a_template_is_told_without_its_values() {
    let upstream = Scripted::new([Script::Refuse]);
    let gateway = gateway(DialectId::OpenAi, &upstream, templates());
    for (prompt, said) in [
        (json!({ "id": "nothing" }), "prompt.id"),
        (json!({ "id": "reply", "version": "9" }), "prompt.version"),
        (json!({ "id": "reply" }), "prompt.variables.question: it is required"),
        (json!({ "id": "reply", "variables": { "question": ["canary"] } }), "it must be a string"),
    ] {
        let answer =
            call(&gateway, post(CHAT, &json!({ "model": "gpt-x", "prompt": prompt }).to_string())).await;
        assert_eq!((answer.status, answer.json()["error"]["param"].as_str().unwrap()), (422, "template"));
        assert!(answer.body.contains(said) && !answer.body.contains("canary"), "{}", answer.body);
    }
    // The API renders without a call.
    let prompt = json!({ "id": "reply", "variables": { "question": "Where?" } });
    let ask = json!({ "pipeline": "private", "prompt": prompt });
    let told = call(&gateway, post("/api/v1/transform", &ask.to_string())).await.json();
    assert_eq!(told["messages"][3], json!({ "role": "user", "content": "Where?" }), "{told}");
    assert_eq!(told["report"][0]["notes"]["turns"], 4);
}

#[tokio::test]
async fn what_policy_blocks_is_refused_without_a_call_and_without_a_quote() {
    let upstream = Scripted::new([Script::Acts(vec![Act::Read])]);
    let spec = json!({ "steps": ["redact"], "routes": ["chat_completions"], "redact": { "kinds": { "email": "block" } } });
    let answer = call(&gateway(DialectId::OpenAi, &upstream, spec), post(CHAT, &asking(false))).await;
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_request"));
    assert!(answer.body.contains("email") && !answer.body.contains(MAIL));
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn pain_14_a_guard_ends_a_stream_before_anything_of_a_match_is_told() {
    let events = [ROLE, &delta("All is we"), &delta("ll. The blue"), &delta(" moon rises"), STOP, DONE];
    let upstream = Scripted::answering(stream(&events));
    let spec =
        json!({ "steps": ["guard"], "routes": ["chat_completions"], "guard": { "words": ["blue moon"] } });
    let gateway = gateway(DialectId::OpenAi, &upstream, spec.clone());
    let answer = call(&gateway, post(CHAT, &asking(true))).await;
    assert!(answer.aborted && !answer.body.contains("[DONE]"));
    assert!(answer.body.contains("All is") && !answer.body.contains("blue"), "{}", answer.body);
    assert!(answer.body.contains("what is not allowed"));
    // The same from the cache, and whole.
    let again = call(&gateway, post(CHAT, &asking(true))).await;
    assert!(!again.body.contains("blue"), "{}", again.body);
    let whole = Scripted::answering(unary(200, &ANSWER.replace("hello there", "a Blue Moon")));
    let answer = call(&self::gateway(DialectId::OpenAi, &whole, spec), post(CHAT, &asking(false))).await;
    assert_eq!(answer.status, 422);
    assert!(!answer.body.contains("Moon"));
}

#[tokio::test]
async fn pain_22_large_bodies_are_transformed_off_the_event_loop_and_small_ones_on_it() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let gateway = gateway(DialectId::OpenAi, &upstream, redacting());
    assert_eq!(call(&gateway, post(CHAT, &asking(false))).await.status, 200);
    assert_eq!(gateway.worker_pool().done, 0, "no thread is started for small bodies");
    let large = asking(false).replace("I am", &"I am still ".repeat(10_000));
    assert_eq!(call(&gateway, post(CHAT, &large)).await.status, 200);
    assert_eq!(gateway.worker_pool().done, 1);
    assert!(upstream.body(1).contains("[EMAIL_1_") && !upstream.body(1).contains(MAIL));
}

fn bare() -> Gateway {
    gateway(DialectId::OpenAi, &Scripted::new([Script::Refuse]), json!({ "steps": ["redact"] }))
}

#[tokio::test]
async fn the_api_answers_with_output_report_and_counts() {
    let gateway = bare();
    let ask = json!({ "pipeline": "private", "text": format!("mail {MAIL}") });
    let answer = call(&gateway, post("/api/v1/transform", &ask.to_string())).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told = answer.json();
    assert!(told["text"].as_str().unwrap().starts_with("mail [EMAIL_1_"));
    assert_eq!(told["report"][0]["notes"]["email"], 1);
    assert!(told["report"][0]["elapsed_us"].as_f64().unwrap() > 0.0);
    assert!(told["tokens"]["before"].as_u64().unwrap() > 0 && told["tokens"]["after"].as_u64().unwrap() > 0);
    let ask = json!({
        "steps": ["normalize", "budget"], "normalize": { "white_space": true }, "budget": { "tokens": 50 },
        "messages": [{ "role": "user", "content": "a  \n\n\n\nb" }],
    });
    let told = call(&gateway, post("/api/v1/transform", &ask.to_string())).await.json();
    assert_eq!(told["messages"][0]["content"], "a\n\nb");
    assert_eq!(told["tokens"]["exact"], true);
}

#[tokio::test]
async fn bad_input_of_the_api_names_the_field() {
    let gateway = bare();
    for (ask, status, param) in [
        (json!({}), 400, "text"),
        (json!({ "text": "x" }), 400, "pipeline"),
        (json!({ "text": "x", "pipeline": "none" }), 400, "pipeline"),
        (json!({ "text": 1, "pipeline": "private" }), 400, "text"),
        (json!({ "text": "x", "messages": [], "pipeline": "private" }), 400, "text"),
        (json!({ "messages": ["x"], "pipeline": "private" }), 400, "messages"),
        (json!({ "text": "x", "steps": ["fly"] }), 422, "steps"),
        (json!({ "text": "x", "steps": ["redact"], "redact": { "policy": "canary" } }), 422, "redact"),
        (json!({ "text": "x", "steps": ["redact"], "pipeline": "private" }), 400, "steps"),
        (json!({ "text": "x", "shoe": 1, "pipeline": "private" }), 400, "shoe"),
        (json!({ "prompt": [], "pipeline": "private" }), 400, "prompt"),
        (json!({ "text": "x", "model": 1, "pipeline": "private" }), 400, "model"),
        (json!({ "text": "x", "steps": ["budget"], "budget": { "tokens": 0 } }), 422, "budget.tokens"),
    ] {
        let answer = call(&gateway, post("/api/v1/transform", &ask.to_string())).await;
        assert_eq!(
            (answer.status, answer.json()["error"]["param"].as_str().unwrap()),
            (status, param),
            "{ask}"
        );
        assert!(!answer.body.contains("canary"));
    }
}

#[tokio::test]
async fn what_is_too_large_or_too_deep_is_refused_by_the_api() {
    let mut settings = Settings::new(Models::default());
    settings.transforms = transforms(json!({ "steps": ["redact"] }));
    settings.sizes.request = 2000;
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let ask = |content: &str| {
        format!(r#"{{"pipeline":"private","messages":[{{"role":"user","content":{content}}}]}}"#)
    };
    let batch = |content: &str| {
        format!(r#"{{"pipeline":"private","items":[{{"messages":[{{"content":{content}}}]}}]}}"#)
    };
    for (path, body) in
        [("/api/v1/transform", ask(&nested(150))), ("/api/v1/transform/batch", batch(&nested(150)))]
    {
        let answer = call(&gateway, post(path, &body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{}", answer.body);
        assert!(answer.body.contains("not valid JSON"), "{}", answer.body);
    }
    assert_eq!(call(&gateway, post("/api/v1/transform", &ask(&nested(100)))).await.status, 200);
    for path in ["/api/v1/transform", "/api/v1/transform/batch"] {
        let answer = call(&gateway, post(path, &ask(&"1".repeat(2000)))).await;
        assert_eq!(answer.status, 413, "{}", answer.body);
    }
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_each_item_has_its_own_fate() {
    let gateway = bare();
    let mut items: Vec<Value> = (0..1000).map(|n| json!({ "text": format!("item {n} {MAIL}") })).collect();
    items[3] = json!({ "text": 5 });
    items[500] = json!("x");
    let ask = json!({ "steps": ["redact"], "items": items }).to_string();
    let answer = call(&gateway, post("/api/v1/transform/batch", &ask)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let told = answer.json();
    assert_eq!(told["failed"], 2);
    let results = told["results"].as_array().unwrap();
    assert_eq!(results.len(), 1000);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["index"], n);
        match n {
            3 => assert_eq!(result["error"]["param"], "items[3].text"),
            500 => assert_eq!(result["error"]["param"], "items[500]"),
            _ => assert!(result["text"].as_str().unwrap().starts_with(&format!("item {n} [EMAIL_1_"))),
        }
    }
    // The same as lines.
    let mut request = post("/api/v1/transform/batch", &ask);
    request.headers_mut().insert("accept", "application/x-ndjson".parse().unwrap());
    let lines = call(&gateway, request).await;
    assert_eq!(lines.header("content-type"), "application/x-ndjson");
    let indexes: Vec<u64> = lines
        .body
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["index"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, (0..1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn items_of_a_batch_fail_by_their_own_fault_and_name_its_place() {
    let gateway = bare();
    let items = json!([
        { "text": format!("to {MAIL}") },
        { "text": "clean" },
        { "messages": [{ "role": "user", "content": "clean\nstill" }] },
        { "messages": ["x"] },
        { "text": "x", "messages": [] },
        {},
        { "prompt": 1 },
    ]);
    let ask = json!({ "steps": ["redact"], "redact": { "policy": "block" }, "items": items });
    // Spread over lines, as people write it: what is told is on one line each.
    let ask = serde_json::to_string_pretty(&ask).unwrap();
    let whole = call(&gateway, post("/api/v1/transform/batch", &ask)).await.json();
    let mut lines = post("/api/v1/transform/batch", &ask.replacen('{', "{\"stream\":true,", 1));
    lines.headers_mut().remove("accept");
    let lines: Vec<Value> = call(&gateway, lines)
        .await
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    assert_eq!(whole["failed"], 5);
    for told in [whole["results"].as_array().unwrap(), &lines] {
        let params: Vec<_> = told.iter().map(|one| one["error"]["param"].as_str().unwrap_or("")).collect();
        let expected =
            ["items[0]", "", "", "items[3].messages", "items[4].text", "items[5].text", "items[6].prompt"];
        assert_eq!(params, expected);
        assert_eq!(told[0]["error"]["code"], "invalid_request");
        assert!(told[0]["error"]["message"].as_str().unwrap().contains("email"));
        assert_eq!(told[1]["text"], "clean");
        assert_eq!(told[2]["messages"], json!([{ "role": "user", "content": "clean\nstill" }]));
        assert!(told.iter().all(|one| !one.to_string().contains(MAIL)));
    }
}

#[tokio::test]
async fn a_batch_is_told_as_it_is_worked_on_and_by_several_jobs() {
    let gateway = bare();
    let items: Vec<Value> = (0..300).map(|_| json!({ "text": "It is late. ".repeat(100) })).collect();
    for lines in [false, true] {
        let ask = json!({ "steps": ["redact"], "items": items, "stream": lines }).to_string();
        let before = gateway.worker_pool().done;
        let mut body = gateway.handle(post("/api/v1/transform/batch", &ask)).await.into_body();
        let mut pieces = Vec::new();
        while let Some(piece) = next(&mut body).await {
            pieces.push(piece.unwrap());
        }
        assert!(pieces.len() > 8 && gateway.worker_pool().done - before > 8, "{} pieces", pieces.len());
        if lines {
            assert!(pieces.iter().all(|piece| piece.ends_with(b"}\n")), "no line is cut");
        }
    }
}

/// A step from outside: it waits for a word, and does as it is told.
struct Own(std::sync::Mutex<std::sync::mpsc::Receiver<Result<&'static str, StepError>>>);

impl Transform for Own {
    fn name(&self) -> &str {
        "own"
    }

    fn place(&self) -> Place {
        Place::Pool
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        let said = self.0.lock().unwrap().recv().unwrap()?;
        prompt.parts().for_each(|(index, _)| changes.replace(index, said.to_owned()));
        Ok(None)
    }
}

type Says = std::sync::mpsc::Sender<Result<&'static str, StepError>>;

/// A gateway with that step before every chat, and a pool of one thread on which one job may wait.
fn with_own(on_failure: OnFailure) -> (Gateway, std::sync::Arc<Scripted>, Says) {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &upstream));
    let mut settings = Settings::new(models);
    let (says, heard) = std::sync::mpsc::channel();
    let own = Step::new(Own(std::sync::Mutex::new(heard))).on_failure(on_failure);
    let pipeline = Pipeline::new("ours", [own]);
    settings.transforms.add_pipeline(pipeline, &["chat_completions".to_owned()], &[]).unwrap();
    settings.worker_pool = PoolSettings { threads: 1, queue: 1, ..PoolSettings::default() };
    (Gateway::new(settings, [7; 32]).unwrap(), upstream, says)
}

#[tokio::test]
async fn a_step_of_ones_own_stands_before_calls_and_fails_closed_or_open() {
    let failing = || Err(StepError::failed("it is broken"));
    for (on_failure, says, status) in [
        (OnFailure::Closed, Ok("ours"), 200),
        (OnFailure::Closed, failing(), 500),
        (OnFailure::Open, failing(), 200),
        (OnFailure::Open, Err(StepError::refused("not this")), 422),
    ] {
        let (gateway, upstream, told) = with_own(on_failure);
        told.send(says.clone()).unwrap();
        let answer = call(&gateway, chat("gpt-x", "theirs", false)).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert_eq!(upstream.count(), usize::from(status == 200));
        if status == 200 {
            assert_eq!(answer.header("x-chimera-transforms"), "ours; own");
            assert!(upstream.body(0).contains(if says.is_ok() { "ours" } else { "theirs" }));
        }
    }
}

#[tokio::test]
async fn a_full_worker_pool_turns_calls_away_at_once() {
    let (gateway, _, says) = with_own(OnFailure::Closed);
    let ask = |text: &'static str| call(&gateway, chat("gpt-x", text, false));
    let others = async {
        while gateway.worker_pool().busy < 1 || gateway.worker_pool().queued < 1 {
            tokio::task::yield_now().await;
        }
        let turned_away = ask("three").await;
        assert_eq!((turned_away.status, gateway.worker_pool().rejected), (503, 1), "{}", turned_away.body);
        says.send(Ok("one")).unwrap();
        says.send(Ok("two")).unwrap();
    };
    let second = async {
        while gateway.worker_pool().busy < 1 {
            tokio::task::yield_now().await;
        }
        ask("two").await
    };
    let (one, two, ()) = tokio::join!(ask("one"), second, others);
    assert_eq!((one.status, two.status), (200, 200));
}

#[tokio::test]
async fn c02_a_batch_is_counted_among_the_bodies_until_all_of_it_is_told() {
    let mut settings = Settings::new(Models::default());
    settings.sizes.requests_in_flight = 1000;
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    let ask = json!({ "steps": ["redact"], "items": [{ "text": "x".repeat(600) }] }).to_string();
    let told = gateway.handle(post("/api/v1/transform/batch", &ask)).await;
    let refused = call(&gateway, post("/api/v1/transform/batch", &ask)).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    drop(told);
    assert_eq!(call(&gateway, post("/api/v1/transform/batch", &ask)).await.status, 200);
}

#[tokio::test]
async fn bad_batches_are_refused_whole() {
    let gateway = bare();
    let many: Vec<Value> = (0..1001).map(|_| json!({ "text": "x" })).collect();
    for (ask, status, param) in [
        (json!({ "pipeline": "private" }), 400, "items"),
        (json!({ "pipeline": "private", "items": {} }), 400, "items"),
        (json!({ "pipeline": "private", "items": [] }), 400, "items"),
        (json!({ "pipeline": "private", "items": many }), 422, "items"),
        (json!({ "pipeline": "private", "items": [{ "text": "x" }], "stream": 1 }), 400, "stream"),
    ] {
        let answer = call(&gateway, post("/api/v1/transform/batch", &ask.to_string())).await;
        assert_eq!((answer.status, answer.json()["error"]["param"].as_str().unwrap()), (status, param));
    }
    for (item, fault) in [(r#"{"text":"a" "b"}"#, r#""b""#), (r#"{"text":1,"text":2}"#, r#""text":2"#)] {
        let ask = format!(r#"{{"pipeline":"private","items":[{{"text":"x, [y"}},{item}]}}"#);
        let place = ask.find(fault).unwrap();
        let answer = call(&gateway, post("/api/v1/transform/batch", &ask)).await;
        assert_eq!((answer.status, answer.json()["error"]["param"].as_str()), (400, Some("items[1]")));
        assert!(answer.body.contains(&format!("at byte {place}")), "{}", answer.body);
    }
}
