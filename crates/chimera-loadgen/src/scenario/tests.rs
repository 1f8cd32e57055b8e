//! Scenarios that are right, and each way to be wrong.

use super::*;
use crate::threshold::DEFAULTS;

const GOOD: &str = r#"
name = "good"
[target]
url = "http://127.0.0.1:8080"
[load]
duration = "10s"
[open]
rate = 50
[[mix]]
name = "chat"
request = "chat"
model = "sim-small"
prompt_tokens = [10, 20]
prompts = 100
zipf = 1.0
"#;

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(text, &Overrides::default())
}

/// The key that is blamed when `from` stands in the place of `to`.
fn blamed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn the_good_one_is_read_and_has_the_default_service_levels() {
    let good = parse(GOOD).unwrap();
    let steps = vec![Step { rate: 50.0, lasts: Duration::from_secs(10) }];
    assert_eq!(good.shape, Shape::Open { arrivals: Arrivals::Poisson, steps });
    let texts: Vec<_> = good.thresholds.iter().map(|one| one.text.as_str()).collect();
    assert_eq!(texts, DEFAULTS);
    assert!(good.thresholds.iter().all(|one| one.by_default));
}

#[test]
fn every_fault_names_its_key() {
    for (from, to, key) in [
        ("127.0.0.1:8080", "example.com", "target.remote: "),
        ("http://", "gopher://", "target.url: "),
        ("[load]", "api_key_env = \"CHIMERA_NOT_SET\"\n[load]", "target.api_key_env: "),
        ("[load]", "ca_file = \"/nowhere\"\n[load]", "target.ca_file: "),
        ("duration = \"10s\"", "", "load.duration: "),
        ("duration = \"10s\"", "duration = \"0s\"", "load.duration: "),
        ("duration = \"10s\"", "duration = \"10\"", "duration = \"10\""),
        ("duration = \"10s\"", "count = 0", "load.count: "),
        ("[open]", "connections = 0\n[open]", "load.connections: "),
        ("[open]", "workers = 65\n[open]", "load.workers: "),
        ("[open]", "timeout = \"0s\"\n[open]", "load.timeout: "),
        ("[open]", "wormup = \"1s\"\n[open]", "wormup"),
        ("rate = 50", "rate = 0", "open.rate: "),
        ("rate = 50", "rate = inf", "open.rate: "),
        ("rate = 50", "rate = 50\n[closed]", "scenario: "),
        ("[open]\nrate = 50", "", "scenario: "),
        ("[open]\nrate = 50", "[replay]", "replay.trace: "),
        ("[open]\nrate = 50", "[replay]\ntrace = \"t\"\nspeed = 0", "replay.speed: "),
        ("name = \"chat\"", "name = \"a.b\"", "mix[0].name: "),
        ("request = \"chat\"", "request = \"chatter\"", "chatter"),
        ("request = \"chat\"", "request = \"embeddings\"\nstream = true", "mix[0].stream: "),
        ("request = \"chat\"", "request = \"chat\"\npath = \"x\"", "mix[0].path: "),
        ("request = \"chat\"", "request = \"chat\"\nweight = -1", "mix[0].weight: "),
        ("[10, 20]", "[20, 10]", "mix[0].prompt_tokens: "),
        ("[10, 20]", "0", "mix[0].prompt_tokens: "),
        ("prompts = 100", "prompts = 0", "mix[0].prompts: "),
        ("prompts = 100", "", "mix[0].zipf: "),
        ("zipf = 1.0", "zipf = -1.0", "mix[0].zipf: "),
        ("[target]", "thresholds = [\"p95 < 10\"]\n[target]", "thresholds: "),
        ("[open]", "[watch]\n[open]", "watch.pid: "),
        ("[open]", "[watch]\nmetrics = \"https://localhost\"\n[open]", "watch.metrics: "),
    ] {
        let blamed = blamed(from, to);
        assert!(blamed.contains(key), "{to}: {blamed}");
    }
}

#[test]
fn two_mixes_need_two_names() {
    let second = &GOOD[GOOD.find("[[mix]]").unwrap()..];
    assert_eq!(parse(&format!("{GOOD}{second}")).unwrap_err().key(), "mix[1].name");
}

#[test]
fn stress_steps_add_or_multiply() {
    let stress = |how: &str| {
        let shape = format!("[stress]\nfrom = 10\nmost = 45\nstep = \"5s\"\n{how}");
        parse(&GOOD.replace("duration = \"10s\"", "").replace("[open]\nrate = 50", &shape))
    };
    let rates = |how| match stress(how).unwrap().shape {
        Shape::Stress { steps, .. } => steps.iter().map(|step| step.rate).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(rates("add = 15"), [10.0, 25.0, 40.0]);
    assert_eq!(rates("factor = 2"), [10.0, 20.0, 40.0]);
    for (how, key) in [
        ("", "stress.add"),
        ("add = 1\nfactor = 2", "stress.add"),
        ("factor = 1", "stress.factor"),
        ("add = 0.01", "stress.add"),
    ] {
        assert_eq!(stress(how).unwrap_err().key(), key);
    }
}

#[test]
fn a_spike_is_three_steps() {
    let shape = "[spike]\nbase = 10\npeak = 100\nbefore = \"5s\"\nlasts = \"2s\"\nafter = \"5s\"";
    let text = GOOD.replace("duration = \"10s\"", "").replace("[open]\nrate = 50", shape);
    let Shape::Open { steps, .. } = parse(&text).unwrap().shape else { panic!() };
    assert_eq!(steps.iter().map(|step| step.rate).collect::<Vec<_>>(), [10.0, 100.0, 10.0]);
}

#[test]
fn a_command_line_stands_above_the_file() {
    let overrides = Overrides {
        url: Some("http://localhost:1/v1".into()),
        rate: Some(7.0),
        duration: Some(Duration::from_secs(3)),
        model: Some("other".into()),
        ..Overrides::default()
    };
    let scenario = Scenario::parse(GOOD, &overrides).unwrap();
    assert_eq!(scenario.target.url(), "http://localhost:1/v1");
    assert_eq!(scenario.mix[0].model, "other");
    let steps = vec![Step { rate: 7.0, lasts: Duration::from_secs(3) }];
    assert_eq!(scenario.shape, Shape::Open { arrivals: Arrivals::Poisson, steps });
}
