//! `chimera cache simulate TRACE`: hit rates by size, from the configured cache and a trace of keys.

use std::{fmt::Write, fs};

use chimera_cache::simulate::{self, Simulated, Unit};

use crate::{
    args::{Options, Trace},
    run::{self, Error},
    units::parse_size,
};

/// What an answer takes where nothing is said.
const ENTRY: u64 = 2048;
/// The configured size, and the halves and doubles of it that are tried besides.
const DOWN: u32 = 6;
const UP: u32 = 2;

/// The table, as text.
pub(crate) fn run(options: &Options, trace: &Trace) -> Result<String, Error> {
    let file = run::load(options)?;
    let wrong = |what: &str, why: String| Error::Start(format!("{what}: {why}"));
    let size = |name: &str, text: &Option<String>| {
        let size = text.as_deref().map(|text| parse_size(text).ok_or("it is no size; write 64KiB or 1GiB"));
        size.transpose().map_err(|why| wrong(name, why.to_owned()))
    };
    let entry_bytes = size("--entry", &trace.entry)?.unwrap_or(ENTRY).max(1);
    let far_bytes = size("--far", &trace.far)?.unwrap_or(0);
    let name = trace.file.display().to_string();
    let text = fs::read_to_string(&trace.file).map_err(|error| wrong(&name, error.to_string()))?;
    let unit = if trace.blocks { Unit::Blocks } else { Unit::Requests };
    let accesses = simulate::read_trace(&text, unit).map_err(|error| wrong(&name, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut shown = format!(
        "{} look-ups, entries of {entry_bytes} bytes, fresh for {:?}, far tier of {far_bytes} bytes\n\n\
         {:>14}  {:>7}  {:>7}  {:>7}\n",
        accesses.len(),
        file.cache.ttl.0,
        "memory (bytes)",
        "memory",
        "far",
        "hits"
    );
    let configured = file.cache.capacity.0;
    let smaller = (1..=DOWN).rev().map(|halvings| configured >> halvings);
    let larger = (0..=UP).map(|doublings| configured.saturating_mul(1 << doublings));
    for near_bytes in smaller.chain(larger) {
        let (ttl, max_entry_bytes) = (file.cache.ttl.0, file.cache.max_entry.0);
        let simulated = Simulated { near_bytes, far_bytes, entry_bytes, max_entry_bytes, ttl };
        let replayed = runtime
            .block_on(simulate::replay(&accesses, simulated))
            .map_err(|error| Error::Start(format!("a memory cache of {near_bytes} bytes: {error}")))?;
        let share = |hits: u64| 100.0 * hits as f64 / accesses.len().max(1) as f64;
        let mark = if near_bytes == configured { "  as configured" } else { "" };
        let _ = writeln!(
            shown,
            "{near_bytes:>14}  {:>6.2}%  {:>6.2}%  {:>6.2}%{mark}",
            share(replayed.near),
            share(replayed.far),
            100.0 * replayed.hit_rate()
        );
    }
    Ok(shown)
}
