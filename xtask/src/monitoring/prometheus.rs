//! A Prometheus of our own, and questions to it.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::process::{Killed, Outcome, free_port, root};

/// A running Prometheus that scrapes every second, and evaluates the rules with shortened durations.
pub(super) struct Prometheus {
    _process: Killed,
    port: u16,
    folder: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data is worth nothing afterwards.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Prometheus {
    pub(super) fn start(admin: u16) -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("chimera-prometheus-{}", std::process::id()));
        let failed = |error: std::io::Error| error.to_string();
        fs::create_dir_all(&folder).map_err(failed)?;
        let rules = root().join("monitoring/rules/chimera-alerts.yml");
        let text = fs::read_to_string(rules).map_err(failed)?;
        fs::write(folder.join("rules.yml"), shortened(&text)).map_err(failed)?;
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n  \
             - job_name: chimera\n    static_configs: [{{targets: [\"127.0.0.1:{admin}\"]}}]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).map_err(failed)?;
        let port = free_port()?;
        let process = spawn(&folder, port)?;
        let prometheus = Self { _process: process, port, folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while get(port, "/-/ready").is_err() {
            if Instant::now() > deadline {
                return Err("Prometheus did not become ready".to_owned());
            }
            sleep(Duration::from_millis(100));
        }
        Ok(prometheus)
    }

    /// What an expression comes to now: its series, values left aside.
    pub(super) fn series(&self, expression: &str) -> Outcome<usize> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = get(self.port, &format!("/api/v1/query?query={encoded}"))?;
        let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
        let result = answer.pointer("/data/result").and_then(Value::as_array);
        result.map(Vec::len).ok_or_else(|| format!("Prometheus refuses `{expression}`: {answer}"))
    }

    /// Waits until an alert fires, or has cleared.
    pub(super) fn await_alert(&self, name: &str, fires: bool) -> Outcome {
        let began = Instant::now();
        let question = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
        while began.elapsed() < Duration::from_secs(90) {
            if (self.series(&question)? > 0) == fires {
                let word = if fires { "fired" } else { "cleared" };
                println!("{name} {word} after {:.0} s", began.elapsed().as_secs_f64());
                return Ok(());
            }
            sleep(Duration::from_millis(500));
        }
        Err(format!("{name} did not {}", if fires { "fire" } else { "clear" }))
    }
}

fn spawn(folder: &Path, port: u16) -> Outcome<Killed> {
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().map(Killed).map_err(|error| format!("prometheus: {error}"))
}

/// The rules as they would be if minutes were seconds: a fault shows within moments, and so does its end.
fn shortened(rules: &str) -> String {
    let mut text = rules.to_owned();
    for window in ["5m", "10m", "15m", "30m", "1h", "6h", "3d"] {
        text = text.replace(&format!("[{window}]"), "[8s]");
        text = text.replace(&format!("for: {window}\n"), "for: 2s\n");
    }
    text.replace("for: 1m\n", "for: 2s\n").replace("offset 1d", "offset 15s")
}

fn get(port: u16, path: &str) -> Outcome<String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        // HTTP/1.0 is answered whole and closed.
        write!(stream, "GET {path} HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|error| error.to_string())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("an answer without an end")?;
    if head.contains(" 200 ") { Ok(body.to_owned()) } else { Err(format!("{path}: {body}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_become_seconds() {
        let short = shortened("expr: rate(a[5m]) offset 1d > rate(b[3d])\nfor: 15m\nfor: 1m\n");
        assert_eq!(short, "expr: rate(a[8s]) offset 15s > rate(b[8s])\nfor: 2s\nfor: 2s\n");
    }
}
