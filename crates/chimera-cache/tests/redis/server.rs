//! A real Redis on a free loopback port, killed on drop.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    pub(crate) dir: PathBuf,
}

/// Whether tests that need a Redis are to be skipped. Without the server and without the variable they
/// fail: a test that silently does nothing is worse than none.
pub(crate) fn skipped() -> bool {
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok() {
        return false;
    }
    if std::env::var_os("CHIMERA_SKIP_REDIS").is_some() {
        eprintln!("SKIPPED: redis-server is not installed");
        return true;
    }
    panic!("redis-server is not installed: apt-get install redis-server, or set CHIMERA_SKIP_REDIS=1");
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn fresh_dir() -> PathBuf {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("chimera-redis-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// One, or none where tests that need it are to be skipped.
    pub(crate) async fn or_skip() -> Option<Self> {
        if skipped() { None } else { Some(Self::start().await) }
    }

    pub(crate) async fn start() -> Self {
        Self::start_on(free_port(), &[]).await
    }

    pub(crate) async fn start_on(port: u16, more: &[&str]) -> Self {
        let dir = fresh_dir();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--dir", dir.to_str().unwrap(), "--enable-debug-command", "local"])
            .args(more);
        Self::run(command, port, dir).await
    }

    /// A sentinel with these lines of configuration. It writes to its file, so it has one of its own.
    pub(crate) async fn start_sentinel(lines: &[&str]) -> Self {
        let (port, dir) = (free_port(), fresh_dir());
        let file = dir.join("sentinel.conf");
        let head = format!("port {port}\nbind 127.0.0.1\ndir {}\n", dir.display());
        std::fs::write(&file, head + &lines.join("\n") + "\n").unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        Self::run(command, port, dir).await
    }

    pub(crate) async fn run(mut command: Command, port: u16, dir: PathBuf) -> Self {
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let server = Self { child, port, dir };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(10), "redis-server does not start");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// One command over a connection of its own, and the raw answer.
    pub(crate) async fn say(&self, words: &[&[u8]]) -> Vec<u8> {
        say(self.port, words).await
    }

    pub(crate) async fn text(&self, words: &[&str]) -> String {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        String::from_utf8_lossy(&self.say(&words).await).into_owned()
    }

    /// The bytes of a string value.
    pub(crate) async fn value(&self, name: &[u8]) -> Option<Vec<u8>> {
        let answer = self.say(&[b"GET", name]).await;
        let end = answer.iter().position(|byte| *byte == b'\r')?;
        (answer[1] != b'-').then(|| answer[end + 2..answer.len() - 2].to_vec())
    }
}

pub(crate) async fn say(port: u16, words: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request).await.unwrap();
    // A second command marks the end of the answer.
    stream.write_all(b"*2\r\n$4\r\nECHO\r\n$8\r\nthe-end!\r\n").await.unwrap();
    let mut answer = Vec::new();
    let end = b"$8\r\nthe-end!\r\n";
    while !answer.ends_with(end) {
        let read = stream.read_buf(&mut answer).await.unwrap();
        if read == 0 || answer.ends_with(b"required.\r\n") {
            return answer;
        }
    }
    answer.truncate(answer.len() - end.len());
    answer
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
