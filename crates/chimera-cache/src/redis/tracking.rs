//! Being told what others write: client tracking in broadcasting mode, and the proof that it works.
//!
//! Redis forgets tracking with the connection, and fred's own handler of invalidations ends at the first
//! lag. So the channel is read here; a reconnection, an error or a lag means that changes were missed;
//! and twice a second a key is written over another connection, whose change must be told: a connection
//! that is frozen, or tracking that was switched off, shows by that. The key also shows a flush, which
//! fred does not pass on: it is missing then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    error::Error,
    interfaces::{ClientInterface, ClientLike, EventInterface, KeysInterface, TrackingInterface},
    types::{Expiration, Key, client::Toggle},
};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{names::Names, purge::servers};
use crate::{
    codec::SharedCodec,
    purge::Purge,
    tier::{Change, Changes},
};

/// What is known of tracking, for the tier's page.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    pub(super) is_on: AtomicBool,
}

pub(super) struct Work<K, V> {
    pub(super) client: Client,
    pub(super) prober: WithOptions<Client>,
    pub(super) names: Names,
    pub(super) codec: SharedCodec<K, V>,
    pub(super) changes: Changes<K>,
    pub(super) state: Arc<Tracking>,
    pub(super) proof: Duration,
    pub(super) id: u64,
}

/// How far tracking has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It is not asked for.
    Off,
    /// It was asked for, and the first proof is outstanding.
    Asked,
    /// A proof was told.
    On,
}

impl<K, V> Work<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) async fn run(self) {
        let mut told = self.client.invalidation_rx();
        let mut reconnected = self.client.reconnect_rx();
        let mut failed = self.client.error_rx();
        let mut due = interval(self.proof);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut course = Course { phase: Phase::Off, outstanding: 0, has_key: false };
        loop {
            tokio::select! {
                // What was told before a connection was lost is read before the loss.
                biased;
                invalidation = told.recv() => match invalidation {
                    Ok(invalidation) => invalidation.keys.iter().for_each(|name| self.told(name, &mut course)),
                    Err(RecvError::Lagged(_)) => (self.changes)(Change::Missed),
                    Err(RecvError::Closed) => return self.lost(&mut course),
                },
                error = failed.recv() => {
                    if matches!(error, Err(RecvError::Closed)) {
                        return self.lost(&mut course);
                    }
                    self.lost(&mut course);
                }
                event = reconnected.recv() => {
                    if matches!(event, Err(RecvError::Closed)) {
                        return self.lost(&mut course);
                    }
                    self.lost(&mut course);
                    self.ask(&mut course).await;
                }
                _ = due.tick() => self.prove(&mut course).await,
            }
        }
    }

    fn lost(&self, course: &mut Course) {
        course.phase = Phase::Off;
        course.outstanding = 0;
        self.state.is_on.store(false, Relaxed);
        (self.changes)(Change::Lost);
    }

    /// The change of a name was told.
    fn told(&self, name: &Key, course: &mut Course) {
        let name = name.as_bytes();
        if let Some(key) = name.strip_prefix(self.names.entries.as_bytes()) {
            if let Some(key) = self.codec.read_key(key) {
                (self.changes)(Change::Key(key));
            }
        } else if let Some(purge) = name.strip_prefix(self.names.purges.as_bytes()) {
            // A note that cannot be read is a newer version's: it may mean anything.
            (self.changes)(Change::Purged(Purge::read(purge).unwrap_or(Purge::All)));
        } else if name == self.names.proof(self.id).as_bytes() {
            course.outstanding = 0;
            if course.phase == Phase::Asked {
                course.phase = Phase::On;
                self.state.is_on.store(true, Relaxed);
                (self.changes)(Change::Restored);
            }
        }
    }

    /// Asks to be told, on every master there is.
    async fn ask(&self, course: &mut Course) {
        course.has_key = false;
        if !self.client.is_connected() {
            return;
        }
        let prefixes =
            [&self.names.entries, &self.names.purges, &self.names.proofs].map(String::as_str).to_vec();
        let asking = async {
            for server in servers(&self.client) {
                let prefixes = prefixes.clone();
                match server {
                    None => {
                        // Asked for twice on one connection, it is refused: the prefixes overlap.
                        let _ = self.client.stop_tracking().await;
                        self.client.start_tracking(prefixes, true, false, false, true).await?;
                    }
                    Some(server) => {
                        let node = self.client.with_cluster_node(server);
                        let off = Vec::<&str>::new();
                        let _ = node
                            .client_tracking::<(), _, _>(Toggle::Off, None, off, false, false, false, false)
                            .await;
                        node.client_tracking::<(), _, _>(
                            Toggle::On,
                            None,
                            prefixes,
                            true,
                            false,
                            false,
                            true,
                        )
                        .await?;
                    }
                }
            }
            Ok::<(), Error>(())
        };
        match timeout(self.proof * 2, asking).await {
            Ok(Ok(())) => {
                course.phase = Phase::Asked;
                self.write(course).await;
            }
            Ok(Err(error)) => tracing::debug!(kind = ?error.kind(), "Redis does not tell changes"),
            Err(_) => {}
        }
    }

    /// Looks whether the last proof was told, and writes the next.
    async fn prove(&self, course: &mut Course) {
        if course.phase == Phase::Off {
            return self.ask(course).await;
        }
        if course.outstanding >= MOST_OUTSTANDING {
            self.lost(course);
            return self.ask(course).await;
        }
        self.write(course).await;
    }

    /// Writes the key whose change is to be told.
    async fn write(&self, course: &mut Course) {
        course.outstanding += 1;
        let lifetime =
            Some(Expiration::PX(i64::try_from(self.proof.as_millis()).unwrap_or(1000).saturating_mul(60)));
        let write = self.prober.set::<Option<i64>, _, _>(self.names.proof(self.id), 1, lifetime, None, true);
        if let Ok(Ok(before)) = timeout(self.proof, write).await {
            // It was there and is gone: everything else is gone too.
            if course.has_key && before.is_none() {
                (self.changes)(Change::Missed);
            }
            course.has_key = true;
        }
    }
}

/// Proofs that may be outstanding: one is on its way, with two the last was not told.
const MOST_OUTSTANDING: u32 = 2;

struct Course {
    phase: Phase,
    outstanding: u32,
    /// Whether the key was written since tracking was asked for.
    has_key: bool,
}
