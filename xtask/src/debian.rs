//! What tests need and Cargo does not bring, installed from Debian where that is possible.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

/// Whether a program does well; what it prints is nobody's concern.
pub(crate) fn quiet(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether there is a `redis-server`.
pub(crate) fn has_redis() -> bool {
    ensure("redis-server", || quiet("redis-server", &["--version"]).then_some(())).is_some()
}

/// Whether there is the library that lies about the wall clock.
pub(crate) fn has_faketime() -> bool {
    let library = Path::new("faketime").join("libfaketimeMT.so.1");
    let has = |folder: fs::DirEntry| folder.path().join(&library).exists();
    let find = || fs::read_dir("/usr/lib").into_iter().flatten().flatten().any(has).then_some(());
    ensure("libfaketime", find).is_some()
}

/// What is looked for, if it is here or its package could be installed.
pub(crate) fn ensure<T>(package: &str, find: impl Fn() -> Option<T>) -> Option<T> {
    if let Some(found) = find() {
        return Some(found);
    }
    println!("{package} is not here; trying apt-get");
    let install = ["install", "--yes", "--no-install-recommends", package];
    if !(quiet("apt-get", &["update"]) && quiet("apt-get", &install)) {
        println!("it could not be installed");
    }
    find()
}
