//! What a configuration is resolved in: where it listens, and how providers are reached.

use std::net::SocketAddr;

use chimera_provider_pool::SharedConnect;

/// What resolving needs besides the file.
pub(crate) struct Surroundings {
    /// Connects to providers by TCP.
    pub(crate) tcp: SharedConnect,
    /// Connects to the simulated provider inside this process.
    pub(crate) sim: SharedConnect,
    pub(crate) workers: usize,
}

/// The listeners' addresses, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
}
