//! A Redis for as long as a bench runs, and a value to keep in it.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;

/// What is kept: what a bare GET brings too.
pub(crate) type Value = Bytes;

/// A server, and its port on loopback.
pub(crate) struct Server(Child, pub(crate) u16);

impl Server {
    /// `None` where there is no `redis-server` in the path.
    pub(crate) fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        std::thread::sleep(Duration::from_millis(300));
        Some(Self(child, port))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two kilobytes that do not compress away.
pub(crate) fn value() -> Value {
    (0..2048_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
