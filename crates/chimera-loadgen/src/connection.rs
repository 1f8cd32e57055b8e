//! One connection, driven by the request that uses it.
//!
//! hyper wants somebody to poll its connection. A task of its own would be woken for every read and wake
//! the request's task in turn; here the request polls both, so an answer costs one wake-up. What the connection
//! tells the request only raises a flag, since it is polled next anyway.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Sleep, sleep_until},
};
use tokio_rustls::TlsConnector;

use crate::{ScenarioError, target::Target};

trait Io: AsyncRead + AsyncWrite {}
impl<T: AsyncRead + AsyncWrite> Io for T {}

type Driver = http1::Connection<TokioIo<Pin<Box<dyn Io>>>, Full<Bytes>>;

/// Opens connections to one target.
pub(crate) struct Connector {
    target: Target,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Connector {
    pub(crate) fn new(target: &Target) -> Result<Self, ScenarioError> {
        let tls = if target.tls { Some(tls(target)?) } else { None };
        Ok(Self { target: target.clone(), tls })
    }

    /// Opens one; `deadline` is that of the first request on it.
    pub(crate) async fn connect(&self, deadline: Instant) -> io::Result<Connection> {
        let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await?;
        stream.set_nodelay(true)?;
        let io: Pin<Box<dyn Io>> = match &self.tls {
            None => Box::pin(stream),
            Some((connector, name)) => Box::pin(connector.connect(name.clone(), stream).await?),
        };
        let handshake = http1::Builder::new().handshake(TokioIo::new(io)).await;
        let (sender, driver) = handshake.map_err(io::Error::other)?;
        Ok(Connection::new(sender, driver, deadline))
    }
}

fn tls(target: &Target) -> Result<(TlsConnector, ServerName<'static>), ScenarioError> {
    let wrong = |why: String| ScenarioError::new("target.ca_file", why);
    let mut roots = RootCertStore::empty();
    match &target.authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(wrong("it holds no certificate".into()));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| ScenarioError::new("target.url", "its host is no name that a certificate can bear"))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// An open connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Option<Pin<Box<Driver>>>,
    flag: Arc<Flag>,
    /// Raises the flag.
    waker: Waker,
    /// Set to the deadline of some request, and only when it has passed to that of the one under way: most requests
    /// end long before theirs, and setting a timer costs as much as parsing an answer's head.
    timer: Pin<Box<Sleep>>,
    /// Room for an answer, kept from one to the next.
    room: Vec<u8>,
}

/// Whether the request has been told something.
#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Rounds between request and connection before other tasks have their turn.
const ROUNDS: usize = 16;

impl Connection {
    fn new(sender: http1::SendRequest<Full<Bytes>>, driver: Driver, deadline: Instant) -> Self {
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&flag));
        let timer = Box::pin(sleep_until(deadline.into()));
        Self { sender, driver: Some(Box::pin(driver)), flag, waker, timer, room: Vec::new() }
    }

    /// Drives the connection while `work` is under way, which is given what sends on it. It must wait for nothing
    /// but the connection. `None` when the deadline has passed.
    pub(crate) async fn drive<T>(
        &mut self,
        deadline: Instant,
        work: impl AsyncFnOnce(&mut http1::SendRequest<Full<Bytes>>, &mut Vec<u8>) -> T,
    ) -> Option<T> {
        let mut work = pin!(work(&mut self.sender, &mut self.room));
        let (driver, timer, flag) = (&mut self.driver, &mut self.timer, &self.flag.0);
        let mut told = Context::from_waker(&self.waker);
        flag.store(true, Relaxed);
        poll_fn(|context| {
            for _ in 0..ROUNDS {
                if flag.swap(false, Relaxed)
                    && let Poll::Ready(output) = work.as_mut().poll(&mut told)
                {
                    return Poll::Ready(Some(output));
                }
                if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(context).is_ready()) {
                    // What waits for it is told by hyper that it has ended.
                    *driver = None;
                }
                if !flag.load(Relaxed) {
                    break;
                }
            }
            if flag.load(Relaxed) {
                context.waker().wake_by_ref();
            }
            while timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(deadline.into());
            }
            Poll::Pending
        })
        .await
    }
}
