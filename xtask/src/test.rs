//! `cargo xtask test` and `cargo xtask ci`.

use std::time::Instant;

use crate::{
    console, debian, docs, layers, monitoring,
    process::{Outcome, cargo, run},
    sdk, tidy,
};

/// One part of the tests, as the summary shows it.
struct Part {
    name: &'static str,
    result: Outcome<String>,
    seconds: f64,
}

fn part(name: &'static str, work: impl FnOnce() -> Outcome<String>) -> Part {
    println!("\n== {name}");
    let began = Instant::now();
    let result = work();
    if let Err(why) = &result {
        eprintln!("{why}");
    }
    Part { name, result, seconds: began.elapsed().as_secs_f64() }
}

/// Runs every test; all parts run even when one fails.
pub(crate) fn all() -> Outcome {
    let parts = [
        part("unit, integration and documentation tests", || {
            let mut tests = cargo();
            let mut said = "passed".to_owned();
            let needed = [
                ("redis-server", debian::has_redis(), "CHIMERA_SKIP_REDIS"),
                ("libfaketime", debian::has_faketime(), "CHIMERA_SKIP_FAKETIME"),
            ];
            for (package, is_here, skip) in needed {
                if !is_here {
                    tests.env(skip, "1");
                    said += &format!(", those with {package} SKIPPED: apt-get install {package}");
                }
            }
            run(tests.args(["test", "--workspace", "--locked", "--quiet"]))?;
            Ok(said)
        }),
        part("examples run", examples),
        part("official SDKs", sdk::run),
        part("the console in a browser", || console::run(&[])),
        part("rules and dashboards", monitoring::at_rest),
    ];
    summary(&parts)
}

/// One runnable example per library crate.
fn examples() -> Outcome<String> {
    const EXAMPLES: [(&str, &str); 6] = [
        ("chimera-circuit-breaker", "guarded_call"),
        ("chimera-cache", "cached_computation"),
        ("chimera-protocol", "look_over"),
        ("chimera-provider-pool", "failover"),
        ("chimera-gateway", "embedded"),
        ("chimera-console", "one_look"),
    ];
    for (package, example) in EXAMPLES {
        run(cargo().args(["run", "--quiet", "--locked", "--package", package, "--example", example]))?;
    }
    Ok(format!("{} ran", EXAMPLES.len()))
}

fn summary(parts: &[Part]) -> Outcome {
    println!("\n== summary");
    for part in parts {
        let (word, detail) = match &part.result {
            Ok(detail) => ("ok", detail.as_str()),
            Err(why) => ("FAILED", why.as_str()),
        };
        println!("{word:<8} {:<44} {:>6.1} s  {detail}", part.name, part.seconds);
    }
    let failed = parts.iter().filter(|part| part.result.is_err()).count();
    println!("{} passed, {failed} failed", parts.len() - failed);
    if failed == 0 { Ok(()) } else { Err(format!("{failed} of {} parts failed", parts.len())) }
}

/// Every gate, the quick ones first.
pub(crate) fn ci() -> Outcome {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    layers::check()?;
    tidy::check()?;
    run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    run(cargo().env("RUSTDOCFLAGS", "-D warnings").args([
        "doc",
        "--workspace",
        "--no-deps",
        "--locked",
        "--quiet",
    ]))?;
    docs::run(true)?;
    all()
}
