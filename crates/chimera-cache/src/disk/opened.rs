//! The file as it is open, and opened again after the disk failed.
//!
//! redb does nothing more after an error of the disk, a full one most of all: it must be closed and opened again, as
//! after a crash. That reads all of the file, so it is done now and then, not at every operation.

use std::{
    sync::{
        Mutex, PoisonError, RwLock, TryLockError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use redb::{Database, Error};

/// Opens the file.
pub(super) type Open = Box<dyn Fn() -> Result<Database, Error> + Send + Sync>;

/// How long after it was opened again nothing is added to the file, and it is not opened once more.
const PAUSE: Duration = Duration::from_secs(30);

pub(super) struct Opened {
    open: Open,
    /// `None` while it cannot be opened again.
    database: RwLock<Option<Database>>,
    has_failed: AtomicBool,
    /// When it was last opened again.
    again: Mutex<Option<Instant>>,
}

impl Opened {
    pub(super) fn new(open: Open) -> Result<Self, Error> {
        let database = RwLock::new(Some(open()?));
        Ok(Self { open, database, has_failed: AtomicBool::new(false), again: Mutex::new(None) })
    }

    /// Works with the file, and opens it again first if it failed and that is due.
    pub(super) fn with<R>(&self, work: impl FnOnce(&Database) -> Result<R, Error>) -> Result<R, Error> {
        if self.has_failed.load(SeqCst) {
            self.open_again();
        }
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        self.work(database.as_ref(), work)
    }

    /// The same for who may not wait: an error while the file is being opened.
    pub(super) fn glance<R>(&self, work: impl FnOnce(&Database) -> Result<R, Error>) -> Result<R, Error> {
        match self.database.try_read() {
            Ok(database) => self.work(database.as_ref(), work),
            Err(TryLockError::Poisoned(poisoned)) => self.work(poisoned.into_inner().as_ref(), work),
            Err(TryLockError::WouldBlock) => Err(Error::PreviousIo),
        }
    }

    fn work<R>(
        &self,
        database: Option<&Database>,
        work: impl FnOnce(&Database) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let result = database.ok_or(Error::PreviousIo).and_then(work);
        if matches!(result, Err(Error::Io(_) | Error::PreviousIo)) {
            self.has_failed.store(true, SeqCst);
        }
        result
    }

    /// Whether anything may be added: not while what made it fail may go on, so that it can be read meanwhile.
    pub(super) fn takes_writes(&self) -> bool {
        if self.has_failed.load(SeqCst) {
            self.open_again();
        }
        !is_recent(*self.again.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn open_again(&self) {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_failed.load(SeqCst) || is_recent(*again) {
            return;
        }
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Should it panic, it is not opened at once again.
        *again = Some(Instant::now());
        // Two cannot have the file open.
        drop(database.take());
        match (self.open)() {
            Ok(opened) => {
                *database = Some(opened);
                self.has_failed.store(false, SeqCst);
                tracing::warn!("a cache file was opened again, for the disk had failed");
            }
            Err(error) => tracing::warn!(%error, "a cache file cannot be opened again"),
        }
        *again = Some(Instant::now());
    }
}

fn is_recent(again: Option<Instant>) -> bool {
    again.is_some_and(|again| again.elapsed() < PAUSE)
}

#[cfg(test)]
pub(super) mod tests {
    use std::{fs::File, io, path::Path, sync::Arc};

    use redb::{Builder, StorageBackend, backends::FileBackend};

    use super::*;

    /// A disk on which no file grows while it is said to be full.
    #[derive(Debug)]
    struct Disk(FileBackend, Arc<AtomicBool>);

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read(offset, out)
        }
        fn set_len(&self, len: u64) -> io::Result<()> {
            if len > self.len()? && self.1.load(SeqCst) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.set_len(len)
        }
        fn sync_data(&self) -> io::Result<()> {
            self.0.sync_data()
        }
        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write(offset, data)
        }
        fn close(&self) -> io::Result<()> {
            self.0.close()
        }
    }

    impl Opened {
        /// As if the pause were over.
        pub(in super::super) fn forget_failure(&self) {
            *self.again.lock().unwrap() = None;
        }
    }

    /// Opens a file on a disk that is full while the flag says so.
    pub(in super::super) fn on_a_disk(path: &Path, is_full: &Arc<AtomicBool>) -> Open {
        let (path, is_full) = (path.to_owned(), is_full.clone());
        Box::new(move || {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let disk = Disk(FileBackend::new(file)?, is_full.clone());
            Ok(Builder::new().create_with_backend(disk)?)
        })
    }
}
