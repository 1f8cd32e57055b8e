//! The view in the terminal while a run is under way.

use std::fmt::Write;

use chimera_loadgen::Live;

/// Lines that stand in the place of those before them.
pub(crate) struct View {
    on: bool,
    /// Lines that are on the screen.
    lines: usize,
}

impl View {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, lines: 0 }
    }

    pub(crate) fn show(&mut self, live: &Live) {
        if !self.on {
            return;
        }
        let text = text(live);
        eprint!("{}{text}", self.over());
        self.lines = text.lines().count();
    }

    pub(crate) fn clear(&mut self) {
        if self.on {
            eprint!("{}", self.over());
            self.lines = 0;
        }
    }

    /// Moves to where the lines began and clears what follows.
    fn over(&self) -> String {
        if self.lines == 0 { String::new() } else { format!("\x1b[{}A\r\x1b[J", self.lines) }
    }
}

fn text(live: &Live) -> String {
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut out, live);
    out
}

fn write(out: &mut String, live: &Live) -> std::fmt::Result {
    let all = &live.overall;
    match (live.step, live.planned) {
        (Some((step, of, rate)), _) => {
            writeln!(out, "{:.0} s, step {step} of at most {of}: {rate:.1}/s", live.elapsed)?;
        }
        (None, Some(planned)) => {
            let done = (live.elapsed / planned.max(1e-9)).clamp(0.0, 1.0);
            let bar = "=".repeat((done * 40.0) as usize);
            writeln!(out, "[{bar:<40}] {:.0} of {planned:.0} s", live.elapsed)?;
        }
        (None, None) => writeln!(out, "{:.0} s", live.elapsed)?,
    }
    writeln!(
        out,
        "now    offered {:.1}/s, answered {:.1}/s, failed {}, p50 {}, p95 {}, p99 {}",
        live.row.offered,
        live.row.throughput,
        live.row.failed,
        time(live.row.p50),
        time(live.row.p95),
        time(live.row.p99)
    )?;
    let hits = all.hit_rate.map_or_else(String::new, |rate| format!(", cache hits {:.1} %", 100.0 * rate));
    writeln!(
        out,
        "so far {} good, {} failed, p50 {}, p95 {}, p99 {}, {:.0} tokens/s{hits}",
        all.ok,
        all.failed,
        time(all.latency.map(|times| times.p50)),
        time(all.latency.map(|times| times.p95)),
        time(all.latency.map(|times| times.p99)),
        all.tokens_per_second
    )?;
    let errors: Vec<_> =
        all.errors.iter().map(|(class, error)| format!("{class}: {}", error.count)).collect();
    let errors = if errors.is_empty() { "no errors".to_owned() } else { errors.join(", ") };
    writeln!(out, "{} under way on {} connections; {errors}", live.in_flight, live.connections)
}

fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}
