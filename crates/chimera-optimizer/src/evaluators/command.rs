//! A program of the user's own that judges.

use std::{process::Stdio, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::short;
use crate::{
    error::TaskError,
    evaluator::{Case, Evaluator, Judgement},
    model::CallError,
};

/// What a command may print.
const LONGEST: u64 = 64 << 10;

/// Runs a program for each output. It is started with its arguments as they stand, never by way of a shell;
/// example and output come to it on standard input as one JSON object (`input`, `expected`, `output`), and
/// are on no command line. On standard output it prints a number from 0 to 1, then feedback on the lines
/// that follow. Dropping the evaluation, or the time-out, kills it.
#[derive(Debug, Clone)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

impl Command {
    /// A program and its arguments.
    pub fn new(argv: &[String], timeout: Duration) -> Result<Self, TaskError> {
        match argv {
            [program, arguments @ ..] if !program.is_empty() => {
                Ok(Self { program: program.clone(), arguments: arguments.to_vec(), timeout })
            }
            _ => Err(TaskError::new("argv", "must begin with a program")),
        }
    }

    async fn run(&self, stdin: String) -> Result<String, CallError> {
        let failed = |why: std::io::Error| CallError::unusable(format!("{}: {why}", self.program));
        let mut child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let (mut to, from) = (child.stdin.take(), child.stdout.take());
        let mut text = Vec::new();
        let feed = async {
            if let Some(to) = &mut to {
                // A program that does not want its input may close it.
                let _ = to.write_all(stdin.as_bytes()).await;
            }
            drop(to);
        };
        let read = async {
            match from {
                Some(from) => from.take(LONGEST).read_to_end(&mut text).await.map(drop),
                None => Ok(()),
            }
        };
        let ((), read) = tokio::join!(feed, read);
        read.map_err(failed)?;
        let status = child.wait().await.map_err(failed)?;
        if !status.success() {
            return Err(CallError::transient(format!("{}: {status}", self.program)));
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

impl Evaluator for Command {
    async fn evaluate<'a>(&'a self, case: Case<'a>) -> Result<Judgement, CallError> {
        let stdin = serde_json::json!({
            "input": case.example.input_text(),
            "expected": case.example.expected(),
            "output": case.output,
        });
        let printed =
            tokio::time::timeout(self.timeout, self.run(stdin.to_string())).await.map_err(|_| {
                CallError::transient(format!("{}: took longer than {:?}", self.program, self.timeout))
            })??;
        let (first, rest) = printed.split_once('\n').unwrap_or((&printed, ""));
        match first.trim().parse::<f64>() {
            Ok(score) if (0.0..=1.0).contains(&score) => Ok(Judgement::new(score, rest.trim())),
            _ => {
                let why = format!("{}: printed no number from 0 to 1, but `{}`", self.program, short(first));
                Err(CallError::unusable(why))
            }
        }
    }

    fn version(&self) -> String {
        format!("command {:?} {:?}", self.program, self.arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Example;

    async fn judge(argv: &[&str], output: &str) -> Result<Judgement, CallError> {
        let argv: Vec<String> = argv.iter().map(|part| (*part).to_owned()).collect();
        let command = Command::new(&argv, Duration::from_secs(20)).unwrap();
        let example = Example::new("1", "in", "out");
        command.evaluate(Case { example: &example, output }).await
    }

    #[tokio::test]
    async fn it_reads_standard_input_and_goes_through_no_shell() {
        let good = judge(&["grep", "-c", "; echo 0 \\$(id)"], "; echo 0 $(id)").await;
        assert_eq!(good.unwrap().score, 1.0);
        let printed = judge(&["printf", "0.5\\nToo long: %s", "$HOME"], "x").await.unwrap();
        assert_eq!((printed.score, &*printed.feedback), (0.5, "Too long: $HOME"));
    }

    #[tokio::test]
    async fn what_goes_wrong_is_said() {
        let missing = judge(&["/no/such/program"], "x").await.unwrap_err();
        assert!(missing.message.starts_with("/no/such/program: "), "{missing}");
        let words = judge(&["echo", "good"], "x").await.unwrap_err();
        assert_eq!(words.message, "echo: printed no number from 0 to 1, but `good`");
        assert!(judge(&["false"], "x").await.unwrap_err().message.starts_with("false: exit status"));
        assert!(Command::new(&[], Duration::from_secs(1)).is_err());
    }

    #[tokio::test]
    async fn a_slow_one_is_killed() {
        let command = Command::new(&["sleep".into(), "600".into()], Duration::from_millis(20)).unwrap();
        let example = Example::new("1", "in", "out");
        let late = command.evaluate(Case { example: &example, output: "x" }).await.unwrap_err();
        assert_eq!(late.message, "sleep: took longer than 20ms");
    }
}
