//! `chimera optimize`: one optimisation job in the terminal.

mod show;

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use chimera_gateway::{Gateway, Tenants};
use chimera_optimizer::{
    Ended, Findings, Job, OptimizeError, SharedModel,
    spec::{JobSpec, Surroundings},
};

use crate::{args, config::ConfigError, random, resolve, run, run::Error};

/// Options of `optimize`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) config: Option<PathBuf>,
    pub(crate) task: PathBuf,
    /// Where the journal lies; beside the task if nothing is said.
    pub(crate) journal: Option<PathBuf>,
    /// Where the report goes; beside the task if nothing is said.
    pub(crate) report: Option<PathBuf>,
    /// Whether the findings are printed as JSON.
    pub(crate) json: bool,
}

/// The name of the one who calls here.
const TENANT: &str = "open";

/// The largest file of data that is read.
const LARGEST: u64 = 64 << 20;

/// What a task file stands in: the configured models, files beside it, and commands of its owner.
struct Here<'g> {
    gateway: &'g Gateway,
    folder: &'g Path,
}

impl Surroundings for Here<'_> {
    fn model(&self, name: &str) -> Result<SharedModel, String> {
        self.gateway.model(TENANT, name)
    }

    fn has_price(&self, name: &str) -> bool {
        self.gateway.with_settings(|settings| settings.optimizer.prices.contains_key(name))
    }

    fn file(&self, name: &str) -> Result<String, String> {
        let path = self.folder.join(name);
        read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn may_run_commands(&self) -> bool {
        true
    }
}

fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > LARGEST {
        return Err(io::Error::other(format!("larger than {} MiB", LARGEST >> 20)));
    }
    fs::read_to_string(path)
}

/// Runs a job, or goes on with it, and says what came of it.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let file = run::load(&args::Options { config: options.config.clone(), ..args::Options::default() })?;
    let mut settings = resolve::settings(&file, &resolve::addresses(&file)?, &run::surroundings(1)?, None)?;
    // Whoever has the configuration and the keys in it needs none to call.
    settings.tenants = Tenants::open();
    let gateway = Gateway::new(settings, random::seed()?).map_err(|error| Error::Start(error.to_string()))?;
    let journal = options.journal.clone().unwrap_or_else(|| options.task.with_extension("journal"));
    let mut job = job(&gateway, &options.task)?;
    job.set_journal(&journal);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(show::beside(job)).map_err(|error| unfinished(&error, &journal))?;
    let report = options.report.clone().unwrap_or_else(|| options.task.with_extension("html"));
    fs::write(&report, found.html())
        .map_err(|error| Error::Start(format!("{}: {error}", report.display())))?;
    print(&found, options.json)?;
    eprintln!("report: {}", report.display());
    match &found.ended {
        Ended::Cancelled => Err(Error::Start(goes_on("stopped", &journal))),
        Ended::Paused(reason) => Err(Error::Start(goes_on(&format!("paused: {reason}"), &journal))),
        _ => Ok(()),
    }
}

fn job(gateway: &Gateway, task: &Path) -> Result<Job, Error> {
    let unusable = |field: &str, why: String| ConfigError::new(format!("{}: {field}", task.display()), why);
    let text = read(task).map_err(|error| Error::Start(format!("{}: {error}", task.display())))?;
    let spec: JobSpec = toml::from_str(&text).map_err(|error| unusable("the file", error.to_string()))?;
    let here = Here { gateway, folder: task.parent().unwrap_or(Path::new("")) };
    let job = spec.build(&here).and_then(|made| made.build());
    Ok(job.map_err(|error| unusable(&error.field, error.why))?)
}

fn unfinished(error: &OptimizeError, journal: &Path) -> Error {
    match error {
        OptimizeError::CancelledAtStart => Error::Start(goes_on("stopped", journal)),
        OptimizeError::PausedAtStart(reason) => Error::Start(goes_on(&format!("paused: {reason}"), journal)),
        other => Error::Start(other.to_string()),
    }
}

fn goes_on(what: &str, journal: &Path) -> String {
    format!("{what}; what was paid for is in {}: the same command goes on from there", journal.display())
}

fn print(found: &Findings, json: bool) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, found).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(show::summary(found).as_bytes())?;
    }
    Ok(())
}
