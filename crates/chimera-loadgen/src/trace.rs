//! Recorded traffic: when requests came, how long their prompts and answers were, what they had in common.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    ScenarioError,
    prompt::{Blocks, Prompt},
    random::mix,
};

/// A trace, in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) rows: Vec<Row>,
    /// Block ids of all rows, one after the other.
    pub(crate) blocks: Vec<u32>,
}

/// One recorded request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub(crate) at: Duration,
    pub(crate) prompt: Prompt,
}

/// A line of JSON: of Mooncake's traces (`timestamp` in ms, `input_length`, `output_length`, `hash_ids`), or of
/// our own (`at` in seconds, `input_tokens`, `output_tokens`, `prompt`: equal numbers ask the same).
#[derive(Deserialize)]
struct Line {
    timestamp: Option<f64>,
    at: Option<f64>,
    #[serde(alias = "input_tokens")]
    input_length: u32,
    #[serde(alias = "output_tokens")]
    output_length: u32,
    #[serde(default)]
    hash_ids: Vec<u32>,
    prompt: Option<u64>,
}

/// No prompt is longer than this; a row that says so is wrong.
const LONGEST: u32 = 4_000_000;

impl Trace {
    /// Reads a file: a first line that begins with a brace is JSON, another is a CSV's head. `salt` keeps this
    /// run's prompts apart from those of another.
    pub(crate) fn read(path: &Path, salt: u64) -> Result<Self, ScenarioError> {
        let wrong = |why: String| ScenarioError::new("replay.trace", format!("{}: {why}", path.display()));
        let file = File::open(path).map_err(|error| wrong(error.kind().to_string()))?;
        let mut trace = Self::default();
        let mut csv = None;
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|error| wrong(error.to_string()))?;
            let at_line = |why: String| wrong(format!("line {}: {why}", number + 1));
            let line = line.trim_start_matches('\u{feff}').trim();
            if line.is_empty() {
                continue;
            }
            if number == 0 && !line.starts_with('{') {
                csv = Some(Columns::read(line).map_err(at_line)?);
            } else if let Some(columns) = &csv {
                let (at, input, output) = columns.row(line).map_err(at_line)?;
                trace.push(at, input, output, &[], mix(salt ^ number as u64)).map_err(at_line)?;
            } else {
                let read: Line = serde_json::from_str(line).map_err(|error| at_line(error.to_string()))?;
                let at = read.at.or(read.timestamp.map(|ms| ms / 1e3));
                let at = at.ok_or_else(|| at_line("it has neither timestamp nor at".into()))?;
                let own = read.prompt.map_or(number as u64, |prompt| !prompt);
                let own = if read.hash_ids.is_empty() { mix(salt ^ own) } else { salt };
                trace
                    .push(at, read.input_length, read.output_length, &read.hash_ids, own)
                    .map_err(at_line)?;
            }
        }
        if trace.rows.is_empty() {
            return Err(wrong("it holds no request".into()));
        }
        trace.rows.sort_by_key(|row| row.at);
        let first = trace.rows.first().map_or(Duration::ZERO, |row| row.at);
        trace.rows.iter_mut().for_each(|row| row.at -= first);
        Ok(trace)
    }

    fn push(&mut self, at: f64, input: u32, output: u32, ids: &[u32], number: u64) -> Result<(), String> {
        let at = Duration::try_from_secs_f64(at).map_err(|_| "its time is no time".to_owned())?;
        if input > LONGEST || output > LONGEST {
            return Err("its prompt or answer is longer than 4 million tokens".to_owned());
        }
        let blocks = if ids.is_empty() {
            Blocks::None
        } else {
            let from = u32::try_from(self.blocks.len()).map_err(|_| "too many blocks".to_owned())?;
            self.blocks.extend_from_slice(ids);
            let to = u32::try_from(self.blocks.len()).map_err(|_| "too many blocks".to_owned())?;
            Blocks::Of { from, to }
        };
        let prompt = Prompt { number, tokens: input.max(1), output: output.max(1), blocks };
        self.rows.push(Row { at, prompt });
        Ok(())
    }
}

/// Where Azure's traces have what: `TIMESTAMP,ContextTokens,GeneratedTokens`.
struct Columns {
    at: usize,
    input: usize,
    output: usize,
}

impl Columns {
    fn read(head: &str) -> Result<Self, String> {
        let names: HashMap<_, _> = head.split(',').enumerate().map(|(at, name)| (name.trim(), at)).collect();
        let find = |name: &str| names.get(name).copied().ok_or_else(|| format!("there is no column {name}"));
        Ok(Self { at: find("TIMESTAMP")?, input: find("ContextTokens")?, output: find("GeneratedTokens")? })
    }

