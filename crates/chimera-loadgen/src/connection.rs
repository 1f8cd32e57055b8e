//! One connection, driven by the request that uses it.
//!
//! hyper wants somebody to poll its connection. A task of its own would be woken for every read and wake
//! the request's task in turn; here the request polls both, so an answer costs one wake-up.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
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

    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let stream = TcpStream::connect((self.target.host.as_str(), self.target.port)).await?;
        stream.set_nodelay(true)?;
        let io: Pin<Box<dyn Io>> = match &self.tls {
            None => Box::pin(stream),
            Some((connector, name)) => Box::pin(connector.connect(name.clone(), stream).await?),
        };
        let handshake = http1::Builder::new().handshake(TokioIo::new(io)).await;
        let (sender, driver) = handshake.map_err(io::Error::other)?;
        Ok(Connection { sender, driver: Some(Box::pin(driver)), body: Vec::new() })
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
    pub(crate) sender: http1::SendRequest<Full<Bytes>>,
    driver: Option<Pin<Box<Driver>>>,
    /// Room for an answer, kept from one to the next.
    pub(crate) body: Vec<u8>,
}

impl Connection {
    /// Drives the connection while `work` is under way, which is given what sends on it.
    pub(crate) async fn drive<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut http1::SendRequest<Full<Bytes>>, &mut Vec<u8>) -> T,
    ) -> T {
        let mut work = pin!(work(&mut self.sender, &mut self.body));
        let driver = &mut self.driver;
        poll_fn(|context| {
            if let Poll::Ready(output) = work.as_mut().poll(context) {
                return Poll::Ready(output);
            }
            let Some(connection) = driver else { return Poll::Pending };
            if connection.as_mut().poll(context).is_ready() {
                // What waits for it is told by hyper that it has ended.
                *driver = None;
            }
            work.as_mut().poll(context)
        })
        .await
    }
}
