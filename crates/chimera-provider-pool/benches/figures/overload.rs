//! Ten times what can be served.

use std::{sync::Arc, time::Duration};

use chimera_provider_pool::{DeploymentSettings, Group, GroupSettings, InOrder};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    MS, group, in_ms, percentile, send,
    servers::{Ill, serve},
};

/// Requests at a fixed rate, whatever becomes of them: times of those served and of those refused.
async fn open_loop(group: &Arc<Group>, a_second: u32, seconds: u32) -> (Vec<Duration>, Vec<Duration>) {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..a_second * seconds {
        tokio::time::sleep_until(began + 1000 * MS * n / a_second).await;
        let group = group.clone();
        tasks.spawn(async move {
            let began = Instant::now();
            let served = send(&group).await.is_ok();
            (served, began.elapsed())
        });
    }
    let (served, refused): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(|end| end.0);
    let times = |ends: Vec<(bool, Duration)>| ends.into_iter().map(|end| end.1).collect();
    (times(served), times(refused))
}

pub(crate) async fn ten_times() {
    let (port, _) = serve(Ill::Well(100 * MS)).await;
    let each = DeploymentSettings { max_in_flight: 10, ..DeploymentSettings::default() };
    let group = group(&[port], Arc::new(InOrder), GroupSettings::default(), &each);
    let alone = percentile(open_loop(&group, 30, 3).await.0, 99);
    // A little more than can be served: what comes through is the peak.
    let peak = open_loop(&group, 120, 4).await.0.len() as f64 / 4.0;
    tokio::time::sleep(500 * MS).await;
    let (served, refused) = open_loop(&group, 1000, 5).await;
    let over = Instant::now();
    let (goodput, count) = (served.len() as f64 / 5.0, refused.len());
    let after = loop {
        let (times, lost) = open_loop(&group, 30, 1).await;
        if lost.is_empty() && percentile(times, 99) <= alone * 11 / 10 {
            break over.elapsed();
        }
    };
    println!("\nten in flight, 100 ms each; 1,000 requests a second for 5 s\n| what | figure |\n|---|---|");
    println!("| served | {goodput:.1} a second, {:.3} of the peak of {peak:.1} |", goodput / peak);
    println!(
        "| p99 of what is served | {:.1} ms, {:.2} of the {:.1} ms without load |",
        in_ms(percentile(served.iter().copied(), 99)),
        percentile(served, 99).as_secs_f64() / alone.as_secs_f64(),
        in_ms(alone)
    );
    println!(
        "| refused | {count}, p50 {:.2} ms, p99 {:.2} ms |",
        in_ms(percentile(refused.iter().copied(), 50)),
        in_ms(percentile(refused, 99))
    );
    println!("| as before, for a whole second | {:.1} s after the last of them |", after.as_secs_f64());
}
