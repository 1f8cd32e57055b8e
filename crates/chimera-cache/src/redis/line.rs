//! Whether a client's connection is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use fred::{
    clients::{Client, WithOptions},
    interfaces::{ClientLike, EventInterface},
};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{sleep, timeout},
};

/// fred calls itself connected for a tenth of a second after it lost its connection, until it tries to
/// connect again, and keeps what it is asked meanwhile. Whoever asked would wait until the deadline. So the
/// first sign of a loss counts: a command that failed with the connection, or what fred tells of it.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Connections so far.
    made: AtomicU64,
    /// So many of them are lost.
    lost: AtomicU64,
}

/// The connection over which something is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection(u64);

/// A client that calls itself connected for so long, though its line is down, is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(1);

/// Without an answer for so long, a connection is dead.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(2);
/// How long after one answer the next is asked for.
pub(super) const ASKED_EVERY: Duration = Duration::from_millis(500);

impl Line {
    /// The connection there is now, if it is not lost.
    pub(super) fn connection(&self) -> Option<Connection> {
        let made = self.made.load(Relaxed);
        (made > self.lost.load(Relaxed)).then_some(Connection(made))
    }

    /// A command failed with its connection. Said late, it harms no connection that was made since.
    pub(super) fn lost(&self, connection: Connection) {
        self.lost.fetch_max(connection.0, Relaxed);
    }

    fn lost_all(&self) {
        self.lost.fetch_max(self.made.load(Relaxed), Relaxed);
    }

    fn made(&self) {
        self.made.fetch_add(1, Relaxed);
    }

    /// Follows what fred tells of a client from now on, until that ends.
    pub(super) fn follow(self: Arc<Self>, client: Client) -> impl Future<Output = ()> + Send {
        let (mut made, mut failed) = (client.reconnect_rx(), client.error_rx());
        async move {
            loop {
                tokio::select! {
                    // Every loss is told before the connection that follows it.
                    biased;
                    error = failed.recv() => match error {
                        Err(RecvError::Closed) => return,
                        _ => self.lost_all(),
                    },
                    connection = made.recv() => match connection {
                        Err(RecvError::Closed) => return,
                        _ => self.made(),
                    },
                    () = sleep(BELIEVED_AFTER), if self.connection().is_none() => {
                        if client.is_connected() {
                            self.made();
                        }
                    }
                }
            }
        }
    }
}

impl Line {
    /// Asks whether the connection still answers, for ever, and leaves one that does not for a new one.
    ///
    /// fred can watch for itself. But it counts from the last thing asked, so that who asks all the time is never
    /// told, and sets a timer at every turn of its loop.
    pub(super) async fn watch(self: Arc<Self>, client: WithOptions<Client>) {
        loop {
            sleep(ASKED_EVERY).await;
            let Some(connection) = self.connection() else { continue };
            // An error is an answer, or is told by the connection's end.
            if timeout(DEAD_AFTER, client.ping::<()>(None)).await.is_err() {
                self.lost(connection);
                // It is done, or begun, or the client is connecting already.
                let _ = timeout(DEAD_AFTER, client.force_reconnection()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_counts_until_the_next_connection() {
        let line = Line::default();
        assert!(line.connection().is_none(), "there was none yet");
        line.made();
        let first = line.connection().unwrap();
        line.lost(first);
        assert!(line.connection().is_none());
        line.lost_all();
        line.made();
        assert!(line.connection().is_some());
        // A caller that hears of it late.
        line.lost(first);
        assert!(line.connection().is_some());
    }
}
