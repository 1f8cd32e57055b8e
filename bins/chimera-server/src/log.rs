//! The log's way out. Lines wait in a bounded queue for a thread that writes them: whoever logs never waits for whoever
//! reads. What finds no room is dropped and counted.

use std::{
    io::{self, Write},
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat, LogLevel};

/// Lines that wait at most: some megabytes.
const LINES: usize = 8192;
/// How long the end of the process waits for the last lines.
const LAST: Duration = Duration::from_secs(1);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines that found no room.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Relaxed)
}

enum Message {
    Line(Vec<u8>),
    /// Everything before it is written.
    Done(SyncSender<()>),
}

/// Where lines are put.
#[derive(Clone)]
pub(crate) struct Queue(SyncSender<Message>);

/// Waits for the last lines when it is dropped, for a second at most.
pub(crate) struct Last(SyncSender<Message>);

impl Drop for Last {
    fn drop(&mut self) {
        let (done, wait) = sync_channel(1);
        let (until, mut message) = (Instant::now() + LAST, Message::Done(done));
        // Where nobody reads, the queue stays full.
        while let Err(TrySendError::Full(back)) = self.0.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            thread::sleep(Duration::from_millis(5));
        }
        let _ = wait.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// Writes the log to stderr from here on.
pub(crate) fn begin(settings: &Log) -> io::Result<Last> {
    let level = match settings.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let (queue, last) = start(io::stderr())?;
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(queue);
    match settings.format {
        LogFormat::Text => builder.with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(last)
}

/// A queue whose lines a thread of its own writes to `out`.
pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<(Queue, Last)> {
    start_with(out, LINES)
}

fn start_with(out: impl Write + Send + 'static, lines: usize) -> io::Result<(Queue, Last)> {
    let (sender, messages) = sync_channel(lines);
    thread::Builder::new().name("chimera-log".into()).spawn(move || write(out, &messages))?;
    Ok((Queue(sender.clone()), Last(sender)))
}

fn write(mut out: impl Write, messages: &Receiver<Message>) {
    for message in messages {
        match message {
            // Nobody is left to be told of a log that cannot be written.
            Message::Line(line) => drop(out.write_all(&line)),
            Message::Done(done) => drop(done.try_send(())),
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

/// Takes whole lines, as the subscriber writes them.
impl Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Message::Line(line.to_vec())).is_err() {
            DROPPED.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;

    /// Writes when it is let.
    struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn p08_who_logs_does_not_wait_for_who_reads() {
        let (go, gate) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let (queue, last) = start_with(Slow(gate, written.clone()), 4).unwrap();
        let before = dropped();
        for n in 0..20 {
            queue.make_writer().write_all(format!("{n}\n").as_bytes()).unwrap();
        }
        // Four wait, and perhaps one more is being written.
        assert!((15..=16).contains(&(dropped() - before)), "{}", dropped() - before);
        drop(go);
        drop(last);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("0\n1\n2\n3\n") && text.lines().count() <= 5, "{text}");
    }
}
