//! Jobs on disk: a form beside a journal of one that is not finished, what is to be told of one that is over.
//! All are named by the job's id. Everything here blocks.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    id,
    jobs::{Entry, Told},
};

/// A job's form, and whose it is.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) tenant: String,
    pub(super) form: String,
    /// Seconds since 1970; zero in what earlier versions wrote.
    #[serde(default)]
    pub(super) created: u64,
    #[serde(skip)]
    pub(super) id: String,
}

pub(super) fn journal(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.journal"))
}

fn form(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.json"))
}

/// Writes a job's form, whole or not at all.
pub(super) fn keep(directory: &Path, entry: &Entry) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let kept = Kept {
        tenant: entry.tenant.to_string(),
        form: String::from_utf8_lossy(&entry.form).into_owned(),
        created: entry.created,
        id: String::new(),
    };
    write(directory, &entry.id, &form(directory, &entry.id), &kept)
}

/// A job is over and does not go on: what is to be told of it is kept, and what it would go on from is forgotten.
pub(super) fn finish(directory: &Path, entry: &Entry, most: usize) {
    let told = entry.told();
    if let Err(error) = keep_over(directory, &entry.id, &told, most) {
        tracing::warn!(%error, id = %entry.id, "what an optimisation job found is not kept on disk");
        // From its journal the next process finds the same, and pays for nothing.
        if told.status != "cancelled" {
            return;
        }
    }
    forget(directory, &entry.id);
}

/// Writes what is to be told of a job that is over, and forgets the oldest of these beyond so many.
fn keep_over(directory: &Path, id: &str, told: &Told, most: usize) -> io::Result<()> {
    if most > 0 {
        write(directory, id, &over(directory, id), told)?;
    }
    let mut all: Vec<(SystemTime, PathBuf)> = named(directory, ".over")
        .into_iter()
        .map(|(_, path)| (fs::metadata(&path).and_then(|file| file.modified()).unwrap_or(UNIX_EPOCH), path))
        .collect();
    all.sort();
    let surplus = all.len().saturating_sub(most);
    all.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
}

fn over(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.over"))
}

/// Writes a file whole or not at all.
fn write(directory: &Path, id: &str, whole: &Path, value: &impl Serialize) -> io::Result<()> {
    let part = directory.join(format!("{id}.part"));
    let mut file = io::BufWriter::new(fs::File::create(&part)?);
    serde_json::to_writer(&mut file, value)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(part, whole)
}

/// Forgets a job that is not finished.
pub(super) fn forget(directory: &Path, id: &str) {
    for path in [form(directory, id), journal(directory, id)] {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "the file of a finished optimisation job stays");
        }
    }
}

/// The jobs that are not finished, the oldest first.
pub(super) fn all(directory: &Path) -> Vec<Kept> {
    let read = |(id, path): (String, PathBuf)| Some(Kept { id, ..parsed::<Kept>(&path)? });
    let mut all: Vec<_> = named(directory, ".json").into_iter().filter_map(read).collect();
    all.sort_by_key(|kept| kept.created);
    all
}

/// The jobs that are over, the oldest first.
pub(super) fn all_over(directory: &Path) -> Vec<(String, Told)> {
    let read = |(id, path): (String, PathBuf)| Some((id, parsed::<Told>(&path)?));
    let mut all: Vec<_> = named(directory, ".over").into_iter().filter_map(read).collect();
    all.sort_by_key(|(_, told)| told.created);
    all
}

/// The files that are named by a job's id and end so, in the order of ids.
fn named(directory: &Path, ends: &str) -> Vec<(String, PathBuf)> {
    let Ok(files) = fs::read_dir(directory) else { return Vec::new() };
    let named = |file: fs::DirEntry| {
        let name = file.file_name().into_string().ok()?;
        let id = name.strip_suffix(ends).filter(|id| id::is_one(id))?;
        Some((id.to_owned(), file.path()))
    };
    let mut named: Vec<_> = files.flatten().filter_map(named).collect();
    named.sort();
    named
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let parsed = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if parsed.is_none() {
        tracing::warn!(path = %path.display(), "an optimisation job on disk cannot be read");
    }
    parsed
}

impl Kept {
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.form.as_bytes())
    }
}
