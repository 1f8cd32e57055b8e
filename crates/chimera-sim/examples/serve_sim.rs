//! Listens as a simulated provider: `cargo run -p chimera-sim --example serve_sim -- 127.0.0.1:9090`. A second argument is
//! how many bytes of text each answer has; any model answers then.

use std::time::Duration;

use chimera_sim::{Settings, Sim};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:9090");
    let answer_bytes = std::env::args().nth(2).and_then(|bytes| bytes.parse().ok());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening {}", listener.local_addr()?);
    let sim = Sim::new(Settings {
        first_token: Duration::from_millis(150),
        per_token: Duration::from_millis(if answer_bytes.is_some() { 0 } else { 15 }),
        any_model: answer_bytes.is_some(),
        answer_bytes,
        ..Settings::default()
    });
    match sim.serve(listener).await {}
}
