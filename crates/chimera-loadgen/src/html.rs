//! A report as one HTML file: no script, nothing fetched, it can be sent by mail.

use std::fmt::Write;

use crate::{
    plot::{Line, Plot},
    report::Report,
    timeline::Row,
    units::{show_bytes, show_seconds},
    watch::Sample,
};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:820px;margin:2em auto;padding:0 1em;\
color:#1b1f24;background:#fff}svg{width:100%;margin:1em 0}svg text{font-size:12px;fill:#57606a}\
svg .t{font-size:14px;font-weight:600;fill:#1b1f24}svg .y{text-anchor:end}svg .x{text-anchor:middle}\
svg .g{stroke:#e5e7eb;fill:none}svg .l{fill:none;stroke-width:1.6}svg text[fill]{fill:revert-layer}\
pre{background:#f6f8fa;padding:1em;overflow-x:auto;font-size:13px}table{border-collapse:collapse}\
td,th{padding:.2em .8em;border-bottom:1px solid #e5e7eb;text-align:left}.bad{color:#c2255c;font-weight:600}";

impl Report {
    /// The report as one HTML file.
    pub fn html(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = self.page(&mut out);
        out
    }

    fn page(&self, out: &mut String) -> std::fmt::Result {
        let name = escape(&self.scenario);
        write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{name}</title>\
             <style>{STYLE}</style>\n<h1>{name}</h1>\n"
        )?;
        self.verdict_table(out)?;
        writeln!(out, "<pre>{}</pre>", escape(&self.summary()))?;
        for plot in self.plots() {
            out.push_str(&plot.svg());
        }
        self.provenance_table(out)?;
        out.push_str("</html>\n");
        Ok(())
    }

    fn verdict_table(&self, out: &mut String) -> std::fmt::Result {
        if let Some(why) = &self.refused {
            writeln!(out, "<p class=\"bad\">This result does not count: {}</p>", escape(why))?;
        }
        out.push_str("<table><tr><th>threshold<th>was<th>\n");
        for verdict in &self.verdicts {
            let (class, word) = if verdict.held { ("", "held") } else { ("bad", "broken") };
            let (text, shown) = (escape(&verdict.threshold), escape(&verdict.shown));
            writeln!(out, "<tr><td>{text}<td>{shown}<td class=\"{class}\">{word}")?;
        }
        out.push_str("</table>\n");
        Ok(())
    }

    fn plots(&self) -> Vec<Plot> {
        let over_time = |name, what: fn(&Row) -> Option<f64>| Line {
            name,
            points: self.timeline.iter().filter_map(|row| Some((row.at, what(row)?))).collect(),
        };
        let mut plots = vec![
            Plot {
                title: "Latency over time",
                x: ("seconds", plain),
                y: ("", show_seconds),
                lines: vec![
                    over_time("p50", |row| row.p50),
                    over_time("p95", |row| row.p95),
                    over_time("p99", |row| row.p99),
                ],
            },
            Plot {
                title: "Latency by percentile",
                x: ("percentile", percentile),
                y: ("", show_seconds),
                lines: vec![Line { name: "latency", points: self.curve_points() }],
            },
            Plot {
                title: "Offered load and throughput over time",
                x: ("seconds", plain),
                y: ("requests/s", plain),
                lines: vec![
                    over_time("offered", |row| Some(row.offered)),
                    over_time("answered", |row| Some(row.throughput)),
                ],
            },
        ];
        if !self.steps.is_empty() {
            plots.push(self.against_load());
        }
        if !self.samples.is_empty() {
            plots.extend(self.watched());
        }
        plots
    }

    /// Each further nine is as wide as the one before.
    fn curve_points(&self) -> Vec<(f64, f64)> {
        let last = self.curve.iter().map(|[at, _]| *at).filter(|at| *at < 100.0).fold(0.0, f64::max);
        let all = self.curve.iter();
        all.map(|[at, value]| (nines(if *at < 100.0 { *at } else { 100.0 - (100.0 - last) / 2.0 }), *value))
            .collect()
    }

    fn against_load(&self) -> Plot {
        let line = |name, what: fn(f64, f64) -> f64| Line {
            name,
            points: self
                .steps
                .iter()
                .map(|step| (step.rate, what(step.rate, step.numbers.throughput)))
                .collect(),
        };
        Plot {
            title: "Throughput against offered load",
            x: ("offered requests/s", plain),
            y: ("requests/s", plain),
            lines: vec![line("offered", |rate, _| rate), line("answered", |_, throughput| throughput)],
        }
    }

    fn watched(&self) -> [Plot; 2] {
        let line = |name, what: fn(&Sample) -> f64| Line {
            name,
            points: self.samples.iter().map(|sample| (sample.at, what(sample))).collect(),
        };
        [
            Plot {
                title: "Memory",
                x: ("seconds", plain),
                y: ("", show_bytes),
                lines: vec![line("resident", |sample| sample.memory)],
            },
            Plot {
                title: "Open files and threads",
                x: ("seconds", plain),
                y: ("", plain),
                lines: vec![line("files", |sample| sample.fds), line("threads", |sample| sample.threads)],
            },
        ]
    }

    fn provenance_table(&self, out: &mut String) -> std::fmt::Result {
        let provenance = &self.provenance;
        let row = |out: &mut String, name: &str, value: &str| {
            writeln!(out, "<tr><td>{}<td>{}", escape(name), escape(value))
        };
        out.push_str("<h2>Where this comes from</h2>\n<table>\n");
        row(out, "command", &provenance.command)?;
        row(out, "commit", provenance.commit.as_deref().unwrap_or("not known"))?;
        for (name, value) in provenance.machine.iter().chain(&provenance.versions) {
            row(out, name, value)?;
        }
        out.push_str("</table>\n");
        Ok(())
    }
}

fn nines(percentile: f64) -> f64 {
    -((100.0 - percentile) / 100.0).log10()
}

fn percentile(nines: f64) -> String {
    let percentile = 100.0 - 100.0 * 10_f64.powf(-nines);
    format!("{percentile:.4}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn plain(value: f64) -> String {
    if value.fract().abs() < 1e-6 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_targets_say_is_text_not_markup() {
        assert_eq!(escape("<script>\"&"), "&lt;script&gt;&quot;&amp;");
    }

    #[test]
    fn nines_are_read_as_percentiles() {
        assert_eq!([0.0, 1.0, 2.0, 3.0].map(percentile), ["0", "90", "99", "99.9"]);
    }
}
