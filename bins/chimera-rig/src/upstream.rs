//! A fixed provider, as cheap as one can be, so that it never is what is measured.

use std::{error::Error, io, rc::Rc, time::Duration};

use tokio::{task::LocalSet, time::Instant};

use crate::{bare, body, options::Options, wire::Wire};

/// The two answers, rendered once.
struct Answers {
    unary: Vec<u8>,
    stream_head: Vec<u8>,
    chunks: Vec<Vec<u8>>,
    gap: Duration,
    delay: Duration,
    one_write: bool,
}

pub(crate) async fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    let answer = body::answer();
    let answers = Rc::new(Answers {
        unary: format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req_perf\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )
        .into_bytes(),
        stream_head: b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req_perf\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        chunks: body::event_chunks(options.events),
        gap: options.gap,
        delay: options.delay,
        one_write: options.one_write,
    });
    let listener = bare::listen(options).await?;
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let answers = Rc::clone(&answers);
                        tokio::task::spawn_local(async move {
                            // A client that leaves ends its connection, and nothing else.
                            let _: io::Result<()> = answers.converse(Wire::new(stream)?).await;
                            io::Result::Ok(())
                        });
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await
}

impl Answers {
    async fn converse(&self, mut wire: Wire) -> io::Result<()> {
        let mut request = Vec::new();
        while let Some(head) = wire.head().await? {
            request.clear();
            wire.body(&head, |piece| request.extend_from_slice(piece)).await?;
            precise_sleep(self.delay).await;
            if wants_stream(&request) {
                self.stream(&mut wire).await?;
            } else {
                wire.write(&self.unary).await?;
            }
        }
        Ok(())
    }

    async fn stream(&self, wire: &mut Wire) -> io::Result<()> {
        if self.one_write {
            let all = [self.stream_head.clone(), self.chunks.concat()].concat();
            return wire.write(&all).await;
        }
        wire.write(&self.stream_head).await?;
        let mut due = Instant::now();
        for chunk in &self.chunks {
            wire.write(chunk).await?;
            if !self.gap.is_zero() {
                due += self.gap;
                tokio::time::sleep_until(due).await;
            }
        }
        Ok(())
    }
}

/// Tokio's timer ticks in milliseconds, which would swallow the very differences
/// that added latency consists of; a sleeping thread wakes within 0.1 ms.
async fn precise_sleep(delay: Duration) {
    if !delay.is_zero() {
        let slept = tokio::task::spawn_blocking(move || std::thread::sleep(delay)).await;
        debug_assert!(slept.is_ok(), "sleeping cannot fail");
    }
}

/// The stream flag comes last in the driver's bodies, but other clients may put it anywhere.
fn wants_stream(request: &[u8]) -> bool {
    const FLAGS: [&[u8]; 2] = [b"\"stream\":true", b"\"stream\": true"];
    let found = |part: &[u8]| FLAGS.iter().any(|flag| part.windows(flag.len()).any(|w| w == *flag));
    let tail = request.get(request.len().saturating_sub(96)..).unwrap_or_default();
    found(tail) || (request.len() < 1024 && found(request))
}
