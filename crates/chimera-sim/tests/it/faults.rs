//! Each fault does to the wire what its name says.

use std::time::Duration;

use chimera_sim::{BodyError, Fault, Settings, Sim};
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use crate::support::{chat, connect, events, text};

fn faulty(fault: Fault) -> Sim {
    let sim = Sim::new(Settings { tokens: 4, ..Settings::default() });
    sim.fault_always(Some(fault));
    sim
}

/// The stream under `fault`, with how many bytes arrived before an error.
async fn stream(fault: Fault) -> (String, Option<BodyError>) {
    let mut body = faulty(fault).respond(chat("hello", true)).await.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => return (String::from_utf8(bytes).unwrap(), Some(error)),
        }
    }
    (String::from_utf8(bytes).unwrap(), None)
}

#[tokio::test]
async fn statuses_carry_headers_and_the_dialects_error() {
    let sim = faulty(Fault::throttled("3"));
    let answer = sim.respond(chat("a", false)).await;
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "3");
    assert!(text(answer).await.contains("rate_limit_exceeded"));
}

#[tokio::test]
async fn faults_are_picked_by_queue_then_model_then_always() {
    let sim = faulty(Fault::status(500));
    sim.fault_for_model("m", Some(Fault::status(503)));
    sim.fault_next(Fault::status(429));
    for expected in [429, 503] {
        assert_eq!(sim.respond(chat("a", false)).await.status(), expected);
    }
    sim.fault_for_model("m", None);
    assert_eq!(sim.respond(chat("a", false)).await.status(), 500);
    let mut asked = chat("a", false);
    asked.headers_mut().insert("x-sim-fault", "status:418".parse().unwrap());
    assert_eq!(sim.respond(asked).await.status(), 418);
}

#[tokio::test]
async fn streams_end_as_their_fault_says() {
    let (whole, _) = stream(Fault::Delay(Duration::ZERO)).await;
    let count = events(&whole).len();
    let (cut, error) = stream(Fault::TruncateAfterEvents(2)).await;
    assert_eq!((events(&cut).len(), error), (2, Some(BodyError::Truncated)));
    let (cut, error) = stream(Fault::EndAfterEvents(2)).await;
    assert_eq!((events(&cut).len(), error), (2, None));
    let (cut, error) = stream(Fault::Reset { after_bytes: Some(10) }).await;
    assert_eq!((cut.len(), error), (10, Some(BodyError::Reset)));
    let (open, _) = stream(Fault::NoDone).await;
    assert_eq!((events(&open).len(), open.contains("[DONE]")), (count, false));
    let (twice, _) = stream(Fault::DoubleDone).await;
    assert_eq!(twice.matches("[DONE]").count(), 2);
    let (after, _) = stream(Fault::DataAfterDone).await;
    assert!(after.split("[DONE]").nth(1).unwrap().contains("data: {"));
    let (error, _) = stream(Fault::ErrorEventFirst).await;
    assert!(events(&error)[0].get("error").is_some());
    let (late, _) = stream(Fault::ErrorEventAfter(3)).await;
    assert!(events(&late)[3].get("error").is_some());
    let (huge, _) = stream(Fault::HugeEvent(100_000)).await;
    assert!(huge.lines().any(|line| line.len() > 100_000));
    let (slow, _) = stream(Fault::SlowBytes { every: Duration::ZERO }).await;
    assert_eq!(slow, whole);
}

#[tokio::test]
async fn usage_is_falsified_or_left_out() {
    let unary = |fault| async { text(faulty(fault).respond(chat("a", false)).await).await };
    assert!(!unary(Fault::UsageMissing).await.contains("usage"));
    assert!(unary(Fault::UsageNegative).await.contains(r#""completion_tokens":-7"#));
    assert!(unary(Fault::UsageHuge).await.contains("9223372036854775808"));
}

#[tokio::test]
async fn bodies_are_broken_or_disguised() {
    let json = text(faulty(Fault::InvalidJson).respond(chat("a", false)).await).await;
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_err());
    let html = faulty(Fault::Html200).respond(chat("a", false)).await;
    assert_eq!(
        (html.status().as_u16(), &html.headers()["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
    let gzip = faulty(Fault::GzipDespiteIdentity).respond(chat("a", false)).await;
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
    let packed = gzip.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(packed[..2], [0x1f, 0x8b]);
}

#[tokio::test(start_paused = true)]
async fn latency_is_paid_in_paused_time() {
    let sim = Sim::new(Settings {
        first_token: Duration::from_secs(2),
        per_token: Duration::from_secs(1),
        tokens: 5,
        ..Settings::default()
    });
    for stream in [false, true] {
        let start = Instant::now();
        text(sim.respond(chat("a", stream)).await).await;
        assert_eq!(start.elapsed().as_secs(), 6, "stream: {stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_counted_at_every_stage() {
    let sim = faulty(Fault::HangBeforeHead);
    let mut client = connect(&sim).await;
    let asking = client.send_request(chat("a", false));
    let waiting = tokio::time::timeout(Duration::from_secs(1), asking).await;
    assert!(waiting.is_err());
    drop(client);
    assert_eq!(sim.until(|counts| counts.cancelled == 1).await.in_flight(), 0);

    sim.fault_always(Some(Fault::HangAfterEvents(1)));
    let mut client = connect(&sim).await;
    let mut body = client.send_request(chat("a", true)).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(sim.counts().in_flight(), 1);
    drop((body, client));
    assert_eq!(sim.until(|counts| counts.cancelled == 2).await.finished, 0);
}

#[tokio::test]
async fn a_reset_before_the_head_ends_the_connection() {
    let sim = faulty(Fault::Reset { after_bytes: None });
    let mut client = connect(&sim).await;
    assert!(client.send_request(chat("a", false)).await.is_err());
    assert_eq!(sim.counts().finished, 1);
}

/// What a raw client reads from a TCP listener until the end, and how it ended.
async fn raw(fault: Fault) -> (Vec<u8>, Option<std::io::ErrorKind>) {
    let sim = faulty(fault);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let talk = async {
        let body = chat("a", false).into_body().collect().await.unwrap().to_bytes();
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&body).await.unwrap();
        let mut all = Vec::new();
        let end = socket.read_to_end(&mut all).await;
        (all, end.err().map(|error| error.kind()))
    };
    tokio::select! {
        never = sim.serve(listener) => match never {},
        result = talk => result,
    }
}

#[tokio::test]
async fn a_reset_is_a_real_one_on_a_socket() {
    let (bytes, end) = raw(Fault::Reset { after_bytes: Some(5) }).await;
    assert_eq!(end, Some(std::io::ErrorKind::ConnectionReset));
    assert!(bytes.starts_with(b"HTTP/1.1 200"));
    let (bytes, end) = raw(Fault::Reset { after_bytes: None }).await;
    assert_eq!((bytes.len(), end), (0, Some(std::io::ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn announced_lengths_lie_both_ways() {
    let split = |bytes: &[u8]| {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        (length.unwrap().parse::<usize>().unwrap(), body.len())
    };
    let (bytes, _) = raw(Fault::ContentLengthShort(9)).await;
    let (announced, sent) = split(&bytes);
    assert_eq!(announced + 9, sent);
    let (bytes, _) = raw(Fault::ContentLengthLong(9)).await;
    let (announced, sent) = split(&bytes);
    assert_eq!(announced, sent + 9);
}
