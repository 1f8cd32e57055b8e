//! What the admin listener tells of a running gateway, and what its levers do.

use std::{process::Command, thread, time::Duration, time::Instant};

use crate::support::{Client, PATIENCE, Provider, Server, answer, chat, json, post};

fn ask(server: &Server, text: &str) -> u16 {
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", text, false));
    client.answer().status
}

#[test]
fn providers_tell_their_connections_and_their_keys_and_never_a_key() {
    let wait =
        "HTTP/1.1 429 X\r\ncontent-type: application/json\r\nretry-after: 60\r\ncontent-length: 2\r\n\r\n{}";
    let provider = Provider::start(move |request| match request.contains("throttle") {
        true => vec![crate::support::Step::Write(wait.into())],
        false => vec![answer("hi")],
    });
    let group = "[groups.fast]\ndeployments = [{ provider = \"openai\", model = \"gpt-test\" }]\n";
    let server = Server::start(&provider.config(group));
    assert_eq!(ask(&server, "hello"), 200);
    let told = server.admin("GET", "/api/v1/providers");
    let body = told.json();
    let one = &body["providers"][0];
    assert_eq!((told.status, body["providers"].as_array().unwrap().len()), (200, 1));
    assert_eq!((one["name"].as_str(), one["dialects"][0].as_str()), (Some("openai"), Some("openai")));
    assert!(one["base_url"].as_str().unwrap().contains(&provider.address.to_string()), "{body}");
    assert_eq!(one["connections"], serde_json::json!({ "open": 1, "idle": 1, "waiting": 0 }));
    assert_eq!(
        one["keys"],
        serde_json::json!({ "configured": 1, "parked": 0, "resting": [], "headroom": [] })
    );
    assert_eq!(one["deployments"][0]["state"], "closed");
    assert_eq!(body["groups"], serde_json::json!(["fast"]));
    assert!(!told.text().contains("sk-test"));
    assert_eq!(ask(&server, "throttle"), 429);
    let body = server.admin("GET", "/api/v1/providers").json();
    let keys = &body["providers"][0]["keys"];
    assert_eq!((&keys["configured"], &keys["parked"]), (&1.into(), &1.into()));
    assert_eq!((&keys["resting"][0]["key"], &keys["resting"][0]["why"]), (&1.into(), &"throttled".into()));
    assert_eq!(keys["resting"][0]["deployment"], one["deployments"][0]["deployment"]);
}

#[test]
fn circuit_breakers_tell_their_state_and_why() {
    let provider = Provider::start(|_| vec![json(500, "{\"error\":{\"message\":\"m\"}}")]);
    let server = Server::start(&provider.config("[breaker]\nconsecutive_failures = 3\nopen_base = \"50s\""));
    let told = || {
        let body = server.admin("GET", "/api/v1/circuit-breakers").json();
        assert_eq!(body["circuit_breakers"].as_array().unwrap().len(), 1, "{body}");
        body["circuit_breakers"][0].clone()
    };
    let closed = told();
    assert_eq!((closed["deployment"].as_str(), closed["state"].as_str()), (Some("openai"), Some("closed")));
    assert!(closed["why"].is_null() && closed["next_probe_seconds"].is_null(), "{closed}");
    for n in 0..3 {
        assert_eq!(ask(&server, &n.to_string()), 500);
    }
    let open = told();
    assert_eq!(open["state"], "open", "{open}");
    assert!(open["why"].is_string(), "{open}");
    let probe = open["next_probe_seconds"].as_f64().unwrap();
    assert!(probe > 1.0 && probe < 80.0, "{open}");
    assert_eq!((open["in_flight"].as_u64(), open["probes_in_flight"].as_u64()), (Some(0), Some(0)));
    assert_eq!(ask(&server, "open"), 503);
    assert_eq!(provider.requests().len(), 3);
}

#[test]
fn a_breaker_opens_for_answers_that_come_too_late_where_that_is_set() {
    let provider = Provider::start(|_| {
        thread::sleep(Duration::from_millis(30));
        vec![answer("hi")]
    });
    let server = Server::start(
        &provider.config("[breaker]\nslow_call = \"10ms\"\nslow_call_rate = 0.5\nminimum_calls = 3"),
    );
    for n in 0..3 {
        assert_eq!(ask(&server, &n.to_string()), 200);
    }
    let body = server.admin("GET", "/api/v1/circuit-breakers").json();
    let open = &body["circuit_breakers"][0];
    assert_eq!(
        (open["state"].as_str(), open["why"].as_str()),
        (Some("open"), Some("too large a share of slow calls")),
        "{open}"
    );
    assert_eq!(ask(&server, "open"), 503);
}

