//! Where a report comes from.

use std::{collections::BTreeMap, fs, process::Command};

use chimera_loadgen::Provenance;

pub(crate) fn gather() -> Provenance {
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    Provenance { command: words.join(" "), commit: commit(), machine: machine(), versions: versions() }
}

/// The commit of the folder that it runs in, with a mark if there is more than was committed.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit} and changes") })
}

fn machine() -> BTreeMap<String, String> {
    let field = |path: &str, name: &str| {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().ok().map(|cores| cores.to_string());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned());
    let facts = [
        ("processor", field("/proc/cpuinfo", "model name")),
        ("cores", cores),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("kernel", kernel),
        ("system", Some(format!("{} {}", std::env::consts::OS, std::env::consts::ARCH))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn versions() -> BTreeMap<String, String> {
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let mut versions = BTreeMap::new();
    versions.insert("chimera-load".to_owned(), format!("{} ({build})", env!("CARGO_PKG_VERSION")));
    versions
}
