//! Rows, the table and the JSON.

use std::{error::Error, fmt::Write};

use serde_json::{Value, json};

use super::process::Pins;

/// One measured value with its target.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: Option<f64>,
    /// At most this much; without one the row is only reported.
    pub(crate) target: Option<f64>,
    pub(crate) aim: Option<f64>,
    pub(crate) detail: String,
}

impl Row {
    pub(crate) fn new(name: &str, unit: &'static str, value: f64, detail: String) -> Self {
        Self { name: name.into(), unit, value: Some(value), target: None, aim: None, detail }
    }

    pub(crate) fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    pub(crate) fn aim(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    /// A measurement that could not be made.
    pub(crate) fn failed(name: &str, error: &dyn Error) -> Self {
        Self { name: name.into(), unit: "", value: None, target: None, aim: None, detail: error.to_string() }
    }

    pub(crate) fn is_missed(&self) -> bool {
        matches!(self.verdict(), "MISSED" | "FAILED")
    }

    fn verdict(&self) -> &'static str {
        match (self.value, self.target, self.aim) {
            (None, _, _) => "FAILED",
            (Some(_), None, _) => "reported",
            (Some(value), _, Some(aim)) if value <= aim => "aim met",
            (Some(value), Some(target), _) if value <= target => "met",
            _ => "MISSED",
        }
    }
}

/// Markdown, so that it can be pasted where results are kept.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("\n| row | value | target | aim | verdict | detail |\n|---|---|---|---|---|---|\n");
    let number = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.2}"));
    for row in rows {
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} {} | {} | {} | {} | {} |",
            row.name,
            number(row.value),
            row.unit,
            number(row.target),
            number(row.aim),
            row.verdict(),
            row.detail
        );
    }
    text
}

pub(crate) fn json(rows: &[Row], pins: &Pins) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({"name": row.name, "unit": row.unit, "value": row.value, "target": row.target,
                "aim": row.aim, "verdict": row.verdict(), "detail": row.detail})
        })
        .collect();
    json!({"pinned": pins.pinned, "rows": rows})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_follow_target_and_aim() {
        let row = |value| Row::new("a", "x", value, String::new()).target(1.4).aim(1.2);
        assert_eq!(row(1.1).verdict(), "aim met");
        assert_eq!(row(1.3).verdict(), "met");
        assert!(row(1.5).is_missed());
        assert!(!Row::new("a", "x", 9.0, String::new()).is_missed());
        assert!(Row::failed("a", &std::fmt::Error).is_missed());
    }
}
