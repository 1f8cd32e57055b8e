//! TLS, with a certificate of the caller's own authority.

use super::*;

type Certified = rcgen::CertifiedKey<rcgen::KeyPair>;

/// A server that speaks TLS alone.
async fn start(certified: &Certified) -> server::Server {
    let (port, dir) = (server::free_port(), server::fresh_dir());
    let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let mut command = std::process::Command::new("redis-server");
    command
        .args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--tls-auth-clients", "no", "--dir"])
        .arg(&dir)
        .arg("--tls-cert-file")
        .arg(&certificate)
        .arg("--tls-key-file")
        .arg(&key);
    server::Server::run(command, port, dir).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_reaches_a_server_whose_certificate_is_trusted_and_no_other() {
    if server::skipped() {
        return;
    }
    let trusted = certificate();
    let server = start(&trusted).await;
    let url = format!("rediss://localhost:{}", server.port);
    let cache = cache_with(tiered(1 << 20), guarded(), redis(&url).tls(trusting(&trusted)));
    ready(&cache).await;
    put(&cache, "k", "v");
    cache.flush().await;
    assert_eq!(get_far(&cache, "k").await.as_deref(), Some("v"));
    // Another authority, and no TLS at all: it is never used, and no caller is told.
    for settings in [redis(&url).tls(trusting(&certificate())), redis(&url.replace("rediss", "redis"))] {
        let cache = cache_with(tiered(1 << 20), guarded(), settings);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(get_far(&cache, "k").await, None);
        assert!(!far(&cache).up);
    }
}

fn certificate() -> Certified {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn trusting(certified: &Certified) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}
