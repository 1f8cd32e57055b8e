//! Servers that answer by a script, and runs against them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use chimera_loadgen::{Control, Overrides, Report, Scenario, run};
use chimera_sim::{Settings, Sim};

/// A simulated provider on a thread of its own.
pub(crate) fn sim(settings: Settings) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            match Sim::new(settings).serve(listener).await {}
        })
    });
    address
}

/// A server that answers each request as `answer` says, given the number of the request on all connections.
pub(crate) fn scripted(answer: impl Fn(u64, &mut TcpStream) -> bool + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shared = std::sync::Arc::new((answer, std::sync::atomic::AtomicU64::new(0)));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let shared = shared.clone();
            thread::spawn(move || {
                while request(&mut stream) {
                    let number = shared.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    if !(shared.0)(number, &mut stream) {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Reads one request; they are small.
fn request(stream: &mut TcpStream) -> bool {
    let (mut held, mut buffer) = (Vec::new(), [0; 64 * 1024]);
    loop {
        let text = String::from_utf8_lossy(&held);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.trim().parse::<usize>().unwrap()) {
                return true;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(read) => held.extend_from_slice(&buffer[..read]),
        }
    }
}

pub(crate) const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}"#;

/// Writes one answer.
pub(crate) fn answer(stream: &mut TcpStream, status: u16, headers: &str, body: &str) -> bool {
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).is_ok()
}

/// A scenario with one mix of chats; `shape` is `[load]` and what follows it.
pub(crate) fn scenario(address: SocketAddr, top: &str, shape: &str, mix: &str) -> Scenario {
    let text = format!(
        "name = \"test\"\n{top}\n[target]\nurl = \"http://{address}\"\n{shape}\n[[mix]]\nname = \"chat\"\n\
         request = \"chat\"\nmodel = \"sim-small\"\nprompt_tokens = 20\noutput_tokens = 4\n{mix}\n"
    );
    Scenario::parse(&text, &Overrides::default()).unwrap()
}

pub(crate) fn ran(scenario: &Scenario) -> Report {
    run(scenario, &Control::default(), &mut |_| {}).unwrap()
}
