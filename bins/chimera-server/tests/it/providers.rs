//! What providers do to their sockets.

use std::time::Duration;

use crate::support::{Client, Provider, Server, Step, chat, done, event, stream_head};

/// U05 and U06 by reset instead of by a proper end.
#[test]
fn u05_an_answer_that_a_reset_cuts_short_is_502_and_never_kept() {
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"choices\":";
    for before in [Vec::new(), vec![Step::Write(head.into()), Step::Pause(Duration::from_millis(50))]] {
        let steps = [before, vec![Step::Reset]].concat();
        let provider = Provider::start(move |_| steps.clone());
        let server = Server::start(&provider.config(""));
        for asked in 1..=2 {
            let mut client = Client::connect(server.data);
            client.send(chat("gpt-test", "x", false));
            let answer = client.answer();
            assert_eq!(answer.status, 502, "{}", answer.text());
            assert_eq!(answer.json()["error"]["code"], "upstream_unreachable");
            assert_eq!(provider.requests().len(), asked);
        }
    }
}

#[test]
fn u06_a_stream_that_a_reset_cuts_short_ends_with_an_error_event_and_no_done() {
    let provider = Provider::start(|_| {
        vec![stream_head(), event("first"), Step::Pause(Duration::from_millis(100)), Step::Reset]
    });
    let server = Server::start(&provider.config(""));
    for asked in 1..=2 {
        let mut client = Client::connect(server.data);
        client.send(chat("gpt-test", "x", true));
        assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
        let mut all = Vec::new();
        while let Some(chunk) = client.chunk() {
            all.extend(chunk);
        }
        let text = String::from_utf8(all).unwrap();
        assert!(text.contains("first") && text.contains("upstream_unreachable"), "{text}");
        assert!(!text.contains("[DONE]"), "{text}");
        assert!(client.is_closed_within(Duration::from_secs(5)), "cut, not ended");
        assert_eq!(provider.requests().len(), asked, "never kept");
    }
}

/// Too long to be kept, and with the cache on: what was gathered for it is let go of.
#[test]
fn u19_an_endless_stream_passes_in_constant_memory() {
    const EVENTS: usize = 8192;
    let text = "z".repeat(32 << 10);
    let provider = Provider::start(move |_| {
        let Step::Write(one) = event(&text) else { unreachable!() };
        vec![stream_head(), Step::Repeat(one, EVENTS), done()]
    });
    let server = Server::start(&provider.config(""));
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "long", true));
    client.head().unwrap();
    let (mut bytes, mut settled, mut most) = (0, 0, 0);
    let mut last = Vec::new();
    while let Some(chunk) = client.chunk() {
        let before = bytes >> 24;
        bytes += chunk.len();
        last = chunk;
        // Every 16 MiB.
        if bytes >> 24 > before {
            let resident = server.resident();
            if settled == 0 {
                settled = resident;
            }
            most = most.max(resident);
        }
    }
    assert!(bytes >= EVENTS * (32 << 10), "{bytes}");
    assert!(last.ends_with(b"data: [DONE]\n\n"));
    assert!(most < settled + (16 << 20), "{settled} bytes at first, {most} later");
}
