//! Open and closed loops, steps, spikes and traces, against simulated providers.

use std::time::Duration;

use chimera_loadgen::{Overrides, Scenario};
use chimera_sim::Settings;

use crate::support::{CHAT, answer, ran, scenario, scripted, sim};

#[test]
fn every_dialect_is_asked_unary_and_streamed() {
    let address = sim(Settings { per_token: Duration::from_millis(2), ..Settings::default() });
    let mut text = format!(
        "name = \"all\"\nthresholds = [\"error_rate < 1%\", \"messages-true.p95 < 5s\"]\n[target]\n\
         url = \"http://{address}/v1\"\n[load]\ncount = 200\nconnections = 8\nworkers = 2\n[closed]\n"
    );
    for request in ["chat", "messages", "gemini"] {
        for stream in [false, true] {
            text += &format!(
                "[[mix]]\nname = \"{request}-{stream}\"\nrequest = \"{request}\"\nmodel = \"sim-small\"\n\
                 stream = {stream}\nprompt_tokens = [10, 50]\noutput_tokens = 5\n"
            );
        }
    }
    text += "[[mix]]\nname = \"embed\"\nrequest = \"embeddings\"\nmodel = \"sim-small\"\nprompt_tokens = 9\n";
    let report = ran(&Scenario::parse(&text, &Overrides::default()).unwrap());
    assert_eq!((report.overall.ok, report.overall.failed), (200, 0), "{:?}", report.overall.errors);
    assert!(report.held(), "{:?}", report.verdicts);
    for (name, numbers) in &report.mixes {
        assert!(numbers.ok > 5, "{name}");
        assert!(numbers.input_tokens > 0, "{name}");
        let streams = name.ends_with("true");
        assert_eq!(numbers.first_event.is_some_and(|times| times.count == numbers.ok), streams, "{name}");
        assert_eq!(numbers.gap.is_some_and(|times| times.count >= numbers.ok), streams, "{name}");
        assert_eq!(name == "embed", numbers.output_tokens == 0, "{name}");
    }
}

#[test]
fn an_open_loop_offers_what_it_was_asked_to() {
    let address = sim(Settings::default());
    let load = "[load]\nduration = \"1s\"\nworkers = 2\nmax_lag = \"1s\"\n[open]\nrate = 200\narrivals = \"constant\"";
    let report = ran(&scenario(address, "", load, ""));
    assert_eq!(report.overall.ok, 200);
    assert!((190.0..=200.0).contains(&report.overall.throughput), "{}", report.overall.throughput);
    assert_eq!(report.generator.lag.unwrap().count, 200);
}

/// The server answers one request at a time and takes 10 ms for it: 100/s is what it can.
#[test]
fn a_stress_run_names_the_breaking_point() {
    let lock = std::sync::Mutex::new(());
    let address = scripted(move |_, stream| {
        let _one_at_a_time = lock.lock().unwrap();
        std::thread::sleep(Duration::from_millis(10));
        answer(stream, 200, "", CHAT)
    });
    let stress = |at_least: &str| {
        let load = format!(
            "[load]\nmax_lag = \"1s\"\n[stress]\nfrom = 30\nfactor = 8\nmost = 2000\nstep = \"500ms\"\n\
             arrivals = \"constant\"\n{at_least}"
        );
        scenario(address, "thresholds = [\"p50 < 200ms\"]", &load, "")
    };
    let report = ran(&stress(""));
    let point = report.breaking_point.as_ref().unwrap();
    assert_eq!((point.rate, point.held), (240.0, Some(30.0)), "{point:?}");
    assert!(point.broken[0].starts_with("p50 < 200ms"), "{point:?}");
    assert!(report.held());
    assert!(report.html().contains("Throughput against offered load"));
    assert!(report.summary().contains("breaking point: 240/s"));
    assert!(!ran(&stress("at_least = 200")).held());
}

#[test]
fn a_replay_sends_what_was_recorded_when_it_was_faster() {
    let path = std::env::temp_dir().join(format!("chimera-loadgen-replay-{}.jsonl", std::process::id()));
    let row = |at: u32, length: u32| {
        format!(
            "{{\"timestamp\":{at},\"input_length\":{length},\"output_length\":3,\"hash_ids\":[1,{at}]}}\n"
        )
    };
    std::fs::write(&path, (0..20).map(|n| row(n * 1000, 600 + n)).collect::<String>()).unwrap();
    let address = sim(Settings::default());
    let load =
        format!("[load]\nmax_lag = \"1s\"\n[replay]\ntrace = {:?}\nspeed = 40", path.display().to_string());
    let report = ran(&scenario(address, "", &load, ""));
    std::fs::remove_file(path).unwrap();
    assert_eq!((report.overall.ok, report.overall.failed), (20, 0));
    assert!((0.4..0.9).contains(&report.seconds), "{}", report.seconds);
    // Recorded lengths, by the simulated provider's own count of tokens.
    assert!(report.overall.input_tokens > 20 * 500, "{}", report.overall.input_tokens);
    assert_eq!(report.overall.output_tokens, 60);
}

#[test]
fn a_spike_goes_on_without_a_rest() {
    let address = sim(Settings::default());
    let load = "[load]\nmax_lag = \"1s\"\n[spike]\nbase = 20\npeak = 200\nbefore = \"500ms\"\nlasts = \"500ms\"\n\
                after = \"500ms\"\narrivals = \"constant\"";
    let report = ran(&scenario(address, "", load, ""));
    assert_eq!(report.overall.ok, 10 + 100 + 10);
    assert!((1.4..1.8).contains(&report.seconds), "{}", report.seconds);
}

#[test]
fn a_watched_process_is_sampled_and_all_of_it_is_in_the_json() {
    let address = sim(Settings::default());
    let watch = format!("[watch]\npid = {}\nevery = \"50ms\"", std::process::id());
    let load = format!("[load]\nduration = \"1s\"\n[closed]\n{watch}");
    let report = ran(&scenario(address, "thresholds = [\"fds_slope < 1000000/h\"]", &load, ""));
    assert!(report.samples.len() >= 12, "{}", report.samples.len());
    assert!(report.slopes.is_some() && report.held(), "{:?}", report.verdicts);
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert!(json["samples"][0]["memory"].as_f64().unwrap() > 1e5);
    assert!(json["overall"]["latency"]["p999"].is_number());
    let html = report.html();
    assert!(html.contains("<title>Memory</title>") && html.contains("Latency over time"));
    for outside in ["<script", "http://www", "src=", "@import", "<link"] {
        assert!(!html.contains(outside), "{outside}");
    }
}
