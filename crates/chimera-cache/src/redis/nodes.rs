//! Whether the nodes of a cluster answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fred::{
    clients::Client,
    interfaces::ClientLike,
    types::config::{Options, UnresponsiveConfig},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    line::{ASKED_EVERY, DEAD_AFTER},
    purge::servers,
};

/// A client has a connection to each node, and only fred can leave one of them for a new one. It does when nothing was
/// read for two seconds after the last thing written: who asks all the time is never told. So each node is asked whether
/// it answers, and where one does not, nobody asks anything over this client until fred has seen it too.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    is_silent: AtomicBool,
}

/// How often fred looks.
const LOOKED_EVERY: Duration = Duration::from_millis(500);

/// What fred is told to watch for.
pub(super) const WATCHED: UnresponsiveConfig =
    UnresponsiveConfig { max_timeout: Some(DEAD_AFTER), interval: LOOKED_EVERY };

impl Nodes {
    /// Whether one of them does not answer, so that nothing is to be asked.
    pub(super) fn are_silent(&self) -> bool {
        self.is_silent.load(Relaxed)
    }

    /// Asks them for ever.
    pub(super) async fn watch(self: Arc<Self>, client: Client) {
        loop {
            sleep(ASKED_EVERY).await;
            // A client that is not connected is asked nothing anyway.
            if !client.is_connected() || all_answer(&client).await || !client.is_connected() {
                continue;
            }
            self.is_silent.store(true, Relaxed);
            sleep(DEAD_AFTER + 2 * LOOKED_EVERY).await;
            self.is_silent.store(false, Relaxed);
        }
    }
}

async fn all_answer(client: &Client) -> bool {
    let mut asked = JoinSet::new();
    for server in servers(client) {
        let options = Options { cluster_node: server, fail_fast: true, ..Options::default() };
        let node = client.with_options(&options);
        // An error is an answer, or is told by the connection's end.
        asked.spawn(async move { timeout(DEAD_AFTER, node.ping::<()>(None)).await.is_ok() });
    }
    let mut all = true;
    while let Some(answered) = asked.join_next().await {
        all &= answered.unwrap_or(true);
    }
    all
}
