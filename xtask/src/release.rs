//! The server as it is shipped: built by what it was seen to do.
//!
//! Profile-guided optimisation: a build that counts which way its code is taken, work for it to do
//! ([`crate::perf::train`]), and a build that lays out and inlines by those counts. What is never taken is moved
//! away from what always is, and a request fetches fewer lines of code (docs/adr/0027).

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    debian, perf,
    process::{Outcome, cargo, output, run, target},
};

/// Where Debian has a tool that reads what this compiler's counters write; older ones do not.
const DEBIAN: &str = "llvm-19";
/// The first LLVM whose tool does.
const FIRST: u32 = 19;
/// The newest that is looked for by its name.
const LAST: u32 = 30;

/// Builds `target/dist/chimera`.
pub(crate) fn run_all() -> Outcome {
    let host = host()?;
    let merge = debian::ensure(DEBIAN, profdata)
        .ok_or("llvm-profdata is missing; `rustup component add llvm-tools` or Debian's llvm-19 bring it")?;
    let folder = target().join("dist");
    let counts = folder.join("counts");
    // What an earlier build counted says nothing of this one.
    match fs::remove_dir_all(&counts) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let counting = build(&host, "-Cprofile-generate", &counts)?;
    perf::train(&counting).map_err(|error| format!("the training: {error}"))?;
    let profile = folder.join("chimera.profdata");
    run(Command::new(merge).args(["merge", "--output"]).arg(&profile).args(files(&counts)?))?;
    let built = build(&host, "-Cprofile-use", &profile)?;
    let shipped = folder.join("chimera");
    fs::copy(&built, &shipped).map_err(|error| format!("{}: {error}", built.display()))?;
    println!("built {}", shipped.display());
    Ok(())
}

/// Builds the server with one more flag for the compiler. The target is named, so that the flag is not for build
/// scripts and macros too.
fn build(host: &str, flag: &str, path: &Path) -> Outcome<PathBuf> {
    let mut flags: Vec<_> =
        env::var("RUSTFLAGS").unwrap_or_default().split_whitespace().map(OsString::from).collect();
    let mut ours = OsString::from(format!("{flag}="));
    ours.push(path);
    flags.push(ours);
    let flags = flags.join("\u{1f}".as_ref());
    let arguments = ["build", "--profile", "dist", "--package", "chimera-server", "--target", host];
    run(cargo().args(arguments).env("CARGO_ENCODED_RUSTFLAGS", flags))?;
    Ok(target().join(host).join("dist").join("chimera"))
}

fn host() -> Outcome<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "rustc does not say its host".to_owned())
}

/// The files of counts.
fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let error = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(error)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(error)).collect()
}

/// The toolchain's own tool for counts, or one that is new enough.
fn profdata() -> Option<PathBuf> {
    let own = || {
        let folder = output(Command::new("rustc").args(["--print", "target-libdir"])).ok()?;
        Some(Path::new(folder.trim()).parent()?.join("bin").join("llvm-profdata"))
    };
    let named = (FIRST..=LAST).rev().map(|number| PathBuf::from(format!("llvm-profdata-{number}")));
    own().into_iter().chain(["llvm-profdata".into()]).chain(named).find(|tool| is_new_enough(tool))
}

fn is_new_enough(tool: &Path) -> bool {
    let said = Command::new(tool).arg("--version").output();
    said.is_ok_and(|said| version(&String::from_utf8_lossy(&said.stdout)).is_some_and(|it| it >= FIRST))
}

/// The first number of the version that an LLVM tool prints.
fn version(said: &str) -> Option<u32> {
    let (_, rest) = said.split_once("LLVM version ")?;
    rest.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_say_their_version() {
        assert_eq!(version("Debian LLVM version 14.0.6\n  Optimized build.\n"), Some(14));
        assert_eq!(version("LLVM (http://llvm.org/):\n  LLVM version 22.1.2-rust-1.95.0-stable\n"), Some(22));
        assert_eq!(version("something else"), None);
    }
}
