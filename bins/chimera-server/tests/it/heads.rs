//! What may stand in a request's head, and in what order requests are answered.

use std::time::Duration;

use crate::support::{Client, Provider, Server, answer, chat, post};

fn ask(server: &Server, bytes: impl AsRef<[u8]>) -> (u16, String, bool) {
    let mut client = Client::connect(server.data);
    client.send(bytes);
    let answer = client.answer();
    let closed = client.is_closed_within(Duration::from_millis(200));
    (answer.status, answer.text(), closed)
}

#[test]
fn c04_heads_and_bodies_over_their_bounds_are_refused_before_they_are_read() {
    let server = Server::start("[limits]\nrequest = \"64KiB\"\n");
    let huge = format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\na: {}", "y".repeat(1 << 20));
    let mut client = Client::connect(server.data);
    // The server may close while this is still being written.
    let _ = std::io::Write::write_all(&mut client.stream, huge.as_bytes());
    let told = client.try_answer().unwrap();
    assert_eq!(
        (told.status, told.header("connection"), told.json()["error"]["code"].as_str()),
        (431, Some("close"), Some("invalid_request"))
    );
    assert!(told.header("x-request-id").is_some());
    let many: String = (0..101).map(|n| format!("h{n}: v\r\n")).collect();
    let (status, _, closed) =
        ask(&server, format!("GET /v1/models HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"));
    assert_eq!((status, closed), (431, true));
    let by_length =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 104857600\r\n\r\n";
    let (status, text, closed) = ask(&server, by_length);
    assert_eq!((status, closed), (413, true), "{text}");
    let chunk = format!("8000\r\n{}\r\n", "z".repeat(0x8000));
    let by_chunks = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}{chunk}"
    );
    let (status, text, closed) = ask(&server, by_chunks);
    assert_eq!((status, closed), (413, true), "{text}");
}

#[test]
fn c04_a_head_that_cannot_be_read_is_told_why_on_either_listener_and_counted() {
    let server = Server::start("");
    let heads = [
        (400, "GET / HTTP/1.1\r\nhost: localhost\r\na : b\r\n\r\n".to_owned()),
        (414, format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "y".repeat(40_000))),
        (431, format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(101))),
    ];
    for (wanted, head) in &heads {
        let (status, text, closed) = ask(&server, head);
        assert_eq!((status, closed), (*wanted, true), "{text}");
        assert!(text.contains("\"code\":\"invalid_request\""), "{text}");
        let mut admin = Client::connect(server.admin);
        admin.send(head);
        let told = admin.answer();
        assert!(told.status == *wanted && told.json()["error"].is_string(), "{}", told.text());
    }
    let counted = server.metric("chimera_requests_total{route=\"other\",outcome=\"rejected\"}");
    assert_eq!(counted, Some(3.0));
}

#[test]
fn c06_pipelined_requests_are_answered_in_order_hits_and_refusals_among_them() {
    let provider =
        Provider::start(|request| vec![answer(if request.contains("odd") { "odd" } else { "even" })]);
    let server = Server::start(&provider.config(""));
    for round in 0..2 {
        let mut client = Client::connect(server.data);
        let mut all = String::new();
        for n in 0..50 {
            all.push_str(&match n {
                25 => post("/v1/chat/completions", "{\"model\":\"gpt-test\",}"),
                n if n % 2 == 0 => chat("gpt-test", "even", false),
                _ => chat("gpt-test", "odd", false),
            });
        }
        client.send(all);
        for n in 0..50 {
            let answer = client.answer();
            match n {
                25 => assert_eq!(answer.status, 400),
                n => {
                    let content = &answer.json()["choices"][0]["message"]["content"];
                    assert_eq!(content, if n % 2 == 0 { "even" } else { "odd" }, "{round} {n}");
                }
            }
        }
    }
    assert_eq!(provider.requests().len(), 2, "all but the first two were hits");
}

#[test]
fn c12_a_target_that_names_another_host_is_refused_and_nothing_is_switched() {
    let server = Server::start("");
    for (request, wanted) in [
        ("GET http://localhost/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET http://other/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nHost: a?b\r\n\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nHost: a#b\r\n\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /v1/models HTTP/1.1\r\n\r\n", 400),
        ("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n", 405),
        ("TRACE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            200,
        ),
    ] {
        let (status, text, _) = ask(&server, request);
        assert_eq!(status, wanted, "{request} {text}");
    }
    for (head, wanted) in [
        ("GET http://localhost/metrics HTTP/1.1\r\nHost: localhost\r\n", 200),
        ("GET http://other/metrics HTTP/1.1\r\nHost: localhost\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nHost: localhost@other\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nHost: other\r\n", 421),
    ] {
        let mut client = Client::connect(server.admin);
        client.send(format!("{head}\r\n"));
        assert_eq!(client.answer().status, wanted, "{head}");
    }
}

#[test]
fn c13_a_path_is_decoded_once_or_refused() {
    let server = Server::start("");
    let get = |path: &str| ask(&server, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).0;
    assert_eq!(get("/v1/models/sim-small"), 200);
    assert_eq!(get("/v1/models/sim%2Dsmall"), 200, "decoded once");
    assert_ne!(get("/v1/models/sim%252Dsmall"), 200, "and not twice");
    for path in ["/v1/models/%zz", "/v1/models/%00", "/v1/models/%c0%af", "/v1/models/%ff", "/v1/models/%"] {
        assert_eq!(get(path), 400, "{path}");
    }
    for path in
        ["//v1/models", "/v1//models", "/v1/models;x", "/v1/%6dodels", "/V1/models", "/v1/models/../x"]
    {
        assert!([400, 404].contains(&get(path)), "{path}");
    }
    // The admin's paths are served by the admin's listener alone, however they are written.
    for path in ["/metrics", "/%6detrics", "/v1/..%2fmetrics", "//metrics", "/api/v1/config"] {
        assert!([400, 404].contains(&get(path)), "{path}");
    }
}

#[test]
fn c17_expect_head_options_and_encoded_bodies() {
    let server = Server::start("");
    let body = "{\"model\":\"sim-small\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}";
    let mut client = Client::connect(server.data);
    client.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    ));
    let mut interim = [0; 25];
    std::io::Read::read_exact(&mut client.stream, &mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(body);
    assert_eq!(client.answer().status, 200);

    client.send("HEAD /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length"), "{head}");
    // No body followed, or this would not be read as a response.
    client.send("OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let options = client.head().unwrap();
    assert!(options.starts_with("HTTP/1.1 204") && options.contains("allow: POST"), "{options}");
    let (status, text, _) = ask(
        &server,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
    );
    assert_eq!(status, 415, "{text}");
    for (method, path, allow) in [("DELETE", "/metrics", "GET, HEAD"), ("GET", "/api/v1/reload", "POST")] {
        let wrong = server.admin(method, path);
        assert_eq!((wrong.status, wrong.header("allow")), (405, Some(allow)));
    }
}
