//! The vendors' official Python SDKs against a running gateway: each in its own dialect, and each against
//! providers that speak the others'.

use std::{fs, path::Path, process::Command};

use crate::process::{self, Outcome, cargo, root, start_gateway, target, venv};

/// The dialects of the providers, and where their base URL ends.
const PROVIDERS: [(&str, &str); 3] = [("openai", "/v1"), ("anthropic", ""), ("gemini", "")];

/// Runs the suites; gives their closing lines.
pub(crate) fn run() -> Outcome<String> {
    let folder = root().join("tests").join("sdk");
    let python = venv("sdk", &folder.join("requirements.txt"), &[])?;
    process::run(cargo().args(["build", "--quiet", "--locked", "--package", "chimera-server"]))?;
    let loopback = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let (_sim, base) = start_gateway(&loopback)?;
    let native = suite(&python, &folder.join("suite.py"), &["--base", &base])?;

    // A gateway whose three providers are the first one's simulated provider, each in one dialect.
    let config = target().join("sdk-pairings.toml");
    let providers = PROVIDERS.map(|(dialect, end)| {
        format!("[providers.via-{dialect}]\ndialect = \"{dialect}\"\nbase_url = \"{base}{end}\"\napi_key = \"unused\"\n")
    });
    fs::write(&config, providers.concat()).map_err(|error| error.to_string())?;
    let config = config.display().to_string();
    let (_gateway, front) = start_gateway(&[&["--config", &config], &loopback[..]].concat())?;
    let models = PROVIDERS.map(|(dialect, _)| format!("{dialect}=via-{dialect}/sim-small")).join(",");
    let pairs = suite(&python, &folder.join("pairings.py"), &["--base", &front, "--models", &models])?;
    Ok(format!("{native}; pairings: {pairs}"))
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
