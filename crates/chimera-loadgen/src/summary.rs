//! A report as text.

use std::fmt::Write;

use crate::{
    report::{Numbers, Percentiles, Report},
    units::{show_bytes, show_seconds},
};

impl Report {
    /// What people read when a run has ended.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        // Writing into a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let all = &self.overall;
        writeln!(out, "{} against {}, {} loop", self.scenario, self.target, self.shape)?;
        let ended = if self.interrupted { ", interrupted" } else { "" };
        writeln!(
            out,
            "{} good answers, {} failed, in {:.1} s{ended}: {:.1}/s, {:.1} tokens/s\n",
            all.ok, all.failed, self.seconds, all.throughput, all.tokens_per_second
        )?;
        table(out, "all", all)?;
        if self.mixes.len() > 1 {
            for (name, numbers) in &self.mixes {
                table(out, name, numbers)?;
            }
        }
        if let Some(rate) = all.hit_rate {
            let parts: Vec<_> = all.cache.iter().map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(out, "cache: {:.1} % hits ({})", 100.0 * rate, parts.join(", "))?;
        }
        for (class, error) in &all.errors {
            let first: String = error.first.chars().filter(|c| !c.is_control()).take(120).collect();
            writeln!(out, "error: {class}: {} ({first})", error.count)?;
        }
        self.stress(out)?;
        // Of less than a minute, growth per hour is noise sixty times over.
        if let Some(slopes) = self.slopes.filter(|_| self.seconds >= 60.0) {
            writeln!(
                out,
                "growth per hour: memory {}, files {:.1}, threads {:.1}",
                show_bytes(slopes.memory_per_hour),
                slopes.fds_per_hour,
                slopes.threads_per_hour
            )?;
        }
        if let Some(drift) = self.latency_drift {
            writeln!(out, "median latency at the end over that at the beginning: {drift:.2}")?;
        }
        self.generator(out)?;
        self.verdicts(out)
    }

    fn stress(&self, out: &mut String) -> std::fmt::Result {
        for step in &self.steps {
            let p95 = step.numbers.latency.map_or_else(|| "-".into(), |times| show_seconds(times.p95));
            let held = if step.broken.is_empty() { "held" } else { "BROKE" };
            writeln!(
                out,
                "step {:>9.1}/s: {:>9.1}/s answered, p95 {p95:>8}, errors {:.2} %: {held}",
                step.rate,
                step.numbers.throughput,
                100.0 * step.numbers.error_rate
            )?;
        }
        match &self.breaking_point {
            Some(point) => writeln!(out, "breaking point: {}/s: {}", point.rate, point.broken.join("; ")),
            None if !self.steps.is_empty() => writeln!(out, "breaking point: not reached"),
            None => Ok(()),
        }
    }

    fn generator(&self, out: &mut String) -> std::fmt::Result {
        let own = &self.generator;
        let lag = own.lag.map_or_else(String::new, |lag| {
            format!("lag p50 {}, p99 {}; ", show_seconds(lag.p50), show_seconds(lag.p99))
        });
        writeln!(
            out,
            "generator: {lag}{} connections opened, {} requests resent, {} in the warm-up, {} unfinished; {:.1} CPU s, {}",
            own.connects,
            own.resent,
            own.warm_up,
            own.unfinished,
            own.cpu_seconds.unwrap_or(0.0),
            show_bytes(own.peak_memory_bytes.unwrap_or(0.0))
        )
    }

    fn verdicts(&self, out: &mut String) -> std::fmt::Result {
        for verdict in &self.verdicts {
            let held = if verdict.held { "held  " } else { "BROKEN" };
            writeln!(out, "{held} {} (it was {})", verdict.threshold, verdict.shown)?;
        }
        match &self.refused {
            Some(why) => writeln!(out, "REFUSED: {why}"),
            None => Ok(()),
        }
    }
}

fn table(out: &mut String, name: &str, numbers: &Numbers) -> std::fmt::Result {
    writeln!(
        out,
        "{name:<14} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "count", "p50", "p90", "p95", "p99", "p99.9", "max"
    )?;
    for (what, times) in [
        ("latency", numbers.latency),
        ("first event", numbers.first_event),
        ("first content", numbers.first_content),
        ("gap", numbers.gap),
    ] {
        if let Some(times) = times {
            line(out, what, &times)?;
        }
    }
    writeln!(out)
}

fn line(out: &mut String, what: &str, times: &Percentiles) -> std::fmt::Result {
    write!(out, "{what:<14} {:>10}", times.count)?;
    for time in [times.p50, times.p90, times.p95, times.p99, times.p999, times.max] {
        write!(out, " {:>10}", show_seconds(time))?;
    }
    writeln!(out)
}
