//! The `chimera` binary: reads its configuration, opens its listeners, and lets the gateway work.

mod args;
mod banner;
mod cache;
mod config;
mod connection;
mod console;
mod crowd;
mod disk;
mod handover;
mod jobs;
mod keep;
mod log;
mod metrics;
mod optimize;
mod plane;
mod process;
mod random;
mod redis;
mod reports;
mod resolve;
mod run;
mod serve;
mod sim;
mod simulate;
mod spoken;
mod stream;
mod supervise;
mod surroundings;
mod traces;
mod transform;
mod units;
mod upstreams;
mod watch;

use std::process::ExitCode;

use args::Command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("chimera: {error}");
            return ExitCode::from(2);
        }
    };
    let result = match command {
        Command::Help => print(args::HELP),
        Command::Version => print(concat!("chimera ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Docs(page) if page == "metrics" => print(&metrics::page()),
        Command::Docs(page) => Err(run::Error::NoPage(page)),
        Command::Check(options) => run::check(&options).and_then(|shown| print(&shown)),
        Command::Simulate(options, trace) => simulate::run(&options, &trace).and_then(|shown| print(&shown)),
        Command::Transform(options) => transform::run(&options),
        Command::Optimize(options) => optimize::run(&options),
        Command::Serve(options) => run::serve(options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chimera: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn print(text: &str) -> Result<(), run::Error> {
    use std::io::Write;
    std::io::stdout().write_all(text.as_bytes()).map_err(run::Error::Io)
}
