//! Names to addresses in bounded time, with the last good answer when the resolver fails.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    time::Instant,
};

/// How long an answer is used before it is asked for again.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// How long one look-up may take before the last good answer is used instead.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// Look-ups that may occupy blocking threads at once. A hung resolver keeps its thread until it
/// gives up, so the bound is what keeps it from taking them all.
const CONCURRENT_LOOKUPS: usize = 4;
/// Addresses kept of one answer; a name with a thousand records is still one provider.
const MAX_ADDRESSES: usize = 8;

/// How long the last good answer is used after a look-up that failed, before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What is known of one name.
#[derive(Default)]
struct Name {
    addresses: Vec<IpAddr>,
    fresh_until: Option<Instant>,
    /// Held by the one look-up of this name: a name that hangs takes one thread, not all of them.
    asking: Arc<AsyncMutex<()>>,
}

type Lookup = dyn Fn(&str, u16) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// A resolver over the operating system's, shared by all pools.
#[derive(Clone)]
pub struct Resolver {
    known: Arc<Mutex<HashMap<String, Name>>>,
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
    /// the last 30 s, and one at a time for a name. A look-up that fails or takes longer than 1 s is answered with the last good
    /// addresses, however old, when there are any.
    pub async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        if let Some(addresses) = self.fresh(host) {
            return Ok(with_port(&addresses, port));
        }
        let asked = tokio::time::timeout(LOOKUP_TIMEOUT, self.ask(host, port)).await;
        let error = match asked {
            Ok(Ok(addresses)) => return Ok(with_port(&addresses, port)),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "the look-up took too long"),
        };
        self.with_name(host, |name| {
            if name.addresses.is_empty() {
                return Err(error);
            }
            name.fresh_until = Some(Instant::now() + RETRY_AFTER);
            Ok(with_port(&name.addresses, port))
        })
    }

    fn with_name<T>(&self, host: &str, look: impl FnOnce(&mut Name) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        look(known.entry(host.to_owned()).or_default())
    }

    fn fresh(&self, host: &str) -> Option<Vec<IpAddr>> {
        self.with_name(host, |name| {
            let fresh = name.fresh_until.is_some_and(|until| Instant::now() < until);
            fresh.then(|| name.addresses.clone())
        })
    }

    /// Asks, unless somebody else has just done so, and remembers the answer.
    async fn ask(&self, host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
        let asking = self.with_name(host, |name| name.asking.clone()).lock_owned().await;
        if let Some(addresses) = self.fresh(host) {
            return Ok(addresses);
        }
        let permit = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (lookup, name) = (self.lookup.clone(), host.to_owned());
        // Both are held until the thread is free, and the name until its answer is remembered.
        let looked_up = tokio::task::spawn_blocking(move || {
            let answer = lookup(&name, port);
            drop(permit);
            (answer, asking)
        });
        let (answer, _asking) = looked_up.await.map_err(io::Error::other)?;
        let mut addresses = answer?;
        // The system's order is kept; it says the same address once per socket type.
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        self.with_name(host, |name| {
            name.addresses.clone_from(&addresses);
            name.fresh_until = Some(Instant::now() + FRESH_FOR);
        });
        Ok(addresses)
    }
}

fn with_port(addresses: &[IpAddr], port: u16) -> Vec<SocketAddr> {
    addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}
