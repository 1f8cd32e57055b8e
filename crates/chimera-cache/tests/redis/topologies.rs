//! A password, a user, a cluster.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_rights_is_enough() {
    if server::skipped() {
        return;
    }
    let server = server::Server::start().await;
    let rules = ["ACL", "SETUSER", "gate", "on", ">canary-secret", "~t:*"];
    let may =
        ["+getrange", "+set", "+unlink", "+scan", "+eval", "+client|tracking", "+hello", "+ping", "+info"];
    let answer = server.text(&[&rules[..], &may[..]].concat()).await;
    assert_eq!(answer, "+OK\r\n");
    let cache = connected(&format!("redis://gate:canary-secret@127.0.0.1:{}", server.port)).await;
    tracked(&cache).await;
    put(&cache, "acme:1", "v");
    cache.flush().await;
    assert_eq!(get_far(&cache, "acme:1").await.as_deref(), Some("v"));
    let purge = chimera_cache::Purge::Scope("acme".into());
    assert_eq!(cache.purge(&purge).await.unwrap(), (1, 1));
}

/// Three masters that know each other.
async fn cluster() -> Vec<server::Server> {
    let mut servers = Vec::new();
    for _ in 0..3 {
        let bus = server::free_port().to_string();
        let arguments =
            ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-config-file", "nodes.conf"];
        servers.push(server::Server::start_on(server::free_port(), &arguments).await);
    }
    let nodes: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
    let made = std::process::Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&nodes)
        .args(["--cluster-yes"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    servers
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
