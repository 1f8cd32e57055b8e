//! HTTP/2 clients that cost the server much and themselves little: their connection ends, and nobody else notices.

use std::{io::Write, thread, time::Duration};

use crate::{
    http2::{Connection, END_HEADERS, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, await_idle},
    support::{Client, PATIENCE, Provider, Server, Step, answer, chat},
};

const DATA: u8 = 0;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// Frames of a flood: a hundred times what any limit allows.
const MANY: u32 = 20_000;
/// What a flood may leave in memory: far less than it sent or asked for.
const LITTLE: u64 = 24 << 20;

/// A provider that answers the well-behaved, and one whose calls end only with their callers.
fn server() -> (Provider, Server) {
    let provider = Provider::start(|request| match request.contains("polite") {
        true => vec![answer("fine")],
        false => vec![Step::AwaitClose],
    });
    let server = Server::start(&provider.config("[cache]\npolicy = \"off\"\n"));
    (provider, server)
}

/// Begins a flood and goes on with it until the server ends the connection. Somebody else is served meanwhile and
/// afterwards, and memory and places in flight are given back.
fn flood(begin: impl FnOnce(&mut Connection), frames: impl Fn(u32) -> Vec<u8>) {
    let (_provider, server) = server();
    let polite = |text: &str| {
        let mut client = Client::connect(server.data);
        client.send(chat("gpt-test", &format!("polite {text}"), false));
        assert_eq!(client.answer().status, 200, "somebody else is served");
    };
    polite("before");
    let before = server.resident();
    let mut connection = Connection::new(&server, 1 << 20);
    begin(&mut connection);
    // Whoever floods does not read; what is written to it is read here lest the kernel's buffers hold the server up.
    let mut drain = connection.0.stream.try_clone().unwrap();
    let reading = thread::spawn(move || std::io::copy(&mut drain, &mut std::io::sink()));
    let ended = (0..MANY).any(|n| connection.0.stream.write_all(&frames(n)).is_err());
    polite("meanwhile");
    assert!(ended || connection.0.is_closed_within(PATIENCE), "the flood is ended");
    let _ = reading.join().unwrap();
    await_idle(&server);
    polite("afterwards");
    let grown = server.resident().saturating_sub(before);
    assert!(grown < LITTLE, "{grown} bytes");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The block of a chat call's head.
fn head() -> Vec<u8> {
    let path = b"/v1/chat/completions";
    let kind = b"application/json";
    [
        &[0x83, 0x86, 0x04, path.len() as u8][..],
        path,
        &[0x01, 9],
        b"localhost",
        &[0x0f, 0x10, kind.len() as u8],
        kind,
    ]
    .concat()
}

/// Rapid Reset (CVE-2023-44487): each stream is reset as soon as it is opened.
#[test]
fn c14_streams_that_are_reset_at_once_end_the_connection() {
    flood(
        |_| {},
        |n| {
            let stream = 2 * n + 1;
            [frame(HEADERS, END_HEADERS, stream, &head()), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])]
                .concat()
        },
    );
}

/// MadeYouReset (CVE-2025-8671): the server is made to reset each stream itself, by an update of its window by nothing.
#[test]
fn c14_streams_that_the_server_is_made_to_reset_end_the_connection() {
    flood(
        |_| {},
        |n| {
            let stream = 2 * n + 1;
            let opened = frame(HEADERS, END_HEADERS, stream, &head());
            let body = br#"{"model":"gpt-test","messages":[{"role":"user","content":"x"}]}"#;
            [opened, frame(DATA, 0, stream, body), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat()
        },
    );
}

/// CVE-2024-27316 and its like: a head that never ends.
#[test]
fn c14_a_head_without_end_ends_the_connection() {
    let opened = |connection: &mut Connection| connection.frame(HEADERS, 0, 1, &head());
    flood(opened, |n| {
        let field =
            [&[0x00, 0x06][..], format!("x{n:05}").as_bytes(), &[0x7f, 0x81, 0x01], &[b'a'; 256]].concat();
        frame(CONTINUATION, 0, 1, &field)
    });
}

/// A small head that stands for a large one: one long field in the table, named again and again.
#[test]
fn c14_a_head_that_unfolds_is_refused_and_costs_little() {
    let (provider, server) = server();
    let before = server.resident();
    let mut connection = Connection::new(&server, 1 << 20);
    let long = [&[0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &[b'a'; 4000]].concat();
    // The field is in the table once; each byte after it stands for four thousand, 48 MB in all.
    connection.frame(HEADERS, END_HEADERS, 1, &[head(), long, vec![0xbe; 12_000]].concat());
    let refusal = loop {
        let read = connection.read();
        if [HEADERS, RST_STREAM, GOAWAY].contains(&read.kind) {
            break read;
        }
    };
    assert!(refusal.kind != HEADERS || refusal.payload.windows(3).any(|at| at == b"431"));
    assert!(provider.requests().is_empty());
    let mut polite = Client::connect(server.data);
    polite.send(chat("gpt-test", "polite", false));
    assert_eq!(polite.answer().status, 200);
    await_idle(&server);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < LITTLE, "{grown} bytes");
}

/// Frames of a body that carry nothing keep a stream from its end, and not from its deadline.
#[test]
fn c14_a_body_of_empty_frames_takes_no_memory_and_ends() {
    let (_provider, server) = server();
    let config = std::fs::read_to_string(&server.config).unwrap();
    std::fs::write(&server.config, format!("{config}\n[timeouts]\nrequest_body = \"2s\"\n")).unwrap();
    assert_eq!(server.admin("POST", "/api/v1/reload").status, 200);
    let before = server.resident();
    let mut connection = Connection::new(&server, 1 << 20);
    connection.frame(HEADERS, END_HEADERS, 1, &head());
    let mut writer = connection.0.stream.try_clone().unwrap();
    let flooding = thread::spawn(move || {
        while writer.write_all(&frame(DATA, 0, 1, &[]).repeat(1000)).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    // The answer, or the end of the connection, as it comes first.
    while ![HEADERS, RST_STREAM, GOAWAY].contains(&connection.read().kind) {}
    let grown = server.resident().saturating_sub(before);
    assert!(grown < LITTLE, "{grown} bytes");
    drop(server);
    flooding.join().unwrap();
}

/// Each asks for an answer; whoever does not read them is not asked any more either.
#[test]
fn c14_pings_and_settings_that_nobody_reads_the_answers_of_take_no_memory() {
    for (kind, payload) in [(PING, vec![7; 8]), (SETTINGS, vec![0, 3, 0, 0, 0, 100])] {
        let (_provider, server) = server();
        let before = server.resident();
        let mut connection = Connection::new(&server, 1 << 20);
        connection.0.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let many = frame(kind, 0, 0, &payload).repeat(1000);
        // Until the connection is ended, or the server reads no more of it.
        let _ = (0..5000).any(|_| connection.0.stream.write_all(&many).is_err());
        let grown = server.resident().saturating_sub(before);
        assert!(grown < LITTLE, "{grown} bytes");
        let mut polite = Client::connect(server.data);
        polite.send(chat("gpt-test", "polite", false));
        assert_eq!(polite.answer().status, 200);
    }
}
