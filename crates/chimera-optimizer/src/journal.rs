//! Where a job writes what it has paid for, one line at a time, so that it never pays again.
//!
//! The state of a search is not saved. It is a function of the task, the seed and the results of calls; with
//! the results at hand it is computed again, in far less time than they took. So a checkpoint is the results
//! alone, each written once, whole, when it is there, and there is no moment at which a kill loses more than
//! the calls then under way. Where a call fails, what was paid for before it is written as well.
//!
//! A line is a checksum of 16 hexadecimal digits, a space, and a JSON object without line feeds. A last line
//! that is not whole was being written when the process died, and is cut off. A bad line before it is damage,
//! and refused. The file is locked while a job has it.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{candidate::Digest, program::Made, proposer::Proposal, rollout::Rollout};

/// The form of the lines.
const VERSION: u32 = 1;

/// Lines that may wait to be written.
const QUEUE: usize = 4096;

/// Bytes written at once.
const BATCH: usize = 256 << 10;

/// Why a journal could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file could not be read or written.
    #[error("journal {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Another process has the job.
    #[error("journal {path}: another process runs this job")]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A line that is not the last one is not what was written.
    #[error("journal {path}: line {line} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from one.
        line: usize,
    },
    /// The thread that writes has ended.
    #[error("the journal is not written any more")]
    Stopped,
    /// It belongs to another job.
    #[error("journal {path}: written for another task, seed or strategy; use another file or remove it")]
    Other {
        /// The file.
        path: PathBuf,
    },
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    Head {
        version: u32,
        job: String,
    },
    Rollout {
        key: String,
        found: Rollout,
    },
    Proposal {
        key: String,
        found: Proposal,
    },
    /// What was paid for a roll-out or a proposal that is not there yet, because a call failed. The last
    /// line of a key counts.
    Begun {
        key: String,
        found: Made,
    },
    /// Time that this run of the job had taken so far, in milliseconds.
    Clock {
        milliseconds: u64,
    },
}

/// What a journal had in it.
#[derive(Debug, Default)]
pub(crate) struct Past {
    pub(crate) rollouts: Vec<(Digest, Rollout)>,
    pub(crate) proposals: Vec<(Digest, Proposal)>,
    /// What was begun and is not finished.
    pub(crate) begun: HashMap<Digest, Made>,
    pub(crate) elapsed: Duration,
}

/// An open journal. Lines are written, and brought to the disk, by a thread of its own: a slow disk holds up
/// nobody until 4,096 lines wait. Dropping the journal waits until all of it is on the disk; [`close`](Self::close) says
/// whether it is.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Always there until the end.
    lines: Option<mpsc::SyncSender<String>>,
    failure: Arc<Mutex<Option<JournalError>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Journal {
    /// Opens the journal of a job and reads what is in it, or begins one. Blocks.
    pub(crate) fn open(path: &Path, job: Digest) -> Result<(Self, Past), JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
        lock(&file, path)?;
        let (entries, whole) = read(&file, path)?;
        file.set_len(whole).and_then(|()| file.seek(SeekFrom::End(0))).map_err(failed)?;
        let past = Past::of(&entries, path, job)?;
        let (lines, queue) = mpsc::sync_channel(QUEUE);
        let failure = Arc::new(Mutex::new(None));
        let (told, path) = (Arc::clone(&failure), path.to_owned());
        let name = thread::Builder::new().name("optimizer-journal".into());
        let source_path = path.clone();
        let thread = name
            .spawn(move || {
                if let Err(source) = write_all(&mut file, &queue) {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) =
                        Some(JournalError::Io { path, source });
                }
            })
            .map_err(|source| JournalError::Io { path: source_path, source })?;
        let journal = Self { lines: Some(lines), failure, thread: Some(thread) };
        if entries.is_empty() {
            journal.write(&Entry::Head { version: VERSION, job: job.to_string() })?;
        }
        Ok((journal, past))
    }

    /// Hands an entry to the thread that writes; says what went wrong with those before.
    pub(crate) fn write(&self, entry: &Entry) -> Result<(), JournalError> {
        // What is put together here always has a form in JSON.
        let send = |line| self.lines.as_ref().is_some_and(|lines| lines.send(line).is_ok());
        let sent = line_of(entry).is_ok_and(send);
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None if sent => Ok(()),
            None => Err(JournalError::Stopped),
        }
    }

    /// Waits until all is on the disk. Blocks.
    pub(crate) fn close(mut self) -> Result<(), JournalError> {
        self.finish()?;
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }

    fn finish(&mut self) -> Result<(), JournalError> {
        self.lines = None;
        let ended = self.thread.take().map_or(Ok(()), thread::JoinHandle::join);
        ended.map_err(|_| JournalError::Stopped)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Who drops a journal without closing it has no use for the error.
        let _ = self.finish();
    }
}

/// A process that was killed a moment ago may still hold the lock.
fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    for patience in (0..100).rev() {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if patience == 0 => break,
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(source)) => {
                return Err(JournalError::Io { path: path.to_owned(), source });
            }
        }
    }
    Err(JournalError::Busy { path: path.to_owned() })
}

/// Writes lines as they come, as many at once as there are, until nobody sends any more.
fn write_all(file: &mut File, lines: &mpsc::Receiver<String>) -> io::Result<()> {
    while let Ok(mut batch) = lines.recv() {
        while batch.len() < BATCH
            && let Ok(line) = lines.try_recv()
        {
            batch.push_str(&line);
        }
        file.write_all(batch.as_bytes())?;
        file.sync_data()?;
    }
    Ok(())
}

