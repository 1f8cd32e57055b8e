//! A wall clock that jumps, as after a suspension or at the hand of an operator: what waits, rests or is counted goes by
//! the other clock.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use crate::support::{Answer, Client, Provider, Server, Step, answer, chat, done, event, json, stream_head};

/// The library that lies about the wall clock, unless there is none to be had and that was said to be no fault.
fn libfaketime() -> Option<PathBuf> {
    let mut folders = fs::read_dir("/usr/lib").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let found = folders.find_map(|folder| {
        let library = folder.join("faketime/libfaketimeMT.so.1");
        library.exists().then_some(library)
    });
    if found.is_none() {
        assert!(
            std::env::var_os("CHIMERA_SKIP_FAKETIME").is_some(),
            "libfaketime is not installed: apt-get install libfaketime, or set CHIMERA_SKIP_FAKETIME=1"
        );
        eprintln!("SKIPPED: there is no libfaketime");
    }
    found
}

/// A server whose wall clock is as far off as the file says, while its monotonic clock is true.
fn server(library: &Path, offset: &Path, config: &str) -> Server {
    let mut command = Command::new("env");
    command
        .arg(format!("LD_PRELOAD={}", library.display()))
        .arg(format!("FAKETIME_TIMESTAMP_FILE={}", offset.display()))
        .args(["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"])
        .arg(env!("CARGO_BIN_EXE_chimera"));
    Server::start_under(command, config)
}

#[test]
fn p06_a_wall_clock_that_jumps_an_hour_changes_no_deadline_no_breaker_and_no_limit() {
    let Some(library) = libfaketime() else { return };
    let offset = std::env::temp_dir().join(format!("chimera-it-clock-{}", std::process::id()));
    fs::write(&offset, "+0\n").unwrap();
    let jumped = Arc::new(AtomicBool::new(false));
    let told = jumped.clone();
    let good = Provider::start(move |request| match request.contains("\"stream\":true") {
        true => vec![stream_head(), event("a"), Step::Until(told.clone()), event("b"), done()],
        false => vec![answer("fine")],
    });
    let bad = Provider::start(|_| vec![json(500, r#"{"error":{"message":"down"}}"#)]);
    let digest: String = chimera_gateway::key_digest("k").iter().map(|byte| format!("{byte:02x}")).collect();
    let server = server(
        &library,
        &offset,
        &good.config(&format!(
            "[providers.down]\ndialect = \"openai\"\nbase_url = \"http://{}/v1\"\nmodels = [\"down-1\"]\n\
             [breaker]\nopen_base = \"1m\"\nopen_max = \"2m\"\n\
             [clients.one]\nkey_sha256 = [\"{digest}\"]\nrequests_per_minute = 1000\n",
            bad.address
        )),
    );
    let send = |model: &str, text: &str, streamed| {
        let mut client = Client::connect(server.data);
        client.send(chat(model, text, streamed).replace("host:", "authorization: Bearer k\r\nhost:"));
        client
    };
    let ask = |model: &str, text: &str| send(model, text, false).answer();
    let left =
        |answer: &Answer| answer.header("x-ratelimit-remaining-requests").unwrap().parse::<i64>().unwrap();
    // The breaker of what is down opens.
    let mut questions = 0_u32..;
    while ask("down-1", &format!("{}", questions.next().unwrap())).header("x-chimera-attempts").is_some() {}
    let asked = bad.requests().len();
    let first = ask("gpt-test", "kept");
    assert_eq!((first.status, ask("gpt-test", "kept").header("x-chimera-cache")), (200, Some("l1")));
    let mut before = left(&first);
    for jump in ["+3600", "-3600", "+0"] {
        let mut stream = send("gpt-test", &format!("stream {jump}"), true);
        stream.head().unwrap();
        assert!(stream.chunk().is_some());
        fs::write(&offset, format!("{jump}\n")).unwrap();
        let date = |answer: &Answer| answer.header("age").map(|age| age.parse::<u64>().unwrap());
        let kept = ask("gpt-test", "kept");
        assert_eq!((kept.status, kept.header("x-chimera-cache")), (200, Some("l1")), "{jump}");
        assert!(date(&kept).is_some_and(|age| age < 600), "its age is the time that it was here");
        assert_eq!(ask("gpt-test", &format!("new {jump}")).status, 200, "no deadline is over");
        let refused = ask("down-1", "again");
        assert_eq!((refused.status, bad.requests().len()), (503, asked), "its breaker is still open");
        assert!(left(&refused) < before, "nothing was given back");
        before = left(&refused);
        jumped.store(true, SeqCst);
        let mut rest = Vec::new();
        while let Some(chunk) = stream.chunk() {
            rest.extend(chunk);
        }
        assert!(rest.ends_with(b"data: [DONE]\n\n"), "cut: {}", String::from_utf8_lossy(&rest));
        jumped.store(false, SeqCst);
        assert_eq!(server.admin("GET", "/health/ready").status, 200);
    }
    // It was lied to: the log's lines are an hour apart.
    let hours: std::collections::BTreeSet<String> =
        server.log().lines().filter_map(|line| Some(line.get(11..13)?.to_owned())).collect();
    assert!(hours.len() > 1, "the clock never jumped: {}", server.log());
    fs::remove_file(&offset).unwrap();
}
