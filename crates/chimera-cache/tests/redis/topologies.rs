//! A password, a user, a cluster, a sentinel.

use super::*;

/// Makes a user who may do what docs/operating.md says, and this.
async fn gate(server: &server::Server, more: &[&str]) {
    let rules = ["ACL", "SETUSER", "gate", "on", ">canary-secret", "~t:*"];
    let may = ["+getrange", "+set", "+unlink", "+scan", "+client|tracking", "+hello", "+ping", "+info"];
    assert_eq!(server.text(&[&rules[..], &may, more].concat()).await, "+OK\r\n");
}

async fn is_used_by_the_gate(url: &str) {
    let cache = connected(url).await;
    put(&cache, "acme:1", "v");
    cache.flush().await;
    assert_eq!(get_far(&cache, "acme:1").await.as_deref(), Some("v"));
    let purge = chimera_cache::Purge::Scope("acme".into());
    assert_eq!(cache.purge(&purge).await.unwrap(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_rights_is_enough() {
    let Some(server) = server::Server::or_skip().await else { return };
    gate(&server, &[]).await;
    is_used_by_the_gate(&format!("redis://gate:canary-secret@127.0.0.1:{}", server.port)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_rights_is_enough_in_a_cluster() {
    if server::skipped() {
        return;
    }
    let servers = cluster().await;
    for server in &servers {
        gate(server, &["+cluster|slots", "+cluster|info"]).await;
    }
    is_used_by_the_gate(&format!("redis-cluster://gate:canary-secret@127.0.0.1:{}", servers[0].port)).await;
}

/// Three masters that know each other.
async fn cluster() -> Vec<server::Server> {
    cluster_of((0..3).map(|_| (server::free_port(), Vec::new())).collect()).await
}

/// Masters on these ports, with these arguments more.
pub(crate) async fn cluster_of(nodes: Vec<(u16, Vec<String>)>) -> Vec<server::Server> {
    let mut servers = Vec::new();
    for (port, more) in nodes {
        let more: Vec<_> = more.iter().map(String::as_str).collect();
        servers.push(in_the_cluster(port, &more).await);
    }
    let nodes: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let nodes: Vec<_> = nodes.iter().map(String::as_str).collect();
    redis_cli(&[&["--cluster", "create"], &nodes[..], &["--cluster-yes"]].concat()).await;
    servers
}

/// A server that may become a node of a cluster.
pub(crate) async fn in_the_cluster(port: u16, more: &[&str]) -> server::Server {
    let bus = server::free_port().to_string();
    let arguments =
        ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-config-file", "nodes.conf"];
    server::Server::start_on(port, &[&arguments[..], more].concat()).await
}

pub(crate) async fn redis_cli(arguments: &[&str]) {
    let mut command = tokio::process::Command::new("redis-cli");
    let done = command.args(arguments).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_three_masters_is_one_tier() {
    if server::skipped() {
        return;
    }
    let servers = cluster().await;
    let url = format!("redis-cluster://127.0.0.1:{}", servers[0].port);
    let (a, b) = (connected(&url).await, connected(&url).await);
    let keys: Vec<_> = (0..50).map(|n| format!("acme:{n}")).collect();
    for key in &keys {
        put(&a, key, "old");
    }
    a.flush().await;
    for server in &servers {
        let held = server.text(&["DBSIZE"]).await;
        assert!(!held.starts_with(":0\r"), "each master has some");
    }
    for key in &keys {
        assert_eq!(get_far(&b, key).await.as_deref(), Some("old"), "{key}");
    }
    // Changes are told by each master for what it holds.
    for key in &keys {
        put(&a, key, "new");
    }
    until("all changes are told", || keys.iter().all(|key| get_near(&b, key).is_none())).await;
    a.flush().await;
    let purged = a.purge(&chimera_cache::Purge::Scope("acme".into())).await.unwrap();
    assert_eq!(purged, (50, 50));
}

/// Two servers, the second a replica of the first, and a sentinel that soon takes the first for dead.
async fn watched() -> (server::Server, server::Server, server::Server) {
    let master = server::Server::start().await;
    let of = master.port.to_string();
    let replica = server::Server::start_on(server::free_port(), &["--replicaof", "127.0.0.1", &of]).await;
    let began = Instant::now();
    while !replica.text(&["INFO", "replication"]).await.contains("master_link_status:up") {
        assert!(began.elapsed() < Duration::from_secs(20), "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let sentinel = server::Server::start_sentinel(&[
        &format!("sentinel monitor main 127.0.0.1 {} 1", master.port),
        "sentinel down-after-milliseconds main 300",
        "sentinel failover-timeout main 2000",
    ])
    .await;
    until("the sentinel sees the replica", || {
        // A sentinel knows no ECHO, by which the helper finds the end of an answer.
        let asked = std::process::Command::new("redis-cli")
            .args(["-p", &sentinel.port.to_string(), "SENTINEL", "REPLICAS", "main"])
            .output();
        String::from_utf8_lossy(&asked.unwrap().stdout).contains(&replica.port.to_string())
    })
    .await;
    (master, replica, sentinel)
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_after_a_fail_over_the_new_master_is_used_and_no_caller_sees_an_error() {
    if server::skipped() {
        return;
    }
    let (mut master, replica, sentinel) = watched().await;
    let url = format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=main", sentinel.port);
    let cache = connected(&url).await;
    put(&cache, "before", "v");
    cache.flush().await;
    assert_eq!(get_far(&cache, "before").await.as_deref(), Some("v"));
    master.kill();
    // Under load, until what is written is in the new master: a look-up is a hit or a miss, and soon.
    let (began, mut number) = (Instant::now(), 0);
    while replica.value(&name(&format!("after{number}"))).await.is_none() {
        assert!(began.elapsed() < Duration::from_secs(30), "the new master is not written to");
        number += 1;
        put(&cache, &format!("after{number}"), "new");
        let load = || async { Ok::<_, std::io::Error>(Value::from(*b"computed").into()) };
        let found = cache.get_or_load(&format!("asked{number}"), Lifetime::fresh(MINUTE), load).await;
        assert_eq!(&*found.unwrap().value, b"computed");
        cache.flush().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(replica.text(&["ROLE"]).await.contains("master"));
    until_found(&cache, &format!("after{number}"), "new").await;
    until_found(&cache, "before", "v").await;
}

/// Looks until a value is found: the guard lets the first look-ups through one by one.
async fn until_found(cache: &Cache, key: &str, text: &str) {
    let began = Instant::now();
    while get_far(cache, key).await.as_deref() != Some(text) {
        assert!(began.elapsed() < Duration::from_secs(20), "{key} is not found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A master of three that is gone takes its own keys with it, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn r11_a_cluster_without_one_of_its_masters_costs_misses_and_comes_back() {
    if server::skipped() {
        return;
    }
    let servers = cluster().await;
    let url = format!("redis-cluster://127.0.0.1:{}", servers[0].port);
    let cache = connected(&url).await;
    let keys: Vec<_> = (0..50).map(|n| format!("acme:{n}")).collect();
    for key in &keys {
        put(&cache, key, "v");
    }
    cache.flush().await;
    // Another process, which has nothing in memory yet.
    let other = connected(&url).await;
    servers[2].freeze();
    let mut found = 0;
    for key in &keys {
        let load = || async { Ok::<_, std::io::Error>(Value::from(*b"computed").into()) };
        found += usize::from(other.get_or_load(key, Lifetime::fresh(MINUTE), load).await.is_ok());
    }
    assert_eq!(found, 50, "no caller sees an error");
    servers[2].thaw();
    let began = Instant::now();
    for key in &keys {
        while get_far(&other, key).await.as_deref() != Some("v") {
            assert!(began.elapsed() < Duration::from_secs(20), "{key} is not found again");
            put(&cache, key, "v");
            cache.flush().await;
        }
    }
}
