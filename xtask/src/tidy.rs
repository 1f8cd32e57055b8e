//! Rules of this workspace that no other tool knows. What review says twice is written here.

use std::{fs, path::Path};

use crate::process::{Outcome, output, root};

/// Files longer than this want to be two.
const LONGEST: usize = 500;

/// Fails with every place that breaks a rule.
pub(crate) fn check() -> Outcome {
    let files = output(std::process::Command::new("git").current_dir(root()).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut wrong = Vec::new();
    // Inputs of fuzz targets are what they are, to the byte.
    for name in files.lines().filter(|name| !name.starts_with("fuzz/corpora/")) {
        if let Ok(text) = fs::read_to_string(root().join(name)) {
            look(name, &text, &mut wrong);
        }
    }
    rules_of_crates(&mut wrong);
    if wrong.is_empty() {
        println!("tidy: nothing to tidy");
        Ok(())
    } else {
        Err(wrong.join("\n"))
    }
}

fn look(name: &str, text: &str, wrong: &mut Vec<String>) {
    let mut complain = |line: usize, why: &str| wrong.push(format!("{name}:{}: {why}", line + 1));
    let is_rust = name.ends_with(".rs");
    let in_library = is_rust && name.contains("/src/") && !name.starts_with("xtask/");
    for (number, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t']) && !name.ends_with(".patch") {
            complain(number, "white space at the end of the line");
        }
        if is_rust && name != "xtask/src/tidy.rs" {
            for word in ["todo!(", "unimplemented!(", "FIXME", "XXX", "dbg!("] {
                if line.contains(word) {
                    complain(number, "an unfinished mark");
                }
            }
            for word in ["danger_accept", "dangerous()", "with_custom_certificate_verifier"] {
                if line.contains(word) {
                    complain(number, "verification of certificates must not be switched off");
                }
            }
        }
        let metric = ["counter!(", "gauge!(", "histogram!("].iter().any(|word| line.contains(word));
        if in_library && metric && !name.ends_with("metrics.rs") {
            complain(number, "metrics are named in metrics.rs only");
        }
    }
    if in_library && text.lines().count() > LONGEST {
        complain(0, "longer than 500 lines");
    }
    if is_rust && !text.starts_with("//!") && name.contains("/src/") {
        complain(0, "a module opens with what it is");
    }
    if !text.is_empty() && !text.ends_with('\n') {
        complain(text.lines().count(), "no line feed at the end");
    }
}

/// Every library crate is documented, benched and has an example; the lints are the workspace's.
fn rules_of_crates(wrong: &mut Vec<String>) {
    let Ok(crates) = fs::read_dir(root().join("crates")) else { return };
    for folder in crates.flatten().map(|entry| entry.path()) {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("crates/{name}: the lints of the workspace are not in force"));
        }
        if !has_rust(&folder.join("examples")) {
            wrong.push(format!("crates/{name}: there is no example"));
        }
    }
}

fn has_rust(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| file.path().extension().is_some_and(|kind| kind == "rs")))
    })
}
