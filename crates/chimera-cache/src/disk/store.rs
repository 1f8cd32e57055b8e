//! The file: entries by key, and the order in which they came, by which they go.

use std::{
    ops::Bound,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use redb::{Builder, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::opened::{Open, Opened};

/// Entries: the number of their arrival, 8 bytes, and their envelope.
const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// Keys by the number of their arrival. One whose entry has another number was written again since.
const ORDER: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("order");
/// Bytes held.
const SIZES: TableDefinition<'_, &str, u64> = TableDefinition::new("sizes");

const BYTES: &str = "bytes";
/// What the file takes for an entry besides its key, twice, and its envelope.
const OVERHEAD: u64 = 64;
const DURABLE_EVERY: Duration = Duration::from_secs(1);
/// What redb keeps in memory of the file: the inner pages, mostly.
const PAGES_IN_MEMORY: usize = 8 << 20;
/// Entries looked at by a purge in one go.
const PAGE: usize = 1024;

pub(super) struct Store {
    database: Opened,
    max_bytes: u64,
    durable: Mutex<Instant>,
}

/// What a write did.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Written {
    pub(super) evicted: u64,
}

fn weight(key: &[u8], held: usize) -> u64 {
    (2 * key.len() + held) as u64 + OVERHEAD
}

impl Store {
    /// Opens the file, checks all of it, and makes it if it is not there.
    pub(super) fn open(path: &Path, max_bytes: u64) -> Result<Self, redb::Error> {
        let path = path.to_owned();
        let builder = move || {
            let mut builder = Builder::new();
            builder.set_cache_size(PAGES_IN_MEMORY).set_check_integrity_on_open(true);
            Ok(builder.create(&path)?)
        };
        Self::open_by(Box::new(builder), max_bytes)
    }

    fn open_by(open: Open, max_bytes: u64) -> Result<Self, redb::Error> {
        let store = Self { database: Opened::new(open)?, max_bytes, durable: Mutex::new(Instant::now()) };
        store.change(true, |transaction| {
            transaction.open_table(ENTRIES)?;
            transaction.open_table(ORDER)?;
            transaction.open_table(SIZES)?;
            Ok(())
        })?;
        Ok(store)
    }

    /// Changes the file, all or nothing. What is not durable yet will be with a later change.
    fn change<R>(
        &self,
        durable: bool,
        change: impl FnOnce(&redb::WriteTransaction) -> Result<R, redb::Error>,
    ) -> Result<R, redb::Error> {
        self.database.with(|database| {
            let mut transaction = database.begin_write()?;
            let mut last = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let is_durable = durable || now.duration_since(*last) >= DURABLE_EVERY;
            transaction.set_durability(if is_durable { Durability::Immediate } else { Durability::None })?;
            let result = change(&transaction)?;
            transaction.commit()?;
            if is_durable {
                *last = now;
            }
            Ok(result)
        })
    }

    /// Makes durable what was written.
    pub(super) fn sync(&self) -> Result<(), redb::Error> {
        self.change(true, |_| Ok(()))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        self.database.with(|database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let held = table.get(key)?;
            Ok(held.and_then(|held| held.value().get(8..).map(<[u8]>::to_vec)))
        })
    }

    /// Writes an entry; those that came first make room. Not while the disk may still be full.
    pub(super) fn put(&self, key: &[u8], envelope: &[u8]) -> Result<Written, redb::Error> {
        if !self.database.takes_writes() {
            return Err(redb::Error::PreviousIo);
        }
        self.change(false, |transaction| {
            let (mut entries, mut order, mut sizes) = (
                transaction.open_table(ENTRIES)?,
                transaction.open_table(ORDER)?,
                transaction.open_table(SIZES)?,
            );
            let mut bytes = sizes.get(BYTES)?.map_or(0, |bytes| bytes.value());
            let number = order.last()?.map_or(0, |(number, _)| number.value()) + 1;
            let held = [&number.to_be_bytes(), envelope].concat();
            bytes += weight(key, held.len());
            if let Some(old) = entries.insert(key, &*held)? {
                bytes = bytes.saturating_sub(weight(key, old.value().len()));
                // Its place in the order goes with it: a key that is written for ever would fill that table.
                if let Some(before) = arrival(old.value()) {
                    order.remove(before)?;
                }
            }
            order.insert(number, key)?;
            let mut written = Written::default();
            while bytes > self.max_bytes {
                let Some((number, key)) = order.pop_first()? else { break };
                let is_current = entries
                    .get(key.value())?
                    .is_some_and(|held| arrival(held.value()) == Some(number.value()));
                if is_current && let Some(gone) = entries.remove(key.value())? {
                    bytes = bytes.saturating_sub(weight(key.value(), gone.value().len()));
                    written.evicted += 1;
                }
            }
            sizes.insert(BYTES, bytes)?;
            Ok(written)
        })
    }

    /// Forgets keys, durably or with the next change that is; says how many were there.
    pub(super) fn remove(&self, keys: &[Vec<u8>], durable: bool) -> Result<u64, redb::Error> {
        self.change(durable, |transaction| {
            let (mut entries, mut order, mut sizes) = (
                transaction.open_table(ENTRIES)?,
                transaction.open_table(ORDER)?,
                transaction.open_table(SIZES)?,
            );
            let mut bytes = sizes.get(BYTES)?.map_or(0, |bytes| bytes.value());
            let mut gone = 0;
            for key in keys {
                let Some(held) = entries.remove(&**key)? else { continue };
                if let Some(number) = arrival(held.value()) {
                    order.remove(number)?;
                }
                bytes = bytes.saturating_sub(weight(key, held.value().len()));
                gone += 1;
            }
            sizes.insert(BYTES, bytes)?;
            Ok(gone)
        })
    }

    /// Forgets the entries that are selected by key and envelope.
    pub(super) fn retain(&self, forget: impl Fn(&[u8], &[u8]) -> bool) -> Result<u64, redb::Error> {
        let (mut gone, mut after) = (0, None::<Vec<u8>>);
        loop {
            let (selected, last) = self.database.with(|database| {
                let table = database.begin_read()?.open_table(ENTRIES)?;
                let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let (mut selected, mut seen, mut last) = (Vec::new(), 0, None);
                for entry in table.range::<&[u8]>((from, Bound::Unbounded))?.take(PAGE) {
                    let (key, held) = entry?;
                    seen += 1;
                    if forget(key.value(), held.value().get(8..).unwrap_or_default()) {
                        selected.push(key.value().to_vec());
                    }
                    last = Some(key.value().to_vec());
                }
                Ok((selected, last.filter(|_| seen == PAGE)))
            })?;
            if !selected.is_empty() {
                gone += self.remove(&selected, true)?;
            }
            if last.is_none() {
                return Ok(gone);
            }
            after = last;
        }
    }

    /// Entries held, and their bytes. It waits for nothing.
    pub(super) fn sizes(&self) -> Result<(u64, u64), redb::Error> {
        use redb::ReadableTableMetadata;
        self.database.glance(|database| {
            let transaction = database.begin_read()?;
            let bytes = transaction.open_table(SIZES)?.get(BYTES)?.map_or(0, |bytes| bytes.value());
            Ok((transaction.open_table(ENTRIES)?.len()?, bytes))
        })
    }
}

