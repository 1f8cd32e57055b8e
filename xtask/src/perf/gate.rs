//! `cargo xtask perf check`: is anything worse than when the baseline was taken?
//!
//! What is compared does not depend on the machine's mood: instructions and allocations of the hot operations
//! ([`super::counted`]), and CPU time and memory as measured beside the bare server and proxy of the same run.
//! Noise only ever adds to those, so what looks worse is measured again before it counts.

use std::{collections::BTreeMap, error::Error, fmt::Write, fs, path::Path, process::Command};

use serde_json::{Map, Value, json};

use super::{Bench, MEASUREMENTS, counted, report::Row};
use crate::process::root;

/// Where each baseline that was taken is kept, the last one in force.
const HISTORY: &str = "perf/history.json";

/// Measurements whose rows are compared; the others are bound by their targets alone.
const COMPARED: [&str; 5] = ["hit", "miss", "paced", "burst", "streams"];

/// How often a row that looks worse is measured again.
const SECOND_LOOKS: usize = 2;

/// How much worse a row may be: what ten runs without a change stay within.
fn tolerance(unit: &str) -> f64 {
    match unit {
        // Seeds of hash tables.
        "instr" => 0.03,
        // A buffer that grows at another time.
        "allocs" => 0.02,
        // The machine beneath: its caches and its clock.
        "×" => 0.12,
        _ => 0.10,
    }
}

