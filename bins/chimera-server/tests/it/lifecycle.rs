//! Starting, reloading, draining, and living within bounds.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Answer, Client, PATIENCE, Provider, Server, Step, answer, chat, done, event, json, stream_head,
    with_ports,
};

/// A stream that ends well after some time.
fn slow_stream(events: usize, gap: Duration) -> Vec<Step> {
    let mut steps = vec![stream_head()];
    for _ in 0..events {
        steps.push(event("a"));
        steps.push(Step::Pause(gap));
    }
    steps.push(done());
    steps
}

fn ready(server: &Server) -> u16 {
    let mut client = Client::connect(server.admin);
    client.send("GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    client.answer().status
}

#[test]
fn p01_a_stop_fails_readiness_first_and_lets_streams_finish() {
    // No stream ends before the stop has begun.
    let stopping = Arc::new(AtomicBool::new(false));
    let told = stopping.clone();
    let provider = Provider::start(move |_| {
        let mut steps = slow_stream(30, Duration::from_millis(60));
        steps.insert(2, Step::Until(told.clone()));
        steps
    });
    let mut server = Server::start(&provider.config("[server]\ndrain_min = \"2s\"\n"));
    assert_eq!(ready(&server), 200);
    let mut streams: Vec<_> = (0..200)
        .map(|n| {
            let mut client = Client::connect(server.data);
            client.send(chat("gpt-test", &format!("stream {n}"), true));
            client.head().unwrap();
            client
        })
        .collect();
    assert_eq!(provider.requests().len(), 200, "all are open");
    server.signal("-TERM");
    let deadline = Instant::now() + PATIENCE;
    while ready(&server) != 503 {
        assert!(Instant::now() < deadline, "it is still ready");
        thread::sleep(Duration::from_millis(20));
    }
    // Until the balancer has noticed, new requests are still served.
    let mut late = Client::connect(server.data);
    late.send(chat("gpt-test", "late", true));
    let head = late.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("connection: close"), "{head}");
    streams.push(late);
    assert!(server.child.try_wait().unwrap().is_none(), "it waits for them");
    stopping.store(true, SeqCst);
    for mut client in streams {
        let mut all = Vec::new();
        while let Some(chunk) = client.chunk() {
            all.extend(chunk);
        }
        assert_eq!(String::from_utf8_lossy(&all).matches("\"content\":\"a\"").count(), 30);
        assert!(all.ends_with(b"data: [DONE]\n\n"), "cut: {}", String::from_utf8_lossy(&all));
    }
    assert_eq!(server.wait(), Some(0));
}

#[test]
fn p01_a_second_signal_ends_it_at_once() {
    let provider = Provider::start(|_| slow_stream(1000, Duration::from_millis(60)));
    let mut server = Server::start(&provider.config(""));
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "endless", true));
    client.head().unwrap();
    server.signal("-TERM");
    thread::sleep(Duration::from_millis(200));
    assert!(server.child.try_wait().unwrap().is_none());
    let began = Instant::now();
    server.signal("-TERM");
    assert_eq!(server.wait(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[test]
fn pain_24_streams_past_the_drain_end_with_an_error_event_and_not_with_done() {
    let provider = Provider::start(|_| slow_stream(1000, Duration::from_millis(60)));
    let mut server = Server::start(&provider.config("[server]\ndrain_min = \"100ms\"\ndrain_max = \"1s\"\n"));
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "endless", true));
    client.head().unwrap();
    server.signal("-TERM");
    let mut all = Vec::new();
    while let Some(chunk) = client.chunk() {
        all.extend(chunk);
    }
    let text = String::from_utf8(all).unwrap();
    assert!(text.contains("\"error\"") && text.contains("overloaded"), "{text}");
    assert!(!text.contains("[DONE]"));
    assert_eq!(server.wait(), Some(0));
}

