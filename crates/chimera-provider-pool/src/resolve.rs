//! Names to addresses in bounded time, with the last good answer when the resolver fails.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};

/// How long an answer is used before it is asked for again.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// How long one look-up may take before the last good answer is used instead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// Look-ups that may occupy blocking threads at once. A hung resolver keeps its thread until it
/// gives up, so the bound is what keeps it from taking them all.
const CONCURRENT_LOOKUPS: usize = 4;
/// Addresses kept of one answer; a name with a thousand records is still one provider.
const MAX_ADDRESSES: usize = 8;

struct Answer {
    addresses: Vec<IpAddr>,
    at: Instant,
}

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// A resolver over the operating system's, shared by all pools.
#[derive(Clone)]
pub struct Resolver {
    known: Arc<Mutex<HashMap<String, Answer>>>,
    lookups: Arc<Semaphore>,
    lookup: Arc<Lookup>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::with_lookup(|host, port| {
            Ok((host, port).to_socket_addrs()?.map(|address| address.ip()).collect())
        })
    }
}

impl Resolver {
    /// A resolver over any blocking look-up; the default asks the operating system.
    pub fn with_lookup(
        lookup: impl Fn(&str, u16) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            known: Arc::default(),
            lookups: Arc::new(Semaphore::new(CONCURRENT_LOOKUPS)),
            lookup: Arc::new(lookup),
        }
    }

    /// The addresses of a host. No look-up is made for an address literal or for a name resolved in
    /// the last 30 s. A look-up that fails or takes longer than 1 s is answered with the last good
    /// addresses, however old, when there are any.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let stale = match self.cached(host) {
            Some((addresses, true)) => return Ok(with_port(&addresses, port)),
            Some((addresses, false)) => Some(addresses),
            None => None,
        };
        match (tokio::time::timeout(LOOKUP_TIMEOUT, self.look_up(host, port)).await, stale) {
            (Ok(Ok(addresses)), _) => {
                let answer = Answer { addresses: addresses.clone(), at: Instant::now() };
                self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), answer);
                Ok(with_port(&addresses, port))
            }
            (_, Some(addresses)) => Ok(with_port(&addresses, port)),
            (Ok(Err(error)), None) => Err(error),
            (Err(_), None) => Err(io::Error::new(io::ErrorKind::TimedOut, "the look-up took too long")),
        }
    }

    fn cached(&self, host: &str) -> Option<(Vec<IpAddr>, bool)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = known.get(host)?;
        Some((answer.addresses.clone(), answer.at.elapsed() < FRESH_FOR))
    }

    async fn look_up(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        let permit = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (lookup, host) = (self.lookup.clone(), host.to_owned());
        let mut addresses = tokio::task::spawn_blocking(move || {
            let _held_until_the_thread_is_free = permit;
            lookup(&host, port)
        })
        .await
        .map_err(io::Error::other)??;
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }
}

fn with_port(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}