/// What was measured, by the row's name.
type Values = BTreeMap<String, (f64, &'static str)>;

/// Measures, compares, prints, and fails when something is worse.
pub(super) fn check(bench: &Bench, gauge: &Path, counted_only: bool) -> Result<(), Box<dyn Error>> {
    let history = history()?;
    let baseline = history.last().and_then(|entry| entry.get("rows")).and_then(Value::as_object);
    let baseline =
        baseline.ok_or(format!("{HISTORY} holds no baseline; cargo xtask perf --update-baseline"))?;
    let mut now = values(counted::rows(gauge)?);
    if !counted_only {
        for name in COMPARED {
            now.extend(measured(bench, name, baseline)?);
        }
    }
    let (table, worse) = compare(baseline, &now);
    println!("{table}");
    if worse.is_empty() {
        Ok(())
    } else {
        Err(format!("worse than the baseline: {}", worse.join(", ")).into())
    }
}

/// Measures everything and adds it to the history: the baseline from now on.
pub(super) fn update(bench: &Bench, gauge: &Path) -> Result<(), Box<dyn Error>> {
    let mut history = history()?;
    let mut now = values(counted::rows(gauge)?);
    for name in COMPARED {
        now.extend(measured(bench, name, &Map::new())?);
    }
    let rows: Map<_, _> = now
        .iter()
        .map(|(name, (value, unit))| (name.clone(), json!({ "value": value, "unit": unit })))
        .collect();
    history.push(json!({ "commit": git(&["rev-parse", "--short", "HEAD"])?, "date": git(&["log", "-1", "--format=%cs"])?, "rows": rows }));
    let path = root().join(HISTORY);
    fs::create_dir_all(path.parent().unwrap_or(&path))?;
    fs::write(&path, format!("{:#}\n", Value::from(history)))?;
    println!("wrote {HISTORY}; cargo xtask docs writes the page");
    Ok(())
}

fn history() -> Result<Vec<Value>, Box<dyn Error>> {
    match fs::read(root().join(HISTORY)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn git(args: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new("git").current_dir(root()).args(args).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn values(rows: Vec<Row>) -> Values {
    rows.into_iter().filter_map(|row| Some((row.name, (row.value?, row.unit)))).collect()
}

/// One measurement; what looks worse than the baseline gets another chance, and the best counts.
fn measured(bench: &Bench, name: &str, baseline: &Map<String, Value>) -> Result<Values, Box<dyn Error>> {
    let (_, measure) = MEASUREMENTS.iter().find(|(known, _)| *known == name).ok_or("no such measurement")?;
    eprintln!("measuring {name} …");
    let mut best = values(measure(bench)?);
    for _ in 0..SECOND_LOOKS {
        if compare(baseline, &best).1.is_empty() {
            break;
        }
        eprintln!("measuring {name} again …");
        for (row, (value, _)) in values(measure(bench)?) {
            if let Some((least, _)) = best.get_mut(&row) {
                *least = least.min(value);
            }
        }
    }
    Ok(best)
}

/// The table, and the names of the rows that are worse.
fn compare(baseline: &Map<String, Value>, now: &Values) -> (String, Vec<String>) {
    let mut table =
        String::from("\n| row | baseline | now | change | may grow | verdict |\n|---|---|---|---|---|---|\n");
    let mut worse = Vec::new();
    for (name, (value, unit)) in now {
        let before = baseline.get(name).and_then(|row| row.get("value")).and_then(Value::as_f64);
        let Some(before) = before else {
            let _ = writeln!(table, "| {name} | – | {value:.2} {unit} | – | – | new |");
            continue;
        };
        // Half a unit for counts near nothing, of which a share would be nothing.
        let most =
            (before * (1.0 + tolerance(unit))).max(if *unit == "allocs" { before + 0.5 } else { before });
        let is_worse = *value > most;
        if is_worse {
            worse.push(name.clone());
        }
        let change = if before > 0.0 { (value / before - 1.0) * 100.0 } else { 0.0 };
        let (verdict, may) = (if is_worse { "WORSE" } else { "ok" }, tolerance(unit) * 100.0);
        let _ = writeln!(
            table,
            "| {name} | {before:.2} {unit} | {value:.2} {unit} | {change:+.1} % | {may:.0} % | {verdict} |"
        );
    }
    (table, worse)
}

/// The page of what was measured, by commit, newest first.
pub(crate) fn page() -> Result<String, String> {
    let history = history().map_err(|error| format!("{HISTORY}: {error}"))?;
    let shown: Vec<_> = history.iter().rev().take(12).collect();
    let mut page = String::from(
        "# Performance by commit\n\nWhat `cargo xtask perf --update-baseline` measured, newest first; `cargo xtask perf check` \
         compares with the newest and fails when something is worse. Instructions are counted by cachegrind and \
         allocations by the allocator, each per operation of `chimera-gauge`; `×` is CPU time per request against the \
         bare server or proxy of the same run; what each row means is in the [README](../README.md). What the gateway does for its callers, with and without \
         it, is in [the load tester's figures](performance-load.md). Generated \
         from `perf/history.json` by `cargo xtask docs`.\n\n| row |",
    );
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    for entry in &shown {
        let _ = write!(page, " {} `{}` |", text(entry, "date"), text(entry, "commit"));
    }
    let _ = write!(page, "\n|---|{}\n", "---|".repeat(shown.len()));
    let rows = |entry: &Value| entry.get("rows").and_then(Value::as_object).cloned().unwrap_or_default();
    let names = history.last().map(rows).unwrap_or_default();
    for name in names.keys() {
        let _ = write!(page, "| {name} |");
        for entry in &shown {
            let row = rows(entry).get(name).cloned().unwrap_or_default();
            match row.get("value").and_then(Value::as_f64) {
                Some(value) => _ = write!(page, " {value:.2} {} |", text(&row, "unit")),
                None => page.push_str(" – |"),
            }
        }
        page.push('\n');
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Map<String, Value> {
        let row = |value: f64| json!({ "value": value });
        Map::from_iter([("hit".to_owned(), row(1000.0)), ("none".to_owned(), row(0.0))])
    }

    fn now(name: &str, value: f64, unit: &'static str) -> Values {
        Values::from([(name.to_owned(), (value, unit))])
    }

    #[test]
    fn a_tenth_more_is_worse_and_what_chance_does_is_not() {
        let worse = |values: Values| compare(&baseline(), &values).1;
        assert_eq!(worse(now("hit", 1100.0, "instr")), ["hit"]);
        assert!(worse(now("hit", 1010.0, "instr")).is_empty());
        assert!(worse(now("hit", 900.0, "instr")).is_empty());
        assert_eq!(worse(now("none", 1.0, "allocs")), ["none"]);
        assert!(worse(now("none", 0.1, "allocs")).is_empty());
        assert!(worse(now("unheard of", 5.0, "instr")).is_empty());
    }
}
