//! The operator's console in a real headless Chromium, driven over its DevTools protocol.

use std::process::Command;

use crate::{
    process::{self, Outcome, cargo, root, target, venv},
    redis::quiet,
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
    let find = || {
        ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| quiet(name, &["--version"]))
    };
    if let Some(found) = find() {
        return Some(found);
    }
    println!("chromium is not here; trying apt-get");
    let install = ["install", "--yes", "--no-install-recommends", "chromium"];
    (quiet("apt-get", &["update"]) && quiet("apt-get", &install)).then(find)?
}
