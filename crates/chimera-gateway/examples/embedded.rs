//! A gateway inside a program of your own, in front of a simulated provider: no socket, no server.
#![allow(clippy::print_stdout, missing_docs)]

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use chimera_circuit_breaker::Breaker;
use chimera_gateway::{DialectId, Gateway, ModelProvider, Models, Settings};
use chimera_provider_pool::{
    Connect, Connected, Connecting, Deployment, Failover, Group, InOrder, Provider, ProviderSettings, Target,
    Transport,
};
use chimera_sim::Sim;
use http_body_util::{BodyExt, Full};

/// Connects to a simulated provider over a pipe.
struct Pipe(Sim);

impl Connect for Pipe {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let sim = self.0.clone();
            tokio::spawn(async move { sim.serve_io(far).await });
            Ok(Connected { transport: Transport::Other(Box::new(near)), http2: false })
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::parse("http://sim.internal")?;
    let connect = Arc::new(Pipe(Sim::new(chimera_sim::Settings::default())));
    let provider = Provider::new(ProviderSettings::new("sim", target), connect, 1)?;
    let breaker = Breaker::new(chimera_circuit_breaker::Settings::default(), Instant::now());
    let deployment = Deployment::new("sim", provider.clone(), None, breaker, 100);
    let mut models = Models::default();
    models.add_provider(ModelProvider {
        provider,
        dialects: vec![DialectId::OpenAi],
        group: Group::new("sim", vec![deployment], Arc::new(InOrder), Failover::default()),
        patterns: vec!["sim-*".into()],
        ask_usage: true,
        drain_for_usage: std::time::Duration::ZERO,
    });
    let gateway = Gateway::new(Settings::new(models), [7; 32])?;
    for _ in 0..2 {
        let body = r#"{"model":"sim-small","messages":[{"role":"user","content":"Hello"}]}"#;
        let request = http::Request::post("/v1/chat/completions").header("host", "localhost");
        let response = gateway.handle(request.body(Full::new(Bytes::from(body)))?).await;
        println!("{} {:?}", response.status(), response.headers()["x-chimera-cache"]);
        println!("{:?}", response.into_body().collect().await?.to_bytes());
    }
    Ok(())
}
