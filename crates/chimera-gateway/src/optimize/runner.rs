//! The loop that works on jobs.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use chimera_optimizer::OptimizeError;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{
    api, files,
    jobs::{Entry, Jobs, PANICKED, Standing},
};
use crate::gateway::{CatchPanic, Gateway};

/// Jobs are refused when this is gone.
struct WorkedOn<'j>(&'j Jobs);

impl Drop for WorkedOn<'_> {
    fn drop(&mut self) {
        self.0.worked_on.store(false, Relaxed);
    }
}

/// Works on jobs for ever. Begun anew after it fell, it goes on with those that wait.
pub(crate) async fn run(gateway: &Gateway) {
    let jobs = &gateway.shared.jobs;
    jobs.worker.store(gateway.worker_index(), Relaxed);
    restore(gateway, &jobs.fall()).await;
    jobs.worked_on.store(true, Relaxed);
    let _worked_on = WorkedOn(jobs);
    let mut under_way = FuturesUnordered::new();
    let mut places: Vec<bool> = Vec::new();
    loop {
        let most = gateway.with_settings(|settings| settings.optimizer.running);
        while under_way.len() < most
            && let Some(entry) = jobs.next()
        {
            let place = places.iter().position(|taken| !taken).unwrap_or(places.len());
            if place == places.len() {
                places.push(false);
            }
            places.get_mut(place).into_iter().for_each(|taken| *taken = true);
            under_way.push(one(gateway, entry, place));
        }
        tokio::select! {
            () = jobs.more.notified() => {}
            Some(place) = under_way.next(), if !under_way.is_empty() => {
                places.get_mut(place).into_iter().for_each(|taken| *taken = false);
            }
        }
    }
}

/// Works on a job; gives its place back.
async fn one(gateway: &Gateway, entry: Arc<Entry>, place: usize) -> usize {
    let Some(mut job) = entry.begin() else { return place };
    let directory = gateway.with_settings(|settings| settings.optimizer.directory.clone());
    if let Some(directory) = &directory {
        // It was kept when it was taken in; a reload may have named another folder since.
        let (kept, to) = (entry.clone(), directory.clone());
        if let Some(Err(error)) = aside(move || files::keep(&to, &kept)).await {
            entry.end(Standing::Stopped(format!("the job could not be kept on disk: {error}")));
            return place;
        }
        job.set_journal(files::journal(directory, &entry.id));
    }
    job.set_label((place + 1).to_string());
    let ended = CatchPanic { future: Box::pin(job.run()) }.await;
    let standing = match ended {
        Some(Ok(found)) => Standing::Over(Arc::new(found)),
        Some(Err(OptimizeError::CancelledAtStart)) => Standing::Cancelled,
        Some(Err(OptimizeError::PausedAtStart(why))) => Standing::Paused(why),
        // A full disk, another process, another version: what was paid for is worth another try.
        Some(Err(error @ OptimizeError::Journal(_))) => Standing::Stopped(error.to_string()),
        Some(Err(error)) => Standing::Failed(error.to_string()),
        None => Standing::Failed(PANICKED.into()),
    };
    tracing::info!(id = %entry.id, tenant = %entry.tenant, "an optimisation job is over");
    // A paused one, or one whose journal failed, is taken up again by the next process.
    if let (false, Some(directory)) = (entry.end(standing), directory) {
        let most = gateway.with_settings(|settings| settings.optimizer.kept);
        aside(move || files::finish(&directory, &entry, most)).await;
    }
    place
}

/// Takes in what an earlier process knew and this one does not: jobs that are over to be looked at, the others
/// to go on.
async fn restore(gateway: &Gateway, known: &BTreeSet<String>) {
    let Some(directory) = gateway.with_settings(|settings| settings.optimizer.directory.clone()) else {
        return;
    };
    let from: PathBuf = directory.clone();
    let (over, kept) = aside(move || (files::all_over(&from), files::all(&from))).await.unwrap_or_default();
    let mut told = BTreeSet::new();
    for (id, found) in over {
        told.insert(id.clone());
        if known.contains(&id) {
            continue;
        }
        gateway.shared.jobs.recall(Entry::over(id, found));
    }
    for kept in kept {
        if told.contains(&kept.id) {
            // The process ended between the two.
            let (directory, id) = (directory.clone(), kept.id);
            aside(move || files::forget(&directory, &id)).await;
            continue;
        }
        if known.contains(&kept.id) {
            continue;
        }
        match api::entry(gateway, &kept.tenant, kept.id.clone(), &kept.bytes()) {
            Ok(mut entry) => {
                entry.created = if kept.created > 0 { kept.created } else { entry.created };
                gateway.shared.jobs.restore(entry);
            }
            Err(error) => tracing::warn!(id = %kept.id, %error, "an optimisation job cannot go on"),
        }
    }
}

/// What blocks, on a thread for that. Nothing comes of it when the process is ending.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(work).await.ok()
}
