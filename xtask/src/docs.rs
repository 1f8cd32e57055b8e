//! The generated pages of docs/.

use std::{fs, process::Command};

use crate::{
    dialects, perf,
    process::{Outcome, cargo, output, root, target},
};

/// Writes the pages, or says which are not what they would be.
pub(crate) fn run(check: bool) -> Outcome {
    let mut stale = Vec::new();
    let pages = [
        ("configuration.md", configuration()?),
        ("dialects.md", dialects::page()?),
        ("metrics.md", metrics()?),
        ("performance.md", perf::gate::page()?),
    ];
    for (name, text) in pages {
        let path = root().join("docs").join(name);
        if fs::read_to_string(&path).is_ok_and(|current| current == text) {
            continue;
        }
        if check {
            stale.push(format!("docs/{name} is not current; run cargo xtask docs"));
        } else {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
            println!("wrote docs/{name}");
        }
    }
    if stale.is_empty() { Ok(()) } else { Err(stale.join("\n")) }
}

fn metrics() -> Outcome<String> {
    build()?;
    output(Command::new(target().join("debug").join("chimera")).args(["docs", "metrics"]))
}

fn build() -> Outcome {
    crate::process::run(cargo().args(["build", "--quiet", "--locked", "--package", "chimera-server"]))
}

/// The commented configuration file as tables, one per section.
fn configuration() -> Outcome<String> {
    let source = root().join("config").join("chimera.toml");
    let text = fs::read_to_string(&source).map_err(|error| format!("{}: {error}", source.display()))?;
    let mut page = String::from(
        "# Configuration\n\nOne TOML file, `chimera --config FILE`; every key has a default, unknown keys are refused, \
         and `chimera check` names the key at fault. `CHIMERA__SECTION__KEY` in the environment overrides any \
         key. Secrets are `{ env = \"NAME\" }`, `{ file = \"PATH\" }` or the text itself. A reload (SIGHUP, or \
         `POST /api/v1/reload` of the admin listener) puts a new file in force; one that changes `[server]`, \
         `[log]`, `[worker_pool]`, `[traces]`, `[console]`, `[cache.redis]`, `[cache.disk]`, `cache.capacity` or `cache.max_entry` is refused, because these need a restart. Generated from `config/chimera.toml` by `cargo xtask docs`.\n",
    );
    let mut comment = String::new();
    for line in text.lines() {
        let example = line.strip_prefix("#! ");
        let line = example.unwrap_or(line);
        if let Some(more) = line.strip_prefix("# ") {
            comment.push_str(if comment.is_empty() { "" } else { " " });
            comment.push_str(more);
        } else if line.starts_with('[') {
            page.push_str(&format!("\n## {line}\n\n"));
            if !comment.is_empty() {
                page.push_str(&format!("{comment}\n\n"));
            }
            comment.clear();
            let value = if example.is_some() { "example" } else { "default" };
            page.push_str(&format!("| key | {value} | meaning |\n|---|---|---|\n"));
        } else if let Some((key, value)) = line.split_once(" = ") {
            page.push_str(&format!("| `{key}` | `{}` | {comment} |\n", value.replace('|', "\\|")));
            comment.clear();
        } else if line.is_empty() {
            comment.clear();
        }
    }
    Ok(page)
}
