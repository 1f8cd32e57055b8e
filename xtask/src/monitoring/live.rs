//! A gateway under load, a Prometheus beside it, and faults.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, sleep},
    time::Duration,
};

use super::{ensure, expressions, metric_names, prometheus::Prometheus, rules};
use crate::{
    debian,
    process::{Killed, Outcome, cargo, free_port, run as run_command, start_gateway},
};

/// `cargo xtask monitoring`.
pub(crate) fn run() -> Outcome {
    if !ensure() {
        return Err("Prometheus is not here: apt-get install prometheus".to_owned());
    }
    run_command(cargo().args(["build", "--quiet", "--locked", "--package", "chimera-server"]))?;
    let mut stage = Stage::set()?;
    let prometheus = Prometheus::start(stage.admin)?;
    let traffic = Traffic::start(stage.data, "sim-small");
    let transforms = Transforms::start(stage.data, "a text of ada@example.com", 1);
    // The look-back of `offset`, and some windows.
    sleep(Duration::from_secs(30));
    let asked = every_expression(&prometheus)?;
    println!("{asked} expressions have something to show");
    stage.redis_goes(&prometheus)?;
    stage.provider_is_down(&prometheus)?;
    stage.transforms_are_slow(&prometheus)?;
    drop((traffic, transforms));
    prometheus.await_alert("ChimeraThroughputFell", true)?;
    stage.reload_is_bad(&prometheus)?;
    drop(stage);
    prometheus.await_alert("ChimeraDown", true)
}

/// Every panel and every recording shows something; every alert reads what is there.
fn every_expression(prometheus: &Prometheus) -> Outcome<usize> {
    let alerts: Vec<_> = rules()?.into_iter().filter(|rule| rule.runbook.is_some()).collect();
    let mut wrong = Vec::new();
    let all = expressions()?;
    for (place, expression) in &all {
        let is_alert = alerts.iter().any(|alert| alert.name == *place);
        let short = ["5m", "30m", "1h", "6h", "3d"]
            .iter()
            .fold(expression.clone(), |text, window| text.replace(&format!("[{window}]"), "[8s]"))
            .replace("$__rate_interval", "8s")
            .replace("$instance", ".*");
        let asked = if is_alert { metric_names(&short).into_iter().collect() } else { vec![short] };
        for question in asked {
            if prometheus.series(&question)? == 0 {
                wrong.push(format!("{place}: `{question}` shows nothing"));
            }
        }
    }
    if wrong.is_empty() { Ok(all.len()) } else { Err(wrong.join("\n")) }
}

/// The gateway, its Redis, and a provider that can be down.
struct Stage {
    gateway: Option<Killed>,
    redis: Option<(Killed, u16)>,
    config: PathBuf,
    data: u16,
    admin: u16,
    provider: u16,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.gateway = None;
        let _ = fs::remove_file(&self.config);
    }
}

impl Stage {
    fn set() -> Outcome<Self> {
        let (data, admin, provider, redis) = (free_port()?, free_port()?, free_port()?, free_port()?);
        let has_redis = debian::has_redis();
        let second = if has_redis {
            format!("[cache.redis]\nurl = \"redis://127.0.0.1:{redis}\"\n")
        } else {
            String::new()
        };
        let config = std::env::temp_dir().join(format!("chimera-monitoring-{}.toml", std::process::id()));
        let text = format!(
            "[log]\nlevel = \"error\"\n[server]\nlisten = \"127.0.0.1:{data}\"\nadmin_listen = \"127.0.0.1:{admin}\"\n[worker_pool]\nthreads = 1\nqueue = 4\n[transforms.tidy]\nsteps = [\"normalize\", \"redact\", \"schema\"]\n[breaker]\nopen_base = \"1s\"\nopen_max = \"1s\"\n{second}\
             [providers.flaky]\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:{provider}/v1\"\nmodels = [\"flaky\"]\n"
        );
        // The simulated provider serves only where no other is configured.
        let text = text
            + &format!(
                "[providers.steady]\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:{}/v1\"\nmodels = [\"sim-*\"]\n[groups.hedged]\ndeployments = [{{ provider = \"steady\", model = \"sim-small\" }}]\nhedge_percentile = 95\n",
                serve_well(free_port()?)?
            );
        fs::write(&config, text).map_err(|error| error.to_string())?;
        let redis = if has_redis { Some((start_redis(redis)?, redis)) } else { None };
        let path = config.display().to_string();
        let (gateway, _) = start_gateway(&["--config", &path])?;
        Ok(Self { gateway: Some(gateway), redis, config, data, admin, provider })
    }

    fn redis_goes(&mut self, prometheus: &Prometheus) -> Outcome {
        let Some((process, port)) = self.redis.take() else {
            println!("Redis is not here: its alerts were SKIPPED");
            return Ok(());
        };
        drop(process);
        prometheus.await_alert("ChimeraCacheTierDown", true)?;
        self.redis = Some((start_redis(port)?, port));
        prometheus.await_alert("ChimeraCacheTierDown", false)
    }

