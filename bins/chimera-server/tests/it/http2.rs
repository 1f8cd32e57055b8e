//! Clients that speak HTTP/2, frame by frame.

use std::{
    io::Read,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, PATIENCE, Provider, Server, Step, answer, chat, event, stream_head};

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame as it was read.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    flags: u8,
    stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct Connection(pub(crate) Client);

impl Connection {
    /// Connects, with a window for each stream.
    pub(crate) fn new(server: &Server, window: u32) -> Self {
        Self::to(server.data, window)
    }

    fn to(address: SocketAddr, window: u32) -> Self {
        let mut client = Client::connect(address);
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut connection = Self(client);
        let initial_window_size = [&[0, 4][..], &window.to_be_bytes()].concat();
        connection.frame(SETTINGS, 0, 0, &initial_window_size);
        // Much for the connection as a whole.
        connection.window(0, 64 << 20);
        connection
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.send([&head, payload].concat());
    }

    pub(crate) fn window(&mut self, stream: u32, more: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    }

    /// A chat call on a stream of its own.
    pub(crate) fn chat(&mut self, stream: u32, text: &str, streamed: bool) {
        self.chat_as(stream, "", text, streamed);
    }

    /// The same, by a key.
    fn chat_as(&mut self, stream: u32, key: &str, text: &str, streamed: bool) {
        let body = format!(
            r#"{{"model":"gpt-test","stream":{streamed},"messages":[{{"role":"user","content":"{text}"}}]}}"#
        );
        let literal = |name: u8, value: &str| [&[name, value.len() as u8], value.as_bytes()].concat();
        // By the static table: POST, http, and the names of path, authority and content type.
        let mut block = vec![0x83, 0x86];
        block.extend(literal(0x04, "/v1/chat/completions"));
        block.extend(literal(0x01, "localhost"));
        block.push(0x0f);
        block.extend(literal(0x10, "application/json"));
        if !key.is_empty() {
            block.push(0x0f);
            block.extend(literal(0x08, &format!("Bearer {key}")));
        }
        self.frame(HEADERS, END_HEADERS, stream, &block);
        self.frame(0, END_STREAM, stream, body.as_bytes());
    }

    /// A request without a body.
    fn bare(&mut self, stream: u32, method: &str, path: &str) {
        let literal = |name: u8, value: &str| [&[name, value.len() as u8], value.as_bytes()].concat();
        let block = [&[0x86][..], &literal(0x02, method), &literal(0x04, path), &literal(0x01, "localhost")];
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block.concat());
    }

    pub(crate) fn read(&mut self) -> Frame {
        let mut head = [0; 9];
        self.0.stream.read_exact(&mut head).expect("a frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.0.stream.read_exact(&mut payload).expect("its payload");
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Frame { kind: head[3], flags: head[4], stream, payload }
    }

    /// Reads the frames of a stream until one of a kind has come.
    fn await_frame(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.read();
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
        }
    }

    /// The whole body of a stream; the window is opened as it is read.
    fn body(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.await_frame(0, stream);
            body.extend_from_slice(&frame.payload);
            if frame.flags & END_STREAM != 0 {
                return body;
            }
            if !frame.payload.is_empty() {
                self.window(stream, frame.payload.len() as u32);
            }
        }
    }
}

#[test]
fn c17_an_answer_to_head_ends_with_its_head() {
    let server = Server::start("");
    for address in [server.data, server.admin] {
        let mut connection = Connection::to(address, 1 << 16);
        connection.bare(1, "HEAD", "/health");
        assert_eq!(connection.await_frame(HEADERS, 1).flags & END_STREAM, END_STREAM);
        connection.bare(3, "GET", "/health");
        assert_eq!(connection.await_frame(HEADERS, 3).flags & END_STREAM, 0);
        assert!(!connection.body(3).is_empty());
    }
}

/// A provider that is silent is no reason not to tell.
#[test]
fn p01_a_silent_http2_stream_past_the_drain_ends_with_an_error_event() {
    let provider = Provider::start(|_| vec![stream_head(), event("a"), Step::AwaitClose]);
    let mut server = Server::start(&provider.config("[server]\ndrain_min = \"100ms\"\ndrain_max = \"1s\"\n"));
    let mut connection = Connection::new(&server, 1 << 16);
    connection.chat(1, "silent", true);
    connection.await_frame(0, 1);
    server.signal("-TERM");
    let told = String::from_utf8(connection.await_frame(0, 1).payload).unwrap();
    assert!(told.contains("\"error\"") && told.contains("overloaded"), "{told}");
    assert_eq!(server.wait(), Some(0));
}

fn busy(server: &Server) -> Option<f64> {
    server.metric("chimera_pool_slots{deployment=\"openai\",state=\"busy\"}")
}

pub(crate) fn await_idle(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    while busy(server) != Some(0.0) {
        assert!(Instant::now() < deadline, "places in flight are given back: {:?}", busy(server));
        thread::sleep(Duration::from_millis(100));
    }
}

