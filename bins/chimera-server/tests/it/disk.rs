//! The cache's file as its users meet it: over a restart, a kill, and damage.

use std::{fs, path::PathBuf};

use crate::support::{Client, Provider, Server, answer, chat};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chimera-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("answers.redb")
    }

    fn start(&self, provider: &Provider) -> Server {
        // A busy machine is no slow disk.
        let disk = format!("[cache.disk]\npath = {:?}\ndeadline = \"5s\"\n", self.file());
        Server::start(&(disk + &provider.config("")))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn ask(server: &Server, text: &str) -> (u16, String) {
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", text, false));
    let answer = client.answer();
    (answer.status, answer.header("x-chimera-cache").unwrap_or_default().to_owned())
}

fn said(status: u16, cache: &str) -> (u16, String) {
    (status, cache.to_owned())
}

#[test]
fn answers_in_a_file_outlive_a_restart_and_a_kill() {
    let folder = Folder::new("restart");
    let provider = Provider::start(|_| vec![answer("fine")]);
    let mut first = folder.start(&provider);
    assert_eq!(ask(&first, "x"), said(200, "miss; reason=cold"));
    first.signal("-TERM");
    assert_eq!(first.wait(), Some(0));
    let mut second = folder.start(&provider);
    assert_eq!(ask(&second, "x"), said(200, "l2"));
    assert_eq!(ask(&second, "x"), said(200, "l1"));
    assert_eq!(ask(&second, "y"), said(200, "miss; reason=cold"));
    let page = second.admin("GET", "/api/v1/cache/metrics").json();
    assert_eq!((&page["tiers"][1]["tier"], &page["tiers"][1]["up"]), (&"disk".into(), &true.into()));
    second.signal("-KILL");
    second.wait();
    // What was there before is there; the last second's answers may be.
    let third = folder.start(&provider);
    assert_eq!(ask(&third, "x"), said(200, "l2"));
    assert_eq!(ask(&third, "y").0, 200);
    assert_eq!(third.admin("POST", "/api/v1/cache/purge").status, 200);
    assert_eq!(ask(&third, "x"), said(200, "miss; reason=cold"));
}

#[test]
fn a_damaged_file_is_no_reason_not_to_start() {
    let folder = Folder::new("damage");
    let provider = Provider::start(|_| vec![answer("fine")]);
    let mut first = folder.start(&provider);
    assert_eq!(ask(&first, "x").0, 200);
    first.signal("-TERM");
    assert_eq!(first.wait(), Some(0));
    let length = fs::metadata(folder.file()).unwrap().len();
    fs::OpenOptions::new().write(true).open(folder.file()).unwrap().set_len(length / 2).unwrap();
    let second = folder.start(&provider);
    assert_eq!(ask(&second, "x"), said(200, "miss; reason=cold"));
    assert!(second.log().contains("moved aside"), "{}", second.log());
    assert_eq!(ask(&second, "x"), said(200, "l1"));
}
