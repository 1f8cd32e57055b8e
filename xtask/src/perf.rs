//! Measures the gateway against the plainest hyper server and proxy, in one go on loopback.
//!
//! Contenders alternate (A B A B …) and the best run of each counts, because noise
//! on a shared machine only ever adds. CPU time is that of the server's process
//! alone: the sum of its threads' `schedstat`, or `utime` + `stime` where threads
//! have ended meanwhile and taken their share with them. Its peers, provider and
//! driver, never sleep while it is measured (docs/adr/0007).

mod chimera;
mod counted;
pub(crate) mod gate;
mod memory;
mod process;
mod report;
mod throughput;
mod training;

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use process::{Pins, Rig};
use report::Row;

/// What is done with the baseline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Check { counted_only: bool },
    Update,
}

/// What the command line asks for.
#[derive(Default)]
pub(crate) struct Options {
    quick: bool,
    check: bool,
    /// Whether the console's page is open while the gateway is measured.
    watched: bool,
    gate: Option<Gate>,
    json: Option<PathBuf>,
    only: Vec<String>,
    chimera: Option<PathBuf>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, Box<dyn Error>> {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--quick" => options.quick = true,
                "--watched" => options.watched = true,
                "--check" => options.check = true,
                "check" => options.gate = Some(Gate::Check { counted_only: false }),
                "--counted" => options.gate = Some(Gate::Check { counted_only: true }),
                "--update-baseline" => options.gate = Some(Gate::Update),
                "--json" => options.json = Some(value()?.into()),
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--chimera" => options.chimera = Some(value()?.into()),
                other => return Err(format!("unknown option `{other}`").into()),
            }
        }
        Ok(options)
    }

    /// Seconds that one run of one contender takes.
    fn seconds(&self) -> f64 {
        if self.quick { 1.0 } else { 3.0 }
    }

    fn rounds(&self) -> usize {
        if self.quick { 3 } else { 5 }
    }
}

/// Everything a measurement needs.
pub(crate) struct Bench {
    options: Options,
    rig: Rig,
    chimera: PathBuf,
}

type Measurement = fn(&Bench) -> Result<Vec<Row>, Box<dyn Error>>;

const MEASUREMENTS: [(&str, Measurement); 9] = [
    ("hit", throughput::hit),
    ("miss", throughput::miss),
    ("paced", throughput::paced),
    ("burst", throughput::burst),
    ("translated", throughput::translated),
    ("streams", memory::streams),
    ("latency", throughput::latency),
    ("ready", memory::ready),
    ("size", memory::size),
];

/// Builds, measures, prints, and fails with `--check` where a target is missed.
pub(crate) fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let options = Options::parse(args)?;
    let target = build(options.chimera.is_none(), options.gate.is_some())?;
    let bench = Bench {
        rig: Rig::new(target.join("bare/chimera-rig"), Pins::detect()),
        chimera: options.chimera.clone().unwrap_or(target.join("release/chimera")),
        options,
    };
    println!("{}", bench.rig.pins.describe());
    let gauge = target.join("release/chimera-gauge");
    match bench.options.gate {
        Some(Gate::Check { counted_only }) => return gate::check(&bench, &gauge, counted_only),
        Some(Gate::Update) => return gate::update(&bench, &gauge),
        None => {}
    }
    let mut rows = Vec::new();
    for (name, measure) in MEASUREMENTS {
        if !bench.options.only.is_empty() && !bench.options.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("measuring {name} …");
        // One failed measurement is a failed row; the others are still worth having.
        match measure(&bench) {
            Ok(measured) => rows.extend(measured),
            Err(error) => rows.push(Row::failed(name, error.as_ref())),
        }
    }
    println!("{}", report::table(&rows));
    if let Some(path) = &bench.options.json {
        std::fs::write(path, format!("{:#}\n", report::json(&rows, &bench.rig.pins)))?;
    }
    if bench.options.check && rows.iter().any(Row::is_missed) {
        return Err("a target is missed".into());
    }
    Ok(())
}

/// Drives a server that writes down which way its code is taken, as [`crate::release`] builds it.
pub(crate) fn train(chimera: &Path) -> Result<(), Box<dyn Error>> {
    let target = build(false, false)?;
    cargo_build("release", &["chimera-load"])?;
    let bench = Bench {
        rig: Rig::new(target.join("bare/chimera-rig"), Pins::detect()),
        chimera: chimera.to_owned(),
        options: Options::default(),
    };
    training::run(&bench, &target.join("release/chimera-load"))
}

/// Builds what is measured and what it is measured against, and returns the target folder.
fn build(with_chimera: bool, with_gauge: bool) -> Result<PathBuf, Box<dyn Error>> {
    cargo_build("bare", &["chimera-rig"])?;
    let ours = [(with_chimera, "chimera-server"), (with_gauge, "chimera-gauge")];
    let ours: Vec<_> = ours.into_iter().filter_map(|(wanted, package)| wanted.then_some(package)).collect();
    if !ours.is_empty() {
        cargo_build("release", &ours)?;
    }
    Ok(crate::process::target())
}

fn cargo_build(profile: &str, packages: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut command = crate::process::cargo();
    command.args(["build", "--profile", profile]);
    command.args(packages.iter().flat_map(|package| ["--package", *package]));
    if command.status()?.success() { Ok(()) } else { Err("the build failed".into()) }
}
