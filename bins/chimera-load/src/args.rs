//! The command line.

use std::{error::Error, ffi::OsString, time::Duration};

use chimera_loadgen::{Overrides, duration};
use lexopt::{Arg, Parser, ValueExt};

use crate::profiles;

/// What is to be done.
pub(crate) enum Command {
    Help,
    /// Prints a profile, to be copied.
    Show(String),
    /// Reads a scenario and says what is wrong with it.
    Check(Options),
    Run(Options),
}

/// How it is to be done.
#[derive(Default)]
pub(crate) struct Options {
    /// A profile's name or a file.
    pub(crate) scenario: String,
    pub(crate) overrides: Overrides,
    pub(crate) json: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) quiet: bool,
}

const HELP: &str = "\
chimera-load PROFILE|FILE.toml [OPTIONS]    load a target and say whether thresholds held
chimera-load replay TRACE [OPTIONS]         Mooncake JSONL, Azure CSV, or own JSONL
chimera-load show PROFILE                   print a profile, to copy and change
chimera-load check FILE.toml [OPTIONS]      read a scenario and name the key at fault

  --target URL        base URL (default of the profiles: http://127.0.0.1:8080)
  --remote            yes, that URL is not this machine
  --api-key-env NAME  environment variable that holds the key
  --model NAME        model of every request
  --rate R            requests a second of an open loop
  --connections N     most connections
  --workers N         threads that send
  --duration D        30s, 5m
  --warm-up D         sent before, and not counted
  --count N           most requests
  --speed X           replay so many times faster
  --pid PID           watch memory, files and threads of this process
  --metrics URL       or of the one with these process_* metrics
  --json FILE         the whole report
  --html FILE         the report with plots, one file
  --quiet             no view while it runs

Exit status: 0 all thresholds held, 1 one broke, 2 bad input, 3 the generator was too late for the result to
count. Ctrl-C ends the run; the report is of what was done.
";

pub(crate) fn help() -> String {
    format!("{HELP}\nProfiles: {}\n", profiles::names())
}

/// Reads the command line.
pub(crate) fn parse(args: impl IntoIterator<Item = impl Into<OsString>>) -> Result<Command, Box<dyn Error>> {
    let mut parser = Parser::from_args(args);
    let mut options = Options::default();
    let mut words = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Value(word) => words.push(word.string()?),
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long(name) => {
                let name = name.to_owned();
                set(&mut options, &name, &mut parser)?;
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match *words.as_slice() {
        [] | ["help"] => return Ok(Command::Help),
        ["show", profile] => return Ok(Command::Show(profile.to_owned())),
        ["check", file] => {
            options.scenario = file.to_owned();
            return Ok(Command::Check(options));
        }
        ["show" | "check"] => return Err("name the profile or file".into()),
        [scenario] => options.scenario = scenario.to_owned(),
        [scenario, trace] => {
            options.scenario = scenario.to_owned();
            options.overrides.trace = Some(trace.into());
        }
        _ => return Err("one profile or file at a time; see --help".into()),
    }
    Ok(Command::Run(options))
}

fn set(options: &mut Options, name: &str, parser: &mut Parser) -> Result<(), Box<dyn Error>> {
    let over = &mut options.overrides;
    match name {
        "target" => over.url = Some(parser.value()?.string()?),
        "remote" => over.remote = true,
        "api-key-env" => over.api_key_env = Some(parser.value()?.string()?),
        "model" => over.model = Some(parser.value()?.string()?),
        "rate" => over.rate = Some(parser.value()?.parse()?),
        "connections" => over.connections = Some(parser.value()?.parse()?),
        "workers" => over.workers = Some(parser.value()?.parse()?),
        "duration" => over.duration = Some(span(name, parser)?),
        "warm-up" => over.warm_up = Some(span(name, parser)?),
        "count" => over.count = Some(parser.value()?.parse()?),
        "speed" => over.speed = Some(parser.value()?.parse()?),
        "pid" => over.pid = Some(parser.value()?.parse()?),
        "metrics" => over.metrics = Some(parser.value()?.string()?),
        "json" => options.json = Some(parser.value()?.string()?),
        "html" => options.html = Some(parser.value()?.string()?),
        "quiet" => options.quiet = true,
        other => return Err(format!("unknown option `--{other}`").into()),
    }
    Ok(())
}

fn span(name: &str, parser: &mut Parser) -> Result<Duration, Box<dyn Error>> {
    let text = parser.value()?.string()?;
    duration(&text).ok_or_else(|| format!("--{name}: `{text}` is no duration such as 30s").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_read() {
        let Ok(Command::Run(options)) = parse(["replay", "t.csv", "--speed", "4", "--duration", "2m"]) else {
            panic!()
        };
        assert_eq!(options.scenario, "replay");
        assert_eq!(options.overrides.trace.unwrap().to_str(), Some("t.csv"));
        assert_eq!(options.overrides.duration, Some(Duration::from_secs(120)));
        assert!(matches!(parse(["show", "smoke"]), Ok(Command::Show(_))));
        assert!(matches!(parse([] as [&str; 0]), Ok(Command::Help)));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (args, why) in [
            (vec!["smoke", "--rate"], "--rate"),
            (vec!["smoke", "--duration", "5"], "--duration"),
            (vec!["smoke", "--fast"], "--fast"),
            (vec!["a", "b", "c"], "one profile"),
        ] {
            let Err(error) = parse(args) else { panic!("{why}") };
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