fn arrival(held: &[u8]) -> Option<u64> {
    held.first_chunk().map(|number| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p08_a_disk_that_was_full_is_written_again() {
        use std::sync::{
            Arc,
            atomic::{AtomicBool, Ordering::SeqCst},
        };
        let folder = folder("full");
        let is_full = Arc::new(AtomicBool::new(false));
        let open = crate::disk::opened::tests::on_a_disk(&folder.join("cache"), &is_full);
        let store = Store::open_by(open, 64 << 20).unwrap();
        store.put(b"before", b"v").unwrap();
        store.sync().unwrap();
        is_full.store(true, SeqCst);
        let large = vec![7; 256 << 10];
        // The first fails, and those behind it are not tried.
        assert!((0_u8..64).filter(|key| store.put(&[*key], &large).is_err()).count() > 1);
        assert_eq!(store.get(b"before").unwrap().as_deref(), Some(&b"v"[..]), "it was opened again");
        is_full.store(false, SeqCst);
        assert!(store.put(b"after", b"v").is_err(), "but is not written to at once");
        store.database.forget_failure();
        store.put(b"after", &large).unwrap();
        assert_eq!(store.get(b"after").unwrap(), Some(large));
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("chimera-store-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn m01_a_key_that_is_written_again_takes_one_place() {
        use redb::ReadableTableMetadata;
        let folder = folder("places");
        let store = Store::open(&folder.join("places"), 4 << 20).unwrap();
        for _ in 0..50 {
            store.put(b"k", b"v").unwrap();
        }
        let places = store.database.glance(|database| Ok(database.begin_read()?.open_table(ORDER)?.len()?));
        assert_eq!(places.unwrap(), 1);
        assert_eq!((store.sizes().unwrap().0, store.remove(&[b"k".to_vec()], false).unwrap()), (1, 1));
        assert_eq!(store.sizes().unwrap(), (0, 0));
        drop(store);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