    fn row(&self, line: &str) -> Result<(f64, u32, u32), String> {
        let cells: Vec<_> = line.split(',').map(str::trim).collect();
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        let number = |at: usize| {
            let text = cell(at);
            text.parse::<u32>().map_err(|_| format!("`{text}` is no number of tokens"))
        };
        let at = timestamp(cell(self.at)).ok_or_else(|| format!("`{}` is no time", cell(self.at)))?;
        Ok((at, number(self.input)?, number(self.output)?))
    }
}

/// Seconds of `2023-11-16 18:15:46.6805900`, counted from 2000.
fn timestamp(text: &str) -> Option<f64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.split('-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let time = time.trim_end_matches('Z').split('+').next()?;
    let mut time = time.split(':');
    let (hour, minute) = (time.next()?.parse::<f64>().ok()?, time.next()?.parse::<f64>().ok()?);
    let second: f64 = time.next()?.parse().ok()?;
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * (year - 2000) + (year - 2000).div_euclid(4) + (153 * month + 2) / 5 + day + 60;
    Some(days as f64 * 86_400.0 + hour * 3600.0 + minute * 60.0 + second)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(name: &str, text: &str) -> Result<Trace, ScenarioError> {
        let path = std::env::temp_dir().join(format!("chimera-loadgen-{name}-{}", std::process::id()));
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        let trace = Trace::read(&path, 1);
        std::fs::remove_file(path).unwrap();
        trace
    }

    #[test]
    fn a_mooncake_trace_keeps_times_lengths_and_blocks() {
        let text = "{\"timestamp\": 500, \"input_length\": 700, \"output_length\": 5, \"hash_ids\": [0, 1]}\n\
                    {\"timestamp\": 1500, \"input_length\": 600, \"output_length\": 6, \"hash_ids\": [0, 2]}\n";
        let trace = read("mooncake", text).unwrap();
        assert_eq!(trace.blocks, [0, 1, 0, 2]);
        let at: Vec<_> = trace.rows.iter().map(|row| row.at.as_millis()).collect();
        assert_eq!(at, [0, 1000]);
        assert_eq!((trace.rows[1].prompt.tokens, trace.rows[1].prompt.output), (600, 6));
        assert_eq!(trace.rows[1].prompt.blocks, Blocks::Of { from: 2, to: 4 });
    }

    #[test]
    fn an_azure_trace_keeps_times_across_midnight() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-30 23:59:59.5,10,1\n2023-12-01 00:00:01.0,20,2\n";
        let trace = read("azure", text).unwrap();
        assert_eq!(trace.rows[1].at, Duration::from_millis(1500));
        assert_ne!(trace.rows[0].prompt.number, trace.rows[1].prompt.number);
        let year = timestamp("2024-03-01 00:00:00").unwrap() - timestamp("2024-02-28 00:00:00").unwrap();
        assert_eq!(year, 2.0 * 86_400.0);
    }

    #[test]
    fn our_own_trace_repeats_what_it_numbers_alike() {
        let line = |at: f64, prompt: u64| {
            format!("{{\"at\": {at}, \"input_tokens\": 9, \"output_tokens\": 2, \"prompt\": {prompt}}}\n")
        };
        let trace = read("own", &[line(2.0, 7), line(1.0, 8), line(3.0, 7)].concat()).unwrap();
        let numbers: Vec<_> = trace.rows.iter().map(|row| row.prompt.number).collect();
        assert_eq!(numbers[1], numbers[2]);
        assert_ne!(numbers[0], numbers[1]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (name, text, why) in [
            ("json", "{\"timestamp\": 1}\n", "line 1"),
            ("head", "a,b\n", "TIMESTAMP"),
            ("cell", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,x,1\n", "line 2: `x`"),
            ("time", "TIMESTAMP,ContextTokens,GeneratedTokens\nnever,1,1\n", "`never`"),
            ("empty", "\n", "no request"),
        ] {
            let error = read(name, text).unwrap_err();
            assert_eq!(error.key(), "replay.trace");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    /// The public traces, where they lie beside the workspace; their own README says how many requests they hold.
    #[test]
    fn public_traces_are_read_whole() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folders = ["..", "../.."].map(|above| workspace.join(above).join("shared/traces"));
        let Some(folder) = folders.iter().find(|folder| folder.is_dir()) else {
            println!("the traces are not here: SKIPPED");
            return;
        };
        for (name, count) in [
            ("mooncake_conversation.jsonl", 12_031),
            ("azure_llm_2023_conv.csv", 19_366),
            ("azure_llm_2023_code.csv", 8_819),
        ] {
            let trace = Trace::read(&folder.join(name), 1).unwrap();
            assert_eq!(trace.rows.len(), count, "{name}");
            assert!(trace.rows.last().unwrap().at > Duration::from_secs(3000), "{name}");
            assert_eq!(trace.blocks.is_empty(), name.starts_with("azure"), "{name}");
        }
    }
}
