//! Being told what others write: client tracking in broadcasting mode, and the proof that it works.
//!
//! Redis forgets tracking with the connection, and fred's own handler of invalidations ends at the first
//! lag. So the channel is read here; a reconnection, an error or a lag means that changes were missed;
//! and twice a second a key is written over another connection, whose change must be told: a connection
//! that is frozen, or tracking that was switched off, shows by that. The key also shows a flush, which
//! fred does not pass on: it is missing then. A Redis that is full writes no key, and answers over the connection
//! instead.
//!
//! In a cluster each master tells what it holds itself. So each has such a key, and the cluster is asked as often
//! who its masters are: one that has joined is asked to tell, too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fred::{
    error::Error,
    interfaces::{
        ClientInterface, ClientLike, ClusterInterface, EventInterface, KeysInterface, TrackingInterface,
    },
    types::{Expiration, Key, Value, client::Toggle, cluster::ClusterRouting, config::Options},
};
use tokio::{
    sync::broadcast::error::RecvError,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{connect::Connected, masters::Masters, names::Names};
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
    /// Told what others change.
    pub(super) writer: Arc<Connected>,
    /// Over which the proofs are written: nobody is told of what they write themselves.
    pub(super) prober: Arc<Connected>,
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
    /// It was asked for, and a first proof is outstanding.
    Asked,
    /// Each master has told one.
    On,
}