/// Kills a server with answers in its cache and requests under way; how long the next one takes to be ready.
fn killed_and_ready() -> Duration {
    let provider = Provider::start(|request| match request.contains("under way") {
        true => vec![stream_head(), event("a"), Step::AwaitClose],
        false => vec![answer("fine")],
    });
    let mut server = Server::start(&provider.config(""));
    let ask = |server: &Server| {
        let mut client = Client::connect(server.data);
        client.send(chat("gpt-test", "kept", false));
        let answer = client.answer();
        (answer.status, answer.header("x-chimera-cache").unwrap().to_owned())
    };
    assert_eq!([ask(&server), ask(&server)].map(|(_, cache)| cache), ["miss; reason=cold", "l1"]);
    let mut streams: Vec<_> = (0..20)
        .map(|n| {
            let mut client = Client::connect(server.data);
            client.send(chat("gpt-test", &format!("under way {n}"), true));
            assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
            assert!(client.chunk().is_some());
            client
        })
        .collect();
    let config = std::fs::read_to_string(&server.config)
        .unwrap()
        .replacen("127.0.0.1:0", &server.data.to_string(), 1)
        .replacen("127.0.0.1:0", &server.admin.to_string(), 1);
    server.signal("-KILL");
    assert_eq!(server.wait(), None);
    let began = Instant::now();
    let again = Server::start(&config);
    assert_eq!((again.data, again.admin), (server.data, server.admin), "the same ports");
    assert_eq!(ready(&again), 200);
    let took = began.elapsed();
    for client in &mut streams {
        assert!(client.chunk().is_none() && client.is_closed_within(PATIENCE), "cut, and seen to be");
    }
    assert_eq!(
        ask(&again),
        (200, "miss; reason=cold".to_owned()),
        "memory went with the process, and only that"
    );
    assert_eq!(ask(&again).1, "l1");
    took
}

#[test]
fn p03_after_a_kill_with_requests_under_way_it_is_ready_within_a_second() {
    // Others may keep the machine busy: the best of three.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        best = best.min(killed_and_ready());
        if best < Duration::from_secs(1) {
            break;
        }
    }
    assert!(best < Duration::from_secs(1), "{best:?}");
}

#[test]
fn p04_a_reload_takes_effect_or_leaves_all_as_it_was() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&provider.config(""));
    let good = std::fs::read_to_string(&server.config).unwrap();
    let status = |model: &str| {
        let mut client = Client::connect(server.data);
        client.send(chat(model, "hello", false));
        client.answer().status
    };
    assert_eq!((status("gpt-test"), status("fast")), (200, 404));
    let bad = [
        ("[server\n", "line"),
        ("[server]\nlistn = \"x\"\n", "listn"),
        ("[timeouts]\nllm = \"soon\"\n", "llm"),
        (
            "[providers.other]\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\napi_key = { env = \"CHIMERA_NO_SUCH_VARIABLE\" }\n",
            "CHIMERA_NO_SUCH_VARIABLE",
        ),
    ];
    for (addition, named) in bad {
        let text =
            if addition.starts_with("[server") { addition.to_owned() } else { format!("{good}\n{addition}") };
        std::fs::write(&server.config, text).unwrap();
        let refused = server.admin("POST", "/api/v1/reload");
        assert!(
            refused.status >= 400 && refused.text().contains(named),
            "{named}: {} {}",
            refused.status,
            refused.text()
        );
        assert_eq!(status("gpt-test"), 200, "the old configuration serves");
    }
    assert_eq!(server.metric("chimera_reloads_total{result=\"failed\"}"), Some(4.0));
    let group = "[groups.fast]\ndeployments = [{ provider = \"openai\", model = \"gpt-test\" }]\n";
    std::fs::write(&server.config, format!("{good}\n{group}")).unwrap();
    server.signal("-HUP");
    let deadline = Instant::now() + PATIENCE;
    while status("fast") != 200 {
        assert!(Instant::now() < deadline, "the reload took no effect: {}", server.log());
        thread::sleep(Duration::from_millis(20));
    }
    std::fs::write(&server.config, &good).unwrap();
    assert_eq!(server.admin("POST", "/api/v1/reload").status, 200);
    assert_eq!(status("fast"), 404);
}

