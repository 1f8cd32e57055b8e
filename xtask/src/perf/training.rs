//! The work by which a server learns which of its code is hot: every mode of the measurements, the load tester's mixes,
//! and a cache in Redis. What is not asked of it here is taken for cold.

use std::{error::Error, path::Path, process::Command};

use crate::{debian, process};

use super::{Bench, process::Server};

/// One piece of work: what the provider is like, the gateway's further configuration, the driver's mode.
struct Lesson<'a> {
    provider: &'a [&'a str],
    config: &'a str,
    mode: &'a str,
}

/// So small a cache is full at once, as one is that has run for a while.
const SMALL: &str = "[cache]\ncapacity = \"4MiB\"";
const OFF: &str = "[cache]\npolicy = \"off\"";

/// The seconds that each lesson takes.
const SECONDS: &str = "3";
const SECONDS_OF_A_MIX: &str = "5s";

/// What the load tester ends with when it did not begin.
const BAD_INPUT: i32 = 2;

pub(super) fn run(bench: &Bench, load_tester: &Path) -> Result<(), Box<dyn Error>> {
    let paced: &[&str] = &["--gap-ms", "6"];
    for (provider, config, mode) in [
        (&[][..], "", "hit"),
        (&[], SMALL, "miss"),
        (&[], OFF, "miss"),
        (paced, "", "stream"),
        (&["--one-write"], "", "stream"),
        (&[], "", "stream"),
        (paced, "", "messages"),
    ] {
        teach(bench, &Lesson { provider, config, mode })?;
    }
    mixes(bench, load_tester)?;
    if !debian::has_redis() {
        println!("SKIPPED what is found in Redis: install redis-server");
        return Ok(());
    }
    let port = process::free_port()?.to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let mut redis = Command::new("redis-server");
    let (_redis, ()) = process::start_until(redis.args(arguments), |line| {
        line.contains("Ready to accept connections").then_some(())
    })?;
    // Little fits into memory, so that nearly all is looked up in Redis.
    let config = format!(
        "[cache]\ncapacity = \"16KiB\"\nmax_entry = \"4KiB\"\n[cache.redis]\nurl = \"redis://127.0.0.1:{port}\""
    );
    for mode in ["miss", "hit"] {
        teach(bench, &Lesson { provider: &[], config: &config, mode })?;
    }
    Ok(())
}

fn teach(bench: &Bench, lesson: &Lesson<'_>) -> Result<(), Box<dyn Error>> {
    let mut peer = bench.rig.peer(lesson.provider)?;
    let server: Server = bench.chimera_with(&peer.server.address, lesson.config)?.server;
    let arguments = ["--mode", lesson.mode, "--connections", "64", "--seconds", SECONDS];
    let report = peer.drive(&server.address, &arguments)?;
    println!("learnt {} {:?}: {report}", lesson.mode, lesson.provider);
    let count = |name: &str| report.get(name).and_then(serde_json::Value::as_u64);
    if count("requests").unwrap_or(0) == 0 || count("errors") != Some(0) {
        return Err(format!("`{}` was not answered as it should be: {report}", lesson.mode).into());
    }
    server.end()
}

/// Callers of three dialects, unary and streamed, embeddings, and transforms, before the simulated provider.
fn mixes(bench: &Bench, load_tester: &Path) -> Result<(), Box<dyn Error>> {
    let server =
        bench.chimera_of("[transforms.load]\nsteps = [\"normalize\", \"redact\", \"budget\"]\n")?.server;
    for (profile, rate) in [("load", "500"), ("transform", "500")] {
        let mut load = Command::new(load_tester);
        load.args([profile, "--quiet", "--target", &format!("http://{}", server.address)]);
        load.args(["--rate", rate, "--warm-up", "1s", "--duration", SECONDS_OF_A_MIX]);
        // Whether it was quick enough is not asked: it counts its ways.
        if load.status()?.code().is_none_or(|code| code == BAD_INPUT) {
            return Err(format!("the load tester did not run `{profile}`").into());
        }
    }
    server.end()
}
