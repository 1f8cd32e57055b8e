//! `cargo xtask load PROFILE`: a simulated provider, a gateway before it, and the load tester before both.

mod mission;

use std::{fs, path::PathBuf, process::Command};

use crate::process::{Killed, Outcome, cargo, free_port, root, run as run_command, start_until, target};

/// Builds what is needed, starts it, and loads it; what the load tester says is the outcome.
pub(crate) fn run(args: &[String]) -> Outcome {
    let dev = args.iter().any(|arg| arg == "--dev");
    let rest: Vec<_> = args.iter().filter(|arg| *arg != "--dev").collect();
    if rest.is_empty() {
        return Err(
            "name a profile: smoke, load, stress, soak, spike, hold, transform, replay TRACE, or mission"
                .to_owned(),
        );
    }
    if rest.first().is_some_and(|first| *first == "mission") {
        return mission::run(args);
    }
    build(dev)?;
    let folder = target().join(if dev { "debug" } else { "release" });
    let stage = Stage::set(&folder, &Setup { sections: "", provider: "", providers: 1, long: None })?;
    // Traces are named from where the task was called, which is the workspace's root.
    let load = Command::new(folder.join("chimera-load"))
        .current_dir(root())
        .args(&rest)
        .args(["--target", &format!("http://127.0.0.1:{}", stage.data)])
        .args(["--metrics", &format!("http://127.0.0.1:{}/metrics", stage.admin)])
        .status();
    match load.map_err(|error| error.to_string())?.code() {
        Some(0) => Ok(()),
        Some(1) => Err("a threshold broke".to_owned()),
        Some(3) => Err("the load tester was too late for its result to count".to_owned()),
        _ => Err("the load tester did not get so far as to say".to_owned()),
    }
}

fn build(dev: bool) -> Outcome {
    let profile = if dev { "dev" } else { "release" };
    let build = ["build", "--quiet", "--locked", "--profile", profile];
    run_command(cargo().args(build).args(["--package", "chimera-server", "--package", "chimera-load"]))?;
    run_command(cargo().args(build).args(["--package", "chimera-sim", "--example", "serve_sim"]))
}

/// How the gateway is set up.
struct Setup {
    /// Sections of its configuration.
    sections: &'static str,
    /// What else each provider's section says.
    provider: &'static str,
    /// How many simulated providers there are.
    providers: usize,
    /// How many bytes the answers of `long` have, if there is one.
    long: Option<&'static str>,
}

/// What is loaded. Dropped, all of it ends.
struct Stage {
    _providers: Vec<Killed>,
    _gateway: Killed,
    config: PathBuf,
    data: u16,
    admin: u16,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.config);
    }
}

impl Stage {
    fn set(folder: &std::path::Path, setup: &Setup) -> Outcome<Self> {
        let (data, admin) = (free_port()?, free_port()?);
        let config = std::env::temp_dir().join(format!("chimera-load-{}.toml", std::process::id()));
        let mut text = format!(
            "[log]\nlevel = \"error\"\n[server]\nlisten = \"127.0.0.1:{data}\"\nadmin_listen = \"127.0.0.1:{admin}\"\n\
             [transforms.load]\nsteps = [\"normalize\", \"redact\", \"budget\"]\n{}",
            setup.sections
        );
        let mut providers = Vec::new();
        let mut provider = |name: &str, models: &str, args: &[&str]| -> Outcome {
            let mut provider = Command::new(folder.join("examples").join("serve_sim"));
            let (provider, address) = start_until(provider.arg("127.0.0.1:0").args(args), |line| {
                line.strip_prefix("listening ").map(|address| address.trim().to_owned())
            })?;
            providers.push(provider);
            text += &format!(
                "[providers.{name}]\ndialect = \"openai\"\nbase_url = \"http://{address}/v1\"\nmodels = {models}\n{}",
                setup.provider
            );
            Ok(())
        };
        for index in 1..=setup.providers {
            let models = if index == 1 { r#"["sim-*"]"# } else { "[]" };
            provider(&format!("sim{index}"), models, &[])?;
        }
        if let Some(bytes) = setup.long {
            provider("long", r#"["long"]"#, &[bytes])?;
        }
        fs::write(&config, text).map_err(|error| error.to_string())?;
        let mut gateway = Command::new(folder.join("chimera"));
        gateway.args(["serve", "--config"]).arg(&config);
        for key in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "REDIS_URL"] {
            gateway.env_remove(key);
        }
        let (gateway, ()) =
            start_until(&mut gateway, |line| line.trim().starts_with("listening").then_some(()))?;
        Ok(Self { _providers: providers, _gateway: gateway, config, data, admin })
    }
}
