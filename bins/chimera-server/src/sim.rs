//! The simulated provider, reached over a pipe inside this process.

use std::{sync::Arc, time::Duration};

use chimera_provider_pool::{Connect, Connected, Connecting, Target, Transport};
use chimera_sim::Sim;
use rustls::ClientConfig;
use tokio_util::task::TaskTracker;

/// Bytes that a pipe holds in each direction.
const PIPE: usize = 64 * 1024;

/// A pace at which a stream can be seen to stream.
pub(crate) fn settings() -> chimera_sim::Settings {
    chimera_sim::Settings {
        first_token: Duration::from_millis(50),
        per_token: Duration::from_millis(5),
        // Nobody looks at what it has seen.
        keep_seen: 0,
        ..chimera_sim::Settings::default()
    }
}

/// Connects to a [`Sim`]. Each connection is served by a task that ends with it.
pub(crate) struct SimConnect {
    sim: Sim,
    tasks: TaskTracker,
}

impl SimConnect {
    pub(crate) fn new(sim: Sim) -> Self {
        Self { sim, tasks: TaskTracker::new() }
    }
}

impl Connect for SimConnect {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(PIPE);
            let sim = self.sim.clone();
            self.tasks.spawn(async move { sim.serve_io(far).await });
            Ok(Connected { transport: Transport::Other(Box::new(near)), http2: false })
        })
    }
}
