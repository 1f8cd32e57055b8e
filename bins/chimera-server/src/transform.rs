//! `chimera transform`: a pipeline over what stands on the standard input, or in files.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use chimera_gateway::{PipelineSpec, PoolSettings, Settings, Transforms, transform_line};
use chimera_transform::{Job, Pipeline, Priority, Seed, WorkerPool};
use serde::{Deserialize, Serialize};

use crate::{
    config::{self, ConfigError, File as Config},
    run::Error,
    units::Span,
};

/// Options of `transform`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) config: Option<PathBuf>,
    pub(crate) pipeline: Option<String>,
    /// Each line is an item of its own, in JSON.
    pub(crate) lines: bool,
    pub(crate) files: Vec<PathBuf>,
}

/// The worker pool in the configuration file.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Pool {
    pub(crate) threads: usize,
    pub(crate) queue: usize,
    pub(crate) max_age: Span,
}

impl Default for Pool {
    fn default() -> Self {
        let PoolSettings { queue, max_age, .. } = PoolSettings::default();
        Self { threads: 0, queue, max_age: Span(max_age) }
    }
}

/// The settings of the worker pool.
pub(crate) fn pool(file: &Config) -> Result<PoolSettings, ConfigError> {
    let pool = &file.worker_pool;
    let wrong = |key: &str, why: &str| Err(ConfigError::new(format!("worker_pool.{key}"), why));
    match pool {
        Pool { threads: 1025.., .. } => wrong("threads", "it must be at most 1024"),
        Pool { queue: 0, .. } => wrong("queue", "it must be at least 1"),
        Pool { max_age, .. } if max_age.0.is_zero() => wrong("max_age", "it must be above zero"),
        Pool { threads: 0, queue, max_age } => {
            Ok(PoolSettings { queue: *queue, max_age: max_age.0, ..PoolSettings::default() })
        }
        Pool { threads, queue, max_age } => {
            Ok(PoolSettings { threads: *threads, queue: *queue, max_age: max_age.0 })
        }
    }
}

/// The pipelines of the configuration.
pub(crate) fn transforms(file: &Config) -> Result<Transforms, ConfigError> {
    let mut transforms = Transforms::default();
    for (name, spec) in &file.transforms {
        let at = |key: &str| format!("transforms.{name}.{key}");
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            let why = "a pipeline's name has up to 64 letters, digits, - and _";
            return Err(ConfigError::new(format!("transforms.{name}"), why));
        }
        if let Some(client) = spec.clients.iter().find(|client| !file.clients.contains_key(*client)) {
            return Err(ConfigError::new(at("clients"), format!("there is no client `{client}`")));
        }
        let added = spec.with_files().and_then(|spec| transforms.add(name, &spec));
        added.map_err(|error| ConfigError::new(at(&error.key), error.why))?;
    }
    Ok(transforms)
}

/// Whether every model that a guard asks is served.
pub(crate) fn check_moderators(settings: &Settings) -> Result<(), ConfigError> {
    let mut moderators = settings.transforms.moderators();
    match moderators.find(|(_, model)| !settings.models.serves(model)) {
        None => Ok(()),
        Some((name, model)) => {
            let key = format!("transforms.{name}.guard.moderation.model");
            Err(ConfigError::new(key, format!("no provider serves `{model}`")))
        }
    }
}

/// Runs a pipeline over the input and writes what comes out.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let file = config::load(options.config.as_deref(), std::env::vars())?;
    let pipeline = pipeline(&file, options.pipeline.as_deref())?;
    let pool = WorkerPool::new(pool(&file)?);
    let mut out = BufWriter::new(io::stdout().lock());
    if options.files.is_empty() {
        over(&pipeline, &pool, options.lines, io::stdin().lock(), &mut out)?;
    }
    let mut sizes = Vec::with_capacity(options.files.len());
    for path in &options.files {
        sizes.push(std::fs::metadata(path).map_err(|error| unreadable(path, &error))?.len());
    }
    let terminal = io::stderr().is_terminal().then(io::stderr);
    let mut progress = Progress::new(sizes.iter().sum(), terminal);
    for path in &options.files {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let seen = Seen { inner: file, progress: &mut progress };
        over(&pipeline, &pool, options.lines, BufReader::new(seen), &mut out)?;
    }
    progress.end();
    out.flush()?;
    Ok(())
}

