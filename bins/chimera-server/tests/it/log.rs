//! The log, and whoever does not read it.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{Client, Provider, Server, answer, chat};

/// A pipe takes 64 KiB, and then holds up whoever writes to it.
#[test]
fn p08_a_log_that_nobody_reads_holds_up_no_request() {
    let pipe = std::env::temp_dir().join(format!("chimera-log-{}", std::process::id()));
    let mut shell = Command::new("sh");
    let script = "mkfifo PIPE; sleep 120 < PIPE & exec \"$0\" \"$@\" 2> PIPE";
    let script = script.replace("PIPE", pipe.to_str().unwrap());
    shell.args(["-c", &*script, env!("CARGO_BIN_EXE_chimera")]);
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start_under(shell, &provider.config("[log]\nlevel = \"debug\"\n"));
    let dropped = || server.metric("chimera_log_lines_dropped_total").unwrap_or_default();
    let (began, mut slowest) = (Instant::now(), Duration::ZERO);
    let mut client = Client::connect(server.data);
    while dropped() == 0.0 {
        assert!(began.elapsed() < Duration::from_secs(100), "the log was never full");
        for _ in 0..1000 {
            let asked = Instant::now();
            client.send(chat("gpt-test", "hello", false));
            assert_eq!(client.answer().status, 200);
            slowest = slowest.max(asked.elapsed());
        }
    }
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert_eq!(server.admin("GET", "/health/ready").status, 200);
    let _ = std::fs::remove_file(pipe);
}