    fn provider_is_down(&self, prometheus: &Prometheus) -> Outcome {
        let failing = Traffic::start(self.data, "flaky");
        for alert in [
            "ChimeraPoolConnectFailures",
            "ChimeraCircuitBreakerOpen",
            "ChimeraErrorRateHigh",
            "ChimeraErrorBudgetBurnsFast",
            "ChimeraErrorBudgetBurns",
            "ChimeraErrorBudgetBurnsSlowly",
            "ChimeraCircuitBreakerFlapping",
        ] {
            prometheus.await_alert(alert, true)?;
        }
        serve_well(self.provider)?;
        for alert in ["ChimeraCircuitBreakerOpen", "ChimeraErrorRateHigh", "ChimeraErrorBudgetBurnsFast"] {
            prometheus.await_alert(alert, false)?;
        }
        drop(failing);
        Ok(())
    }

    /// More and larger texts than one thread can take.
    fn transforms_are_slow(&self, prometheus: &Prometheus) -> Outcome {
        const ALERTS: [&str; 4] = [
            "ChimeraTransformSlow",
            "ChimeraTransformStepSlow",
            "ChimeraWorkerPoolWaitLong",
            "ChimeraWorkerPoolRejects",
        ];
        let text = "Mail ada@example.com or call +49 30 1234567 about it. ".repeat(40_000);
        let slow = Transforms::start(self.data, &text, 8);
        ALERTS.into_iter().try_for_each(|alert| prometheus.await_alert(alert, true))?;
        drop(slow);
        ALERTS.into_iter().try_for_each(|alert| prometheus.await_alert(alert, false))
    }

    fn reload_is_bad(&self, prometheus: &Prometheus) -> Outcome {
        let good = fs::read_to_string(&self.config).map_err(|error| error.to_string())?;
        fs::write(&self.config, format!("{good}\n[nonsense]\n")).map_err(|error| error.to_string())?;
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).map_err(|error| error.to_string())?;
        let host = format!("127.0.0.1:{}", self.admin);
        let ask = format!(
            "POST /api/v1/reload HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        let sent = stream.write_all(ask.as_bytes()).and_then(|()| stream.read_to_end(&mut Vec::new()));
        sent.map_err(|error| error.to_string())?;
        prometheus.await_alert("ChimeraReloadFailed", true)?;
        prometheus.await_alert("ChimeraReloadFailed", false)
    }
}

fn start_redis(port: u16) -> Outcome<Killed> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.map(Killed).map_err(|error| format!("redis-server: {error}"))
}

/// Requests at an even pace: each question comes a few times, so that some hit and some miss.
struct Traffic(Arc<AtomicBool>);

impl Traffic {
    fn start(port: u16, model: &'static str) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let told = goes_on.clone();
        thread::spawn(move || {
            let mut count = 0_u64;
            while told.load(Relaxed) {
                // A gateway that is stopping is no fault of the traffic.
                let _ = ask(port, model, count / 3, count.is_multiple_of(2));
                count += 1;
                sleep(Duration::from_millis(20));
            }
        });
        Self(goes_on)
    }
}

/// Texts that are transformed, one after the other, by so many callers.
struct Transforms(Arc<AtomicBool>);

impl Transforms {
    fn start(port: u16, text: &str, callers: usize) -> Self {
        let goes_on = Arc::new(AtomicBool::new(true));
        let body: Arc<str> = format!(r#"{{"pipeline":"tidy","text":"{text}"}}"#).into();
        for _ in 0..callers {
            let (told, body) = (goes_on.clone(), body.clone());
            thread::spawn(move || {
                while told.load(Relaxed) {
                    // What is turned away is part of the show.
                    let _ = post(port, "/api/v1/transform", "", &body);
                    sleep(Duration::from_millis(100));
                }
            });
        }
        Self(goes_on)
    }
}

impl Drop for Transforms {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

fn ask(port: u16, model: &str, number: u64, compressed: bool) -> std::io::Result<()> {
    let body =
        format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"question {number}"}}]}}"#);
    let accept = if compressed { "accept-encoding: gzip\r\n" } else { "" };
    post(port, "/v1/chat/completions", accept, &body)
}

fn post(port: u16, path: &str, accept: &str, body: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n{accept}\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A provider that answers everything well.
fn serve_well(port: u16) -> Outcome<u16> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    let text = "an answer of some length. ".repeat(80);
    let body = format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":50,"completion_tokens":20,"total_tokens":70,"prompt_tokens_details":{{"cached_tokens":30}}}}}}"#
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || answer_each(stream, &answer));
        }
    });
    Ok(port)
}

/// One connection: requests are small and come in one piece, or in two.
fn answer_each(mut stream: TcpStream, answer: &str) {
    let mut buffer = [0; 16 * 1024];
    let mut held = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        held.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if held.ends_with(b"}") {
            held.clear();
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
