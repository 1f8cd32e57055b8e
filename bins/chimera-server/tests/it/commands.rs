//! The command line: what it prints, what it refuses, and with which status.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Output, Stdio},
};

use crate::support::{Client, Server, post};

fn run(arguments: &[&str], config: Option<&str>, env: &[(&str, &str)]) -> Output {
    let path = std::env::temp_dir().join(format!("chimera-command-{}-{:p}.toml", std::process::id(), &env));
    let mut command = Command::new(env!("CARGO_BIN_EXE_chimera"));
    command.args(arguments).env_clear().envs(env.iter().copied());
    if let Some(config) = config {
        std::fs::write(&path, config).unwrap();
        command.arg("--config").arg(&path);
    }
    let output = command.output().unwrap();
    let _ = std::fs::remove_file(&path);
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_banner_fits_a_screen_and_its_curl_line_works() {
    let server = Server::start("");
    assert!(server.banner.lines().count() <= 24, "{}", server.banner);
    assert!(server.banner.contains("sim"), "{}", server.banner);
    let line = server.banner.lines().find(|line| line.contains("curl")).unwrap();
    let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let path = url.strip_prefix(&format!("http://{}", server.data)).unwrap();
    let body =
        server.banner.lines().find_map(|line| line.trim().strip_prefix("-d '")?.strip_suffix('\'')).unwrap();
    let mut client = Client::connect(server.data);
    client.send(post(path, body));
    let answer = client.answer();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.json()["choices"][0]["message"]["content"].as_str().unwrap().is_empty());
}

/// As in `chimera | head -1`.
#[test]
fn it_serves_although_nobody_reads_its_banner() {
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_chimera"));
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]).env_clear();
    let mut child = command.stdout(OwnedFd::from(writer)).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it ended");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn p04_a_port_that_is_taken_is_told_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other, key) in [
        ("--listen", "--admin-listen", "server.listen"),
        ("--admin-listen", "--listen", "server.admin_listen"),
    ] {
        let refused = run(&["serve", flag, &address, other, "127.0.0.1:0"], None, &[]);
        let why = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{why}");
        assert!(why.contains(&format!("{key}: ")) && why.contains(&address), "{why}");
    }
    let refused = run(&["serve", "--listen", "127.0.0.1:7", "--admin-listen", "127.0.0.1:7"], None, &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("server.admin_listen"), "{}", text(&refused.stderr));
}

#[test]
fn beyond_loopback_it_wants_keys_and_says_so() {
    for (flag, named) in [("--listen", "clients"), ("--admin-listen", "admin.key_sha256")] {
        let refused = run(&["serve", flag, "0.0.0.0:0"], None, &[]);
        let why = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{why}");
        assert!(why.contains(named), "{why}");
    }
}

#[test]
fn check_names_the_key_at_fault_and_shows_no_secret() {
    for (config, named) in [
        ("[server]\nworkrs = 1\n", "workrs"),
        ("[timeouts]\nllm = \"2 parsecs\"\n", "llm"),
        ("[cache]\ncapacity = \"1MiB\"\nmax_entry = \"900KiB\"\n", "cache.max_entry"),
        ("[providers.x]\ndialect = \"openai\"\nbase_url = \"ftp://x\"\n", "providers.x.base_url"),
        ("[groups.g]\ndeployments = [{ provider = \"nobody\", model = \"m\" }]\n", "groups.g"),
    ] {
        let refused = run(&["check"], Some(config), &[]);
        assert_eq!(refused.status.code(), Some(2), "{config}");
        assert!(text(&refused.stderr).contains(named), "{named}: {}", text(&refused.stderr));
    }
    let config = "[providers.openai]\ndialect = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\napi_key = \"sk-canary-check\"\n";
    let good = run(&["check"], Some(config), &[("ANTHROPIC_API_KEY", "sk-canary-env")]);
    let shown = text(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{}", text(&good.stderr));
    assert!(shown.contains("[providers.openai]") && shown.contains("anthropic"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    let overridden = run(&["check"], None, &[("CHIMERA__TIMEOUTS__LLM", "77s")]);
    assert!(text(&overridden.stdout).contains("77s"), "{}", text(&overridden.stdout));
}

#[test]
fn an_upstream_that_is_our_own_listener_is_refused() {
    let env = [("OPENAI_API_KEY", "sk-x"), ("CHIMERA_OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")];
    let refused = run(&["check"], None, &env);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stdout));
    assert!(text(&refused.stderr).contains("openai"), "{}", text(&refused.stderr));
}

#[test]
fn a_trace_is_replayed_against_the_configured_cache() {
    let trace = std::env::temp_dir().join(format!("chimera-trace-{}", std::process::id()));
    let keys: String = (0..4000).map(|n| format!("{}\n", n % 1000)).collect();
    std::fs::write(&trace, keys).unwrap();
    let name = trace.to_str().unwrap();
    let config = Some("[cache]\ncapacity = \"8MiB\"\nmax_entry = \"1MiB\"\n");
    let alone = run(&["cache", "simulate", name, "--entry", "4KiB"], config, &[]);
    assert!(alone.status.success(), "{}", text(&alone.stderr));
    let shown = text(&alone.stdout);
    assert!(shown.starts_with("4000 look-ups"), "{shown}");
    let configured = shown.lines().find(|line| line.contains("as configured")).unwrap();
    assert!(configured.contains("75.00%"), "a thousand keys of 4 KiB fit into 8 MiB: {shown}");
    let smallest = shown.lines().nth(3).unwrap();
    assert!(smallest.trim_start().starts_with("131072") && !smallest.contains("75.00%"), "{shown}");
    let far = run(&["cache", "simulate", name, "--entry", "4KiB", "--far", "16MiB"], config, &[]);
    let shown = text(&far.stdout);
    assert!(shown.lines().skip(3).all(|line| line.contains("75.00%")), "{shown}");
    for wrong in [&["cache", "simulate", name, "--far", "much"][..], &["cache", "simulate", "/nonexistent"]] {
        assert!(!run(wrong, None, &[]).status.success());
    }
    let _ = std::fs::remove_file(&trace);
}
