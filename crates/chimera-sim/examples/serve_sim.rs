//! Listens as a simulated provider: `cargo run -p chimera-sim --example serve_sim -- 127.0.0.1:9090`.

use std::time::Duration;

use chimera_sim::{Settings, Sim};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:9090");
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening {}", listener.local_addr()?);
    let sim = Sim::new(Settings {
        first_token: Duration::from_millis(150),
        per_token: Duration::from_millis(15),
        ..Settings::default()
    });
    match sim.serve(listener).await {}
}