#[test]
fn pain_25_a_watched_file_is_in_force_soon_after_it_was_written() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&format!("{}\n[server]\nwatch = true\n", provider.config("")));
    let good = std::fs::read_to_string(&server.config).unwrap();
    let group = "[groups.fast]\ndeployments = [{ provider = \"openai\", model = \"gpt-test\" }]\n";
    let status = |model: &str| {
        let mut client = Client::connect(server.data);
        client.send(chat(model, "hello", false));
        client.answer().status
    };
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}: {}", server.log());
            thread::sleep(Duration::from_millis(50));
        }
    };
    std::fs::write(&server.config, format!("{good}\n{group}")).unwrap();
    until("the group is there", &|| status("fast") == 200);
    std::fs::write(&server.config, format!("{good}\n{group}\n[timeouts]\nllm = \"soon\"\n")).unwrap();
    until("a bad edit is told", &|| server.log().contains("timeouts.llm"));
    assert_eq!(status("fast"), 200, "what was in force stays");
    std::fs::write(&server.config, &good).unwrap();
    until("the group is gone", &|| status("fast") == 404);
}

/// Whoever reloads often, as one whose keys rotate by the hour, must not close every connection, forget
/// which provider is down, and give every tenant its minute anew.
#[test]
fn p04_a_reload_keeps_the_state_of_what_it_does_not_change() {
    let digest: String =
        chimera_gateway::key_digest("tenant").iter().map(|byte| format!("{byte:02x}")).collect();
    let good = Provider::start(|_| vec![answer("hi")]);
    let bad = Provider::start(|_| vec![json(500, r#"{"error":{"message":"down"}}"#)]);
    let config = with_ports(&good.config(&format!(
        "[providers.down]\ndialect = \"openai\"\nbase_url = \"http://{}/v1\"\nmodels = [\"down-1\"]\n\
         [clients.one]\nkey_sha256 = [\"{digest}\"]\nrequests_per_minute = 100\n",
        bad.address
    )));
    let server = Server::start(&config);
    let mut texts = 0..;
    let mut ask = |model: &str| {
        let mut client = Client::connect(server.data);
        let text = format!("question {}", texts.next().unwrap());
        client.send(chat(model, &text, false).replace("host:", "authorization: Bearer tenant\r\nhost:"));
        client.answer()
    };
    let left =
        |answer: &Answer| answer.header("x-ratelimit-remaining-requests").unwrap().parse::<u32>().unwrap();
    let reload = |text: &str| {
        std::fs::write(&server.config, text).unwrap();
        let answer = server.admin("POST", "/api/v1/reload");
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    let connects = || server.metric("chimera_pool_connects_total{provider=\"openai\",result=\"ok\"}");
    while ask("down-1").header("x-chimera-attempts").is_some() {}
    let asked = bad.requests().len();
    let before = ask("gpt-test");
    assert_eq!((before.status, connects()), (200, Some(1.0)));
    // Something else changes.
    reload(&format!("{config}\n[timeouts]\nllm = \"90s\"\n"));
    assert_eq!(ask("down-1").status, 503);
    assert_eq!(bad.requests().len(), asked, "its breaker is still open");
    let after = ask("gpt-test");
    assert_eq!((after.status, connects()), (200, Some(1.0)), "its connection is still used");
    assert!(left(&after) < left(&before), "what was used of the limit stays used");
    // A provider that is configured anew is made anew, secrets included; the tenant is not.
    reload(&config.replace("sk-test", "sk-new"));
    let renewed = ask("gpt-test");
    assert_eq!((renewed.status, connects()), (200, Some(2.0)));
    assert!(good.requests().last().unwrap().contains("Bearer sk-new"));
    assert!(left(&renewed) < left(&after));
    reload(&config.replace("requests_per_minute = 100", "requests_per_minute = 200"));
    assert!(left(&ask("gpt-test")) > 100);
}

/// A listener stays where it was bound: a file that moves it to loopback on paper and drops the client
/// keys must not open it.
#[test]
fn p04_a_reload_never_opens_a_listener_that_everybody_reaches() {
    let keyed = format!(
        "[server]\nlisten = \"0.0.0.0:0\"\nadmin_listen = \"127.0.0.1:0\"\n[clients.c]\nkey_sha256 = [\"{}\"]\n",
        "ab".repeat(32)
    );
    let server = Server::start(&keyed);
    let status = || {
        let mut client = Client::connect(([127, 0, 0, 1], server.data.port()).into());
        client.send(chat("sim-small", "hello", false));
        client.answer().status
    };
    assert_eq!(status(), 401);
    for open in [
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n",
        "[server]\nlisten = \"0.0.0.0:0\"\nadmin_listen = \"127.0.0.1:0\"\n",
    ] {
        std::fs::write(&server.config, open).unwrap();
        let refused = server.admin("POST", "/api/v1/reload");
        assert!(refused.status == 422 && refused.text().contains("server.listen"), "{}", refused.text());
        assert_eq!(status(), 401);
    }
}

/// The admin's key is a secret like others: a new one is in force at once, and the old one is not.
#[test]
fn p04_the_admin_key_is_swapped_by_a_reload() {
    let with = |key: &str| {
        let digest: String =
            chimera_gateway::key_digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
        with_ports(&format!("[admin]\nkey_sha256 = \"{digest}\"\n"))
    };
    let server = Server::start(&with("old"));
    let ask = |method: &str, path: &str, key: &str| {
        let mut client = Client::connect(server.admin);
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
        ));
        client.answer().status
    };
    assert_eq!((ask("GET", "/metrics", "old"), ask("GET", "/metrics", "new")), (200, 401));
    std::fs::write(&server.config, with("new")).unwrap();
    assert_eq!(ask("POST", "/api/v1/reload", "old"), 200);
    assert_eq!((ask("GET", "/metrics", "old"), ask("GET", "/metrics", "new")), (401, 200));
}

#[test]
fn p05_without_files_to_give_it_neither_spins_nor_dies() {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_chimera")]);
    let server = Server::start_under(shell, "");
    let crowd: Vec<_> = (0..400).map(|_| Client::connect(server.data)).collect();
    thread::sleep(Duration::from_millis(300));
    let before = server.ticks();
    thread::sleep(Duration::from_secs(1));
    let used = server.ticks() - before;
    assert!(used < 30, "{used} ticks of CPU in a second of doing nothing");
    assert_eq!(ready(&server), 200);
    drop(crowd);
    let mut client = Client::connect(server.data);
    client.send(chat("sim-small", "after", false));
    assert_eq!(client.answer().status, 200);
}

#[test]
fn pain_23_it_is_ready_without_anything_and_says_so() {
    let began = Instant::now();
    let server = Server::start("");
    assert_eq!(ready(&server), 200);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn pain_25_series_do_not_grow_with_what_clients_send() {
    let server = Server::start("");
    let series =
        || server.admin("GET", "/metrics").text().lines().filter(|line| !line.starts_with('#')).count();
    let mut client = Client::connect(server.data);
    let mut requests = |from: usize, to: usize| {
        for n in from..to {
            client.send(chat(&format!("model-{n}"), "x", false));
            assert_eq!(client.answer().status, 404);
            client.send(format!("GET /path-{n} HTTP/1.1\r\nhost: localhost\r\nx-api-key: key-{n}\r\n\r\n"));
            assert_eq!(client.answer().status, 404);
        }
        client.send(chat("sim-small", "x", false));
        assert_eq!(client.answer().status, 200);
    };
    requests(0, 10);
    // Gauges appear with the first tick of the upkeep.
    thread::sleep(Duration::from_millis(1500));
    let before = series();
    requests(10, 2000);
    assert_eq!(series(), before);
}

/// What is spent waiting for a provider is not the gateway's: between the events of a stream, or until
/// a caller's patience is over.
#[test]
fn overhead_is_the_gateways_own_time() {
    let provider = Provider::start(|request| match request.contains("silent") {
        true => vec![Step::AwaitClose],
        false => slow_stream(20, Duration::from_millis(50)),
    });
    let server = Server::start(&provider.config(""));
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "slow", true));
    client.head().unwrap();
    while client.chunk().is_some() {}
    let silent = chat("gpt-test", "silent", false);
    client.send(silent.replace("host: localhost", "host: localhost\r\nx-chimera-timeout-ms: 500"));
    assert_eq!(client.answer().status, 504);
    let of = |what: &str| server.metric(&format!("chimera_{what}{{route=\"chat_completions\"}}")).unwrap();
    assert!(of("request_duration_seconds_sum") > 1.4, "{}", of("request_duration_seconds_sum"));
    assert_eq!(of("overhead_seconds_count"), 2.0);
    assert!(of("overhead_seconds_sum") < 0.2, "{}", of("overhead_seconds_sum"));
}

#[test]
fn m01_pain_10_memory_stays_within_the_cache_and_a_little_more() {
    let text = "x".repeat(16 * 1024);
    let provider = Provider::start(move |_| vec![answer(&text)]);
    let server = Server::start(&provider.config("[cache]\ncapacity = \"16MiB\"\nmax_entry = \"128KiB\""));
    let mut client = Client::connect(server.data);
    let mut requests = |from: usize, to: usize| {
        for n in from..to {
            client.send(chat("gpt-test", &format!("question {n}"), false));
            assert_eq!(client.answer().status, 200);
        }
    };
    requests(0, 1500);
    let settled = server.resident();
    requests(1500, 6000);
    let grown = server.resident().saturating_sub(settled);
    assert!(grown < 8 << 20, "{grown} bytes more after three times the cache again");
    assert!(server.resident() < 64 << 20, "{}", server.resident());
    let metrics = server.admin("GET", "/api/v1/cache/metrics").json();
    let tier = &metrics["tiers"][0];
    assert!(tier["bytes"].as_u64().unwrap() <= tier["capacity_bytes"].as_u64().unwrap(), "{metrics}");
    assert!(tier["evictions"]["room"].as_u64().unwrap() > 1000, "{metrics}");
    for tier in ["l1", "alias"] {
        assert_eq!(server.metric(&format!("chimera_cache_tier_up{{tier=\"{tier}\"}}")), Some(1.0));
        let of = |what| server.metric(&format!("chimera_cache_{what}{{tier=\"{tier}\"}}")).unwrap();
        assert!(of("bytes") <= of("capacity_bytes"));
    }
}

#[test]
fn logs_are_lines_of_json_with_the_request_id_and_without_bodies() {
    let provider = Provider::start(|request| match request.contains("fail") {
        true => vec![Step::Close],
        false => vec![answer("a secret answer")],
    });
    let log = "[log]\nformat = \"json\"\nlevel = \"debug\"\n";
    let server = Server::start(&format!("{log}{}", provider.config("")));
    let ask = |text: &str, id: &str| {
        let mut client = Client::connect(server.data);
        let request = chat("gpt-test", text, false)
            .replace("host: localhost", &format!("host: localhost\r\nx-request-id: {id}"));
        client.send(request);
        client.answer().status
    };
    assert_eq!((ask("a secret question", "id-of-mine"), ask("fail", "a\"b\\c")), (200, 502));
    let deadline = Instant::now() + PATIENCE;
    while server.log().matches("\"message\":\"request\"").count() < 2 {
        assert!(Instant::now() < deadline, "{}", server.log());
        thread::sleep(Duration::from_millis(10));
    }
    let lines: Vec<serde_json::Value> =
        server.log().lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let of = |outcome: &str| {
        let mut requests = lines.iter().filter(|line| line["message"] == "request");
        requests.find(|line| line["outcome"] == outcome).unwrap_or_else(|| panic!("{lines:?}")).clone()
    };
    let good = of("success");
    assert_eq!(
        (good["request_id"].as_str(), good["route"].as_str()),
        (Some("id-of-mine"), Some("chat_completions"))
    );
    let failed = of("failure");
    assert_eq!(
        (failed["level"].as_str(), failed["code"].as_str()),
        (Some("WARN"), Some("upstream_unreachable"))
    );
    assert_eq!(failed["request_id"], "a\"b\\c", "escaped, so that no id forges a line");
    assert!(failed["total_ms"].as_f64().unwrap() >= failed["upstream_ms"].as_f64().unwrap());
    assert!(!server.log().contains("secret"));
}
