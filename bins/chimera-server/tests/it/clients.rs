//! Clients that are slow, that stall, and that leave.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, PATIENCE, Provider, Server, Step, answer, chat, done, event, stream_head};

#[test]
fn c01_slow_heads_are_dropped_and_others_go_on() {
    let server = Server::start("[server]\nheader_timeout = \"3s\"\n");
    let crowd = crowd(5_000);
    let slow: Vec<_> = (0..crowd)
        .map(|_| {
            let mut client = Client::connect(server.data);
            client.send("POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n");
            client
        })
        .collect();
    let mut healthy = Client::connect(server.data);
    for n in 0..20 {
        healthy.send(chat("sim-small", &format!("healthy {n}"), false));
        assert_eq!(healthy.answer().status, 200);
    }
    for mut client in slow {
        // A byte now and then does not help: the head as a whole has its time.
        let _ = client.stream.write_all(b"a");
        assert!(client.is_closed_within(Duration::from_secs(20)));
    }
    healthy.send(chat("sim-small", "healthy still", false));
    assert_eq!(healthy.answer().status, 200);
}

/// As many sockets as are wanted, or as this process may open: the server takes half of what it may.
fn crowd(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let most = line.split_whitespace().nth(3).unwrap().parse().map_or(wanted, |files: usize| files / 2 - 100);
    if most < wanted {
        eprintln!("only {most} sockets instead of {wanted}: raise the limit on open files (ulimit -n)");
    }
    wanted.min(most)
}

/// However many come, so many are served at once; the others wait and are served when a place is free.
#[test]
fn c01_connections_beyond_the_bound_wait_for_a_place() {
    let server = Server::start("[server]\nheader_timeout = \"2s\"\nmax_connections = 50\n");
    let mut healthy = Client::connect(server.data);
    healthy.send(chat("sim-small", "before", false));
    assert_eq!(healthy.answer().status, 200);
    let slow: Vec<_> = (0..300)
        .map(|_| {
            let mut client = Client::connect(server.data);
            client.send("POST /v1/chat/completions HTTP/1.1\r\n");
            client
        })
        .collect();
    let mut late = Client::connect(server.data);
    late.send(chat("sim-small", "late", false));
    let before = server.resident();
    // One that has its place is served as ever.
    for n in 0..20 {
        healthy.send(chat("sim-small", &n.to_string(), false));
        assert_eq!(healthy.answer().status, 200);
    }
    late.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(!late.more(), "beyond the bound nobody is served");
    assert!(server.resident() < before + (8 << 20));
    // The slow ones lose their places to those behind them.
    late.stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    drop(slow);
    assert_eq!(late.answer().status, 200);
}

/// Frames of HTTP/2 that are no request, such as a ping, are no unfinished head: such a connection may
/// idle for as long as any other.
#[test]
fn c01_an_idle_http2_connection_is_kept_for_as_long_as_it_may_idle() {
    let server = Server::start("[server]\nheader_timeout = \"1s\"\nidle_timeout = \"60s\"\n");
    let mut client = Client::connect(server.data);
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let ping = |nonce: u8| [[0, 0, 8, 6, 0, 0, 0, 0, 0].as_slice(), &[nonce; 8]].concat();
    let pong = |nonce: u8| [[0, 0, 8, 6, 1, 0, 0, 0, 0].as_slice(), &[nonce; 8]].concat();
    for nonce in [1, 2] {
        client.send(ping(nonce));
        let mut read = Vec::new();
        while !read.windows(17).any(|frame| frame == pong(nonce)) {
            let mut chunk = [0; 256];
            let got = client.stream.read(&mut chunk).unwrap();
            assert!(got > 0, "the connection was closed");
            read.extend_from_slice(&chunk[..got]);
        }
        thread::sleep(Duration::from_secs(4));
    }
}

#[test]
fn c02_a_body_that_does_not_come_costs_no_place_upstream() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    for timeout in ["request_body", "request_body_idle"] {
        let server = Server::start(&provider.config(&format!("[timeouts]\n{timeout} = \"300ms\"")));
        for head in ["content-length: 1000", "transfer-encoding: chunked"] {
            let mut client = Client::connect(server.data);
            client.send(format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n{head}\r\n\r\n1\r\n{{"
            ));
            let answer = client.answer();
            assert_eq!(answer.status, 408, "{}", answer.text());
            assert!(client.is_closed_within(Duration::from_secs(2)));
        }
    }
    assert!(provider.requests().is_empty());
}