fn line_of(entry: &Entry) -> serde_json::Result<String> {
    let json = serde_json::to_string(entry)?;
    Ok(format!("{} {json}\n", checksum(json.as_bytes())))
}

fn checksum(bytes: &[u8]) -> String {
    let mut sum = Digest::of_parts([bytes]).to_string();
    sum.truncate(16);
    sum
}

/// All whole entries, and where they end.
fn read(file: &File, path: &Path) -> Result<(Vec<Entry>, u64), JournalError> {
    let mut reader = BufReader::new(file);
    let (mut entries, mut whole, mut bad, mut line) = (Vec::new(), 0, None, Vec::new());
    for number in 1.. {
        line.clear();
        let length = reader
            .read_until(b'\n', &mut line)
            .map_err(|source| JournalError::Io { path: path.to_owned(), source })?;
        if length == 0 {
            break;
        }
        if let Some(line) = bad {
            return Err(JournalError::Damaged { path: path.to_owned(), line });
        }
        match entry_of(&line) {
            Some(entry) => {
                entries.push(entry);
                whole += length as u64;
            }
            None => bad = Some(number),
        }
    }
    Ok((entries, whole))
}

fn entry_of(line: &[u8]) -> Option<Entry> {
    let line = line.strip_suffix(b"\n")?;
    let (sum, json) = (line.get(..16)?, line.get(17..)?);
    (checksum(json).as_bytes() == sum).then(|| serde_json::from_slice(json).ok())?
}

impl Past {
    fn of(entries: &[Entry], path: &Path, job: Digest) -> Result<Self, JournalError> {
        let mut past = Self::default();
        let mut run = 0;
        for (place, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Head { version, job: written } if place == 0 => {
                    if *version != VERSION || *written != job.to_string() {
                        return Err(JournalError::Other { path: path.to_owned() });
                    }
                }
                Entry::Rollout { key, found } => past.rollouts.extend(known(key, found)),
                Entry::Proposal { key, found } => past.proposals.extend(known(key, found)),
                Entry::Begun { key, found } => past.begun.extend(known(key, found)),
                Entry::Clock { milliseconds } => run = run.max(*milliseconds),
                Entry::Head { .. } => {
                    return Err(JournalError::Damaged { path: path.to_owned(), line: place + 1 });
                }
            }
            if place == 0 && !matches!(entry, Entry::Head { .. }) {
                return Err(JournalError::Damaged { path: path.to_owned(), line: 1 });
            }
        }
        for (key, _) in &past.rollouts {
            past.begun.remove(key);
        }
        for (key, _) in &past.proposals {
            past.begun.remove(key);
        }
        past.elapsed = Duration::from_millis(run);
        Ok(past)
    }
}

fn known<T: Clone>(key: &str, found: &T) -> Option<(Digest, T)> {
    Some((Digest::parse(key)?, found.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Digest = Digest([7; 16]);

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("chimera-journal-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder.join("job.journal")
    }

    fn entry(key: u8) -> Entry {
        let found = Rollout { output: "a\nb".into(), score: 0.1, ..Rollout::default() };
        Entry::Rollout { key: Digest([key; 16]).to_string(), found }
    }

    fn filled(path: &Path) -> Vec<u8> {
        let (journal, past) = Journal::open(path, JOB).unwrap();
        assert!(past.rollouts.is_empty());
        for key in 0..3 {
            journal.write(&entry(key)).unwrap();
        }
        journal.write(&Entry::Clock { milliseconds: 5 }).unwrap();
        journal.close().unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_line_that_is_not_whole_is_cut_off_wherever_it_was_torn() {
        let path = folder("torn");
        let all = filled(&path);
        for length in 0..=all.len() {
            std::fs::write(&path, &all[..length]).unwrap();
            let lines = all[..length].iter().filter(|byte| **byte == b'\n').count();
            let (journal, past) = Journal::open(&path, JOB).unwrap();
            assert_eq!(past.rollouts.len(), lines.saturating_sub(1).min(3));
            journal.write(&entry(9)).unwrap();
            journal.close().unwrap();
            let (_, past) = Journal::open(&path, JOB).unwrap();
            assert_eq!(past.rollouts.last().map(|(key, _)| *key), Some(Digest([9; 16])));
        }
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn damage_and_another_job_are_refused() {
        let path = folder("damage");
        let mut all = filled(&path);
        let other = Journal::open(&path, Digest([8; 16])).unwrap_err();
        assert!(matches!(other, JournalError::Other { .. }), "{other}");
        let second = all.iter().position(|byte| *byte == b'\n').unwrap() + 30;
        all[second] ^= 1;
        std::fs::write(&path, &all).unwrap();
        let damaged = Journal::open(&path, JOB).unwrap_err();
        assert!(matches!(damaged, JournalError::Damaged { line: 2, .. }), "{damaged}");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_score_comes_back_as_it_went_in() {
        let path = folder("scores");
        let scores: Vec<f64> = (1..3000).map(|part| f64::from(part % 97) / f64::from(part)).collect();
        let (journal, _) = Journal::open(&path, JOB).unwrap();
        for score in &scores {
            let found = Rollout { score: *score, ..Rollout::default() };
            journal.write(&Entry::Rollout { key: Digest([1; 16]).to_string(), found }).unwrap();
        }
        journal.close().unwrap();
        let (_, past) = Journal::open(&path, JOB).unwrap();
        let back: Vec<f64> = past.rollouts.iter().map(|(_, rollout)| rollout.score).collect();
        assert_eq!(back, scores);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn one_process_at_a_time() {
        let path = folder("busy");
        let first = Journal::open(&path, JOB).unwrap();
        assert!(matches!(Journal::open(&path, JOB).unwrap_err(), JournalError::Busy { .. }));
        drop(first);
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
