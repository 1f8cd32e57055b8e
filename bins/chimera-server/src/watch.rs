//! A configuration file that is watched: what is written to it is in force some seconds later.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    time::Duration,
};

/// How often the file is read. Its system is not asked to tell of changes: one that lies elsewhere, or is a link that is
/// turned to another file, tells of none.
const EVERY: Duration = Duration::from_secs(1);

/// Calls `reload` when the file is not what was `loaded` any more and stayed the same for a moment: what is half written
/// is waited for.
pub(crate) async fn watch(path: &Path, loaded: Option<u64>, reload: impl Fn()) {
    let (mut in_force, mut before) = (loaded, None);
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tick.tick().await;
        let path = path.to_owned();
        let found = tokio::task::spawn_blocking(move || digest(&path)).await.ok().flatten();
        if found.is_some() && found != in_force && found == before {
            in_force = found;
            reload();
        }
        before = found;
    }
}

/// What tells one content from another, without keeping it; `None` where there is no file at the moment.
pub(crate) fn digest(path: &Path) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_when_it_has_changed_and_stays() {
        let path = std::env::temp_dir().join(format!("chimera-watch-{}", std::process::id()));
        fs::write(&path, "a").unwrap();
        let loaded = digest(&path);
        let reloads = Cell::new(0);
        let seconds = async |seconds: u64| tokio::time::sleep(EVERY * u32::try_from(seconds).unwrap()).await;
        let edits = async {
            seconds(5).await;
            assert_eq!(reloads.get(), 0, "nothing was written");
            fs::write(&path, "b").unwrap();
            seconds(4).await;
            assert_eq!(reloads.get(), 1);
            fs::remove_file(&path).unwrap();
            seconds(4).await;
            assert_eq!(reloads.get(), 1, "it is not there at the moment");
            fs::write(&path, "b").unwrap();
            seconds(4).await;
            assert_eq!(reloads.get(), 1, "it is what is in force");
            // One that is being written is not read half.
            tokio::time::sleep(EVERY / 2).await;
            for n in 0..10 {
                fs::write(&path, format!("c{n}")).unwrap();
                seconds(1).await;
            }
            assert_eq!(reloads.get(), 1);
            seconds(4).await;
            assert_eq!(reloads.get(), 2);
        };
        tokio::select! {
            () = watch(&path, loaded, || reloads.set(reloads.get() + 1)) => {}
            () = edits => {}
        }
        // What was written between the start and the first look counts, too.
        tokio::select! {
            () = watch(&path, loaded, || reloads.set(reloads.get() + 1)) => {}
            () = seconds(4) => {}
        }
        assert_eq!(reloads.get(), 3);
        fs::remove_file(&path).unwrap();
    }
}
