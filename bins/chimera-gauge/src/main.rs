//! `chimera-gauge OPERATION COUNT`: runs one hot operation so many times and prints what it allocated.
//!
//! `cargo xtask perf check` runs it under valgrind with two counts. The difference, divided by the difference
//! of the counts, is what one operation costs: what starting costs is the same in both and drops out.
//! Neither figure depends on how busy the machine is.

mod gateway;
mod parts;

use std::{alloc::System, error::Error, process::ExitCode};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs an operation so many times, after having prepared and warmed what it needs.
pub(crate) type Operation = fn(&mut dyn FnMut(&mut dyn FnMut(u64))) -> Result<(), Box<dyn Error>>;

/// Every operation by its name.
const OPERATIONS: [(&str, Operation); 9] = [
    ("hit", gateway::hit),
    ("miss", gateway::miss),
    ("stream", gateway::stream),
    ("stream-hit", gateway::stream_hit),
    ("look", parts::look),
    ("event", parts::event),
    ("translated-event", parts::translated_event),
    ("100-l1-gets", parts::l1_get),
    ("breaker", parts::breaker),
];

/// Runs before anything is counted: tables grow, buffers reach their size.
const WARM_UP: u64 = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("chimera-gauge: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<String, Box<dyn Error>> {
    if let [list] = arguments
        && list == "list"
    {
        return Ok(OPERATIONS.map(|(name, _)| name).join("\n"));
    }
    let [name, count] = arguments else { return Err("it takes an operation and a count, or list".into()) };
    let count: u64 = count.parse()?;
    let (_, operation) =
        OPERATIONS.iter().find(|(known, _)| known == name).ok_or("there is no such operation")?;
    let mut allocations = 0;
    let mut bytes = 0;
    operation(&mut |once| {
        (0..WARM_UP).for_each(&mut *once);
        let region = Region::new(ALLOCATOR);
        (WARM_UP..WARM_UP + count).for_each(once);
        let change = region.change();
        allocations = change.allocations + change.reallocations;
        bytes = change.bytes_allocated;
    })?;
    Ok(serde_json::json!({ "operations": count, "allocations": allocations, "bytes": bytes }).to_string())
}
