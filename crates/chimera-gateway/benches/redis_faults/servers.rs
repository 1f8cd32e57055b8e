//! Real servers on loopback, and what is done to them.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Redis {
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::start_on(free_port(), more)
    }

    pub(crate) fn start_on(port: u16, more: &[&str]) -> Self {
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        Self::run(command.args(more), port)
    }

    /// One that soon takes the master for dead.
    pub(crate) fn sentinel(master: u16) -> Self {
        let port = free_port();
        let file = std::env::temp_dir().join(format!("chimera-sentinel-{port}.conf"));
        let lines = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\n\
             sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n"
        );
        std::fs::write(&file, lines).unwrap();
        Self::run(Command::new("redis-server").arg(&file).arg("--sentinel"), port)
    }

    fn run(command: &mut Command, port: u16) -> Self {
        // A master writes a file for its replica where it stands.
        let child = command.current_dir(std::env::temp_dir()).stdout(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
        Self { child, port }
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// An inline command and the beginning of its answer.
    pub(crate) fn say(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "{command}\r\n").unwrap();
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
