//! The operator's console in a real headless Chromium, driven over its DevTools protocol.

use std::process::Command;

use crate::{
    debian::{self, quiet},
    process::{self, Outcome, cargo, root, target, venv},
};

/// Runs the suite; gives its closing line. Without a Chromium, and without a way to one, it is skipped.
pub(crate) fn run(options: &[String]) -> Outcome<String> {
    let Some(chromium) = ensure() else {
        return Ok("SKIPPED: there is no Chromium (Debian: apt-get install chromium)".to_owned());
    };
    let folder = root().join("tests").join("console");
    let python = venv("console", &folder.join("requirements.txt"), &[])?;
    process::run(cargo().args(["build", "--quiet", "--locked", "--package", "chimera-server"]))?;
    let mut suite = Command::new(python);
    suite.arg(folder.join("suite.py")).args(["--chromium", chromium]);
    suite.arg("--chimera").arg(target().join("debug").join("chimera"));
    suite.arg("--out").arg(target().join("console")).args(options);
    process::run(&mut suite)?;
    Ok(format!("passed; pictures in {}", target().join("console").display()))
}

/// The Chromium that is here, installed from Debian where that is possible.
fn ensure() -> Option<&'static str> {
    debian::ensure("chromium", || {
        ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| quiet(name, &["--version"]))
    })
}
