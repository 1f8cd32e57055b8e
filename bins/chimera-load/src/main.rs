//! `chimera-load`: loads an LLM endpoint by a scenario and says whether it held.

mod args;
mod live;
mod profiles;
mod provenance;

use std::{
    error::Error,
    fs,
    future::{Future, poll_fn},
    io::IsTerminal,
    pin::pin,
    process::ExitCode,
    sync::mpsc,
    task::Poll,
    thread,
};

use args::{Command, Options};
use chimera_loadgen::{Control, Report, Scenario};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A threshold broke.
const BROKEN: u8 = 1;
/// What was asked for makes no sense, or a file cannot be read or written.
const BAD_INPUT: u8 = 2;
/// The generator was too late for its result to count.
const REFUSED: u8 = 3;

fn main() -> ExitCode {
    let result = args::parse(std::env::args_os().skip(1)).and_then(|command| match command {
        Command::Help => Ok(print(&args::help())),
        Command::Show(profile) => Ok(print(profiles::text(&profile)?)),
        Command::Check(options) => check(&options),
        Command::Run(options) => run(&options),
    });
    result.unwrap_or_else(|error| {
        eprintln!("chimera-load: {error}");
        ExitCode::from(BAD_INPUT)
    })
}

fn print(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}

fn scenario(options: &Options) -> Result<Scenario, Box<dyn Error>> {
    let text = profiles::read(&options.scenario)?;
    Scenario::parse(&text, &options.overrides)
        .map_err(|error| format!("{}: {error}", options.scenario).into())
}

fn check(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let scenario = scenario(options)?;
    println!("{}: {} kinds of requests to {}", scenario.name, scenario.mix.len(), scenario.target.url());
    for threshold in &scenario.thresholds {
        println!("  {}", threshold.text);
    }
    Ok(ExitCode::SUCCESS)
}

fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    let scenario = scenario(options)?;
    let control = Control::default();
    stop_on_ctrl_c(&control);
    let mut view = live::View::new(!options.quiet && std::io::stderr().is_terminal());
    let mut report = chimera_loadgen::run(&scenario, &control, &mut |live| view.show(live))?;
    view.clear();
    report.provenance = provenance::gather();
    // What was measured is shown before a file that cannot be written loses it.
    print!("{}", report.summary());
    write(options.json.as_deref(), || report.json())?;
    write(options.html.as_deref(), || report.html())?;
    Ok(verdict(&report))
}

fn write(path: Option<&str>, text: impl FnOnce() -> String) -> Result<(), Box<dyn Error>> {
    let Some(path) = path else { return Ok(()) };
    fs::write(path, text()).map_err(|error| format!("{path}: {error}").into())
}

fn verdict(report: &Report) -> ExitCode {
    if report.refused.is_some() {
        ExitCode::from(REFUSED)
    } else if report.held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(BROKEN)
    }
}

/// The first Ctrl-C ends the run and leaves the report; the second ends the process.
fn stop_on_ctrl_c(control: &Control) {
    let control = control.clone();
    let (ready, listening) = mpsc::channel::<()>();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let mut first = pin!(tokio::signal::ctrl_c());
            // From its first poll on it is listened for.
            let early = poll_fn(|context| Poll::Ready(first.as_mut().poll(context))).await;
            drop(ready);
            let interrupted = match early {
                Poll::Ready(result) => result,
                Poll::Pending => first.await,
            };
            if interrupted.is_ok() {
                control.stop();
            }
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(130);
            }
        });
    });
    // Nothing is ever sent: the other end is dropped once it listens.
    let _ = listening.recv();
}
