//! The program as people start it: its exit status, its files, and Ctrl-C.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

const CHAT: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}"#;

/// A server that answers every request, which are small and come in one piece, with this status.
fn server(status: u16) -> SocketAddr {
    counting(status).0
}

/// The same, and how many it has seen.
fn counting(status: u16) -> (SocketAddr, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&seen);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seen = Arc::clone(&shared);
            thread::spawn(move || serve(stream, status, &seen));
        }
    });
    (address, seen)
}

fn serve(mut stream: TcpStream, status: u16, seen: &AtomicU64) {
    let (mut buffer, mut held) = ([0; 4096], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        held.extend_from_slice(&buffer[..read]);
        if held.ends_with(b"}") {
            held.clear();
            seen.fetch_add(1, SeqCst);
            let length = CHAT.len();
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}");
            if stream.write_all(format!("{head}\r\n\r\n{CHAT}").as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// A scenario in a file of its own.
fn scenario(name: &str, load: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("chimera-load-{name}-{}.toml", std::process::id()));
    let text = format!(
        "name = \"{name}\"\nthresholds = [\"error_rate < 1%\"]\n[target]\nurl = \"http://127.0.0.1:1\"\n{load}\n\
         [[mix]]\nname = \"chat\"\nrequest = \"chat\"\nmodel = \"m\"\nprompt_tokens = 9\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn program(file: &PathBuf, target: SocketAddr, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chimera-load"));
    command.arg(file).args(["--target", &format!("http://{target}/v1")]).args(more);
    command
}

fn told(output: &Output) -> (Option<i32>, String) {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn the_exit_status_says_whether_thresholds_held() {
    let file = scenario("status", "[load]\ncount = 20\nconnections = 2\n[closed]");
    let (code, text) = told(&program(&file, server(200), &[]).output().unwrap());
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("20 good answers") && text.contains("held   error_rate < 1%"), "{text}");
    let (code, text) = told(&program(&file, server(500), &[]).output().unwrap());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("BROKEN error_rate < 1%") && text.contains("status 500: 20"), "{text}");
    let (code, text) = told(&program(&file, server(200), &["--connections", "0"]).output().unwrap());
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("load.connections"), "{text}");
    fs::remove_file(file).unwrap();
    let late = scenario("late", "[load]\ncount = 20\nmax_lag = \"1us\"\n[open]\nrate = 500");
    let (code, text) = told(&program(&late, server(200), &[]).output().unwrap());
    assert_eq!(code, Some(3), "{text}");
    fs::remove_file(late).unwrap();
}

#[test]
fn reports_are_written_with_their_provenance() {
    let file = scenario("files", "[load]\ncount = 20\n[closed]");
    let path = |kind: &str| file.with_extension(kind).display().to_string();
    let (json, html) = (path("json"), path("html"));
    let status = program(&file, server(200), &["--json", &json, "--html", &html]).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let (text, page) = (fs::read_to_string(&json).unwrap(), fs::read_to_string(&html).unwrap());
    for wanted in ["\"command\": ", "--json", "\"cores\": ", "\"chimera-load\": ", "\"ok\": 20", "\"p999\": "]
    {
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert!(page.contains("Where this comes from") && page.contains("<svg") && !page.contains("<script"));
    for file in [file.display().to_string(), json, html] {
        fs::remove_file(file).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_run_and_leaves_the_report() {
    let file = scenario("interrupted", "[load]\nduration = \"1h\"\nconnections = 1\n[closed]");
    let (address, seen) = counting(200);
    let child = program(&file, address, &[]).stdout(Stdio::piped()).spawn().unwrap();
    while seen.load(SeqCst) < 100 {
        thread::yield_now();
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let (code, text) = told(&child.wait_with_output().unwrap());
    fs::remove_file(file).unwrap();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("interrupted") && text.contains("good answers"), "{text}");
}
