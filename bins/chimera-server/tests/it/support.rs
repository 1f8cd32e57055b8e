//! A server under test, a client that writes raw bytes, and a provider that does as it is told.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

/// Long enough for anything that is to happen on this machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A `chimera serve` of its own.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// What it printed at the start.
    pub(crate) banner: String,
    pub(crate) config: PathBuf,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts it with a configuration in addition to free ports.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_under(Command::new(env!("CARGO_BIN_EXE_chimera")), config)
    }

    /// Starts it through another command, which gets `serve --config FILE` as arguments.
    pub(crate) fn start_under(command: Command, config: &str) -> Self {
        let name = format!("chimera-it-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, with_ports(config)).unwrap();
        let (mut child, log) = spawn(command, &path, &[]);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut banner = String::new();
        while !banner.contains("-d '") {
            banner.push_str(&lines.next().expect("the banner").unwrap());
            banner.push('\n');
        }
        let address = |label: &str| -> SocketAddr {
            let line = banner.lines().find(|line| line.contains(label)).expect(label);
            let rest = line.split_once("http://").unwrap().1;
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (data, admin) = (address("listening"), address("admin"));
        thread::spawn(move || lines.for_each(drop));
        Self { child, data, admin, banner, config: path, log }
    }

    /// Everything written to the log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits for the process to end; its exit code.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not end");
    }

    /// Asks the admin listener.
    pub(crate) fn admin(&self, method: &str, path: &str) -> Answer {
        let mut client = Client::connect(self.admin);
        client.send(format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin));
        client.answer()
    }

    /// A value of `/metrics`, by the beginning of its line.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let page = self.admin("GET", "/metrics").text();
        let line = page.lines().find(|line| line.starts_with(series))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// CPU time used so far, in clock ticks of 10 ms.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}

/// The configuration with ports of the system's choice, unless it names its own.
pub(crate) fn with_ports(config: &str) -> String {
    let ports = "listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    if config.contains("listen =") {
        return config.to_owned();
    }
    match config.contains("[server]") {
        true => config.replacen("[server]\n", &format!("[server]\n{ports}"), 1),
        false => format!("[server]\n{ports}{config}"),
    }
}

/// Runs the binary without any of the environment's keys; its log is collected.
fn spawn(
    mut command: Command,
    config: &std::path::Path,
    env: &[(&str, &str)],
) -> (Child, Arc<Mutex<String>>) {
    let mut child = command
        .arg("serve")
        .arg("--config")
        .arg(config)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(env.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(String::new()));
    let (mut stderr, collected) = (child.stderr.take().unwrap(), log.clone());
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = stderr.read(&mut buffer) {
            collected.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    });
    (child, log)
}

/// A connection on which any bytes may be written.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// One response, read by its own framing.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Reads more; false at the end, on a reset, or when nothing comes within the socket's timeout.
    pub(crate) fn more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(read @ 1..) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
            _ => false,
        }
    }

    /// The head of the next response.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head = String::from_utf8(self.buffer.drain(..at + 4).collect()).unwrap();
                if !head.starts_with("HTTP/1.1 1") {
                    return Some(head);
                }
            } else if !self.more() {
                return None;
            }
        }
    }

    /// The next response, whole.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("a response")
    }

    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        let head = self.head()?;
        let mut answer =
            Answer { status: head.split(' ').nth(1)?.parse().ok()?, head: head.clone(), body: Vec::new() };
        if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            while self.buffer.len() < length {
                if !self.more() {
                    return None;
                }
            }
            answer.body = self.buffer.drain(..length).collect();
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        }
        Some(answer)
    }

    /// One chunk of a chunked body; `None` at its end, proper or not.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let at = loop {
            match find(&self.buffer, b"\r\n") {
                Some(at) => break at,
                None if self.more() => {}
                None => return None,
            }
        };
        let size = usize::from_str_radix(std::str::from_utf8(&self.buffer[..at]).unwrap(), 16).unwrap();
        while self.buffer.len() < at + 2 + size + 2 {
            if !self.more() {
                return None;
            }
        }
        let chunk = self.buffer[at + 2..at + 2 + size].to_vec();
        self.buffer.drain(..at + 4 + size);
        (size > 0).then_some(chunk)
    }

    /// Whether the server closes the connection within `limit`; what it still sends is dropped.
    pub(crate) fn is_closed_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut chunk = [0; 4096];
        while Instant::now() < deadline {
            match self.stream.read(&mut chunk) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        false
    }

    /// Leaves with a reset instead of a proper end.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// A chat call, unary or streamed, for a model.
