//! A job as it is seen in a terminal.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use chimera_optimizer::{Estimate, Event, Findings, Handle, Job, OptimizeError, Progress};

/// Marks of the bar.
const WIDTH: usize = 24;

/// How much of what was said of the last change is shown.
const SAID: usize = 60;

/// Runs a job and shows how it goes. An interrupt ends it in good order, a second one at once.
pub(super) async fn beside(job: Job) -> Result<Findings, OptimizeError> {
    let handle = job.handle();
    let mut run = Box::pin(job.run());
    let mut events = handle.events();
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    let on_terminal = io::stderr().is_terminal();
    let mut interrupted = false;
    loop {
        tokio::select! {
            biased;
            found = &mut run => {
                if on_terminal {
                    line(&bar(&handle.progress().borrow()));
                    eprintln!();
                }
                return found;
            }
            Ok(()) = tokio::signal::ctrl_c() => {
                if interrupted {
                    return Err(OptimizeError::CancelledAtStart);
                }
                interrupted = true;
                handle.cancel();
            }
            Ok(event) = events.recv(), if !on_terminal => tell(&handle, &event),
            _ = tick.tick(), if on_terminal => line(&bar(&handle.progress().borrow())),
        }
    }
}

/// Where nobody watches a bar, a line for each thing worth one.
fn tell(handle: &Handle, event: &Event) {
    match event {
        Event::Started { resumed } if *resumed > 0 => {
            eprintln!("going on: {resumed} results are known already")
        }
        Event::Best { member, score } => {
            let evaluations = handle.progress().borrow().evaluations;
            eprintln!("best {score:.3} by #{member} after {evaluations} roll-outs");
        }
        Event::Paused { reason } => eprintln!("paused: {reason}"),
        Event::Resumed => eprintln!("going on"),
        _ => {}
    }
}

/// Writes over the line before.
fn line(text: &str) {
    let mut out = io::stderr();
    let _ = write!(out, "\r\x1b[2K{text}").and_then(|()| out.flush());
}

/// Budget, best score, money, and what was said of the last change accepted.
fn bar(progress: &Progress) -> String {
    let mut text = String::new();
    if let Some(left) = progress.evaluations_left {
        let all = (progress.evaluations + left).max(1);
        let done = (progress.evaluations * WIDTH / all).min(WIDTH);
        let _ = write!(text, "[{:<WIDTH$}] {}/{all} roll-outs", "#".repeat(done), progress.evaluations);
    } else {
        let _ = write!(text, "{} roll-outs", progress.evaluations);
    }
    if let Some(best) = progress.best {
        let _ = write!(text, "  best {best:.3}");
    }
    let _ = write!(text, "  {} tokens  ${:.4}", progress.spend.all_tokens(), progress.spend.dollars());
    if let Some(reason) = &progress.paused {
        let _ = write!(text, "  paused: {}", plain(reason));
    } else if !progress.last_accepted.is_empty() {
        let _ = write!(text, "  last: {}", plain(&progress.last_accepted));
    }
    text
}

/// The beginning of a text that a model wrote, without anything that a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAID).collect()
}

/// What came of a job.
pub(super) fn summary(found: &Findings) -> String {
    let mut text = format!(
        "{}: {} by {}, {} candidates tried, {} + {} roll-outs, {} tokens, ${:.4}, {:.0} s, {} calls failed\n",
        found.task,
        found.ended.word(),
        found.strategy,
        found.tried,
        found.evaluations,
        found.check_evaluations,
        found.spend.all_tokens(),
        found.spend.dollars(),
        found.seconds,
        found.errors,
    );
    for (name, before, after) in [
        ("validation", found.seed_scores.validation, found.scores.validation),
        ("held-out", found.seed_scores.held_out, found.scores.held_out),
    ] {
        if let (Some(before), Some(after)) = (before, after) {
            let _ = writeln!(text, "{name}: {} -> {}", estimate(before), estimate(after));
        }
    }
    for (name, best) in found.best.iter() {
        let safe = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        let _ = writeln!(text, "\n[{name}]\n{}", best.chars().filter(safe).collect::<String>());
    }
    text
}

fn estimate(one: Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", one.mean, one.low, one.high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_shows_budget_best_and_the_last_change() {
        let progress = Progress {
            evaluations: 50,
            evaluations_left: Some(50),
            best: Some(0.5),
            last_accepted: "It lacks\x1b[2J rules.".into(),
            ..Progress::default()
        };
        let shown = bar(&progress);
        assert!(shown.starts_with("[############            ] 50/100 roll-outs  best 0.500"), "{shown}");
        assert!(shown.ends_with("last: It lacks [2J rules."), "{shown}");
        let paused = Progress { paused: Some("nobody answers".into()), ..progress };
        assert!(bar(&paused).ends_with("paused: nobody answers"));
    }
}
