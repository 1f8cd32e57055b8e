//! The vendors' official Python SDKs against a running gateway: each in its own dialect, and each against
//! providers that speak the others'.

use std::{fs, path::Path, process::Command};

use crate::process::{self, Outcome, cargo, root, start_gateway, target, venv};

/// The dialects of the providers, and where their base URL ends.
const PROVIDERS: [(&str, &str); 3] = [("openai", "/v1"), ("anthropic", ""), ("gemini", "")];

const CALLERS: [&str; 4] = ["openai", "responses", "anthropic", "gemini"];
/// What the provider that refuses can say.
const STATUSES: [u16; 3] = [404, 429, 500];
/// The digest of the client's key that the pairings use, the word `unused`.
const CLIENT: &str = "febe1d741b49e5a9c31526728d8c5134a803adfc4c04c4f052673722ed85597e";

/// Runs the suites; gives their closing lines.
pub(crate) fn run() -> Outcome<String> {
    let folder = root().join("tests").join("sdk");
    let python = venv("sdk", &folder.join("requirements.txt"), &[])?;
    process::run(cargo().args(["build", "--quiet", "--locked", "--package", "chimera-server"]))?;
    let loopback = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (_sim, base) = start_gateway(&loopback)?;
    let native = suite(&python, &folder.join("suite.py"), &["--base", &base])?;

    let config = target().join("sdk-pairings.toml");
    let port = free_port()?;
    fs::write(&config, pairings(&base, port)).map_err(|error| error.to_string())?;
    let config = config.display().to_string();
    let (_gateway, front) = start_gateway(&[&["--config", &config], &loopback[..]].concat())?;
    let models = PROVIDERS.map(|(dialect, _)| format!("{dialect}=via-{dialect}/sim-small")).join(",");
    let refusing = port.to_string();
    let arguments = ["--base", &front, "--models", &models, "--refusing", &refusing];
    let pairs = suite(&python, &folder.join("pairings.py"), &arguments)?;

    let config = target().join("sdk-traces.toml");
    let port = free_port()?;
    let traces = format!("[traces]\nendpoint = \"http://127.0.0.1:{port}\"\nservice_name = \"sdk-suite\"\n");
    fs::write(&config, traces).map_err(|error| error.to_string())?;
    let config = config.display().to_string();
    let (_traced, base) = start_gateway(&[&["--config", &config], &loopback[..]].concat())?;
    let arguments = ["--base", &base, "--collect", &port.to_string()];
    let traces = suite(&python, &folder.join("traces.py"), &arguments)?;
    Ok(format!("{native}; pairings: {pairs}; {traces}"))
}

/// A gateway whose three providers are the first one's simulated provider, each in one dialect, and the
/// provider that refuses, anew for each dialect, status and caller: one that was told to wait is left alone.
fn pairings(base: &str, refusing: u16) -> String {
    let mut config = format!("[clients.sdk]\nkey_sha256 = [\"{CLIENT}\"]\n");
    let mut provider = |name: &str, dialect: &str, url: &str| {
        config.push_str(&format!(
            "[providers.{name}]\ndialect = \"{dialect}\"\nbase_url = \"{url}\"\napi_key = \"unused\"\n"
        ));
    };
    for (dialect, end) in PROVIDERS {
        provider(&format!("via-{dialect}"), dialect, &format!("{base}{end}"));
        for caller in CALLERS {
            for status in STATUSES {
                let name = format!("no-{dialect}-{status}-{caller}");
                provider(&name, dialect, &format!("http://127.0.0.1:{refusing}{end}"));
            }
        }
    }
    config
}

fn free_port() -> Outcome<u16> {
    let bound = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(|error| error.to_string())
}

fn suite(python: &Path, script: &Path, arguments: &[&str]) -> Outcome<String> {
    let mut suite = Command::new(python);
    suite.arg(script).args(arguments);
    let output = suite.output().map_err(|error| format!("the suite did not start: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let last = text.lines().last().unwrap_or("it printed nothing").to_owned();
    if output.status.success() { Ok(last) } else { Err(last) }
}