/// A window that stays shut stalls one stream and not the socket: the connection's own look at its
/// writes never sees it.
#[test]
fn c03_an_http2_stream_whose_window_stays_shut_is_ended_and_no_other() {
    let text = "large ".repeat(50_000);
    let long = text.clone();
    let provider = Provider::start(move |request| match request.contains("endless") {
        true => {
            let mut steps = vec![stream_head()];
            steps.extend((0..4000).map(|_| event(&"x".repeat(4000))));
            steps.push(Step::AwaitClose);
            steps
        }
        false => vec![answer(&long)],
    });
    let stalls = "[cache]\npolicy = \"off\"\n[server]\nwrite_stall_timeout = \"2s\"\n";
    let server = Server::start(&provider.config(stalls));
    let mut connection = Connection::new(&server, 0);
    let began = Instant::now();
    connection.chat(1, "endless", true);
    connection.await_frame(HEADERS, 1);
    let closed = provider.await_close();
    assert!(closed - began > Duration::from_millis(1900), "a moment's stall is no reason");
    await_idle(&server);
    // The connection and its other streams go on, even one whose client is slow.
    connection.chat(3, "large", false);
    connection.await_frame(HEADERS, 3);
    for _ in 0..6 {
        connection.window(3, 16 << 10);
        thread::sleep(Duration::from_millis(500));
    }
    connection.window(3, 16 << 10);
    let body: serde_json::Value = serde_json::from_slice(&connection.body(3)).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], text);
    // A stream that is read at last is told that it was cut.
    connection.window(1, 1 << 20);
    assert_eq!(connection.await_frame(RST_STREAM, 1).payload.len(), 4);
    connection.frame(PING, 0, 0, &[7; 8]);
    assert_eq!(connection.await_frame(PING, 0).payload, [7; 8]);
}

#[test]
fn c05_a_stream_that_an_http2_client_resets_takes_its_upstream_call_with_it() {
    let provider = Provider::start(|request| match request.contains("midstream") {
        true => vec![stream_head(), event("a"), Step::AwaitClose],
        false => vec![Step::AwaitClose],
    });
    let server = Server::start(&provider.config(""));
    let mut connection = Connection::new(&server, 1 << 20);
    let (mut stream, mut worst) = (1, Duration::ZERO);
    for (stage, streamed) in [("unary wait", false), ("awaiting the first event", true), ("midstream", true)]
    {
        // The fastest of three: a busy machine may hold anybody up once.
        let reset = |n: u32| {
            let before = provider.requests().len();
            connection.chat(stream, &format!("{stage} {n}"), streamed);
            provider.await_requests(before + 1);
            if stage == "midstream" {
                connection.await_frame(0, stream);
            }
            thread::sleep(Duration::from_millis(30));
            let left = Instant::now();
            const CANCEL: [u8; 4] = [0, 0, 0, 8];
            connection.frame(RST_STREAM, 0, stream, &CANCEL);
            stream += 2;
            provider.await_close().saturating_duration_since(left)
        };
        worst = worst.max((0..3).map(reset).min().unwrap());
    }
    assert!(worst <= Duration::from_millis(100), "{worst:?}");
    await_idle(&server);
    connection.frame(PING, 0, 0, &[7; 8]);
    assert_eq!(connection.await_frame(PING, 0).payload, [7; 8], "the connection goes on");
}

/// A stream on which nothing comes is ended too, over either protocol, when its key is taken out of the configuration.
#[test]
fn a_revoked_key_ends_silent_streams_within_five_seconds() {
    let provider = Provider::start(|_| vec![stream_head(), event("a"), Step::AwaitClose]);
    let digest = |key: &str| -> String {
        chimera_gateway::key_digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let keys = |of: &[&str]| {
        let digests: Vec<_> = of.iter().map(|key| format!("\"{}\"", digest(key))).collect();
        crate::support::with_ports(
            &provider.config(&format!("[clients.c]\nkey_sha256 = [{}]\n", digests.join(","))),
        )
    };
    let server = Server::start(&keys(&["k", "other"]));
    let mut two = Connection::new(&server, 1 << 20);
    two.chat_as(1, "k", "silent", true);
    two.await_frame(0, 1);
    let mut one = Client::connect(server.data);
    one.send(chat("gpt-test", "silent", true).replace("host:", "authorization: Bearer k\r\nhost:"));
    one.head().unwrap();
    assert!(one.chunk().is_some());
    std::fs::write(&server.config, keys(&["other"])).unwrap();
    let began = Instant::now();
    assert_eq!(server.admin("POST", "/api/v1/reload").status, 200);
    let told = String::from_utf8(one.chunk().expect("an error event")).unwrap();
    assert!(told.contains("authentication_failed"), "{told}");
    assert!(one.chunk().is_none() && one.is_closed_within(PATIENCE));
    let told = String::from_utf8(two.await_frame(0, 1).payload).unwrap();
    assert!(told.contains("authentication_failed"), "{told}");
    two.await_frame(RST_STREAM, 1);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    provider.await_close();
    await_idle(&server);
}

/// Behind a proxy that ends TLS, browsers' HTTP/2 reaches the admin listener as it is: page and assets go over one
/// connection.
#[test]
fn the_console_is_delivered_over_http2() {
    let server = Server::start("");
    let mut connection = Connection::to(server.admin, 1 << 20);
    // By the static table: GET, http, /, and the names of authority and accept.
    let mut block = vec![0x82, 0x86, 0x84];
    block.extend([&[0x01, 9], &b"localhost"[..]].concat());
    block.extend([&[0x0f, 0x04, 9], &b"text/html"[..]].concat());
    for stream in [1, 3] {
        connection.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
    }
    let (mut ended, mut page) = (0, Vec::new());
    while ended < 2 {
        let frame = connection.read();
        if frame.kind == 0 {
            page.extend_from_slice(&frame.payload);
        }
        ended += usize::from(frame.kind == 0 && frame.flags & END_STREAM != 0);
    }
    let page = String::from_utf8(page).unwrap();
    assert_eq!(page.matches("<!doctype html>").count(), 2, "{page}");
}
