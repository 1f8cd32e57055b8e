//! Running other programs.

use std::{
    env,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// What tasks come to: nothing, or why not.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that runs this task. What it told this package of itself is taken away again: build scripts that
/// watch it (ring's) would run once more, and all that stands on them be built once more, whenever a task and a
/// developer's own cargo take turns.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.starts_with(own)))
        {
            cargo.env_remove(name);
        }
    }
    cargo.current_dir(root());
    cargo
}

/// Where cargo, started at the root as [`cargo`] does, puts what it builds.
pub(crate) fn target() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Shows a command, runs it, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let shown = shown(command);
    println!("$ {shown}");
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}

/// What a command prints.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let shown = shown(command);
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{shown}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{shown}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{shown}: it does not print text"))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A program that is killed when its owner is dropped.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program and reads what it prints until `wanted` finds what it looks for.
pub(crate) fn start_until<T>(
    command: &mut Command,
    mut wanted: impl FnMut(&str) -> Option<T>,
) -> Outcome<(Killed, T)> {
    let shown = shown(command);
    let child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("{shown}: {error}"))?;
    let mut child = Killed(child);
    let out = child.0.stdout.take().ok_or("no output to read")?;
    let mut lines = BufReader::new(out).lines();
    while let Some(Ok(line)) = lines.next() {
        if let Some(found) = wanted(&line) {
            // Somebody must go on reading, or the program stops at a full pipe.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok((child, found));
        }
    }
    Err(format!("{shown}: it ended before it was ready"))
}

/// A loopback port that was free a moment ago.
pub(crate) fn free_port() -> Outcome<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

/// Starts a gateway without any provider key in its environment; gives its base URL.
pub(crate) fn start_gateway(arguments: &[&str]) -> Outcome<(Killed, String)> {
    let mut command = Command::new(target().join("debug").join("chimera"));
    command.arg("serve").args(arguments);
    for key in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "REDIS_URL"] {
        command.env_remove(key);
    }
    start_until(&mut command, |line| {
        let url = line.trim().strip_prefix("listening")?.split_whitespace().next()?;
        Some(url.to_owned())
    })
}

/// A virtual environment with the packages of a requirements file, made once and kept in target/.
/// `extra` goes before the requirements on pip's command line.
pub(crate) fn venv(name: &str, requirements: &Path, extra: &[&str]) -> Outcome<PathBuf> {
    let folder = target().join("venv").join(name);
    let python = folder.join("bin").join("python");
    let wanted = std::fs::read_to_string(requirements)
        .map_err(|error| format!("{}: {error}", requirements.display()))?;
    let stamp = folder.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    made.map_err(|why| format!("{why}; install Python 3 with its venv module (Debian: python3-venv)"))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(extra)
        .arg("-r")
        .arg(requirements))?;
    std::fs::write(&stamp, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}
