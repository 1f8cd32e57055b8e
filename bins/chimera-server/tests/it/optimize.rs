//! `chimera optimize` and the jobs of a server, over the simulated provider.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, PATIENCE, Server, post};

/// A folder with a task in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, task: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("chimera-optimize-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("task.toml"), task).unwrap();
        let line = |n: usize| format!("{{\"input\":\"word {n}\",\"expected\":\"{n}\"}}\n");
        std::fs::write(folder.join("all.jsonl"), (0..20).map(line).collect::<String>()).unwrap();
        Self(folder)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chimera"));
        command.args(["optimize", "task.toml"]).current_dir(&self.0).env_clear();
        command
    }

    fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    fn has(&self, name: &str) -> bool {
        Path::new(&self.0).join(name).exists()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn task(pattern: &str, evaluations: usize) -> String {
    format!(
        "name = \"words\"\nmodel = \"sim-small\"\nprompt = \"Say it.\"\nconcurrency = 4\n\
         [data]\nexamples = \"all.jsonl\"\n[[evaluators]]\nkind = \"regex\"\npattern = \"{pattern}\"\n\
         [budget]\nevaluations = {evaluations}\n"
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_task_is_run_and_reported() {
    let folder = Folder::new("run", &task(".", 40));
    let output = folder.run();
    let (out, log) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(out.starts_with("words: finished by reflective"), "{out}");
    assert!(out.contains("held-out: 1.000 [") && out.contains("[instruction]\nSay it."), "{out}");
    assert!(log.contains("best 1.000 by #0 after 8 roll-outs"), "{log}");
    assert!(folder.has("task.html") && folder.has("task.journal"));
    let mut json = folder.command();
    let json = json.args(["--json", "--report", "other.html"]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(found["scores"]["validation"]["mean"], 1.0);
    assert!(folder.has("other.html"));
}

#[test]
fn a_task_that_is_wrong_is_refused_by_the_name_of_its_field() {
    let folder = Folder::new("wrong", &task("(", 40));
    let output = folder.run();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("task.toml: evaluators.0.pattern: "), "{}", text(&output.stderr));
    let folder = Folder::new("line", &task(".", 40));
    std::fs::write(folder.0.join("all.jsonl"), "{\"input\":\"a\"}\n{\"inputs\":\"b\"}\n").unwrap();
    let output = folder.run();
    assert_eq!(output.status.code(), Some(2));
    let log = text(&output.stderr);
    assert!(log.contains("task.toml: data.examples: line 2: input: is missing"), "{log}");
}

#[test]
fn an_interrupt_keeps_what_was_paid_for_and_the_same_command_goes_on() {
    let folder = Folder::new("interrupt", &task("^never$", 400));
    let child = folder.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let journal = folder.0.join("task.journal");
    let lines = || std::fs::read_to_string(&journal).unwrap_or_default().lines().count();
    let deadline = Instant::now() + PATIENCE;
    while lines() < 10 {
        assert!(Instant::now() < deadline, "nothing is paid for");
        thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("the same command goes on from there"), "{log}");
    std::fs::write(folder.0.join("task.toml"), task("^never$", 12)).unwrap();
    let output = folder.run();
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("results are known already"), "{log}");
}

#[test]
fn a_server_works_on_jobs_and_counts_them() {
    let server = Server::start("");
    let example = |n: usize| serde_json::json!({"input": format!("word {n}"), "expected": "x"});
    let form = serde_json::json!({
        "name": "words", "model": "sim-small", "prompt": "Say it.", "budget": {"evaluations": 40},
        "data": {"examples": (0..20).map(example).collect::<Vec<_>>()},
        "evaluators": [{"kind": "regex", "pattern": "."}],
    });
    let mut client = Client::connect(server.data);
    client.send(post("/api/v1/optimizations", &form.to_string()));
    let started = client.answer();
    assert_eq!(started.status, 202, "{}", started.text());
    let path = format!("/api/v1/optimizations/{}", started.json()["id"].as_str().unwrap());
    let deadline = Instant::now() + PATIENCE;
    let found = loop {
        client.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n"));
        let told = client.answer().json();
        if told["status"] == "finished" {
            break told;
        }
        assert!(Instant::now() < deadline, "{told}");
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(found["result"]["scores"]["held_out"]["mean"], 1.0);
    let mut events = Client::connect(server.data);
    events.send(format!("GET {path}/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"));
    let mut all = Vec::new();
    events.head().unwrap();
    while let Some(chunk) = events.chunk() {
        all.extend(chunk);
    }
    assert!(text(&all).contains("event: finished\n"), "{}", text(&all));
    let mut admin = Client::connect(server.admin);
    admin.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let metrics = admin.answer().text();
    let count = |name: &str| found["result"][name].as_u64().unwrap();
    let paid = count("evaluations") + count("check_evaluations");
    for line in [
        "chimera_optimizer_best_score{job=\"1\"} 1\n",
        &format!("chimera_optimizer_evaluations_total{{result=\"paid\"}} {paid}\n"),
        "chimera_optimizer_job_duration_seconds_count{outcome=\"finished\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
