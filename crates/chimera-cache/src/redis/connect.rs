//! The clients: every setting of fred's that waits for ever by default is given an end.

use std::{sync::Arc, time::Duration};

use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::ClientLike,
    types::{
        Builder, RespVersion,
        config::{Options, ReconnectPolicy, UnresponsiveConfig},
    },
};
use tokio::task::JoinHandle;

use super::{
    line::{Connection, Line},
    nodes::{self, Nodes},
    settings::RedisSettings,
};
use crate::error::TierError;

/// Commands that wait in one client; beyond, they fail at once.
const MOST_WAITING: usize = 4096;
/// The longest that fred itself waits for an answer; deadlines before it are the caller's.
const COMMAND: Duration = Duration::from_secs(5);

/// What a thread that drives a [`RedisTier`](crate::RedisTier) is to have as its stack.
///
/// The client reads an answer by calling itself for every level of it, and bounds neither: a Redis that
/// means harm could otherwise end the process with an answer of some kilobytes. With this, one nested
/// 100,000 deep is a miss like any other. It is address space, of which only what is used takes memory.
pub const REDIS_STACK: usize = 1 << 30;

/// A client that connects on its own for as long as it lives, and lets commands fail at once while it is
/// not connected.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) quick: WithOptions<Client>,
    /// The same without a timer in fred, for what is asked under a deadline anyway.
    untimed: WithOptions<Client>,
    watched: Watched,
    tasks: (fred::types::ConnectHandle, JoinHandle<()>),
}

/// How it is known that there is somebody who answers.
enum Watched {
    /// Over one connection.
    Line(Arc<Line>),
    /// Over one to each node of a cluster.
    Nodes(Arc<Nodes>),
}

/// A client with the right to ask it one thing.
pub(super) struct Asked<'a> {
    pub(super) quick: &'a WithOptions<Client>,
    /// For look-ups. That a connection without an answer ends holds for them too.
    pub(super) untimed: &'a WithOptions<Client>,
    /// `None` for a cluster, one node of which may be away while the others answer.
    line: Option<(&'a Line, Connection)>,
}

impl Asked<'_> {
    /// What an error means to a cache. One of the connection says that it is lost.
    pub(super) fn failed(&self, error: Error) -> TierError {
        if let (ErrorKind::IO, Some((line, connection))) = (error.kind(), self.line) {
            line.lost(connection);
        }
        super::tier::unavailable(error)
    }
}

impl Connected {
    pub(super) fn start(settings: &RedisSettings) -> Result<Self, Error> {
        let mut config = settings.config.clone();
        config.version = RespVersion::RESP3;
        config.fail_fast = false;
        let is_clustered = config.server.is_clustered();
        let client = Builder::from_config(config)
            .with_performance_config(|performance| {
                performance.default_command_timeout = COMMAND;
                performance.broadcast_channel_capacity = settings.most_told;
            })
            .with_connection_config(|connection| {
                connection.connection_timeout = settings.connect;
                connection.internal_command_timeout = settings.connect;
                connection.max_command_attempts = 1;
                connection.max_redirections = 2;
                connection.max_command_buffer_len = MOST_WAITING;
                connection.tcp.nodelay = Some(true);
                // Where there is one connection, its line is watched.
                connection.unresponsive = if is_clustered {
                    nodes::WATCHED
                } else {
                    UnresponsiveConfig { max_timeout: None, ..nodes::WATCHED }
                };
            })
            .set_policy(reconnect())
            .build()?;
        let options = Options { fail_fast: true, max_attempts: Some(1), ..Options::default() };
        let quick = client.with_options(&options);
        let untimed = client.with_options(&Options { timeout: Some(Duration::ZERO), ..options });
        let (watched, watch) = if is_clustered {
            let nodes = Arc::<Nodes>::default();
            let watch = tokio::spawn(nodes.clone().watch(client.clone()));
            (Watched::Nodes(nodes), watch)
        } else {
            let line = Arc::<Line>::default();
            // It listens from before there is anything to hear.
            let follow = line.clone().follow(client.clone());
            let watch = line.clone().watch(untimed.clone());
            let watch = tokio::spawn(async {
                tokio::select! {
                    () = follow => {}
                    () = watch => {}
                }
            });
            (Watched::Line(line), watch)
        };
        let connect = client.connect();
        Ok(Self { client, quick, untimed, watched, tasks: (connect, watch) })
    }

    /// Whether a command would be answered, as far as is known.
    pub(super) fn is_up(&self) -> bool {
        self.ask().is_some()
    }

    /// The client, if it is connected.
    pub(super) fn ask(&self) -> Option<Asked<'_>> {
        if !self.client.is_connected() || self.is_silent() {
            return None;
        }
        let line = match &self.watched {
            Watched::Line(line) => Some((&**line, line.connection()?)),
            Watched::Nodes(_) => None,
        };
        Some(Asked { quick: &self.quick, untimed: &self.untimed, line })
    }

    /// Whether nothing is to be asked because a node of a cluster does not answer.
    pub(super) fn is_silent(&self) -> bool {
        matches!(&self.watched, Watched::Nodes(nodes) if nodes.are_silent())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.tasks.0.abort();
        self.tasks.1.abort();
    }
}

/// From 100 ms to 500 ms, for ever, with jitter. The guard then asks within a second, so that a Redis that is
/// back is used within two.
fn reconnect() -> ReconnectPolicy {
    let mut policy = ReconnectPolicy::new_exponential(0, 100, 500, 2);
    policy.set_jitter(100);
    policy
}

#[cfg(test)]
mod tests {
    use super::*;

    /// fred waits for ever, and remembers without end, wherever it is not told otherwise.
    #[tokio::test]
    async fn nothing_is_endless() {
        let settings = RedisSettings::new("redis://127.0.0.1:1", [0; 32]).unwrap();
        let connected = Connected::start(&settings).unwrap();
        let (connection, performance) =
            (connected.client.connection_config(), connected.client.perf_config());
        assert!(!performance.default_command_timeout.is_zero());
        assert_eq!(performance.broadcast_channel_capacity, 4096);
        assert!(connection.max_command_buffer_len > 0);
        assert!(connection.unresponsive.max_timeout.is_none(), "its line is watched");
        assert_eq!(connection.connection_timeout, settings.connect);
        assert_eq!(connection.internal_command_timeout, settings.connect);
        assert_eq!(connection.max_command_attempts, 1);
        assert_eq!(connected.client.protocol_version(), RespVersion::RESP3);
        assert!(!connected.client.client_config().fail_fast, "a Redis that is away is no error at the start");
        let policy = connected.client.client_reconnect_policy().unwrap();
        assert_eq!(policy.max_attempts(), 0, "it reconnects for ever");
        let settings = RedisSettings::new("redis-cluster://127.0.0.1:1", [0; 32]).unwrap();
        let connected = Connected::start(&settings).unwrap();
        assert!(connected.client.connection_config().unresponsive.max_timeout.is_some());
    }
}
