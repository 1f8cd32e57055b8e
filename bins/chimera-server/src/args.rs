//! The command line.

use std::{ffi::OsString, path::PathBuf};

use lexopt::prelude::*;

use crate::{optimize, transform};

/// What the binary is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Serve(Options),
    Check(Options),
    /// Replays a trace against the configured cache.
    Simulate(Options, Trace),
    Transform(transform::Options),
    Optimize(optimize::Options),
    /// Prints one page of the generated documentation: `metrics`.
    Docs(String),
    Help,
    Version,
}

/// Options of `serve` and `check`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) config: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) admin_listen: Option<String>,
}

/// What `cache simulate` is told besides the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    pub(crate) file: PathBuf,
    pub(crate) far: Option<String>,
    pub(crate) entry: Option<String>,
    pub(crate) blocks: bool,
}

pub(crate) const HELP: &str = "\
chimera: an LLM gateway

usage: chimera [serve] [--config FILE] [--listen ADDR] [--admin-listen ADDR]
       chimera check [--config FILE]      validate, print the resolved configuration, secrets redacted
       chimera cache simulate TRACE [--config FILE] [--far SIZE] [--entry SIZE] [--blocks]
                                          hit rates of a trace of keys, by the size of the memory cache
       chimera transform [--config FILE] [--pipeline NAME] [--lines] [FILE...]
                                          text from the files or the standard input through a pipeline;
                                          --lines: each line is an item in JSON, and a result
       chimera optimize TASK.toml [--config FILE] [--journal FILE] [--report FILE] [--json]
                                          a better prompt for a task; run again, it goes on where it was
       chimera docs metrics               print docs/metrics.md
       chimera --help | --version

Without a file and without a provider key in the environment it starts on the simulated provider.
OPENAI_API_KEY, ANTHROPIC_API_KEY and GEMINI_API_KEY (or GOOGLE_API_KEY) switch a provider on;
CHIMERA__SECTION__KEY overrides any configuration key.
";

pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut command: Option<String> = None;
    let mut words: Vec<OsString> = Vec::new();
    let mut trace = Trace::default();
    let mut options = Options::default();
    let mut transform = transform::Options::default();
    let mut optimize = optimize::Options::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Long("config") | Short('c') => options.config = Some(parser.value()?.into()),
            Long("listen") => options.listen = Some(parser.value()?.string()?),
            Long("admin-listen") => options.admin_listen = Some(parser.value()?.string()?),
            Long("far") => trace.far = Some(parser.value()?.string()?),
            Long("entry") => trace.entry = Some(parser.value()?.string()?),
            Long("blocks") => trace.blocks = true,
            Long("help") | Short('h') => return Ok(Command::Help),
            Long("version") | Short('V') => return Ok(Command::Version),
            Value(word) if command.is_none() => command = Some(word.string()?),
            Value(word) if command.as_deref() == Some("docs") && words.is_empty() => words.push(word),
            Value(word) if command.as_deref() == Some("cache") && words.len() < 2 => words.push(word),
            Value(file) if command.as_deref() == Some("transform") => transform.files.push(file.into()),
            Value(task) if command.as_deref() == Some("optimize") && optimize.task.as_os_str().is_empty() => {
                optimize.task = task.into();
            }
            Long("journal") => optimize.journal = Some(parser.value()?.into()),
            Long("report") => optimize.report = Some(parser.value()?.into()),
            Long("json") => optimize.json = true,
            Long("pipeline") => transform.pipeline = Some(parser.value()?.string()?),
            Long("lines") => transform.lines = true,
            other => return Err(other.unexpected()),
        }
    }
    if command.as_deref() == Some("transform") {
        return Ok(Command::Transform(transform::Options { config: options.config, ..transform }));
    }
    if transform != transform::Options::default() {
        return Err("--pipeline and --lines belong to transform".into());
    }
    if command.as_deref() == Some("optimize") {
        return match optimize.task.as_os_str().is_empty() {
            true => Err("optimize wants a task: TASK.toml".into()),
            false => Ok(Command::Optimize(optimize::Options { config: options.config, ..optimize })),
        };
    }
    if optimize != optimize::Options::default() {
        return Err("--journal, --report and --json belong to optimize".into());
    }
    match command.as_deref() {
        None | Some("serve") => Ok(Command::Serve(options)),
        Some("check") => Ok(Command::Check(options)),
        Some("docs") => {
            Ok(Command::Docs(words.pop().ok_or("docs wants a page: metrics")?.to_string_lossy().into_owned()))
        }
        Some("cache") => match <[OsString; 2]>::try_from(words) {
            Ok([what, file]) if what == "simulate" => {
                Ok(Command::Simulate(options, Trace { file: file.into(), ..trace }))
            }
            _ => Err("cache wants: simulate TRACE".into()),
        },
        Some(other) => Err(format!("there is no command `{other}`; try --help").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Command, lexopt::Error> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn serve_is_the_default_command() {
        assert_eq!(parsed(&[]).unwrap(), Command::Serve(Options::default()));
        let options = Options { listen: Some("127.0.0.1:0".into()), ..Options::default() };
        assert_eq!(parsed(&["serve", "--listen", "127.0.0.1:0"]).unwrap(), Command::Serve(options));
    }

    #[test]
    fn transform_takes_files_and_a_pipeline() {
        let args = ["transform", "--pipeline", "p", "--lines", "a.txt", "b.txt"];
        let options = transform::Options {
            pipeline: Some("p".into()),
            lines: true,
            files: vec!["a.txt".into(), "b.txt".into()],
            config: None,
        };
        assert_eq!(parsed(&args).unwrap(), Command::Transform(options));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(parsed(&["fly"]).is_err());
        assert!(parsed(&["--fly"]).is_err());
        assert!(parsed(&["serve", "again"]).is_err());
        assert!(parsed(&["docs"]).is_err());
        assert!(parsed(&["serve", "--lines"]).is_err());
        assert!(parsed(&["serve", "--json"]).is_err());
        assert!(parsed(&["optimize"]).is_err());
        assert!(parsed(&["optimize", "a.toml", "b.toml"]).is_err());
        assert!(parsed(&["cache", "simulate"]).is_err());
        assert!(parsed(&["cache", "forget", "x"]).is_err());
    }

    #[test]
    fn a_trace_is_simulated() {
        let trace = Trace { file: "t.jsonl".into(), far: Some("1GiB".into()), entry: None, blocks: true };
        let command = parsed(&["cache", "simulate", "t.jsonl", "--far", "1GiB", "--blocks"]);
        assert_eq!(command.unwrap(), Command::Simulate(Options::default(), trace));
    }
}