impl<K, V> Work<K, V>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) async fn run(self) {
        let mut told = self.writer.client.invalidation_rx();
        let mut reconnected = self.writer.client.reconnect_rx();
        let mut failed = self.writer.client.error_rx();
        let mut due = interval(self.proof);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut course = Course { phase: Phase::Off, masters: Masters::default(), answers: JoinSet::new() };
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
                Some(answer) = course.answers.join_next() => match answer {
                    Ok(Some(Answer::Written { proof, was_there })) => self.written(&proof, was_there, &mut course),
                    Ok(Some(Answer::Alive { proof })) => self.proven(proof.as_bytes(), &mut course),
                    Ok(Some(Answer::Masters(routing))) => self.found(&routing, &mut course).await,
                    // Not to have been answered is to have proved nothing.
                    Ok(None) | Err(_) => {}
                },
                _ = due.tick() => self.prove(&mut course).await,
            }
        }
    }

    fn lost(&self, course: &mut Course) {
        course.phase = Phase::Off;
        course.answers = JoinSet::new();
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
            let purge = Purge::read(purge).unwrap_or(Purge::All);
            let key = if let Purge::Key(key) = &purge { self.codec.read_key(key) } else { None };
            (self.changes)(key.map_or(Change::Purged(purge), Change::Removed));
        } else {
            self.proven(name, course);
        }
    }

    /// The proof of this name was told, if it is one.
    fn proven(&self, name: &[u8], course: &mut Course) {
        let Some(master) = course.masters.proven_by(name) else { return };
        master.outstanding = 0;
        if course.phase == Phase::Asked && course.masters.all.iter().all(|it| it.outstanding == 0) {
            course.phase = Phase::On;
            self.state.is_on.store(true, Relaxed);
            (self.changes)(Change::Restored);
        }
    }

    /// Asks to be told, on every master there is.
    async fn ask(&self, course: &mut Course) {
        let client = &self.writer.client;
        if !client.is_connected() || self.writer.is_silent() {
            return;
        }
        course.masters = Masters::known(client, &self.names, self.id);
        if course.masters.all.is_empty() {
            return;
        }
        let prefixes =
            [&self.names.entries, &self.names.purges, &self.names.proofs].map(String::as_str).to_vec();
        let asking = async {
            for master in &course.masters.all {
                let prefixes = prefixes.clone();
                match &master.server {
                    None => {
                        // Asked for twice on one connection, it is refused: the prefixes overlap.
                        let _ = client.stop_tracking().await;
                        client.start_tracking(prefixes, true, false, false, true).await?;
                    }
                    Some(server) => {
                        let node = client.with_cluster_node(server);
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
                self.write(course);
            }
            Ok(Err(error)) => tracing::debug!(kind = ?error.kind(), "Redis does not tell changes"),
            Err(_) => {}
        }
    }

    /// Looks whether the last proofs were told, and writes the next.
    async fn prove(&self, course: &mut Course) {
        if course.phase == Phase::Off {
            return self.ask(course).await;
        }
        if course.masters.all.iter().any(|master| master.outstanding >= MOST_OUTSTANDING) {
            self.lost(course);
            return self.ask(course).await;
        }
        self.write(course);
    }

    /// Writes the keys whose change is to be told, and asks a cluster who its masters are. Nobody waits for a master
    /// that does not answer: the others tell meanwhile.
    fn write(&self, course: &mut Course) {
        for master in &mut course.masters.all {
            master.outstanding += 1;
            if self.prober.is_silent() {
                continue;
            }
            let (prober, proof, limit) = (self.prober.quick.clone(), master.proof.clone(), self.proof);
            let told = Options { cluster_node: master.server.clone(), fail_fast: true, ..Options::default() };
            let told = self.writer.client.with_options(&told);
            course.answers.spawn(async move {
                let lifetime = Some(Expiration::EX(PROOF_SECONDS));
                let write = prober.set::<Option<i64>, _, _>(proof.clone(), 1, lifetime, None, true);
                match timeout(limit, write).await.ok()? {
                    Ok(before) => Some(Answer::Written { proof, was_there: before.is_some() }),
                    Err(error) if takes_nothing(&error) => {
                        let answer = timeout(limit, told.ping::<()>(None)).await.ok()?;
                        // One that cannot save refuses this as well.
                        let is_alive = answer.as_ref().err().is_none_or(takes_nothing);
                        is_alive.then_some(Answer::Alive { proof })
                    }
                    Err(_) => None,
                }
            });
        }
        if self.prober.client.is_clustered() && !self.prober.is_silent() {
            let (prober, limit) = (self.prober.quick.clone(), self.proof);
            course.answers.spawn(async move {
                let slots = timeout(limit, prober.cluster_slots::<Value>()).await.ok()?.ok()?;
                ClusterRouting::from_cluster_slots(slots, "").ok().map(Answer::Masters)
            });
        }
    }

    fn written(&self, proof: &Key, was_there: bool, course: &mut Course) {
        let Some(master) = course.masters.proven_by(proof.as_bytes()) else { return };
        // It was there and is gone: everything else is gone too.
        if master.has_key && !was_there {
            (self.changes)(Change::Missed);
        }
        master.has_key = true;
    }

    /// Other masters than those that were asked to tell tell nothing.
    async fn found(&self, routing: &ClusterRouting, course: &mut Course) {
        if course.masters.are_those_of(routing) {
            return;
        }
        self.lost(course);
        // To connect to those that are new is a reconnection, after which they are asked.
        let _ = timeout(self.proof * 2, self.writer.client.sync_cluster()).await;
    }
}

/// Proofs that may be outstanding: one is on its way, with two the last was not told.
const MOST_OUTSTANDING: u32 = 2;

/// How long the key of a proof outlasts the process. As long as most entries live: a full Redis may evict first what
/// ends first, and that it is missing would say that all is gone.
const PROOF_SECONDS: i64 = 24 * 3600;

struct Course {
    phase: Phase,
    masters: Masters,
    /// What is asked for at the moment.
    answers: JoinSet<Option<Answer>>,
}

enum Answer {
    /// The key of a proof was written, and was there before or not.
    Written { proof: Key, was_there: bool },
    /// The key could not be written, and the connection over which it would have been told answers.
    Alive { proof: Key },
    /// Who the masters of a cluster are.
    Masters(ClusterRouting),
}

/// Whether Redis writes nothing at the moment, for anybody: it is full, or cannot save what it holds.
fn takes_nothing(error: &Error) -> bool {
    error.details().starts_with("OOM") || error.details().starts_with("MISCONF")
}
