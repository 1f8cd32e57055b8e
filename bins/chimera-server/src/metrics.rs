//! The Prometheus exporter and the buckets of its histograms.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Seconds to answers of models: from a quick hit to the end of patience.
const ANSWERS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Seconds of our own work.
const OURS: &[f64] = &[0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05];
/// Seconds of work on texts, from a short prompt to a large batch, and of waiting for a thread.
const WORK: &[f64] =
    &[0.000_01, 0.000_05, 0.000_25, 0.001, 0.0025, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds of a look at memory, or at a Redis nearby.
const CACHE: &[f64] =
    &[1e-7, 2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.1];

/// Seconds of optimisation jobs.
const JOBS: &[f64] = &[1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

const BUCKETS: [(&str, &[f64]); 9] = [
    ("chimera_request_duration_seconds", ANSWERS),
    ("chimera_attempt_duration_seconds", ANSWERS),
    ("chimera_first_chunk_seconds", ANSWERS),
    ("chimera_pool_wait_seconds", ANSWERS),
    ("chimera_optimizer_job_duration_seconds", JOBS),
    ("chimera_overhead_seconds", OURS),
    ("chimera_transform_duration_seconds", WORK),
    ("chimera_worker_pool_wait_seconds", WORK),
    ("chimera_cache_operation_seconds", CACHE),
];

/// Installs the exporter. Must come before the first metric is registered.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for (name, buckets) in BUCKETS {
        builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    // Nothing else in this process installs a recorder.
    let _ = metrics::set_global_recorder(recorder);
    for &(name, kind, _, meaning) in all() {
        match kind {
            "counter" => describe_counter!(name, meaning),
            "gauge" => describe_gauge!(name, meaning),
            _ => describe_histogram!(name, meaning),
        }
    }
    gauge!("chimera_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

const CPU: &str = "process_cpu_seconds_total";

/// All metrics as Prometheus reads them. Counters of the exporter are whole numbers, and the CPU time is none: it is kept
/// as a gauge, and told as the counter that everybody knows.
pub(crate) fn render(handle: &PrometheusHandle) -> String {
    let text = handle.render();
    text.replacen(&format!("# TYPE {CPU} gauge"), &format!("# TYPE {CPU} counter"), 1)
}

/// Counts a loop that fell, beside the requests that did.
pub(crate) fn panicked() {
    counter!("chimera_panics_total").increment(1);
}

/// The name, kind, labels and meaning of a metric.
type Described = (&'static str, &'static str, &'static str, &'static str);

const OWN: &[Described] = &[
    (
        "chimera_trace_spans_total",
        "counter",
        "result",
        "Spans for the collector of traces: sent, failed, or dropped because too many were waiting.",
    ),
    (
        "chimera_log_lines_dropped_total",
        "counter",
        "",
        "Lines of the log that were dropped because whoever reads it does not keep up.",
    ),
    ("chimera_build_info", "gauge", "version", "Always 1; the version is in the label."),
    (CPU, "counter", "", "CPU time used, of all threads, in seconds."),
    ("process_resident_memory_bytes", "gauge", "", "Memory of the process that is in RAM."),
    ("process_virtual_memory_bytes", "gauge", "", "Address space of the process."),
    ("process_open_fds", "gauge", "", "Open files and sockets."),
    ("process_max_fds", "gauge", "", "Files and sockets that may be open."),
    ("process_threads", "gauge", "", "Threads."),
    ("process_start_time_seconds", "gauge", "", "When the process began, in seconds since 1970."),
];

/// What became of spans.
#[derive(Clone)]
pub(crate) struct SpanMetrics {
    pub(crate) sent: Counter,
    pub(crate) failed: Counter,
    pub(crate) dropped: Counter,
}

impl SpanMetrics {
    pub(crate) fn new() -> Self {
        let of = |result: &'static str| counter!("chimera_trace_spans_total", "result" => result);
        Self { sent: of("sent"), failed: of("failed"), dropped: of("dropped") }
    }
}

/// The process as the kernel sees it, under the names that Prometheus' own clients use.
pub(crate) struct ProcessMetrics {
    pub(crate) cpu: Gauge,
    pub(crate) resident: Gauge,
    pub(crate) address_space: Gauge,
    pub(crate) open_files: Gauge,
    pub(crate) max_files: Gauge,
    pub(crate) threads: Gauge,
    pub(crate) start: Gauge,
    pub(crate) log_dropped: Counter,
}

impl ProcessMetrics {
    pub(crate) fn new() -> Self {
        Self {
            cpu: gauge!(CPU),
            resident: gauge!("process_resident_memory_bytes"),
            address_space: gauge!("process_virtual_memory_bytes"),
            open_files: gauge!("process_open_fds"),
            max_files: gauge!("process_max_fds"),
            threads: gauge!("process_threads"),
            start: gauge!("process_start_time_seconds"),
            log_dropped: counter!("chimera_log_lines_dropped_total"),
        }
    }
}

/// Every metric of the process.
fn all() -> impl Iterator<Item = &'static Described> {
    chimera_gateway::METRICS
        .iter()
        .chain(chimera_provider_pool::METRICS)
        .chain(chimera_circuit_breaker::METRICS)
        .chain(chimera_cache::METRICS)
        .chain(chimera_transform::METRICS)
        .chain(chimera_optimizer::METRICS)
        .chain(OWN)
}

/// docs/metrics.md.
pub(crate) fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nServed at `GET /metrics` of the admin listener, in Prometheus' text format. Labels come \
         from configuration or from closed sets, never from requests. Generated by `cargo xtask docs`.\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for (name, kind, labels, meaning) in all() {
        page.push_str(&format!("| `{name}` | {kind} | {labels} | {meaning} |\n"));
    }
    page
}
