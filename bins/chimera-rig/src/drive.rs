//! The driver: closed loop over a number of connections, or open loop at a constant rate.

use std::{
    cell::Cell,
    error::Error,
    io,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc},
    task::LocalSet,
};

use crate::{
    body,
    options::{Mode, Options},
    tally::Tally,
    wire::Wire,
};

/// How many prompts the hit mode goes through.
const PROMPTS: u64 = 16;

/// Where requests and their intended starts come from.
enum Schedule {
    /// As fast as answers come, so many in total or until an instant.
    Closed { left: Cell<u64>, until: Instant },
    /// At fixed instants, whether or not earlier answers have come.
    Open(Mutex<mpsc::UnboundedReceiver<Instant>>),
}

impl Schedule {
    fn new(options: &Options) -> Self {
        match options.rate {
            None => Self::Closed {
                left: Cell::new(options.requests.unwrap_or(u64::MAX)),
                until: match options.requests {
                    Some(_) => Instant::now() + Duration::from_secs(3600),
                    None => Instant::now() + Duration::from_secs_f64(options.seconds),
                },
            },
            Some(rate) => Self::Open(Mutex::new(ticks(rate, options))),
        }
    }

    /// When the next request was to start; `None` when there are no more.
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
            Self::Open(ticks) => ticks.lock().await.recv().await,
        }
    }
}

/// A thread that sends the intended starts: it sleeps more precisely than the runtime's timer.
fn ticks(rate: f64, options: &Options) -> mpsc::UnboundedReceiver<Instant> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let total = options.requests.unwrap_or((options.seconds * rate) as u64);
    let start = Instant::now() + Duration::from_millis(50);
    std::thread::spawn(move || {
        for index in 0..total {
            let due = start + Duration::from_secs_f64(index as f64 / rate.max(0.001));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send(due).is_err() {
                return;
            }
        }
    });
    receiver
}

pub(crate) async fn drive(options: &Options) -> Result<(), Box<dyn Error>> {
    let schedule = Rc::new(Schedule::new(options));
    let options = Rc::new(options.clone());
    // A base that differs between runs keeps one run's misses from being the next one's hits.
    let numbers = Rc::new(Cell::new(std::process::id() as u64 * 1_000_000_000));
    let start = Instant::now();
    let tasks = LocalSet::new();
    let total = tasks
        .run_until(async {
            let workers: Vec<_> = (0..options.connections.max(1))
                .map(|_| {
                    let worker = Worker {
                        options: Rc::clone(&options),
                        schedule: Rc::clone(&schedule),
                        numbers: Rc::clone(&numbers),
                    };
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
    numbers: Rc<Cell<u64>>,
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
        let answer = receive(&mut wire, self.options.mode == Mode::Stream, intended).await?;
        tally.success(answer.first, intended.elapsed(), answer.cache);
        if !answer.close {
            *slot = Some(wire);
        }
        Ok(())
    }

    fn request(&self) -> Vec<u8> {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        let (number, stream) = match self.options.mode {
            Mode::Hit => (number % PROMPTS, false),
            Mode::Miss => (number, false),
            Mode::Stream => (number, true),
        };
        body::http_request(&self.options.target, &self.options.path, number, stream)
    }
}

/// What a whole answer was like.
pub(crate) struct Answer {
    first: Duration,
    cache: Option<String>,
    close: bool,
}

/// Reads an answer; one that is not 200, or a stream without its end, is an error.
pub(crate) async fn receive(wire: &mut Wire, stream: bool, started: Instant) -> io::Result<Answer> {
    let head = wire.head().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut first = None;
    let mut tail = Tail::default();
    wire.body(&head, |piece| {
        first.get_or_insert_with(|| started.elapsed());
        tail.push(piece);
    })
    .await?;
    if head.status != 200 {
        return Err(io::Error::other(format!("status {}", head.status)));
    }
    if stream && !tail.is_done() {
        return Err(io::Error::other("stream without its end"));
    }
    Ok(Answer { first: first.unwrap_or_default(), cache: head.cache, close: head.close })
}

/// The last bytes of a body, which tell whether a stream was complete.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    const DONE: &'static [u8] = b"data: [DONE]\n\n";

    fn push(&mut self, piece: &[u8]) {
        let keep = piece.get(piece.len().saturating_sub(Self::DONE.len())..);
        self.0.extend_from_slice(keep.unwrap_or_default());
        let excess = self.0.len().saturating_sub(Self::DONE.len());
        self.0.drain(..excess);
    }

    fn is_done(&self) -> bool {
        self.0 == Self::DONE
    }
}
