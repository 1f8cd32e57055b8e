//! Child processes: starting, pinning, weighing and ending them.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// Which processor runs servers and which everything else.
pub(crate) struct Pins {
    pub(crate) pinned: bool,
}

impl Pins {
    pub(crate) fn detect() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let taskset = Command::new("taskset").args(["-c", "0,1", "true"]).stderr(Stdio::null()).status();
        Self { pinned: cores >= 2 && taskset.is_ok_and(|status| status.success()) }
    }

    pub(crate) fn describe(&self) -> &'static str {
        if self.pinned {
            "pinned: servers on core 0, drivers and providers on core 1"
        } else {
            "not pinned: taskset or a second core is missing"
        }
    }

    /// A command for `program`, on the servers' core or on the other one.
    pub(crate) fn command(&self, program: &Path, measured: bool) -> Command {
        if !self.pinned {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", if measured { "0" } else { "1" }]).arg(program);
        command
    }
}

/// A running child, killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl Server {
    pub(crate) fn adopt(child: Child, address: String) -> Self {
        Self { child, address }
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Nanoseconds of CPU time that the process has used.
    pub(crate) fn cpu_nanos(&self) -> Result<Cpu, Box<dyn Error>> {
        Cpu::read(self.process())
    }

    /// Resident memory in KiB.
    pub(crate) fn resident_kib(&self) -> Result<u64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.ok_or("no VmRSS")?.parse()?)
    }

    /// Asks it to end and waits until it has, so that it writes down what it would at its end.
    pub(crate) fn end(mut self) -> Result<(), Box<dyn Error>> {
        let asked = Command::new("kill").args(["-TERM", &self.process().to_string()]).status()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        while asked.success() && Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return if status.success() { Ok(()) } else { Err(format!("it ended with {status}").into()) };
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err("it did not end when asked to".into())
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time by both of the kernel's counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    threads: u64,
    ticks: u64,
}

impl Cpu {
    fn read(process: u32) -> Result<Self, Box<dyn Error>> {
        let mut threads = 0;
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            // A thread that ends between listing and reading is no error.
            let schedstat = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let nanos = schedstat.split_whitespace().next();
            threads += nanos.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        // The command's name may contain spaces; what follows its parenthesis may not.
        let fields = stat.rsplit_once(") ").ok_or("no stat")?.1;
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = times.filter_map(|n| n.parse::<u64>().ok()).sum();
        Ok(Self { threads, ticks: ticks * (1_000_000_000 / ticks_per_second()) })
    }

    /// Nanoseconds since `earlier`: the finer count, unless threads have ended and taken theirs along.
    pub(crate) fn since(self, earlier: Self) -> f64 {
        let threads = self.threads.saturating_sub(earlier.threads) as f64;
        let ticks = self.ticks.saturating_sub(earlier.ticks) as f64;
        if ticks > threads * 1.05 + 30e6 { ticks } else { threads }
    }
}

fn ticks_per_second() -> u64 {
    let output = Command::new("getconf").arg("CLK_TCK").output().ok();
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.and_then(|text| text.trim().parse().ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// The measuring binary.
pub(crate) struct Rig {
    binary: PathBuf,
    pub(crate) pins: Pins,
}

impl Rig {
    pub(crate) fn new(binary: PathBuf, pins: Pins) -> Self {
        Self { binary, pins }
    }

    /// Starts a server that is measured and waits until it says where it listens.
    pub(crate) fn server(&self, args: &[&str]) -> Result<Server, Box<dyn Error>> {
        self.start(true, args).map(|(server, _)| server)
    }

    /// Starts a provider that is the driver too.
    pub(crate) fn peer(&self, args: &[&str]) -> Result<Peer, Box<dyn Error>> {
        let (mut server, lines) = self.start(false, &[&["upstream"], args].concat())?;
        let orders = server.child.stdin.take().ok_or("no standard input")?;
        Ok(Peer { server, orders, lines })
    }

    fn start(&self, measured: bool, args: &[&str]) -> Result<(Server, Lines), Box<dyn Error>> {
        let mut command = self.pins.command(&self.binary, measured);
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening ").map(str::to_owned);
        let server = Server::adopt(child, address.clone().unwrap_or_default());
        address.ok_or("the rig's server did not start")?;
        Ok((server, lines))
    }

    /// Starts a driver that is a process of its own, as memory is measured with: it sleeps between events.
    pub(crate) fn driver(&self, target: &str, args: &[&str]) -> Result<Driver, Box<dyn Error>> {
        let mut command = self.pins.command(&self.binary, false);
        command.args(["drive", "--target", target]).args(args);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let guard = Server::adopt(child, String::new());
        Ok(Driver { guard, lines })
    }
}

type Lines = BufReader<ChildStdout>;

fn report(lines: &mut Lines) -> Result<Value, Box<dyn Error>> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|_| format!("the driver said `{line}`").into())
}

/// Provider and driver in one process, awake while it drives.
pub(crate) struct Peer {
    pub(crate) server: Server,
    orders: ChildStdin,
    lines: Lines,
}

impl Peer {
    /// Drives `target` and returns the driver's report.
    pub(crate) fn drive(&mut self, target: &str, args: &[&str]) -> Result<Value, Box<dyn Error>> {
        writeln!(self.orders, "drive --target {target} {}", args.join(" "))?;
        report(&mut self.lines)
    }
}

/// A driver that is at work.
pub(crate) struct Driver {
    guard: Server,
    lines: Lines,
}

impl Driver {
    /// The next line it prints.
    pub(crate) fn line(&mut self) -> Result<Value, Box<dyn Error>> {
        report(&mut self.lines)
    }

    /// Its last line, once it has ended.
    pub(crate) fn finish(mut self) -> Result<Value, Box<dyn Error>> {
        let report = self.line()?;
        self.guard.child.wait()?;
        Ok(report)
    }
}
