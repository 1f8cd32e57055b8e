//! What a report must not hide.

use std::{
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use chimera_loadgen::{Control, run};

use crate::support::{CHAT, answer, ran, scenario, scripted};

/// The server stands still once, for 100 ms. A closed loop sees one slow request of hundreds; an open loop has to
/// tell of all those that were to start meanwhile.
#[test]
fn a_stall_of_the_target_shows_in_full() {
    let stall = || {
        let stalled = AtomicBool::new(false);
        let lock = std::sync::Mutex::new(());
        scripted(move |number, stream| {
            let _one_at_a_time = lock.lock().unwrap();
            if number == 200 && !stalled.swap(true, SeqCst) {
                thread::sleep(Duration::from_millis(100));
            }
            answer(stream, 200, "", CHAT)
        })
    };
    let open = "[load]\ncount = 1000\nconnections = 1\nmax_lag = \"1s\"\n[open]\nrate = 500\narrivals = \"constant\"";
    let open = ran(&scenario(stall(), "", open, "")).overall.latency.unwrap();
    assert_eq!(open.count, 1000);
    assert!(open.p999 >= 0.090, "{open:?}");
    // 100 ms at 500/s are 50 requests of 1000: they reach down to the 96th percentile.
    assert!(open.p99 >= 0.070, "{open:?}");
    let closed = "[load]\ncount = 1000\nconnections = 1\n[closed]";
    let closed = ran(&scenario(stall(), "", closed, "")).overall.latency.unwrap();
    assert!(closed.max >= 0.090, "{closed:?}");
    assert!(closed.p99 < open.p99, "{closed:?}");
}

#[test]
fn requests_without_an_answer_count_with_the_time_they_had() {
    let address = scripted(|_, _| {
        thread::sleep(Duration::from_secs(60));
        false
    });
    let load = "[load]\ncount = 4\nconnections = 4\ntimeout = \"100ms\"\n[closed]";
    let report = ran(&scenario(address, "", load, ""));
    assert_eq!((report.overall.ok, report.overall.failed), (0, 4));
    assert_eq!(report.overall.errors["timeout"].count, 4);
    assert!(report.overall.latency.unwrap().p50 >= 0.1);
    assert!(!report.held());
}

#[test]
fn a_generator_that_is_late_refuses_its_result() {
    let address = scripted(|_, stream| answer(stream, 200, "", CHAT));
    // No machine starts threads and sleeps to the microsecond.
    let load = "[load]\ncount = 50\nmax_lag = \"1us\"\n[open]\nrate = 500";
    let report = ran(&scenario(address, "thresholds = []", load, ""));
    assert!(report.refused.is_some() && !report.held());
    assert!(report.summary().contains("REFUSED") && report.html().contains("does not count"));
    // Where the generator fails it names no breaking point of the target.
    let stress = "[load]\nmax_lag = \"1us\"\n[stress]\nfrom = 200\nadd = 200\nmost = 400\nstep = \"200ms\"";
    let report = ran(&scenario(address, "thresholds = []", stress, ""));
    assert!(report.refused.is_some_and(|why| why.starts_with("at 200/s")));
    assert!(report.breaking_point.is_none());
}

#[test]
fn stopping_still_reports_what_was_done() {
    let address = scripted(|number, stream| {
        if number >= 20 {
            thread::sleep(Duration::from_secs(60));
        }
        answer(stream, 200, "", CHAT)
    });
    let scenario = scenario(address, "", "[load]\nconnections = 4\nduration = \"1h\"\n[closed]", "");
    let control = Control::default();
    let stop = control.clone();
    let begin = Instant::now();
    let report = run(&scenario, &control, &mut |live| {
        if live.overall.ok >= 20 {
            stop.stop();
        }
    });
    let report = report.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(50));
    assert!(report.interrupted);
    assert_eq!((report.overall.ok, report.generator.unfinished), (20, 4));
    assert_eq!(report.overall.failed, 0);
}

#[test]
fn the_warm_up_does_not_count() {
    let slow = Instant::now() + Duration::from_millis(400);
    let address = scripted(move |_, stream| {
        if Instant::now() < slow {
            thread::sleep(Duration::from_millis(20));
        }
        answer(stream, 200, "", CHAT)
    });
    let load = "[load]\nwarm_up = \"600ms\"\nduration = \"400ms\"\nconnections = 2\n[closed]";
    let report = ran(&scenario(address, "", load, ""));
    assert!(report.generator.warm_up >= 20, "{:?}", report.generator);
    assert!(report.overall.ok > 0);
    assert!((0.4..0.6).contains(&report.seconds), "{}", report.seconds);
}
