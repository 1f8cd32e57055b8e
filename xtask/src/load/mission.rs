//! `cargo xtask load mission`: what the gateway does for its callers, with and without it, on this machine.
//!
//! *Before* is a gateway that only passes on: no cache, no compression, no second deployment to fail over and
//! hedge to, and connections to the provider that are kept for a millisecond, which is one for each request. *After*
//! is the same with all of them. Both get the same load, one after the other.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::Value;

use super::{Setup, Stage, build};
use crate::process::{Outcome, root, target};

const BEFORE: Setup = Setup {
    sections: "[cache]\npolicy = \"off\"\n[compression]\nenabled = false\n",
    provider: "idle_timeout = \"1ms\"\n",
    providers: 1,
    long: Some("8192"),
};
const AFTER: Setup = Setup {
    sections: "[groups.sim-small]\npicker = \"least_latency\"\nhedge_percentile = 95\nfailover_broken = true\n\
               deployments = [{ provider = \"sim1\", model = \"sim-small\" }, { provider = \"sim2\", model = \"sim-small\" }]\n",
    provider: "",
    providers: 2,
    long: Some("8192"),
};

/// What one side of the table shows.
struct Side {
    load: Value,
    transform: Value,
    hold: Value,
    /// Bytes of an 8 KB answer, its head included.
    wire: usize,
}

/// Measures both sides and prints the table.
pub(super) fn run(args: &[String]) -> Outcome {
    let quick = args.iter().any(|arg| arg == "--quick");
    build(false)?;
    let before = side(&BEFORE, "before", quick)?;
    let after = side(&AFTER, "after", quick)?;
    print!("{}", table(&before, &after));
    Ok(())
}

fn side(setup: &Setup, name: &str, quick: bool) -> Outcome<Side> {
    let folder = target().join("release");
    let stage = Stage::set(&folder, setup)?;
    let loaded = |profile: &str, more: &[&str]| {
        eprintln!("{name}: {profile}");
        report(&folder, &stage, profile, more)
    };
    let (short, long) = if quick { ("20s", "30s") } else { ("2m", "5m") };
    Ok(Side {
        load: loaded("load", &["--duration", short])?,
        transform: loaded("transform", &[])?,
        wire: wire(stage.data)?,
        hold: loaded("hold", &["--duration", long])?,
    })
}

/// Loads a gateway with a profile. That a threshold breaks is what the table is for.
fn report(folder: &Path, stage: &Stage, profile: &str, more: &[&str]) -> Outcome<Value> {
    let file = std::env::temp_dir().join(format!("chimera-mission-{}.json", std::process::id()));
    let status = Command::new(folder.join("chimera-load"))
        .current_dir(root())
        .args([profile, "--quiet", "--target", &format!("http://127.0.0.1:{}", stage.data)])
        .args(["--metrics", &format!("http://127.0.0.1:{}/metrics", stage.admin), "--json"])
        .arg(&file)
        .args(more)
        .stdout(std::process::Stdio::null())
        .status()
        .map_err(|error| error.to_string())?;
    if !matches!(status.code(), Some(0 | 1 | 3)) {
        return Err(format!("the load tester did not get so far as to say what became of `{profile}`"));
    }
    let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let _ = fs::remove_file(&file);
    serde_json::from_str(&text).map_err(|error| error.to_string())
}

/// Bytes that a caller who takes br gets for an answer of about 8 KB that was asked for before.
fn wire(port: u16) -> Outcome<usize> {
    let body = r#"{"model":"long","messages":[{"role":"user","content":"at length"}]}"#;
    let mut length = 0;
    for _ in 0..2 {
        length = fetched(port, body).map_err(|error| format!("the answer of 8 KB: {error}"))?;
    }
    Ok(length)
}

fn fetched(port: u16, body: &str) -> std::io::Result<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         accept-encoding: br\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        return Err(std::io::Error::other("it is no answer"));
    }
    Ok(answer.len())
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

/// How much the gateway's memory grew while connections were held, in MiB. What it cached meanwhile is in it.
fn grown(hold: &Value) -> f64 {
    let memory: Vec<_> = hold["samples"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|sample| sample["memory"].as_f64())
        .collect();
    let (first, most) =
        (memory.first().copied().unwrap_or(f64::NAN), memory.iter().copied().fold(0.0, f64::max));
    (most - first) / f64::from(1 << 20)
}

fn table(before: &Side, after: &Side) -> String {
    let seconds = |value: f64| format!("{:.3} s", value);
    let row = |what: &str, show: &dyn Fn(&Side) -> String| {
        format!("| {what} | {} | {} |\n", show(before), show(after))
    };
    let load = |path: &'static str| move |side: &Side| number(&side.load, path);
    let mut table = String::from("| | before | after |\n|---|---|---|\n");
    for (what, path) in [("generate p50", "/overall/latency/p50"), ("generate p95", "/overall/latency/p95")] {
        table += &row(what, &|side| seconds(load(path)(side)));
    }
    table += &row("errors under load", &|side| format!("{:.3} %", load("/overall/error_rate")(side) * 100.0));
    table += &row("hit rate", &|side| match load("/overall/hit_rate")(side) {
        rate if rate.is_nan() => "–".to_owned(),
        rate => format!("{:.1} %", rate * 100.0),
    });
    table += &row("transform p95", &|side| {
        format!("{:.2} ms", number(&side.transform, "/overall/latency/p95") * 1e3)
    });
    table += &row("an answer of 8 KB on the wire", &|side| format!("{} bytes", side.wire));
    table +=
        &row("1,000 connections held: requests", &|side| format!("{:.0}", number(&side.hold, "/overall/ok")));
    table += &row("… failed", &|side| format!("{:.0}", number(&side.hold, "/overall/failed")));
    table +=
        &row("… memory grown, cached answers included", &|side| format!("{:.1} MiB", grown(&side.hold)));
    table
}
