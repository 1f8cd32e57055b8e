//! CPU time per request, and added latency.

use std::error::Error;

use serde_json::Value;

use super::{
    Bench,
    process::{Peer, Server},
    report::Row,
};

/// The best that one contender did.
struct Best {
    /// Microseconds of CPU per request.
    micros: f64,
    requests: u64,
    errors: u64,
    l1: u64,
}

/// Who is asked, and in which mode.
type Contender<'a> = (&'a Server, &'a str);

/// Lets two contenders alternate and keeps the best of each.
fn contest(
    bench: &Bench,
    peer: &mut Peer,
    contenders: [Contender<'_>; 2],
) -> Result<[Best; 2], Box<dyn Error>> {
    let seconds = bench.options.seconds().to_string();
    let mut drive = |(server, mode): Contender<'_>, seconds: &str| {
        let args = ["--mode", mode, "--connections", "64", "--seconds", seconds];
        peer.drive(&server.address, &args)
    };
    for contender in contenders {
        // The first pass fills connections, caches and branch predictors.
        drive(contender, "0.5")?;
    }
    let mut best = [(); 2].map(|()| Best { micros: f64::INFINITY, requests: 0, errors: 0, l1: 0 });
    for _ in 0..bench.options.rounds() {
        for (contender, best) in contenders.into_iter().zip(&mut best) {
            let (server, _) = contender;
            let before = server.cpu_nanos()?;
            let report = drive(contender, &seconds)?;
            let nanos = server.cpu_nanos()?.since(before);
            let requests = count(&report, "/requests");
            best.micros = best.micros.min(nanos / 1e3 / (requests.max(1) as f64));
            best.requests += requests;
            best.errors += count(&report, "/errors");
            best.l1 += count(&report, "/cache/l1");
        }
    }
    Ok(best)
}