fn unreadable(path: &std::path::Path, error: &io::Error) -> Error {
    Error::Start(format!("{}: {error}", path.display()))
}

/// The pipeline by its name; without a name the only one there is, or `redact`.
fn pipeline(file: &Config, name: Option<&str>) -> Result<Pipeline, ConfigError> {
    let transforms = transforms(file)?;
    let only = || transforms.names().next().filter(|_| transforms.names().count() == 1);
    match name.or_else(only) {
        Some(name) => transforms.get(name).cloned().ok_or_else(|| {
            let known = transforms.names().collect::<Vec<_>>().join(", ");
            ConfigError::new("--pipeline", format!("there is no pipeline `{name}`; there are: {known}"))
        }),
        None if file.transforms.is_empty() => {
            let steps = vec!["normalize".to_owned(), "redact".to_owned()];
            let spec = PipelineSpec { steps, ..PipelineSpec::default() };
            spec.build("default").map_err(|error| ConfigError::new(error.key, error.why))
        }
        None => Err(ConfigError::new("--pipeline", "there are several pipelines: name one")),
    }
}

fn over(
    pipeline: &Pipeline,
    pool: &WorkerPool,
    lines: bool,
    mut input: impl BufRead,
    out: &mut impl Write,
) -> Result<(), Error> {
    if lines {
        return over_lines(pipeline, pool, input, out);
    }
    let mut text = String::new();
    input.read_to_string(&mut text)?;
    let done = pipeline.run_text(&text, &Seed::random());
    let done = done.map_err(|stopped| Error::Start(stopped.to_string()))?;
    out.write_all(done.output(&text).as_bytes())?;
    Ok(())
}

/// Each line is an item; results come in the order of the lines.
fn over_lines(
    pipeline: &Pipeline,
    pool: &WorkerPool,
    input: impl BufRead,
    out: &mut impl Write,
) -> Result<(), Error> {
    let mut under_way: VecDeque<Job<String>> = VecDeque::new();
    let mut tell = |job: Job<String>| -> Result<(), Error> {
        let told = job.wait().map_err(|why| Error::Start(why.to_string()))?;
        Ok(writeln!(out, "{told}")?)
    };
    for (index, line) in input.lines().enumerate() {
        let (line, pipeline): (Arc<str>, _) = (line?.into(), pipeline.clone());
        let job = pool.submit(Priority::Batch, None, move |_| transform_line(&pipeline, &line, index));
        under_way.push_back(job.map_err(|why| Error::Start(why.to_string()))?);
        if under_way.len() >= pool.settings().threads * 4
            && let Some(job) = under_way.pop_front()
        {
            tell(job)?;
        }
    }
    under_way.into_iter().try_for_each(tell)
}

/// How much of the files was read, told on a terminal if there is one.
struct Progress<T> {
    all: u64,
    read: u64,
    shown: u64,
    terminal: Option<T>,
}

impl<T: Write> Progress<T> {
    fn new(all: u64, terminal: Option<T>) -> Self {
        Self { all, read: 0, shown: 0, terminal: terminal.filter(|_| all > 0) }
    }

    fn more(&mut self, bytes: usize) {
        self.read += bytes as u64;
        // A file may have grown since its size was read.
        let percent = (self.read * 100 / self.all.max(1)).min(100);
        if let Some(terminal) = self.terminal.as_mut().filter(|_| percent != self.shown) {
            self.shown = percent;
            // A terminal that cannot be written to is no reason to end.
            let _ = write!(terminal, "\r[{:<25}] {percent:>3} %", "#".repeat((percent / 4) as usize));
        }
    }

    fn end(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            let _ = writeln!(terminal);
        }
    }
}

/// Input that tells how much of it was read.
struct Seen<'p, R, T> {
    inner: R,
    progress: &'p mut Progress<T>,
}

