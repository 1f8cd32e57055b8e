//! The second tier as its users meet it: from the environment, over a restart, and without its Redis.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{Client, PATIENCE, Provider, Server, answer, chat};

struct Redis(Child, u16);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Redis, unless there is none to be had and that was said to be no fault.
fn redis(arguments: &[&str]) -> Option<Redis> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn();
    match child {
        Ok(child) => Some(Redis(child, port)),
        Err(_) if std::env::var_os("CHIMERA_SKIP_REDIS").is_some() => {
            eprintln!("SKIPPED: redis-server is not installed");
            None
        }
        Err(_) => {
            panic!("redis-server is not installed: apt-get install redis-server, or set CHIMERA_SKIP_REDIS=1")
        }
    }
}

fn start(provider: &Provider, url: &str) -> Server {
    let mut command = Command::new("env");
    command.arg(format!("REDIS_URL={url}")).arg(env!("CARGO_BIN_EXE_chimera"));
    // A busy machine is no slow Redis.
    let config =
        format!("[log]\nlevel = \"trace\"\n[cache.redis]\ndeadline = \"1s\"\n{}", provider.config(""));
    Server::start_under(command, &config)
}

fn page(server: &Server) -> String {
    server.admin("GET", "/api/v1/cache/metrics").text()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn ask(server: &Server) -> (u16, String) {
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "x", false));
    let answer = client.answer();
    (answer.status, answer.header("x-chimera-cache").unwrap_or_default().to_owned())
}

#[test]
fn answers_outlive_a_restart_and_the_password_stays_inside() {
    let Some(redis) = redis(&["--requirepass", "canary-of-redis"]) else { return };
    let url = format!("redis://:canary-of-redis@127.0.0.1:{}", redis.1);
    let provider = Provider::start(|_| vec![answer("fine")]);
    let mut first = start(&provider, &url);
    until("changes are told", || page(&first).contains("\"state\":\"on\""));
    assert_eq!(ask(&first), (200, "miss; reason=cold".to_owned()));
    // Written behind the answer, and at the latest before the end.
    first.signal("-TERM");
    assert_eq!(first.wait(), Some(0));
    let second = start(&provider, &url);
    until("changes are told", || page(&second).contains("\"state\":\"on\""));
    assert_eq!(ask(&second), (200, "l2".to_owned()));
    assert_eq!(ask(&second), (200, "l1".to_owned()));
    let metrics = second.admin("GET", "/metrics").text();
    for line in [
        "chimera_cache_tier_up{tier=\"l2\"} 1",
        "chimera_cache_lookups_total{tier=\"l2\",result=\"hit\"} 1",
        "chimera_cache_moves_total{direction=\"promote\"} 1",
        "chimera_cache_tracking_up 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let config = second.admin("GET", "/api/v1/config").text();
    for said in [first.log(), second.log(), metrics, config, page(&second)] {
        assert!(!said.contains("canary-of-redis"));
    }
}

#[test]
fn pain_23_a_dead_redis_neither_fails_nor_unreadies() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let provider = Provider::start(|_| vec![answer("fine")]);
    let server = start(&provider, &format!("redis://127.0.0.1:{port}"));
    assert_eq!(ask(&server).0, 200);
    assert_eq!(ask(&server), (200, "l1".to_owned()));
    assert_eq!(server.admin("GET", "/health/ready").status, 200);
    assert!(page(&server).contains("\"why\":\"not connected\""));
}
