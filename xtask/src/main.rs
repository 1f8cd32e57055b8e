//! The tasks of this workspace. `cargo xtask help` lists them.

mod console;
mod debian;
mod dialects;
mod docs;
mod layers;
mod load;
mod monitoring;
mod perf;
mod process;
mod real_model;
mod release;
mod sdk;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask TASK

  test        install or find what tests need, and run all of them
  ci          fmt, clippy, rustdoc, layers, tidy, docs, test
  docs        write the generated pages of docs/ (--check: only compare)
  layers      hold the crates' dependencies against the table of the architecture
  tidy        rules of this workspace that no other tool knows
  perf        the gateway against a bare hyper server and proxy, as ratios
              [--quick] [--check] [--json FILE] [--only ROW,ROW] [--chimera PATH]
              [--watched: with the console's page open]
              check: compares with the stored baseline and fails when worse
              [--quick] [--counted: instructions and allocations alone]
              --update-baseline: measures and stores a new one
  load        gateway and simulated provider under the load tester: PROFILE [its options] [--dev]
  sdk         the vendors' Python SDKs against a running gateway (part of test)
  monitoring  a real Prometheus beside a gateway under load and under faults: rules, dashboards, alerts
  console     the operator's console in a real headless Chromium (part of test); pictures in target/console
              [--only NAME] [--soak MINUTES: the heap of a page that stays open]
  release     the server as it is shipped, built by what it was seen to do: target/dist/chimera
  real-model  a real small model behind the gateway, and how fast its answers come back
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let result = match task.as_str() {
        "test" => test::all(),
        "ci" => test::ci(),
        "docs" => docs::run(rest.iter().any(|arg| arg == "--check")),
        "perf" => perf::run(&rest).map_err(|error| error.to_string()),
        "load" => load::run(&rest),
        "layers" => layers::check(),
        "tidy" => tidy::check(),
        "sdk" => sdk::run().map(|outcome| println!("{outcome}")),
        "console" => console::run(&rest).map(|outcome| println!("{outcome}")),
        "release" => release::run_all(),
        "real-model" => real_model::run(),
        "monitoring" => monitoring::run(),
        "" | "help" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("there is no task `{other}`; cargo xtask help")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
