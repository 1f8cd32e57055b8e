//! The thread that works on optimisation jobs: apart from the workers, whose callers wait.

use std::{
    io,
    thread::{self, JoinHandle},
};

use chimera_gateway::Gateway;
use tokio::{runtime, sync::oneshot};

use crate::supervise::supervised;

/// The thread, for as long as the server lives.
pub(crate) struct Jobs {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Jobs {
    pub(crate) fn start(gateway: Gateway) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("chimera-jobs".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = supervised("jobs", async || gateway.run_jobs().await) => {}
                    // Told to end, or nobody is left to tell.
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends the calls of all jobs; what they have paid for is on the disk afterwards.
    pub(crate) fn finish(self) {
        let _ = self.stop.send(());
        if self.thread.join().is_err() {
            tracing::error!("the thread of optimisation jobs had panicked");
        }
    }
}
