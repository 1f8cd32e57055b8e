//! U15: what an HTTP/2 provider says when it leaves, or refuses, frame by frame.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use chimera_provider_pool::{Connect, Connected, Connecting, SendError, Target, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::support::{group, send, settings};

/// What is done when a request has come.
#[derive(Clone, Copy)]
enum Then {
    Answer,
    /// Nothing yet: it is answered when the connection's next request has been dealt with.
    Later,
    Refuse,
    /// Leaves: streams up to this one are finished.
    Leave {
        last: u32,
        code: u32,
    },
}

/// A provider whose connections follow scripts, a step for each request.
struct Frames {
    scripts: Mutex<Vec<Vec<Then>>>,
    connects: AtomicUsize,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn answer(stream: u32) -> Vec<u8> {
    // `:status: 200` is the eighth entry of the static table.
    [frame(1, 4, stream, &[0x88]), frame(0, 1, stream, b"hello")].concat()
}

async fn serve(mut io: DuplexStream, script: Vec<Then>) -> Option<()> {
    let mut preface = [0; 24];
    io.read_exact(&mut preface).await.ok()?;
    io.write_all(&frame(4, 0, 0, &[])).await.ok()?;
    let (mut script, mut later) = (script.into_iter(), Vec::new());
    loop {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        let mut payload = vec![0; length as usize];
        io.read_exact(&mut payload).await.ok()?;
        match kind {
            4 if flags & 1 == 0 => io.write_all(&frame(4, 1, 0, &[])).await.ok()?,
            6 if flags & 1 == 0 => io.write_all(&frame(6, 1, 0, &payload)).await.ok()?,
            0 | 1 if flags & 1 == 1 => {
                let bytes = match script.next().unwrap_or(Then::Answer) {
                    Then::Answer => answer(stream),
                    Then::Later => {
                        later.push(stream);
                        continue;
                    }
                    Then::Refuse => frame(3, 0, stream, &7_u32.to_be_bytes()),
                    Then::Leave { last, code } => {
                        frame(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
                    }
                };
                io.write_all(&bytes).await.ok()?;
                tokio::time::sleep(Duration::from_millis(10)).await;
                for stream in later.drain(..) {
                    io.write_all(&answer(stream)).await.ok()?;
                }
            }
            _ => {}
        }
    }
}

impl Connect for Frames {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            self.connects.fetch_add(1, SeqCst);
            let mut scripts = self.scripts.lock().unwrap();
            let script = if scripts.is_empty() { Vec::new() } else { scripts.remove(0) };
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(serve(theirs, script));
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: true })
        })
    }
}

fn provider(scripts: &[&[Then]]) -> Arc<Frames> {
    let scripts = scripts.iter().map(|script| script.to_vec()).collect();
    Arc::new(Frames { scripts: Mutex::new(scripts), connects: AtomicUsize::new(0) })
}

#[tokio::test(start_paused = true)]
async fn u15_a_refused_stream_is_asked_again() {
    let frames = provider(&[&[Then::Answer, Then::Refuse, Then::Answer]]);
    let group = group(settings("http://pipe"), frames.clone());
    for _ in 0..3 {
        assert_eq!(send(&group).await.unwrap().held, "hello");
    }
    assert_eq!(frames.connects.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn u15_when_it_leaves_streams_above_the_last_go_elsewhere_and_those_below_finish() {
    let frames = provider(&[&[Then::Answer, Then::Later, Then::Leave { last: 3, code: 0 }]]);
    let group = group(settings("http://pipe"), frames.clone());
    send(&group).await.unwrap();
    let below = tokio::spawn({
        let group = group.clone();
        async move { send(&group).await.map(|reply| reply.held) }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(frames.connects.load(SeqCst), 1);
    assert_eq!(send(&group).await.unwrap().held, "hello");
    assert_eq!(below.await.unwrap().unwrap(), "hello");
    assert_eq!(frames.connects.load(SeqCst), 2);
    assert_eq!(send(&group).await.unwrap().held, "hello");
    assert_eq!(frames.connects.load(SeqCst), 2, "the new connection is kept");
}

/// One that is asked for too much may have begun: nothing is sent again, and it counts for the breaker.
#[tokio::test(start_paused = true)]
async fn u15_one_that_asks_for_calm_is_not_asked_again_at_once() {
    let frames = provider(&[&[Then::Leave { last: 0, code: 0xb }]]);
    let group = group(settings("http://pipe"), frames.clone());
    assert!(matches!(send(&group).await, Err(SendError::Broken(_))));
    assert_eq!(frames.connects.load(SeqCst), 1);
    let failures = group.deployments()[0].breaker().snapshot(std::time::Instant::now()).failures;
    assert_eq!(failures, 1);
}

/// A provider that serves many streams on a connection, each after five seconds.
struct Shared;

impl Connect for Shared {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(crate::support::answer(theirs, true, Duration::from_secs(5), Arc::default()));
            // As long as it takes to come.
            tokio::time::sleep(Duration::from_millis(50)).await;
            Ok(Connected { transport: Transport::Other(Box::new(ours)), http2: true })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_many_waited_for_serves_them_all() {
    let mut one = settings("http://pipe");
    one.max_connections = 1;
    let group = group(one, Arc::new(Shared));
    let began = tokio::time::Instant::now();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move { send(&group).await.unwrap() })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}
