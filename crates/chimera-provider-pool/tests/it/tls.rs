//! U18: a certificate that is not right, a handshake that stalls; and what ALPN agrees on.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use chimera_provider_pool::{ConnectError, ProviderSettings, SendError, client_config};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::support::{answer, group, send, settings, tcp};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: RootCertStore,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), roots }
    }

    /// A server's side: a certificate for `localhost`, changed by `change`.
    fn server(
        &self,
        alpn: &[&[u8]],
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    fn client(&self, address: SocketAddr) -> ProviderSettings {
        let mut settings = settings(&format!("https://localhost:{}", address.port()));
        settings.tls = Some(client_config(self.roots.clone()).unwrap());
        settings
    }
}

/// A TLS server: its address, its TCP connections, its requests.
async fn serve(
    config: Arc<ServerConfig>,
    pause: Duration,
) -> (SocketAddr, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connections, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, counted) = (connections.clone(), served.clone());
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(config);
        while let Ok((stream, _)) = listener.accept().await {
            opened.fetch_add(1, SeqCst);
            let (acceptor, counted) = (acceptor.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                answer(stream, http2, pause, counted).await;
            });
        }
    });
    (address, connections, served)
}

#[tokio::test]
async fn http_1_is_spoken_over_tls_where_the_server_offers_no_more() {
    let authority = Authority::new();
    let (address, connections, _) =
        serve(authority.server(&[b"http/1.1"], "localhost", |_| {}), Duration::ZERO).await;
    let group = group(authority.client(address), tcp());
    for _ in 0..3 {
        let reply = send(&group).await.unwrap();
        assert_eq!((reply.parts.version, &reply.held[..]), (http::Version::HTTP_11, &b"hello"[..]));
    }
    assert_eq!(connections.load(SeqCst), 1);
}

#[tokio::test]
async fn http_2_by_alpn_carries_many_requests_on_one_connection() {
    let authority = Authority::new();
    let server = authority.server(&[b"h2", b"http/1.1"], "localhost", |_| {});
    let (address, connections, served) = serve(server, Duration::from_millis(20)).await;
    let group = group(authority.client(address), tcp());
    assert_eq!(send(&group).await.unwrap().parts.version, http::Version::HTTP_2);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move { send(&group).await.map(|reply| reply.held) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), "hello");
    }
    assert_eq!((connections.load(SeqCst), served.load(SeqCst)), (1, 51));
}

#[tokio::test]
async fn an_idle_http_2_connection_is_closed_in_time() {
    let authority = Authority::new();
    let (address, ..) = serve(authority.server(&[b"h2"], "localhost", |_| {}), Duration::ZERO).await;
    let mut settings = authority.client(address);
    settings.idle_timeout = Duration::from_millis(50);
    let group = group(settings, tcp());
    send(&group).await.unwrap();
    let provider = group.deployments()[0].provider();
    provider.maintain();
    assert_eq!(provider.connections().open, 1);
    tokio::time::sleep(Duration::from_millis(80)).await;
    provider.maintain();
    tokio::task::yield_now().await;
    assert_eq!(provider.connections().open, 0);
}

async fn refused(settings: ProviderSettings, served: &AtomicUsize) {
    let group = group(settings, tcp());
    let error = send(&group).await.err().unwrap();
    assert!(matches!(&error, SendError::Connect(ConnectError::Tls(_))), "{error}");
    assert!(error.is_unsent(), "the next deployment may have it");
    // What callers and the log are told names no file of this machine.
    let mut told = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        told.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    assert!(!told.contains('/') && !told.contains(".rs"), "{told}");
    assert_eq!(served.load(SeqCst), 0);
}

#[tokio::test]
async fn u18_a_certificate_that_has_expired_is_refused() {
    let authority = Authority::new();
    let server = authority.server(&[], "localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let (address, _, served) = serve(server, Duration::ZERO).await;
    refused(authority.client(address), &served).await;
}

#[tokio::test]
async fn u18_a_certificate_for_another_host_is_refused() {
    let authority = Authority::new();
    let (address, _, served) = serve(authority.server(&[], "example.com", |_| {}), Duration::ZERO).await;
    refused(authority.client(address), &served).await;
}

#[tokio::test]
async fn u18_a_certificate_of_an_unknown_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (address, _, served) = serve(authority.server(&[], "localhost", |_| {}), Duration::ZERO).await;
    refused(other.client(address), &served).await;
    // The public roots do not know it either.
    refused(settings(&format!("https://localhost:{}", address.port())), &served).await;
}

#[tokio::test]
async fn u18_a_server_without_tls_gets_no_plain_request() {
    let (address, _, served) = crate::support::plain(Duration::ZERO).await;
    refused(Authority::new().client(address), &served).await;
}

/// A server that knows TLS 1.0 and nothing newer: it takes up what every client hello offers, and
/// answers with its own version.
#[tokio::test]
async fn u18_a_server_that_speaks_only_tls_1_0_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let after = Arc::new(AtomicUsize::new(0));
    let counted = after.clone();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 4096];
        assert!(stream.read(&mut hello).await.unwrap() > 0);
        // A ServerHello of version 3.1: no session, TLS_RSA_WITH_AES_128_CBC_SHA, no compression.
        let body = [&[3, 1][..], &[7; 32], &[0, 0x00, 0x2f, 0]].concat();
        let message = [&[2, 0, 0, body.len() as u8][..], &body].concat();
        let record = [&[22, 3, 1, 0, message.len() as u8][..], &message].concat();
        stream.write_all(&record).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        // An alert, and nothing that could be a request.
        assert_eq!(answer.first(), Some(&21));
        assert!(!answer.windows(4).any(|word| word == b"POST"));
        counted.fetch_add(1, SeqCst);
    });
    refused(Authority::new().client(address), &AtomicUsize::new(0)).await;
    tokio::time::timeout(Duration::from_secs(5), async {
        while after.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn u18_a_handshake_that_stalls_ends_with_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    let mut settings = Authority::new().client(address);
    settings.connect_timeout = Duration::from_millis(200);
    let group = group(settings, tcp());
    let began = Instant::now();
    let error = send(&group).await.err().unwrap();
    assert!(matches!(&error, SendError::Connect(ConnectError::Timeout)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(group.deployments()[0].provider().connections().open, 0);
}
