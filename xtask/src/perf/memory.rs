//! Memory per stream, time to ready, idle memory and the size of the binary.

use std::{error::Error, fs, thread::sleep, time::Duration};

use serde_json::Value;

use super::{Bench, process::Server, report::Row};

/// What holding many streams cost one contender.
struct Held {
    kib_each: f64,
    errors: u64,
    whole: u64,
}

pub(crate) fn streams(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    // A gateway holds two files for each, and the usual hard limit is 20,000.
    let counts: &[usize] = if bench.options.quick { &[1000] } else { &[1000, 5000, 9900] };
    let mut rows = Vec::new();
    for count in counts {
        // Twenty events half a second apart: long enough to open all of them and to look.
        let upstream = bench.rig.peer(&["--gap-ms", "500", "--events", "17"])?.server;
        let proxy = ["bare-proxy", "--upstream", &upstream.address];
        let proxy = held(bench, &bench.rig.server(&proxy)?, *count)?;
        let chimera = held(bench, &bench.chimera(&upstream.address)?.server, *count)?;
        let detail = format!(
            "bare proxy {:.1} KiB; whole streams {} / {}, errors {} / {}",
            proxy.kib_each, chimera.whole, proxy.whole, chimera.errors, proxy.errors
        );
        let name = format!("{count} slow streams, memory each");
        let row = Row::new(&name, "KiB", chimera.kib_each, detail);
        let wanted = *count == 1000;
        rows.push(if wanted { row.target(64.0).aim(40.0) } else { row });
        if wanted {
            let name = format!("{count} slow streams, errors");
            rows.push(Row::new(&name, "", chimera.errors as f64, String::new()).target(0.0));
        }
    }
    Ok(rows)
}

fn held(bench: &Bench, server: &Server, count: usize) -> Result<Held, Box<dyn Error>> {
    // One stream first, so that what is allocated once is not counted as each stream's.
    let few = ["--mode", "miss", "--connections", "4", "--requests", "200"];
    bench.rig.driver(&server.address, &few)?.finish()?;
    let before = server.resident_kib()?;
    let count_text = count.to_string();
    let mut driver = bench.rig.driver(&server.address, &["--streams", &count_text])?;
    driver.line()?;
    sleep(Duration::from_secs(3));
    let during = server.resident_kib()?;
    let report = driver.finish()?;
    let number = |key: &str| report.get(key).and_then(Value::as_u64).unwrap_or(0);
    Ok(Held {
        kib_each: during.saturating_sub(before) as f64 / count as f64,
        errors: number("errors"),
        whole: number("requests"),
    })
}

pub(crate) fn ready(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    let upstream = bench.rig.peer(&[])?.server;
    let mut best = f64::INFINITY;
    let mut idle = f64::INFINITY;
    for _ in 0..bench.options.rounds() {
        let chimera = bench.chimera(&upstream.address)?;
        best = best.min(chimera.ready.as_secs_f64() * 1e3);
        sleep(Duration::from_millis(500));
        idle = idle.min(chimera.server.resident_kib()? as f64 / 1024.0);
    }
    Ok(vec![
        Row::new("ready after", "ms", best, "start of the process to a ready answer".into()).target(100.0),
        Row::new("idle memory", "MiB", idle, "half a second after ready".into()).target(15.0),
    ])
}

pub(crate) fn size(bench: &Bench) -> Result<Vec<Row>, Box<dyn Error>> {
    let megabytes = fs::metadata(&bench.chimera)?.len() as f64 / 1e6;
    let detail = "as the release profile strips it".into();
    Ok(vec![Row::new("binary", "MB", megabytes, detail).target(20.0)])
}
