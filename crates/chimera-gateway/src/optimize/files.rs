//! Jobs that are not finished, on disk: a form beside a journal, both named by the job's id. Everything here
//! blocks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{id, jobs::Entry};

/// A job's form, and whose it is.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) tenant: String,
    pub(super) form: String,
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
        id: String::new(),
    };
    let (part, whole) = (directory.join(format!("{}.part", entry.id)), form(directory, &entry.id));
    let file = fs::File::create(&part)?;
    serde_json::to_writer(&file, &kept)?;
    file.sync_all()?;
    fs::rename(part, whole)
}

/// Forgets a job.
pub(super) fn forget(directory: &Path, id: &str) {
    for path in [form(directory, id), journal(directory, id)] {
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "the file of a finished optimisation job stays");
        }
    }
}

/// The jobs that are there, in the order of their ids.
pub(super) fn all(directory: &Path) -> Vec<Kept> {
    let Ok(files) = fs::read_dir(directory) else { return Vec::new() };
    let mut kept: Vec<Kept> = files
        .flatten()
        .filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let id = name.strip_suffix(".json").filter(|id| id::is_one(id))?;
            let read = fs::read(file.path()).ok();
            let kept = read.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
            if kept.is_none() {
                tracing::warn!(id, "an optimisation job on disk cannot be read");
            }
            Some(Kept { id: id.to_owned(), ..kept? })
        })
        .collect();
    kept.sort_by(|one, other| one.id.cmp(&other.id));
    kept
}

impl Kept {
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::copy_from_slice(self.form.as_bytes())
    }
}
