//! Bare servers and load drivers that the gateway is measured against.
//!
//! Every subcommand runs on one thread and sets `TCP_NODELAY` everywhere, so that
//! a ratio compares code and not thread counts. Servers print `listening ADDR`;
//! drivers print one line of JSON.

mod bare;
mod body;
mod clock;
mod drive;
mod hold;
mod options;
mod tally;
mod upstream;
mod wire;

use std::{error::Error, process::ExitCode};

use options::Options;

const HELP: &str = "\
chimera-rig bare-server --listen ADDR
chimera-rig bare-proxy  --listen ADDR --upstream ADDR
chimera-rig upstream    --listen ADDR [--events N] [--gap-ms N] [--delay-ms N] [--one-write]
                        (and then drives as its standard input says, a line each)
chimera-rig drive       --target ADDR [--path P] [--mode hit|miss|stream] [--connections N]
                        [--seconds S | --requests N] [--rate R] [--streams N]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chimera-rig: {error}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let options = Options::parse(std::env::args_os().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match options.command.as_str() {
            "bare-server" => bare::server(&options).await,
            "bare-proxy" => bare::proxy(&options).await,
            "upstream" => upstream::serve(&options).await,
            "drive" if options.streams > 0 => hold::hold(&options).await,
            "drive" => drive::drive(&options).await,
            other => Err(format!("unknown subcommand `{other}`").into()),
        }
    })
}
