//! Starting the gateway with a configuration made for measuring.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use super::{Bench, process::Server};

/// A running gateway, and how long it took from start to ready.
pub(crate) struct Chimera {
    pub(crate) server: Server,
    pub(crate) ready: Duration,
}

impl Bench {
    /// Starts the gateway before `upstream`, on one worker, and waits until it is ready.
    pub(crate) fn chimera(&self, upstream: &str) -> Result<Chimera, Box<dyn Error>> {
        self.chimera_with(upstream, "")
    }

    /// The same, with more of a configuration.
    pub(crate) fn chimera_with(&self, upstream: &str, more: &str) -> Result<Chimera, Box<dyn Error>> {
        self.chimera_of(&format!(
            r#"[providers.openai]
dialect = "openai"
base_url = "http://{upstream}/v1"
api_key = "sk-perf"
max_connections = 8192

{more}
"#
        ))
    }

    /// The same, with all of a configuration but where it listens and by how many workers.
    pub(crate) fn chimera_of(&self, config: &str) -> Result<Chimera, Box<dyn Error>> {
        let (listen, admin) = (free_address()?, free_address()?);
        let config =
            format!("[server]\nlisten = \"{listen}\"\nadmin_listen = \"{admin}\"\nworkers = 1\n\n{config}");
        let folder = std::env::temp_dir();
        let path = folder.join(format!("chimera-perf-{}.toml", std::process::id()));
        fs::write(&path, config)?;
        let started = Instant::now();
        let child = self
            .rig
            .pins
            .command(&self.chimera, true)
            .args(["serve", "--config"])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Server::adopt(child, listen);
        while !is_ready(&server.address) {
            if !server.is_alive() || started.elapsed() > Duration::from_secs(10) {
                return Err("chimera did not become ready".into());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let ready = started.elapsed();
        if self.options.watched {
            watch(&admin)?;
        }
        Ok(Chimera { server, ready })
    }
}

/// A port that was free a moment ago.
fn free_address() -> Result<String, Box<dyn Error>> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Follows the console's events as an open page does, until the gateway ends. Returns with the first change.
fn watch(admin: &str) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /api/v1/console/events HTTP/1.1\r\nhost: {admin}\r\n\r\n")?;
    let mut lines = BufReader::new(stream).lines();
    while lines.next().ok_or("the console's events ended")??.trim() != "event: delta" {}
    std::thread::spawn(move || lines.map_while(Result::ok).count());
    Ok(())
}

fn is_ready(address: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let request = format!("GET /health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(&status == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