pub(crate) fn chat(model: &str, text: &str, stream: bool) -> String {
    let body = format!(
        r#"{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    post("/v1/chat/completions", &body)
}

pub(crate) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What the provider does with a request.
#[derive(Clone)]
pub(crate) enum Step {
    Write(Vec<u8>),
    Pause(Duration),
    /// Waits until it is told to go on.
    Until(Arc<AtomicBool>),
    /// Waits until the gateway closes the connection, and notes when.
    AwaitClose,
    Close,
    /// Leaves with a reset instead of a proper end.
    Reset,
    /// Writes the same bytes again and again.
    Repeat(Vec<u8>, usize),
}

type Script = dyn Fn(&str) -> Vec<Step> + Send + Sync;

/// A provider that does as its script says.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    closed: Arc<Mutex<Vec<Instant>>>,
}

impl Provider {
    /// `script` gets each request as text and says what happens.
    pub(crate) fn start(script: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, closed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let script: Arc<Script> = Arc::new(script);
        let (requests, ends) = (seen.clone(), closed.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, requests, ends) = (script.clone(), requests.clone(), ends.clone());
                thread::spawn(move || serve(stream.unwrap(), &*script, &requests, &ends));
            }
        });
        Self { address, seen, closed }
    }

    /// The section of a configuration that names it.
    pub(crate) fn config(&self, rest: &str) -> String {
        format!(
            "[providers.openai]\ndialect = \"openai\"\nbase_url = \"http://{}/v1\"\napi_key = \"sk-test\"\n{rest}\n",
            self.address
        )
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn await_requests(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.seen.lock().unwrap().len() < count {
            assert!(Instant::now() < deadline, "the provider saw too few requests");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// When the gateway closed the connection of the script that waited for it.
    pub(crate) fn await_close(&self) -> Instant {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.closed.lock().unwrap().pop() {
                return at;
            }
            assert!(Instant::now() < deadline, "the gateway did not close the connection");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn serve(mut stream: TcpStream, script: &Script, seen: &Mutex<Vec<String>>, closed: &Mutex<Vec<Instant>>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let request = loop {
            if let Some(at) = find(&buffer, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&buffer[..at]).to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
                if buffer.len() >= at + 4 + length {
                    break String::from_utf8_lossy(&buffer.drain(..at + 4 + length).collect::<Vec<_>>())
                        .into_owned();
                }
            }
            match stream.read(&mut chunk) {
                Ok(read @ 1..) => buffer.extend_from_slice(&chunk[..read]),
                _ => return,
            }
        };
        let steps = script(&request);
        seen.lock().unwrap().push(request);
        for step in steps {
            match step {
                Step::Write(bytes) => {
                    if stream.write_all(&bytes).is_err() {
                        closed.lock().unwrap().push(Instant::now());
                        return;
                    }
                }
                Step::Pause(pause) => thread::sleep(pause),
                Step::Until(told) => {
                    while !told.load(SeqCst) {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                Step::AwaitClose => {
                    while matches!(stream.read(&mut chunk), Ok(1..)) {}
                    closed.lock().unwrap().push(Instant::now());
                    return;
                }
                Step::Close => return,
                Step::Reset => {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                    return;
                }
                Step::Repeat(bytes, times) => {
                    for _ in 0..times {
                        if stream.write_all(&bytes).is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }
}

/// A good unary answer.
pub(crate) fn answer(text: &str) -> Step {
    let body = format!(
        r#"{{"id":"c1","object":"chat.completion","created":1,"model":"gpt-test","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}}}"#
    );
    json(200, &body)
}

pub(crate) fn json(status: u16, body: &str) -> Step {
    Step::Write(
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

/// The head of a stream that ends with its connection.
pub(crate) fn stream_head() -> Step {
    Step::Write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
    )
}

/// One chunk of a stream.
pub(crate) fn event(text: &str) -> Step {
    let event = format!(
        "data: {{\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n"
    );
    Step::Write(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes())
}

/// The end of a stream.
pub(crate) fn done() -> Step {
    let finish = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    Step::Write(format!("{:x}\r\n{finish}\r\n0\r\n\r\n", finish.len()).into_bytes())
}
