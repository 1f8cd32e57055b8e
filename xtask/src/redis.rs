//! The Redis that the tests of the second tier run against.

use std::process::{Command, Stdio};

/// Whether a program does well; what it prints is nobody's concern.
pub(crate) fn quiet(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether there is a `redis-server`, installed from Debian where that is possible.
pub(crate) fn ensure() -> bool {
    let has = || quiet("redis-server", &["--version"]);
    if has() {
        return true;
    }
    println!("redis-server is not here; trying apt-get");
    let installed = quiet("apt-get", &["update"]) && quiet("apt-get", &["install", "--yes", "redis-server"]);
    if !installed {
        println!("it could not be installed; the tests against a Redis are skipped");
    }
    installed && has()
}
