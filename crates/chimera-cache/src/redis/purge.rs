//! Forgetting many entries: others are told first, then the entries are looked for.
//!
//! Writes keep no index for it. A purge is rare, and reads the front of every entry of this cache; each
//! write would pay for an index, and an index can be wrong.

use std::time::Duration;

use bytes::Bytes;
use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::{ClientLike, ClusterInterface, KeysInterface},
    types::{Expiration, Key, config::Server},
};
use tokio::{task::JoinSet, time::timeout};

use super::names::Names;
use crate::{
    envelope::{self, FRONT},
    labels::has,
    purge::Purge,
};

/// Entries looked at in one go.
const PAGE: u32 = 512;
/// How long the note of a purge stays that did not come to its end.
const NOTE_SECONDS: i64 = 60;
/// How long entries are left where they are while others are not told yet.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// The same for one entry, which others wait for: in a cluster, its note may be with a master that does not answer.
const REMOVAL_TOLD_WITHIN: Duration = Duration::from_millis(100);

/// Forgets one entry. That it is gone would be told anyway; the note says that it was on purpose, and says so too where
/// there is none, to those who are computing it.
pub(super) async fn remove(
    client: &WithOptions<Client>,
    names: &Names,
    key: Box<[u8]>,
) -> Result<bool, Error> {
    let (name, note) = (names.entry(&key), names.purge(&Purge::Key(key)));
    let is_told = timeout(REMOVAL_TOLD_WITHIN, tell(client, &note)).await.is_ok_and(|told| told.is_ok());
    let mut gone: u64 = client.unlink(name.clone()).await?;
    if !is_told {
        tell(client, &note).await?;
        gone += client.unlink::<u64, _>(name).await?;
    }
    let _ = client.unlink::<(), _>(note).await;
    Ok(gone > 0)
}

/// Tells everybody, deletes, and takes back the note by which it told: that it expires would be told, too, when new
/// entries are there.
pub(super) async fn purge(client: &Client, names: &Names, purge: &Purge) -> Result<u64, Error> {
    let note = names.purge(purge);
    let is_told = timeout(TOLD_WITHIN, tell(client, &note)).await.is_ok_and(|told| told.is_ok());
    let mut gone = purge_all(client, names, purge).await?;
    if !is_told {
        // A Redis that was full may have room now. To have heard that an entry is gone kept nobody from storing it anew.
        tell(client, &note).await?;
        gone += purge_all(client, names, purge).await?;
    }
    let _ = client.unlink::<(), _>(note).await;
    Ok(gone)
}

async fn tell(client: &impl KeysInterface, note: &Key) -> Result<(), Error> {
    client.set(note.clone(), 1, Some(Expiration::EX(NOTE_SECONDS)), None, false).await
}

async fn purge_all(client: &Client, names: &Names, purge: &Purge) -> Result<u64, Error> {
    if let Purge::Key(key) = purge {
        return client.unlink(names.entry(key)).await;
    }
    // All at once: when one master does not answer, soon nothing is asked over this client.
    let mut purging = JoinSet::new();
    for server in servers(client) {
        let (client, names, purge) = (client.clone(), names.clone(), purge.clone());
        purging.spawn(async move { purge_server(&client, server.as_ref(), &names, &purge).await });
    }
    let mut gone = Ok(0);
    while let Some(purged) = purging.join_next().await {
        let purged = purged.unwrap_or_else(|error| Err(Error::new(ErrorKind::Unknown, error.to_string())));
        gone = gone.and_then(|gone| Ok(gone + purged?));
    }
    gone
}

/// The masters of a cluster; nobody in particular where there is one.
pub(super) fn servers(client: &Client) -> Vec<Option<Server>> {
    match client.cached_cluster_state() {
        Some(state) => state.unique_primary_nodes().into_iter().map(Some).collect(),
        None => vec![None],
    }
}

async fn purge_server(
    client: &Client,
    server: Option<&Server>,
    names: &Names,
    purge: &Purge,
) -> Result<u64, Error> {
    let (mut cursor, mut gone) = ("0".to_owned(), 0);
    loop {
        let pattern = names.pattern();
        let (next, found): (String, Vec<Key>) = match server {
            None => client.scan_page(cursor, pattern, Some(PAGE), None).await?,
            Some(server) => {
                client.with_cluster_node(server).scan_page(cursor, pattern, Some(PAGE), None).await?
            }
        };
        gone += delete(client, selected(client, names, purge, found).await?).await?;
        if next == "0" {
            return Ok(gone);
        }
        cursor = next;
    }
}

async fn selected(
    client: &Client,
    names: &Names,
    purge: &Purge,
    mut found: Vec<Key>,
) -> Result<Vec<Key>, Error> {
    match purge {
        Purge::All | Purge::Key(_) => Ok(found),
        Purge::Prefix(prefix) => {
            let key = |name: &Key| name.as_bytes().get(names.entries.len()..).map(<[u8]>::to_vec);
            found.retain(|name| key(name).is_some_and(|key| key.starts_with(prefix)));
            Ok(found)
        }
        Purge::Scope(_) | Purge::Tag(_) => {
            if found.is_empty() {
                return Ok(found);
            }
            let fronts = fronts(client, &found, FRONT).await;
            let mut selected = Vec::new();
            for (name, front) in found.into_iter().zip(fronts) {
                let mut front = match front {
                    Err(error) if is_no_string(&error) => continue,
                    front => front?,
                };
                let wanted = envelope::labels_end(&front);
                if wanted > front.len() {
                    front = match client.getrange::<Bytes, _>(name.clone(), 0, wanted).await {
                        Err(error) if is_no_string(&error) => continue,
                        front => front?,
                    };
                }
                if has(&front, purge) {
                    selected.push(name);
                }
            }
            Ok(selected)
        }
    }
}

/// Whether there is something else at an entry's name, which nobody can have been answered from.
pub(super) fn is_no_string(error: &Error) -> bool {
    error.details().starts_with("WRONGTYPE")
}

/// The fronts of entries, asked for in one pipeline. One that is gone is empty.
async fn fronts(client: &Client, names: &[Key], length: usize) -> Vec<Result<Bytes, Error>> {
    let pipeline = client.pipeline();
    for name in names {
        // Queued only: the answer comes with the others.
        let _ = pipeline.getrange::<(), _>(name.clone(), 0, length).await;
    }
    pipeline.try_all().await
}

async fn delete(client: &Client, names: Vec<Key>) -> Result<u64, Error> {
    if names.is_empty() {
        return Ok(0);
    }
    if !client.is_clustered() {
        return client.unlink(names).await;
    }
    // In a cluster, keys of one command must lie on one node.
    let pipeline = client.pipeline();
    for name in names {
        let _ = pipeline.unlink::<(), _>(name).await;
    }
    let gone: Vec<Result<u64, Error>> = pipeline.try_all().await;
    gone.into_iter().sum()
}
