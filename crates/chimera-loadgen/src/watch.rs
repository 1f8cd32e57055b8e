//! A process beside the load: its memory, open files and threads, and whether they grow.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    scenario::{Watch, Watched},
    target::Target,
};

/// More samples are thinned out: every other goes, and they are taken half as often.
const MOST: usize = 3600;

/// What a process had at one time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at: f64,
    /// Resident memory, in bytes.
    pub memory: f64,
    /// Open files and sockets.
    pub fds: f64,
    /// Threads.
    pub threads: f64,
}

/// Growth per hour, by least squares. The first tenth, in which caches and pools fill, is left out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Slopes {
    /// Bytes.
    pub memory_per_hour: f64,
    /// Files and sockets.
    pub fds_per_hour: f64,
    /// Threads.
    pub threads_per_hour: f64,
}

impl Slopes {
    /// None of fewer than ten samples.
    pub(crate) fn of(samples: &[Sample]) -> Option<Self> {
        let samples = samples.get(samples.len() / 10..)?;
        if samples.len() < 10 {
            return None;
        }
        let slope = |what: fn(&Sample) -> f64| {
            let n = samples.len() as f64;
            let mean_at = samples.iter().map(|sample| sample.at).sum::<f64>() / n;
            let mean = samples.iter().map(what).sum::<f64>() / n;
            let over: f64 = samples.iter().map(|sample| (sample.at - mean_at) * (what(sample) - mean)).sum();
            let under: f64 = samples.iter().map(|sample| (sample.at - mean_at).powi(2)).sum();
            3600.0 * over / under.max(f64::MIN_POSITIVE)
        };
        Some(Self {
            memory_per_hour: slope(|sample| sample.memory),
            fds_per_hour: slope(|sample| sample.fds),
            threads_per_hour: slope(|sample| sample.threads),
        })
    }
}

/// Samples while it lives.
pub(crate) struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    over: Arc<AtomicBool>,
}

impl Sampler {
    pub(crate) fn start(watch: Watch) -> Self {
        let (samples, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let sampler = Self { samples: Arc::clone(&samples), over: Arc::clone(&over) };
        thread::spawn(move || {
            let (begin, mut every) = (Instant::now(), watch.every);
            let mut next = begin;
            while !over.load(Relaxed) {
                if Instant::now() < next {
                    thread::sleep(Duration::from_millis(20));
                    continue;
                }
                next += every;
                let Some(sample) = look(&watch.whose, begin) else { continue };
                let mut samples = samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.push(sample);
                if samples.len() == MOST {
                    let mut keep = false;
                    samples.retain(|_| {
                        keep = !keep;
                        keep
                    });
                    every *= 2;
                }
            }
        });
        sampler
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

fn look(whose: &Watched, begin: Instant) -> Option<Sample> {
    let (memory, fds, threads) = match whose {
        Watched::Pid(pid) => kernel(*pid)?,
        Watched::Metrics(target) => scraped(&scrape(target)?)?,
    };
    Some(Sample { at: begin.elapsed().as_secs_f64(), memory, fds, threads })
}

fn kernel(pid: u32) -> Option<(f64, f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as f64;
    Some((field("VmRSS:")? * 1024.0, fds, field("Threads:")?))
}

/// Reads a page of metrics. HTTP/1.0, so that it comes in one piece and the connection ends.
fn scrape(target: &Target) -> Option<String> {
    let mut stream = TcpStream::connect((target.host.as_str(), target.port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let path = match target.below("") {
        path if path.is_empty() => "/metrics".to_owned(),
        path => path,
    };
    let host = target.authority.to_str().ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

fn scraped(page: &str) -> Option<(f64, f64, f64)> {
    let metric = |name: &str| -> Option<f64> {
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.trim().parse().ok()
    };
    Some((
        metric("process_resident_memory_bytes")?,
        metric("process_open_fds")?,
        metric("process_threads").unwrap_or(0.0),
    ))
}

/// What this process itself has used: CPU seconds, and the most memory it had.
pub(crate) fn own_use() -> (Option<f64>, Option<f64>) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field, a name in parentheses, may hold anything. Ticks are hundredths of a second.
    let cpu = stat.rsplit_once(") ").and_then(|(_, rest)| {
        let mut fields = rest.split_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some((user + system) / 100.0)
    });
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    (cpu, peak.map(|kib| kib * 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: f64, memory: f64) -> Sample {
        Sample { at, memory, fds: 7.0, threads: 2.0 }
    }

    #[test]
    fn a_leak_has_its_slope_and_what_fills_up_at_first_has_none() {
        let leak: Vec<_> = (0..100).map(|at| sample(f64::from(at), 1e6 + 10.0 * f64::from(at))).collect();
        let slopes = Slopes::of(&leak).unwrap();
        assert!((slopes.memory_per_hour - 36_000.0).abs() < 1e-3, "{slopes:?}");
        assert!(slopes.fds_per_hour.abs() < 1e-9);
        let fills: Vec<_> = (0..100).map(|at| sample(f64::from(at), f64::from(at.min(9)) * 1e6)).collect();
        assert!(Slopes::of(&fills).unwrap().memory_per_hour.abs() < 1.0);
        assert_eq!(Slopes::of(&leak[..5]), None);
    }

    #[test]
    fn a_page_of_metrics_is_read() {
        let page = "HTTP/1.0 200 OK\r\n\r\n# TYPE process_open_fds gauge\nprocess_open_fds 12\n\
                    process_resident_memory_bytes 1048576\nprocess_threads 3\n";
        assert_eq!(scraped(page), Some((1_048_576.0, 12.0, 3.0)));
        assert_eq!(scraped("process_open_fds 12\n"), None);
    }

    #[test]
    fn this_process_can_be_watched() {
        let (memory, fds, threads) = kernel(std::process::id()).unwrap();
        assert!(memory > 1e5 && fds >= 3.0 && threads >= 1.0);
        assert!(own_use().1.unwrap() >= memory / 2.0);
    }
}
