//! Load for LLM endpoints, and an honest account of what came back.
//!
//! A load tester that waits for an answer before it asks again asks less of a target the slower that is, and
//! then reports how fast it was while nobody asked. Here, requests of an open loop start when a schedule says,
//! and latency is counted from then, whether or not the request could be sent: a stall of the target shows in
//! full. And a generator that is itself late says so and refuses the result.
//!
//! ```no_run
//! use chimera_loadgen::{Control, Overrides, Scenario, run};
//!
//! let text = std::fs::read_to_string("config/load/smoke.toml")?;
//! let scenario = Scenario::parse(&text, &Overrides::default())?;
//! let report = run(&scenario, &Control::default(), &mut |_| {})?;
//! println!("{}", report.summary());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! [`Scenario`] is a TOML file, checked. [`run`] starts workers, each a thread with an event loop, connections
//! of its own and a pacer that sleeps until each intended start. A worker counts into histograms that are
//! taken from it once a second. [`Report`] says what they came to, as text, JSON or one HTML file, and whether
//! each [`Threshold`] held.
//!
//! # Guarantees
//! - **Latency** is counted from the intended start in open loops and replays. A request that ran out of time
//!   counts with the time it had.
//! - **Memory** depends on connections, kinds of requests and the trace, not on the number of requests: times
//!   are kept in histograms, rows over time are thinned out, and at most 65,536 requests per worker wait for a
//!   connection. More are counted as errors.
//! - **Errors** of a scenario name the key at fault. Keys of an API are read from the environment and shown
//!   nowhere.
//! - **Cancellation**: [`Control::stop`] ends a run within some tens of milliseconds; the report is of what was
//!   done until then, and tells how many requests were left unfinished.
//!
//! # What it does not do
//! It speaks HTTP/1.1 only, follows no redirects, and loads no other machine unless the scenario says that it
//! may.

mod connection;
mod engine;
mod exchange;
mod html;
mod mix;
mod pacer;
mod plot;
mod prompt;
mod random;
mod report;
mod scenario;
mod schedule;
mod summary;
mod tally;
mod target;
mod threshold;
mod timeline;
mod trace;
mod units;
mod watch;
mod worker;

pub use engine::{Control, Live, run};
pub use mix::Mix;
pub use report::{
    BreakingPoint, ErrorCount, Generator, Numbers, Percentiles, Provenance, Report, StepReport, Verdict,
};
pub use scenario::{Arrivals, Limits, Overrides, Scenario, ScenarioError, Shape, Step, Watch, Watched};
pub use target::Target;
pub use threshold::Threshold;
pub use timeline::Row;
pub use units::duration;
pub use watch::{Sample, Slopes};
