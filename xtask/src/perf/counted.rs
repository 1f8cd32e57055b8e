//! Instructions and allocations of the hot operations: `chimera-gauge` under valgrind.
//!
//! Cachegrind counts every instruction that is executed, whatever else the machine does. Two runs of
//! different length are subtracted, so that starting up is not counted. What is left to chance is the seeds
//! of hash tables, some tenths of a percent.

use std::{error::Error, path::Path, process::Command};

use serde_json::Value;

use super::report::Row;

/// Runs of the shorter and of the longer count.
const COUNTS: [u64; 2] = [200, 1_200];

/// Two rows for each operation.
pub(super) fn rows(gauge: &Path) -> Result<Vec<Row>, Box<dyn Error>> {
    if !Command::new("valgrind").arg("--version").output().is_ok_and(|out| out.status.success()) {
        return Err(
            "valgrind counts the instructions and is not here (Debian: apt-get install valgrind)".into()
        );
    }
    let list = Command::new(gauge).arg("list").output()?;
    let mut rows = Vec::new();
    for operation in String::from_utf8(list.stdout)?.lines() {
        eprintln!("counting {operation} …");
        let runs = [instructions(gauge, operation, COUNTS[0])?, instructions(gauge, operation, COUNTS[1])?];
        let each = runs[1].saturating_sub(runs[0]) as f64 / (COUNTS[1] - COUNTS[0]) as f64;
        let detail = format!("{} and {} operations under cachegrind", COUNTS[0], COUNTS[1]);
        rows.push(Row::new(&format!("{operation}, instructions"), "instr", each, detail));
        let name = format!("{operation}, allocations");
        rows.push(Row::new(&name, "allocs", allocations(gauge, operation)?, String::new()));
    }
    Ok(rows)
}

fn instructions(gauge: &Path, operation: &str, count: u64) -> Result<u64, Box<dyn Error>> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]);
    let output = command.arg(gauge).args([operation, &count.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("chimera-gauge {operation} failed under valgrind: {text}").into());
    }
    counted(&text).ok_or_else(|| format!("valgrind told no count: {text}").into())
}

/// The number in `==1== I   refs:      12,345`.
fn counted(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("refs:"))?;
    let digits: String = line.rsplit(':').next()?.chars().filter(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn allocations(gauge: &Path, operation: &str) -> Result<f64, Box<dyn Error>> {
    let output = Command::new(gauge).args([operation, &COUNTS[1].to_string()]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let of = |key: &str| report.get(key).and_then(Value::as_f64).ok_or("the gauge printed no count");
    Ok(of("allocations")? / of("operations")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_valgrind_says() {
        assert_eq!(counted("==7== \n==7== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(counted("==7== I refs: 12\n"), Some(12));
        assert_eq!(counted("==7== nothing\n"), None);
    }
}
