//! Targets over https.

use std::{net::SocketAddr, sync::Arc, thread};

use chimera_loadgen::{Overrides, Report, Scenario};
use chimera_sim::{Settings, Sim};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::support::ran;

/// A simulated provider behind TLS, and the certificate to trust.
fn server() -> (SocketAddr, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let sim = Sim::new(Settings::default());
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, sim) = (acceptor.clone(), sim.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        sim.serve_io(stream).await;
                    }
                });
            }
        })
    });
    (address, cert.pem())
}

fn run_with(address: SocketAddr, authorities: &str) -> Report {
    let text = format!(
        "name = \"tls\"\nthresholds = []\n[target]\nurl = \"https://localhost:{}\"\n{authorities}\n[load]\n\
         count = 6\nconnections = 2\n[closed]\n[[mix]]\nname = \"chat\"\nrequest = \"chat\"\n\
         model = \"sim-small\"\nprompt_tokens = 9\nstream = true\n",
        address.port()
    );
    ran(&Scenario::parse(&text, &Overrides::default()).unwrap())
}

#[test]
fn a_target_over_https_is_loaded_if_its_certificate_is_trusted() {
    let (address, pem) = server();
    let path = std::env::temp_dir().join(format!("chimera-loadgen-ca-{}.pem", std::process::id()));
    std::fs::write(&path, pem).unwrap();
    let report = run_with(address, &format!("ca_file = {:?}", path.display().to_string()));
    std::fs::remove_file(path).unwrap();
    assert_eq!((report.overall.ok, report.overall.failed), (6, 0), "{:?}", report.overall.errors);
    let report = run_with(address, "");
    assert_eq!(report.overall.errors["connect"].count, 6, "{:?}", report.overall.errors);
}