/// The least that the kernel gives.
fn tiny_receive_buffer(address: std::net::SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(1024).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

#[test]
fn c03_a_slow_reader_gets_every_byte_and_is_not_buffered_for() {
    const EVENTS: usize = 4000;
    let text = "z".repeat(4000);
    let long = text.clone();
    let provider = Provider::start(move |_| {
        let mut steps = vec![stream_head()];
        steps.extend((0..EVENTS).map(|_| event(&long)));
        steps.push(done());
        steps
    });
    // Not kept: what is held is what is on its way.
    let server = Server::start(&provider.config("[cache]\npolicy = \"off\""));
    // Once through: the code that a stream runs is memory, too, and not what this is about.
    let mut first = Client::connect(server.data);
    first.send(chat("gpt-test", "long", true));
    first.head().unwrap();
    while first.chunk().is_some() {}
    let mut client = Client::connect(server.data);
    client.stream = tiny_receive_buffer(server.data);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The console's first look touches memory of its own: that is no reader's.
    assert_eq!(server.admin("GET", "/api/v1/console/overview").status, 200);
    assert_eq!(server.admin("GET", "/metrics").status, 200);
    let before = server.resident();
    client.send(chat("gpt-test", "long", true));
    thread::sleep(Duration::from_millis(700));
    let held = server.resident().saturating_sub(before);
    assert!(held < 4 << 20, "{held} bytes are held of 16 MB for a reader that does not read");
    let head = client.head().unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut bytes = 0;
    let mut last = Vec::new();
    while let Some(chunk) = client.chunk() {
        bytes += chunk.iter().filter(|byte| **byte == b'z').count();
        last = chunk;
    }
    assert_eq!(bytes, EVENTS * text.len());
    assert!(last.ends_with(b"data: [DONE]\n\n"));
}

/// A whole answer is on its way when nothing is being answered any more; that is not idling. Nor does it stall: of an
/// answer that the system could take whole, some is always taken.
#[test]
fn c03_a_slow_reader_of_a_whole_answer_is_neither_idle_nor_stalled() {
    slow_reader("idle_timeout = \"1s\"");
    slow_reader("write_stall_timeout = \"2s\"");
}

fn slow_reader(patience: &str) {
    let text = "z".repeat(8 << 20);
    let long = text.clone();
    let provider = Provider::start(move |_| vec![answer(&long)]);
    let server =
        Server::start(&provider.config(&format!("[cache]\npolicy = \"off\"\n[server]\n{patience}\n")));
    let mut client = Client::connect(server.data);
    client.stream = tiny_receive_buffer(server.data);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(chat("gpt-test", "long", false));
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(200));
        for _ in 0..10 {
            assert!(client.more(), "it was cut");
        }
    }
    let whole = client.answer();
    assert_eq!(whole.json()["choices"][0]["message"]["content"].as_str().map(str::len), Some(text.len()));
}

#[test]
fn c03_a_reader_that_stops_for_good_is_dropped() {
    let provider = Provider::start(|_| {
        let mut steps = vec![stream_head()];
        steps.extend((0..4000).map(|_| event(&"x".repeat(4000))));
        steps.push(Step::AwaitClose);
        steps
    });
    let server = Server::start(
        &provider.config("[cache]\npolicy = \"off\"\n[server]\nwrite_stall_timeout = \"1s\"\n"),
    );
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "stalled", true));
    let began = Instant::now();
    let closed = provider.await_close();
    assert!(closed - began > Duration::from_millis(900), "a moment's stall is no reason");
    drop(client);
}

/// Sends a request, waits until it is at the stage, and leaves; how long the provider's connection
/// outlived the client's.
fn leave(
    server: &Server,
    provider: &Provider,
    text: &str,
    stream: bool,
    stage: Duration,
    reset: bool,
) -> Duration {
    let mut client = Client::connect(server.data);
    let before = provider.requests().len();
    client.send(chat("gpt-test", text, stream));
    provider.await_requests(before + 1);
    thread::sleep(stage);
    let left = Instant::now();
    if reset {
        client.reset()
    } else {
        drop(client)
    }
    provider.await_close().saturating_duration_since(left)
}