impl<R: Read, T: Write> Read for Seen<'_, R, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.more(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str) -> Result<Transforms, String> {
        let file = config::parse(text, []).map_err(|error| error.to_string())?;
        transforms(&file).map_err(|error| error.key)
    }

    #[test]
    fn p04_a_bad_pipeline_is_refused_by_the_name_of_its_key() {
        for (text, key) in [
            ("[transforms.a]\nsteps = []", "transforms.a.steps"),
            ("[transforms.\"a b\"]\nsteps = [\"redact\"]", "transforms.a b"),
            ("[transforms.a]\nsteps = [\"redact\"]\nclients = [\"x\"]", "transforms.a.clients"),
            ("[transforms.a]\nsteps = [\"redact\"]\nroutes = [\"x\"]", "transforms.a.routes"),
            (
                "[transforms.a]\nsteps = [\"redact\"]\n[transforms.a.redact.patterns]\nx = \"(\"",
                "transforms.a.redact.patterns.x",
            ),
        ] {
            assert_eq!(configured(text).err().as_deref(), Some(key), "{text}");
        }
        assert!(configured("[transforms.a]\nsteps = [\"redact\"]").is_ok());
    }

    #[test]
    fn p04_a_moderator_that_nobody_serves_is_refused_by_its_key() {
        let mut settings = Settings::new(chimera_gateway::Models::default());
        settings.transforms = configured(
            "[transforms.a]\nsteps = [\"guard\"]\n[transforms.a.guard.moderation]\nmodel = \"nobody\"",
        )
        .unwrap();
        let error = check_moderators(&settings).unwrap_err();
        assert_eq!(error.key, "transforms.a.guard.moderation.model");
    }

    #[test]
    fn templates_and_schemas_may_stand_in_files() {
        let directory = std::env::temp_dir().join(format!("chimera-transform-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("reply.j2");
        std::fs::write(&path, "Be kind to {{ name }}.").unwrap();
        let prompts = |file: &str| {
            format!(
                "[transforms.a]\nsteps = [\"template\"]\n[[transforms.a.template.prompts]]\nid = \"reply\"\n\
                 system = {{ file = \"{file}\" }}\nvariables = {{ name = \"string\" }}"
            )
        };
        let read = configured(&prompts(&path.display().to_string())).unwrap();
        let body = br#"{"prompt":{"id":"reply","variables":{"name":"Ada"}}}"#;
        let done = read.get("a").unwrap().run_body(body, &Seed::random()).unwrap();
        assert!(done.text.unwrap().contains("Be kind to Ada."));
        std::fs::remove_dir_all(&directory).unwrap();
        let gone = configured(&prompts(&path.display().to_string()));
        assert_eq!(gone.err().as_deref(), Some("transforms.a.template.prompts[0].system"));
    }

    #[test]
    fn files_are_told_of_by_a_bar() {
        let mut progress = Progress::new(1000, Some(Vec::new()));
        let mut seen = Seen { inner: &[b'x'; 1000][..], progress: &mut progress };
        while seen.read(&mut [0; 250]).unwrap() > 0 {}
        progress.end();
        let told = String::from_utf8(progress.terminal.unwrap()).unwrap();
        let bars: Vec<_> = told.trim_end().split('\r').skip(1).collect();
        assert_eq!(bars.len(), 4, "one for each step of it: {told}");
        assert_eq!(bars[1], format!("[{:<25}]  50 %", "#".repeat(12)));
        assert_eq!(bars[3], format!("[{}] 100 %", "#".repeat(25)));
        assert!(Progress::new(0, Some(Vec::new())).terminal.is_none(), "none for nothing");
    }

    #[test]
    fn text_and_lines_go_through() {
        let file = config::parse("", []).unwrap();
        let pipeline = pipeline(&file, None).unwrap();
        let pool = WorkerPool::new(pool(&file).unwrap());
        let mut out = Vec::new();
        over(&pipeline, &pool, false, &b"mail ada@example.com\n"[..], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("mail [EMAIL_1_") && text.ends_with("]\n"), "{text}");

        let input: String = (0..50).map(|n| format!("{{\"text\":\"{n} ada@example.com\"}}\n")).collect();
        let mut out = Vec::new();
        over(&pipeline, &pool, true, format!("{input}nonsense\n").as_bytes(), &mut out).unwrap();
        let lines: Vec<serde_json::Value> =
            String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 51);
        for (index, line) in lines.iter().enumerate() {
            assert_eq!(line["index"], index);
            assert_eq!(line["error"].is_object(), index == 50, "{line}");
        }
    }
}
