//! The process as the kernel sees it: what its gauges say, read from /proc once a second.

use std::fs;

use crate::metrics::ProcessMetrics;

/// The kernel counts CPU time for programs in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// The handles, registered once.
pub(crate) struct Process(ProcessMetrics);

impl Process {
    /// Registers the gauges and sets those that do not change.
    pub(crate) fn new() -> Self {
        let metrics = ProcessMetrics::new();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        metrics.start.set(now.map_or(0.0, |now| now.as_secs_f64().floor()));
        if let Some(most) = crate::serve::open_files_limit() {
            metrics.max_files.set(most as f64);
        }
        Self(metrics)
    }

    /// Reads what the kernel says. What it does not say, as on another system than Linux, stays as it was.
    pub(crate) fn publish(&self) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (gauge, name, unit) in [
            (&self.0.resident, "VmRSS:", 1024.0),
            (&self.0.address_space, "VmSize:", 1024.0),
            (&self.0.threads, "Threads:", 1.0),
        ] {
            if let Some(value) = field(&status, name) {
                gauge.set(value * unit);
            }
        }
        if let Some(ticks) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_ticks(&stat)) {
            self.0.cpu.set(ticks / TICKS_PER_SECOND);
        }
        self.0.log_dropped.absolute(crate::log::dropped());
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // Less the one that the look itself takes.
            self.0.open_files.set(files.count().saturating_sub(1) as f64);
        }
    }
}

/// The number behind a name in `/proc/self/status`.
fn field(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// User and system time in `/proc/self/stat`: fields 14 and 15. The second field, a name in parentheses, may
/// hold anything.
fn cpu_ticks(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read_whatever_the_process_is_called() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 4 0 100 1 1";
        assert_eq!(cpu_ticks(stat), Some(200.0));
        assert_eq!(cpu_ticks("nonsense"), None);
        let status = "Name:\tchimera\nVmSize:\t  2000 kB\nVmRSS:\t  1000 kB\nThreads:\t5\n";
        assert_eq!(
            [field(status, "VmRSS:"), field(status, "Threads:"), field(status, "VmSwap:")],
            [Some(1000.0), Some(5.0), None]
        );
    }
}
