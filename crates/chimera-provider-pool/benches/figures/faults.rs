//! Providers that are ill, one at a time or all of them.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use chimera_circuit_breaker::{Forced, State};
use chimera_provider_pool::{
    DeploymentSettings, Failover, Group, GroupSettings, LeastLatency, RoundRobin, SharedPicker,
};
use tokio::time::Instant;

use crate::{
    MS, group, in_ms, percentile, send,
    servers::{Ill, serve},
};

const WELL: Ill = Ill::Well(Duration::from_millis(40));

/// When a request began, how long it took, whether it was answered.
type Seen = (Duration, Duration, bool);

/// Eight callers for so long.
async fn load(group: &Arc<Group>, long: Duration) -> Vec<Seen> {
    let began = Instant::now();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let group = group.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while began.elapsed() < long {
                    let (at, now) = (began.elapsed(), Instant::now());
                    let answered = send(&group).await.is_ok_and(|reply| reply.refusal.is_none());
                    seen.push((at, now.elapsed(), answered));
                }
                seen
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    all
}

/// When the group's second member was first passed over: its breaker not closed.
async fn opened(group: Arc<Group>) -> Duration {
    let began = Instant::now();
    while group.deployments()[1].breaker().state(Instant::now().into_std()) == State::Closed {
        tokio::time::sleep(MS).await;
    }
    began.elapsed()
}

fn policy() -> GroupSettings {
    let failover = Failover { broken: true, ..Failover::default() };
    GroupSettings { failover, first_event: Some(1000 * MS), ..GroupSettings::default() }
}

async fn trio(ill: Ill) -> Arc<Group> {
    let ports = [serve(WELL).await.0, serve(ill).await.0, serve(WELL).await.0];
    group(&ports, Arc::new(RoundRobin::default()), policy(), &DeploymentSettings::default())
}

pub(crate) async fn one_of_three_is_ill() {
    let base = load(&trio(WELL).await, 4000 * MS).await;
    let base = percentile(base.iter().map(|seen| seen.1), 99);
    println!(
        "\none of three is ill, asked in turn by eight callers; answers take 40 ms, p99 {:.1} ms",
        in_ms(base)
    );
    println!(
        "| it | answered | breaker open after | p99 from then on, of the p99 without |\n|---|---|---|---|"
    );
    for ill in [Ill::BlackHole, Ill::Fails, Ill::Resets, Ill::SlowLoris, Ill::Throttles] {
        let group = trio(ill).await;
        let watch = tokio::spawn(opened(group.clone()));
        let seen = load(&group, 8000 * MS).await;
        let open = watch.is_finished().then_some(watch);
        let open = match open {
            Some(watch) => watch.await.ok(),
            None => None,
        };
        // Requests that began when it was out; of throttles none is a failure, and the rest is at once.
        let from = open.unwrap_or(1000 * MS);
        let later = percentile(seen.iter().filter(|seen| seen.0 >= from).map(|seen| seen.1), 99);
        let answered = seen.iter().filter(|seen| seen.2).count() as f64 / seen.len() as f64;
        let open = open.map_or("stays closed".to_owned(), |open| format!("{:.0} ms", in_ms(open)));
        let failures = group.deployments()[1].breaker().snapshot(std::time::Instant::now()).failures;
        println!(
            "| {ill:?} | {:.2} % of {} | {open}, {failures} failures in its window | {:.2} |",
            100.0 * answered,
            seen.len(),
            later.as_secs_f64() / base.as_secs_f64()
        );
    }
}

pub(crate) async fn all_fail() {
    println!("\nall three fail\n| breakers | attempts for each request |\n|---|---|");
    for held in [false, true] {
        let servers = [serve(Ill::Fails).await, serve(Ill::Fails).await, serve(Ill::Fails).await];
        let ports = servers.each_ref().map(|server| server.0);
        let group = group(&ports, Arc::new(RoundRobin::default()), policy(), &DeploymentSettings::default());
        if held {
            let now = std::time::Instant::now();
            group.deployments().iter().for_each(|one| one.breaker().force(Some(Forced::Closed), now));
        }
        let seen = load(&group, 2000 * MS).await;
        let asked: usize = servers.iter().map(|server| server.1.load(Relaxed)).sum();
        let held = if held { "held closed" } else { "free" };
        println!("| {held} | {:.3} ({asked} for {}) |", asked as f64 / seen.len() as f64, seen.len());
    }
}

pub(crate) async fn one_of_four_is_slow() {
    println!("\none of four takes 400 ms, the others 40\n| picker | p50 | p99 |\n|---|---|---|");
    let slow = Ill::Well(400 * MS);
    let pickers: [(&str, SharedPicker); 2] = [
        ("round robin", Arc::new(RoundRobin::default())),
        ("least latency", Arc::new(LeastLatency::default())),
    ];
    for (name, picker) in pickers {
        let mut ports = Vec::new();
        for ill in [WELL, WELL, WELL, slow] {
            ports.push(serve(ill).await.0);
        }
        let group = group(&ports, picker, GroupSettings::default(), &DeploymentSettings::default());
        // A while to get to know them.
        load(&group, 2000 * MS).await;
        let seen = load(&group, 5000 * MS).await;
        let at = |percent| in_ms(percentile(seen.iter().map(|seen| seen.1), percent));
        println!("| {name} | {:.1} ms | {:.1} ms |", at(50), at(99));
    }
}