#[test]
fn a_purge_forgets_every_answer_and_is_no_web_pages_to_ask_for() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&provider.config(""));
    for text in ["a", "b", "a", "b"] {
        assert_eq!(ask(&server, text), 200);
    }
    assert_eq!(provider.requests().len(), 2);
    for header in ["sec-fetch-site: cross-site", "origin: http://evil.test"] {
        let mut client = Client::connect(server.admin);
        let host = server.admin;
        client.send(format!("POST /api/v1/cache/purge HTTP/1.1\r\nhost: {host}\r\n{header}\r\n\r\n"));
        assert_eq!(client.answer().status, 403, "{header}");
    }
    assert_eq!(server.admin("GET", "/api/v1/cache/purge").status, 405);
    assert_eq!(ask(&server, "a"), 200);
    assert_eq!(provider.requests().len(), 2, "nothing was purged");
    assert_eq!(server.admin("POST", "/api/v1/cache/purge").json(), serde_json::json!({ "purged": 2 }));
    assert_eq!(server.admin("POST", "/api/v1/cache/purge").json(), serde_json::json!({ "purged": 0 }));
    let metrics = server.admin("GET", "/api/v1/cache/metrics").json();
    assert_eq!(metrics["tiers"][0]["entries"], 0);
    assert_eq!(metrics["tiers"][0]["evictions"]["invalidated"], 2, "{metrics}");
    assert_eq!(ask(&server, "a"), 200);
    assert_eq!(provider.requests().len(), 3, "it is asked for anew");
}

/// `docs/metrics.md` and `/metrics` say the same of every metric.
#[test]
fn every_metric_comes_with_the_meaning_that_its_page_gives() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&provider.config(""));
    assert_eq!(ask(&server, "hello"), 200);
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let shown = server.admin("GET", "/metrics").text();
    let mut types = 0;
    for line in shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let help = format!("# HELP {name} ");
        let meaning = shown.lines().find_map(|line| line.strip_prefix(&help)).expect(name);
        let row = page.lines().find(|row| row.starts_with(&format!("| `{name}` | {kind} |"))).expect(name);
        assert!(row.ends_with(&format!("| {meaning} |")), "{row}\n{meaning}");
        types += 1;
    }
    assert!(types > 15, "{shown}");
}

#[test]
fn redis_is_not_ignored_in_silence() {
    let mut shell = Command::new("sh");
    let script = "REDIS_URL=redis://:canary@127.0.0.1:1 exec \"$0\" \"$@\"";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_chimera")]);
    let server = Server::start_under(shell, "");
    let deadline = Instant::now() + PATIENCE;
    while server.log().lines().filter(|line| line.contains("redis=127.0.0.1:1")).count() != 1 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(10));
    }
    assert!(!server.log().contains("canary"), "{}", server.log());
    assert!(!Server::start("").log().contains("redis="));
}

#[test]
fn the_worker_pool_tells_what_it_does_and_did() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&provider.config("[worker_pool]\nthreads = 2\nqueue = 9"));
    let mut client = Client::connect(server.data);
    client.send(post("/api/v1/transform", r#"{"steps":["redact"],"text":"to ada@example.com"}"#));
    let told = client.answer();
    assert!(told.status == 200 && told.text().contains("[EMAIL_1_"), "{}", told.text());
    // Chunked, though it is one object: it is told as it is worked on.
    client.send(post("/api/v1/transform/batch", r#"{"steps":["redact"],"items":[{"text":"a"},{"text":1}]}"#));
    let told = client.answer().json();
    assert_eq!((&told["failed"], &told["results"][0]["text"]), (&1.into(), &"a".into()), "{told}");
    let told = server.admin("GET", "/api/v1/worker-pool").json();
    for (name, value) in [
        ("threads", 2),
        ("busy", 0),
        ("queued", 0),
        ("capacity", 9),
        ("done", 3),
        ("rejected", 0),
        ("panicked", 0),
    ] {
        assert_eq!(told[name], value, "{name}: {told}");
    }
    let metrics = server.admin("GET", "/metrics").text();
    for name in ["queue_depth", "busy", "wait_seconds", "rejected_total"] {
        assert!(metrics.contains(&format!("chimera_worker_pool_{name}")), "{name}");
    }
}

/// Whoever leaves connections open keeps nobody out: the one that is idle longest is closed for the next.
#[test]
fn idle_connections_do_not_keep_an_operator_out() {
    let server = Server::start("[server]\nidle_timeout = \"1h\"\n");
    let mut idle: Vec<_> = (0..300).map(|_| Client::connect(server.admin)).collect();
    assert_eq!(server.admin("GET", "/health/live").status, 200);
    let last = idle.last_mut().unwrap();
    last.send(format!("GET /health/live HTTP/1.1\r\nhost: {}\r\n\r\n", server.admin));
    assert_eq!(last.answer().status, 200);
}
