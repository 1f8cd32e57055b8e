//! The vendors' official Python SDKs, each in its own dialect, against a running gateway.

use std::process::Command;

use crate::process::{self, Outcome, cargo, root, start_gateway, venv};

/// Runs the suite; gives its closing line.
pub(crate) fn run() -> Outcome<String> {
    let folder = root().join("tests").join("sdk");
    let python = venv("sdk", &folder.join("requirements.txt"), &[])?;
    process::run(cargo().args(["build", "--quiet", "--locked", "--package", "chimera-server"]))?;
    let (gateway, base) = start_gateway(&["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])?;
    let mut suite = Command::new(python);
    suite.arg(folder.join("suite.py")).args(["--base", &base]);
    let output = suite.output().map_err(|error| format!("the suite did not start: {error}"))?;
    drop(gateway);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    let last = text.lines().last().unwrap_or("it printed nothing").to_owned();
    if output.status.success() { Ok(last) } else { Err(last) }
}
