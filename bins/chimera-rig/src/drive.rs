//! The driver: closed loop over a number of connections, or open loop at a constant rate.

use std::{
    cell::Cell,
    error::Error,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::LocalSet;

use crate::{
    body, clock,
    options::{Mode, Options},
    tally::Tally,
    wire::Wire,
};

/// How many prompts the hit mode goes through.
const PROMPTS: u64 = 16;

/// When requests are to start.
enum Schedule {
    /// As fast as answers come, so many in total or until an instant.
    Closed { left: Cell<u64>, until: Instant },
    /// At fixed instants, whether or not earlier answers have come.
    Open { start: Instant, rate: f64, given: Cell<u64>, total: u64 },
}

impl Schedule {
    fn new(options: &Options) -> Self {
        let now = Instant::now();
        match options.rate {
            None => Self::Closed {
                left: Cell::new(options.requests.unwrap_or(u64::MAX)),
                until: match options.requests {
                    Some(_) => now + Duration::from_secs(3600),
                    None => now + Duration::from_secs_f64(options.seconds),
                },
            },
            Some(rate) => Self::Open {
                start: now + Duration::from_millis(50),
                rate: rate.max(0.001),
                given: Cell::new(0),
                total: options.requests.unwrap_or((options.seconds * rate) as u64),
            },
        }
    }

    /// Waits for the next intended start; `None` when there are no more.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed { left, until } => {
                let now = Instant::now();
                if left.get() == 0 || now >= *until {
                    return None;
                }
                left.set(left.get() - 1);
                Some(now)
            }
            Self::Open { start, rate, given, total } => {
                let index = given.get();
                if index == *total {
                    return None;
                }
                given.set(index + 1);
                let due = *start + Duration::from_secs_f64(index as f64 / rate);
                clock::sleep_until(due.into()).await;
                Some(due)
            }
        }
    }
}

thread_local! {
    /// The number of the next new prompt. It differs between processes and grows between drives, so
    /// that one's misses are not the next one's hits.
    static NUMBER: Cell<u64> = Cell::new(u64::from(std::process::id()) * 1_000_000_000);
}

pub(crate) async fn drive(options: &Options) -> Result<(), Box<dyn Error>> {
    let schedule = Rc::new(Schedule::new(options));
    let options = Rc::new(options.clone());
    let start = Instant::now();
    let tasks = LocalSet::new();
    let total = tasks
        .run_until(async {
            let workers: Vec<_> = (0..options.connections.max(1))
                .map(|_| {
                    let worker = Worker { options: Rc::clone(&options), schedule: Rc::clone(&schedule) };
                    tokio::task::spawn_local(worker.run())
                })
                .collect();
            let mut total = Tally::default();
            for worker in workers {
                match worker.await {
                    Ok(tally) => total.merge(tally),
                    Err(error) => total.error(error),
                }
            }
            total
        })
        .await;
    println!("{}", total.report(start.elapsed()));
    Ok(())
}

struct Worker {
    options: Rc<Options>,
    schedule: Rc<Schedule>,
}

impl Worker {
    async fn run(self) -> Tally {
        let mut tally = Tally::default();
        let mut wire = None;
        while let Some(intended) = self.schedule.next().await {
            if let Err(error) = self.exchange(&mut wire, intended, &mut tally).await {
                tally.error(error);
                wire = None;
                // A target that refuses must not turn the driver into a flood.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        tally
    }

    async fn exchange(
        &self,
        slot: &mut Option<Wire>,
        intended: Instant,
        tally: &mut Tally,
    ) -> io::Result<()> {
        let mut wire = match slot.take() {
            Some(wire) => wire,
            None => Wire::connect(&self.options.target).await?,
        };
        wire.write(&self.request()).await?;
        let answer = receive(&mut wire, self.options.mode.end(), intended).await?;
        tally.success(answer.first, intended.elapsed(), answer.cache);
        if !answer.close {
            *slot = Some(wire);
        }
        Ok(())
    }

    fn request(&self) -> Vec<u8> {
        let number = NUMBER.get();
        NUMBER.set(number + 1);
        let body = match self.options.mode {
            Mode::Hit => body::request(number % PROMPTS, false),
            Mode::Miss => body::request(number, false),
            Mode::Stream => body::request(number, true),
            Mode::Messages => body::messages(number),
        };
        body::http_request(&self.options.target, &self.options.path, &body)
    }
}

/// What a whole answer was like.
pub(crate) struct Answer {
    first: Duration,
    cache: Option<String>,
    close: bool,
}

/// Reads an answer; one that is not 200, or a stream without the end that it should have, is an error.
pub(crate) async fn receive(
    wire: &mut Wire,
    end: Option<&'static [u8]>,
    started: Instant,
) -> io::Result<Answer> {
    let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut first = None;
    let mut tail = Tail { end: end.unwrap_or_default(), seen: Vec::new() };
    wire.body(&head, |piece| {
        first.get_or_insert_with(|| started.elapsed());
        tail.push(piece);
    })
    .await?;
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    if !tail.is_done() {
        return Err(io::Error::other("stream without its end"));
    }
    Ok(Answer { first: first.unwrap_or_default(), cache: head.cache, close: head.close })
}

/// The last bytes of a body, which tell whether a stream was complete.
struct Tail {
    end: &'static [u8],
    seen: Vec<u8>,
}

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        let keep = piece.get(piece.len().saturating_sub(self.end.len())..);
        self.seen.extend_from_slice(keep.unwrap_or_default());
        let excess = self.seen.len().saturating_sub(self.end.len());
        self.seen.drain(..excess);
    }

    fn is_done(&self) -> bool {
        self.seen == self.end
    }
}
