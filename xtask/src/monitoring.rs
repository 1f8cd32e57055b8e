//! The rules and dashboards of monitoring/: do they hold, and were they seen to work?
//!
//! `cargo xtask test` checks what can be checked at rest: promtool's own tests, names of metrics, anchors of
//! runbooks. `cargo xtask monitoring` puts a real Prometheus beside a gateway under load, asks it for every
//! expression, and injects faults with shortened durations until alerts have fired and cleared.

mod live;
mod prometheus;

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    debian::{self, quiet},
    process::{Outcome, output, root},
};

pub(crate) use live::run;

/// Whether Prometheus and its promtool are here, installed from Debian where that is possible.
pub(crate) fn ensure() -> bool {
    let both = || (quiet("promtool", &["--version"]) && quiet("prometheus", &["--version"])).then_some(());
    debian::ensure("prometheus", both).is_some()
}

/// Everything that can be checked at rest.
pub(crate) fn at_rest() -> Outcome<String> {
    let known = documented_metrics()?;
    let mut wrong = Vec::new();
    let mut expressions = expressions()?;
    expressions.extend(queries("docs/PERFORMANCE_REVIEW_CHECKLIST.md")?);
    expressions.extend(queries("docs/PERFORMANCE_OPTIMIZATION_GUIDE.md")?);
    for (place, expression) in &expressions {
        for name in metric_names(expression) {
            if !known.contains(&name) {
                wrong.push(format!("{place}: there is no metric {name}"));
            }
        }
    }
    wrong.extend(missing_runbooks()?);
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    if !ensure() {
        return Ok("names passed, promtool's tests SKIPPED: apt-get install prometheus".to_owned());
    }
    let rules = root().join("monitoring/rules");
    output(Command::new("promtool").current_dir(&rules).args(["check", "rules", "chimera-alerts.yml"]))?;
    output(Command::new("promtool").current_dir(&rules).args(["test", "rules", "chimera-alerts-test.yml"]))?;
    output(Command::new("promtool").current_dir(rules.join("..")).args([
        "check",
        "config",
        "prometheus.yml",
    ]))?;
    Ok(format!("{} expressions, rules and their tests passed", expressions.len()))
}

/// Names of metrics in docs/metrics.md, with what histograms add to theirs.
fn documented_metrics() -> Outcome<BTreeSet<String>> {
    let page = read("docs/metrics.md")?;
    let mut known = BTreeSet::from(["up".to_owned()]);
    for line in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let Some((name, rest)) = line.split_once("` | ") else { continue };
        known.insert(name.to_owned());
        if rest.starts_with("histogram") {
            known.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
    }
    Ok(known)
}

fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}"))
}

/// What stands between backticks in a page: queries, and names that may be none.
fn queries(page: &str) -> Outcome<Vec<(String, String)>> {
    let text = read(page)?;
    Ok(text.split('`').skip(1).step_by(2).map(|span| (page.to_owned(), span.to_owned())).collect())
}

/// Metrics that an expression reads; what the rules themselves record is left out.
fn metric_names(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let names = expression.split(|c| !word(c)).filter(|name| {
        *name == "up"
            || ((name.starts_with("chimera_") || name.starts_with("process_")) && !name.contains(':'))
    });
    names.map(str::to_owned).collect()
}

/// Every expression of the rules and of the dashboards, with its place.
fn expressions() -> Outcome<Vec<(String, String)>> {
    let mut all = rules()?.into_iter().map(|rule| (rule.name, rule.expression)).collect::<Vec<_>>();
    for path in dashboards()? {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let board: Value =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let title = board.get("title").and_then(Value::as_str).unwrap_or("?").to_owned();
        for panel in board.get("panels").and_then(Value::as_array).into_iter().flatten() {
            let name = panel.get("title").and_then(Value::as_str).unwrap_or("?");
            for target in panel.get("targets").and_then(Value::as_array).into_iter().flatten() {
                let expression = target.get("expr").and_then(Value::as_str).unwrap_or_default();
                all.push((format!("{title}, {name}"), expression.to_owned()));
            }
        }
    }
    Ok(all)
}

fn dashboards() -> Outcome<Vec<PathBuf>> {
    let folder = root().join("monitoring/grafana/dashboards");
    let entries = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

/// One rule of the file.
struct Rule {
    name: String,
    expression: String,
    /// Where an alert says what to do; a recording has none.
    runbook: Option<String>,
}

/// The rules, read line by line: promtool has checked that they are YAML, and they are written in one style.
fn rules() -> Outcome<Vec<Rule>> {
    let text = read("monitoring/rules/chimera-alerts.yml")?;
    let mut rules: Vec<Rule> = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix("- alert: ").or(trimmed.strip_prefix("- record: ")) {
            rules.push(Rule { name: name.to_owned(), expression: String::new(), runbook: None });
            in_block = false;
        }
        let Some(rule) = rules.last_mut() else { continue };
        if let Some(expression) = trimmed.strip_prefix("expr: ") {
            in_block = expression == "|";
            if !in_block {
                rule.expression = expression.to_owned();
            }
        } else if let Some(runbook) = trimmed.strip_prefix("runbook_url: ") {
            rule.runbook = Some(runbook.to_owned());
        } else if in_block && line.starts_with("          ") {
            rule.expression.push_str(trimmed);
            rule.expression.push(' ');
        } else {
            in_block = false;
        }
    }
    match rules.iter().find(|rule| rule.expression.is_empty()) {
        Some(rule) => Err(format!("the rule {} has no expression that can be read", rule.name)),
        None => Ok(rules),
    }
}

/// Alerts that lead nowhere.
fn missing_runbooks() -> Outcome<Vec<String>> {
    let page = read("docs/operating.md")?;
    let headings: BTreeSet<_> =
        page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_ascii_lowercase).collect();
    let leads = |runbook: &str| {
        runbook.strip_prefix("docs/operating.md#").is_some_and(|anchor| headings.contains(anchor))
    };
    let alerts = rules()?.into_iter().filter(|rule| !rule.name.contains(':'));
    Ok(alerts
        .filter(|rule| !rule.runbook.as_deref().is_some_and(leads))
        .map(|rule| format!("{} leads to no heading of docs/operating.md", rule.name))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found_in_expressions() {
        let names =
            metric_names("sum by (le) (rate(chimera_a_bucket{b=\"chimera\"}[5m])) / chimera:x:y > up");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["chimera_a_bucket", "up"]);
    }

    #[test]
    fn every_rule_is_read() {
        let rules = rules().unwrap();
        assert!(rules.len() > 20 && rules.iter().all(|rule| rule.expression.len() > 5));
        assert!(rules.iter().all(|rule| rule.name.contains(':') == rule.runbook.is_none()));
    }
}
