//! A fixed provider, as cheap as one can be, so that it never is what is measured. It can be the driver
//! too: both in one process can stay awake without taking the processor from each other.

use std::{error::Error, io, rc::Rc, time::Duration};

use tokio::{net::TcpListener, sync::mpsc, task::LocalSet, time::Instant};

use crate::{bare, body, clock, drive, options::Options, wire::Wire};

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
            tokio::task::spawn_local(accept(listener, answers));
            obey().await
        })
        .await
}

async fn accept(listener: TcpListener, answers: Rc<Answers>) {
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
}

/// Drives as the lines of standard input say, awake all the while; without a line there is only the
/// provider.
async fn obey() -> Result<(), Box<dyn Error>> {
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let options = Options::parse(line.split_whitespace())?;
        clock::awake(drive::drive(&options)).await?;
    }
    std::future::pending().await
}

/// The lines of standard input, read on a thread of their own.
fn lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl Answers {
    async fn converse(&self, mut wire: Wire) -> io::Result<()> {
        let mut request = Vec::new();
        while let Some(head) = wire.head().await? {
            request.clear();
            wire.body(&head, |piece| request.extend_from_slice(piece)).await?;
            clock::sleep(self.delay).await;
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

/// The stream flag comes last in the driver's bodies and before the conversation in translated ones; other
/// clients may put it anywhere.
fn wants_stream(request: &[u8]) -> bool {
    const FLAGS: [&[u8]; 2] = [b"\"stream\":true", b"\"stream\": true"];
    let found = |part: &[u8]| FLAGS.iter().any(|flag| part.windows(flag.len()).any(|w| w == *flag));
    let tail = request.get(request.len().saturating_sub(96)..).unwrap_or_default();
    found(tail) || found(request.get(..512).unwrap_or(request))
}