#[test]
fn c05_a_client_that_leaves_takes_the_upstream_call_with_it() {
    let provider = Provider::start(|request| {
        if request.contains("midstream") {
            vec![stream_head(), event("a"), Step::AwaitClose]
        } else {
            vec![Step::AwaitClose]
        }
    });
    let server = Server::start(&provider.config(""));
    let mut worst = Duration::ZERO;
    for (text, stream) in [("unary wait", false), ("awaiting the first event", true), ("midstream", true)] {
        for reset in [false, true] {
            // The fastest of three: a busy machine may hold anybody up once.
            let fastest = (0..3)
                .map(|n| {
                    leave(
                        &server,
                        &provider,
                        &format!("{text} {reset} {n}"),
                        stream,
                        Duration::from_millis(60),
                        reset,
                    )
                })
                .min()
                .unwrap();
            worst = worst.max(fastest);
        }
    }
    assert!(worst <= Duration::from_millis(100), "{worst:?}");
    let busy = || server.metric("chimera_pool_slots{deployment=\"openai\",state=\"busy\"}");
    let deadline = Instant::now() + PATIENCE;
    while busy() != Some(0.0) {
        assert!(Instant::now() < deadline, "places in flight are given back: {:?}", busy());
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn c05_when_the_first_of_two_leaves_the_other_gets_the_answer() {
    let provider = Provider::start(|_| vec![Step::Pause(Duration::from_millis(400)), answer("shared")]);
    let server = Server::start(&provider.config(""));
    let mut first = Client::connect(server.data);
    first.send(chat("gpt-test", "same", false));
    provider.await_requests(1);
    let mut second = Client::connect(server.data);
    second.send(chat("gpt-test", "same", false));
    thread::sleep(Duration::from_millis(100));
    drop(first);
    let answer = second.answer();
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "shared");
    assert_eq!(answer.header("x-chimera-cache"), Some("coalesced"));
    assert_eq!(provider.requests().len(), 1);
}

/// Without TCP_NODELAY on both sides a small write that follows another waits for the peer's delayed
/// acknowledgement, 40 ms on Linux.
#[test]
fn a_stream_of_small_events_has_no_gaps_of_40_ms() {
    let provider = Provider::start(|_| {
        let mut steps = vec![stream_head()];
        for _ in 0..60 {
            steps.push(event("a"));
            steps.push(Step::Pause(Duration::from_millis(3)));
        }
        steps.push(done());
        steps
    });
    let server = Server::start(&provider.config(""));
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "paced", true));
    client.head().unwrap();
    let mut gaps = Vec::new();
    let mut last = Instant::now();
    while client.chunk().is_some() {
        gaps.push(last.elapsed());
        last = Instant::now();
    }
    assert!(gaps.len() > 50, "events are not gathered: {}", gaps.len());
    gaps.sort();
    let slow = gaps.iter().filter(|gap| **gap > Duration::from_millis(35)).count();
    assert!(slow < 6, "{slow} of {} gaps are as long as a delayed acknowledgement", gaps.len());
}

#[test]
fn pain_16_the_first_event_passes_before_the_second_exists() {
    let provider = Provider::start(|_| {
        vec![stream_head(), event("first"), Step::Pause(Duration::from_secs(2)), event("second"), done()]
    });
    let server = Server::start(&provider.config(""));
    let mut client = Client::connect(server.data);
    let began = Instant::now();
    client.send(chat("gpt-test", "hello", true));
    let head = client.head().unwrap();
    assert!(!head.contains("content-encoding"), "event streams are not compressed: {head}");
    let first = client.chunk().unwrap();
    assert!(String::from_utf8(first).unwrap().contains("first"));
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
}

#[test]
fn pain_22_a_large_body_does_not_hold_up_a_small_one() {
    let server = Server::start("[server]\nworkers = 1\n");
    let image = "A".repeat(8 << 20);
    let large = crate::support::post(
        "/v1/chat/completions",
        &format!(
            r#"{{"model":"sim-small","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{image}"}}}}]}}]}}"#
        ),
    );
    let mut small = Client::connect(server.data);
    small.send(chat("sim-small", "warm", false));
    assert_eq!(small.answer().status, 200);
    let address = server.data;
    let writer = thread::spawn(move || {
        let mut client = Client::connect(address);
        client.send(large);
        client.answer().status
    });
    let mut served = 0;
    while !writer.is_finished() {
        small.send(chat("sim-small", "warm", false));
        assert_eq!(small.answer().header("x-chimera-cache"), Some("l1"));
        served += 1;
    }
    assert_eq!(writer.join().unwrap(), 200);
    assert!(served > 5, "{served} small ones were served beside it");
}
