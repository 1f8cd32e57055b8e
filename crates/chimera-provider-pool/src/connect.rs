//! How a connection to a provider is made: the seam at which tests put in-memory pipes.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{error::ConnectError, resolve::Resolver, target::Target};

/// Any byte pipe that can carry HTTP.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connected pipe.
#[non_exhaustive]
pub enum Transport {
    /// A TCP connection with `TCP_NODELAY` set.
    Tcp(TcpStream),
    /// TLS over such a connection.
    Tls(Box<TlsStream<TcpStream>>),
    /// Anything else: an in-memory pipe, a Unix socket.
    Other(Box<dyn Io>),
}

/// A connection and what was agreed on it.
pub struct Connected {
    /// The pipe.
    pub transport: Transport,
    /// Whether HTTP/2 is spoken on it; HTTP/1.1 otherwise.
    pub http2: bool,
}

/// A future of a connection.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Connected, ConnectError>> + Send + 'a>>;

/// Makes connections.
///
/// The pool calls `connect` when no idle connection fits, races it against the connect timeout and
/// the request's deadline, and drops the future to give up: an implementor must leave nothing behind
/// then. A connection that is returned is used by one request at a time (HTTP/1.1) or shared (HTTP/2).
pub trait Connect: Send + Sync {
    /// Starts one attempt.
    fn connect<'a>(&'a self, target: &'a Target, tls: Option<&'a Arc<ClientConfig>>) -> Connecting<'a>;
}

/// A connector behind one pointer.
pub type SharedConnect = Arc<dyn Connect>;

/// Connects by TCP, with TLS where the target asks for it and HTTP/2 where the server offers it.
pub struct TcpConnect {
    resolver: Resolver,
    default_tls: Arc<ClientConfig>,
}

impl TcpConnect {
    /// A connector that trusts the public web roots.
    pub fn new(resolver: Resolver) -> Result<Self, crate::SettingsError> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        Ok(Self { resolver, default_tls: client_config(roots)? })
    }
}

/// A TLS client configuration over the given roots: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN.
/// There is no way to switch verification off.
pub fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, crate::SettingsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| crate::SettingsError::Certificates { why: error.to_string() })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

impl Connect for TcpConnect {
    fn connect<'a>(&'a self, target: &'a Target, tls: Option<&'a Arc<ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            let addresses =
                self.resolver.resolve(target.host(), target.port()).await.map_err(ConnectError::Resolve)?;
            let tcp = first_that_accepts(&addresses).await.map_err(ConnectError::Tcp)?;
            if !target.is_tls() {
                return Ok(Connected { transport: Transport::Tcp(tcp), http2: false });
            }
            let name = ServerName::try_from(target.host().to_owned())
                .map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
            let connector = TlsConnector::from(tls.unwrap_or(&self.default_tls).clone());
            let stream = connector.connect(name, tcp).await.map_err(ConnectError::Tls)?;
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Ok(Connected { transport: Transport::Tls(Box::new(stream)), http2 })
        })
    }
}

/// How long one address of several may take before the next is tried; the last has what is left of
/// the connect timeout.
const PER_ADDRESS: std::time::Duration = std::time::Duration::from_millis(500);

async fn first_that_accepts(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let attempt = TcpStream::connect(address);
        let connected = if index + 1 == addresses.len() {
            attempt.await
        } else {
            tokio::time::timeout(PER_ADDRESS, attempt)
                .await
                .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
        };
        match connected {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Forwards a poll to whichever pipe this is.
macro_rules! with_pipe {
    ($self:ident, $pipe:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Tcp(pipe) => {
                let $pipe = Pin::new(pipe);
                $call
            }
            Transport::Tls(pipe) => {
                let $pipe = Pin::new(pipe);
                $call
            }
            Transport::Other(pipe) => {
                let $pipe = Pin::new(pipe);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        with_pipe!(self, pipe => pipe.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        with_pipe!(self, pipe => pipe.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_pipe!(self, pipe => pipe.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        with_pipe!(self, pipe => pipe.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        with_pipe!(self, pipe => pipe.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(pipe) => pipe.is_write_vectored(),
            Self::Tls(pipe) => pipe.is_write_vectored(),
            Self::Other(pipe) => pipe.is_write_vectored(),
        }
    }
}
