//! A scenario of one's own against a local endpoint:
//! `cargo run -p chimera-loadgen --example own_scenario -- http://127.0.0.1:8080`.

use chimera_loadgen::{Control, Overrides, Scenario, run};

const SCENARIO: &str = r#"
name = "own"
thresholds = ["p99 < 500ms", "error_rate < 1%"]
[target]
url = "http://127.0.0.1:8080"
[load]
duration = "5s"
[open]
rate = 50
[[mix]]
name = "chat"
request = "chat"
model = "sim-small"
stream = true
prompt_tokens = [100, 400]
"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let overrides = Overrides { url: std::env::args().nth(1), ..Overrides::default() };
    let scenario = Scenario::parse(SCENARIO, &overrides)?;
    let report = run(&scenario, &Control::default(), &mut |live| println!("{:.0} s", live.elapsed))?;
    println!("{}", report.summary());
    Ok(())
}