fn count(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

fn ratio(name: &str, base: &str, [bare, chimera]: &[Best; 2]) -> Row {
    let detail = format!(
        "chimera {:.1} µs, {base} {:.1} µs; errors {} / {}",
        chimera.micros, bare.micros, chimera.errors, bare.errors
    );
    if chimera.requests == 0 || chimera.errors > 0 {
        return Row::failed(name, detail_error(detail).as_ref());
    }
    Row::new(name, "×", chimera.micros / bare.micros, detail)
}

fn detail_error(detail: String) -> Box<dyn Error> {
    format!("errors while measuring: {detail}").into()
}

pub(crate) fn hit(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut peer = bench.rig.peer(&[])?;
    let bare = bench.rig.server(&["bare-server"])?;
    let chimera = bench.chimera(&peer.server.address)?.server;
    let best = contest(bench, &mut peer, [(&bare, "hit"), (&chimera, "hit")])?;
    let mut row = ratio("hit", "bare server", &best).target(1.4).aim(1.2);
    let [_, chimera] = &best;
    let share = 100.0 * chimera.l1 as f64 / chimera.requests.max(1) as f64;
    row.detail.push_str(&format!("; {share:.2} % said l1"));
    if share < 99.0 {
        // A ratio of misses under the name of hits would be a lie.
        row.value = None;
    }
    Ok(vec![row])
}

/// More answers than the default cache has room for.
const MORE_THAN_FIT: &str = "160000";

/// A unary miss as a gateway has it that has run for a while: its cache is full, and each answer that goes in
/// pushes out one whose memory has gone cold. Without a cache for comparison.
pub(crate) fn miss(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut peer = bench.rig.peer(&[])?;
    let upstream = peer.server.address.clone();
    let proxy = bench.rig.server(&["bare-proxy", "--upstream", &upstream])?;
    let caching = bench.chimera(&upstream)?.server;
    peer.drive(
        &caching.address,
        &["--mode", "miss", "--connections", "64", "--seconds", "60", "--requests", MORE_THAN_FIT],
    )?;
    let best = contest(bench, &mut peer, [(&proxy, "miss"), (&caching, "miss")])?;
    let full = ratio("miss, unary", "bare proxy", &best).target(1.3).aim(1.15);
    drop(caching);
    let passing = bench.chimera_with(&upstream, "[cache]\npolicy = \"off\"")?.server;
    let best = contest(bench, &mut peer, [(&proxy, "miss"), (&passing, "miss")])?;
    Ok(vec![full, ratio("miss, unary, cache off", "bare proxy", &best)])
}

/// One row against the bare proxy, with the provider in the given temper.
fn against_proxy(bench: &Bench, name: &str, mode: &str, upstream: &[&str]) -> Result<Row, Box<dyn Error>> {
    let mut peer = bench.rig.peer(upstream)?;
    let proxy = bench.rig.server(&["bare-proxy", "--upstream", &peer.server.address])?;
    let chimera = bench.chimera(&peer.server.address)?.server;
    let best = contest(bench, &mut peer, [(&proxy, mode), (&chimera, mode)])?;
    Ok(ratio(name, "bare proxy", &best))
}

pub(crate) fn paced(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    let row = against_proxy(bench, "stream, 6 ms an event", "stream", &["--gap-ms", "6"])?;
    Ok(vec![row.target(1.3).aim(1.0)])
}

/// A burst that reached the socket in one piece, as a provider that has the events at hand writes it:
/// this is where a plain proxy pays a task switch per event and nginx passes on what is ready. Written
/// event by event, the same burst is as many reads for everybody, nginx included; that is reported.
pub(crate) fn burst(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    let at_once = against_proxy(bench, "stream, burst of 64", "stream", &["--one-write"])?;
    let apart = against_proxy(bench, "stream, burst in 64 writes", "stream", &[])?;
    Ok(vec![at_once.target(0.5).aim(0.15), apart])
}

/// A stream of OpenAI's as an Anthropic caller gets it, against the same stream passed through.
pub(crate) fn translated(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    [("at once", "--one-write", ""), ("6 ms an event", "--gap-ms", "6")]
        .into_iter()
        .map(|(name, option, value)| {
            let upstream: Vec<_> = [option, value].into_iter().filter(|text| !text.is_empty()).collect();
            let mut peer = bench.rig.peer(&upstream)?;
            let chimera = bench.chimera(&peer.server.address)?.server;
            let best = contest(bench, &mut peer, [(&chimera, "stream"), (&chimera, "messages")])?;
            Ok(ratio(&format!("stream translated, {name}"), "passed through", &best).target(1.6))
        })
        .collect()
}

/// The best p50 and p99 of one contender, in milliseconds.
#[derive(Clone, Copy)]
struct Latency {
    p50: f64,
    p99: f64,
}

pub(crate) fn latency(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut peer = bench.rig.peer(&["--delay-ms", "20"])?;
    let direct = peer.server.address.clone();
    let proxy = bench.rig.server(&["bare-proxy", "--upstream", &direct])?;
    let chimera = bench.chimera(&direct)?.server;
    let seconds = (bench.options.seconds() * 2.0).to_string();
    let args = ["--mode", "miss", "--rate", "200", "--seconds", &seconds];
    let worst = Latency { p50: f64::INFINITY, p99: f64::INFINITY };
    let mut best = [worst; 3];
    let mut errors = 0;
    for _ in 0..bench.options.rounds() {
        for (address, best) in [&direct, &proxy.address, &chimera.address].iter().zip(&mut best) {
            let report = peer.drive(address, &args)?;
            let millis = |name: &str| {
                let value = report.pointer(name).and_then(Value::as_f64);
                value.map_or(f64::INFINITY, |micros| micros / 1e3)
            };
            best.p50 = best.p50.min(millis("/latency_us/p50"));
            best.p99 = best.p99.min(millis("/latency_us/p99"));
            errors += count(&report, "/errors");
        }
    }
    if errors > 0 {
        return Err(format!("{errors} errors while measuring").into());
    }
    let [direct, proxy, chimera] = best;
    Ok(vec![
        added("added latency p50, 200/s", [direct.p50, proxy.p50, chimera.p50], 0.15),
        added("added latency p99, 200/s", [direct.p99, proxy.p99, chimera.p99], 1.0),
    ])
}

/// Two limits hold: the absolute one, and one and a half times what the bare proxy adds.
fn added(name: &str, [direct, proxy, chimera]: [f64; 3], limit: f64) -> Row {
    let (by_proxy, by_chimera) = (proxy - direct, chimera - direct);
    let detail = format!(
        "direct {direct:.2} ms, proxy adds {by_proxy:.3}, chimera adds {by_chimera:.3} ({:.2} × the proxy)",
        by_chimera / by_proxy
    );
    // Below the clock's noise a proxy may seem to add nothing; then only the absolute limit holds.
    let relative = if by_proxy > 0.02 { by_proxy * 1.5 } else { limit };
    Row::new(name, "ms", by_chimera, detail).target(limit.min(relative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_of_both_latency_limits_holds() {
        let loose = added("a", [20.0, 20.05, 20.07], 0.15);
        assert!((loose.target.unwrap() - 0.075).abs() < 1e-9);
        assert!(!loose.is_missed());
        assert!(added("a", [20.0, 20.05, 20.09], 0.15).is_missed());
        assert!(added("a", [20.0, 20.3, 20.2], 0.15).is_missed());
    }
}
