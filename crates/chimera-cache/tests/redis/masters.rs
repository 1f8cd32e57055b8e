//! A cluster in which changes are told by each master for what it holds: none of them may fall silent unnoticed.

use chimera_cache::{Coherence, WritePolicy};

use super::{
    proxy::{Fault, Proxy},
    server::{Server, free_port},
    topologies::{cluster_of, in_the_cluster, redis_cli},
    *,
};

/// Three masters, each of which tells clients to come to it through a proxy.
async fn proxied() -> (Vec<Server>, Vec<Proxy>) {
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let port = free_port();
        let proxy = Proxy::start(port).await;
        nodes.push((port, vec!["--cluster-announce-port".to_owned(), proxy.port.to_string()], proxy));
    }
    let (nodes, proxies): (Vec<_>, Vec<_>) =
        nodes.into_iter().map(|(port, arguments, proxy)| ((port, arguments), proxy)).unzip();
    (cluster_of(nodes).await, proxies)
}

fn url(port: u16) -> String {
    format!("redis-cluster://127.0.0.1:{port}")
}

fn coherence(cache: &Cache) -> Coherence {
    cache.snapshot(Instant::now()).coherence
}

/// A key that this master holds.
async fn key_of(server: &Server) -> String {
    for n in 0..1000 {
        let key = format!("acme:{n}");
        if server.say(&[b"GET", &name(&key)]).await == b"$-1\r\n" {
            return key;
        }
    }
    panic!("it holds none");
}

/// A cache whose entries stay in memory, so that no master has them: who changes one is heard of only by being told.
fn alone_in_memory(url: &str) -> Cache {
    let mut settings = tiered(1 << 20);
    settings.writes = WritePolicy::Demote;
    cache_with(settings, guarded(), redis(url))
}

/// What somebody else writes at a master is told: sooner or later, for a cluster and a client of its take their time.
async fn comes_to_tell(cache: &Cache, server: &Server, key: &str) {
    let began = Instant::now();
    loop {
        put(cache, key, "old");
        let answer = server.say(&[b"SET", &name(key), b"new"]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        if answer == b"+OK\r\n" && get_near(cache, key).is_none() {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "its changes are not told");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_master_that_falls_silent_is_noticed() {
    if server::skipped() {
        return;
    }
    let (servers, proxies) = proxied().await;
    let cache = alone_in_memory(&url(proxies[0].port));
    for (server, proxy) in servers.iter().zip(&proxies) {
        ready(&cache).await;
        let key = key_of(server).await;
        put(&cache, &key, "old");
        proxy.set(Fault::Freeze);
        server.say(&[b"SET", &name(&key), b"new"]).await;
        until("the silence is noticed", || coherence(&cache) == Coherence::Lost).await;
        assert_eq!(get_near(&cache, &key), None);
        proxy.set(Fault::None);
        server.say(&[b"DEL", &name(&key)]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_of_any_master_empties_the_near_tier() {
    if server::skipped() {
        return;
    }
    let (servers, proxies) = proxied().await;
    let cache = alone_in_memory(&url(proxies[0].port));
    for server in &servers {
        ready(&cache).await;
        let key = key_of(server).await;
        put(&cache, &key, "v");
        server.text(&["FLUSHALL"]).await;
        until("the flush is noticed", || get_near(&cache, &key).is_none()).await;
    }
}

/// A router has forgotten the connections to one master. They are left for new ones, though they are used all the time.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_master_that_swallow_everything_are_left_for_new_ones() {
    if server::skipped() {
        return;
    }
    let (servers, proxies) = proxied().await;
    let cache = connected(&url(proxies[0].port)).await;
    let key = key_of(&servers[1]).await;
    let busy = tokio::spawn({
        let (cache, key) = (cache.clone(), key.clone());
        async move {
            loop {
                put(&cache, &key, "mine");
                get_far(&cache, &key).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    });
    proxies[1].set(Fault::Strand);
    until("the silence is noticed", || coherence(&cache) == Coherence::Lost).await;
    ready(&cache).await;
    busy.abort();
    assert!(busy.await.unwrap_err().is_cancelled());
    comes_to_tell(&cache, &servers[1], &key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_joins_tells_what_is_changed_there() {
    if server::skipped() {
        return;
    }
    let (servers, proxies) = proxied().await;
    let cache = alone_in_memory(&url(proxies[0].port));
    ready(&cache).await;
    let key = key_of(&servers[0]).await;
    put(&cache, &key, "old");
    let joined = in_the_cluster(free_port(), &[]).await;
    let known = format!("127.0.0.1:{}", servers[0].port);
    redis_cli(&["--cluster", "add-node", &format!("127.0.0.1:{}", joined.port), &known]).await;
    let slot = servers[0].text(&["CLUSTER", "KEYSLOT", &format!("t:3:e:{key}")]).await;
    let slot = slot.trim_start_matches(':').trim_end();
    let answer = joined.text(&["CLUSTER", "MYID"]).await;
    let id = answer.lines().nth(1).unwrap();
    for server in servers.iter().chain([&joined]) {
        let began = Instant::now();
        while server.text(&["CLUSTER", "SETSLOT", slot, "NODE", id]).await != "+OK\r\n" {
            assert!(began.elapsed() < Duration::from_secs(20), "the slot does not move");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    comes_to_tell(&cache, &joined, &key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_tells_what_is_changed_there() {
    if server::skipped() {
        return;
    }
    let (servers, proxies) = proxied().await;
    let replica = in_the_cluster(free_port(), &[]).await;
    let at = format!("127.0.0.1:{}", replica.port);
    let known = format!("127.0.0.1:{}", servers[0].port);
    let answer = servers[0].text(&["CLUSTER", "MYID"]).await;
    let of = answer.lines().nth(1).unwrap();
    redis_cli(&["--cluster", "add-node", &at, &known, "--cluster-slave", "--cluster-master-id", of]).await;
    let cache = alone_in_memory(&url(proxies[0].port));
    ready(&cache).await;
    let key = key_of(&servers[0]).await;
    let began = Instant::now();
    while !replica.text(&["ROLE"]).await.contains("master") {
        assert!(began.elapsed() < Duration::from_secs(20), "the replica does not take over");
        replica.text(&["CLUSTER", "FAILOVER"]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    comes_to_tell(&cache, &replica, &key).await;
}

/// Whether others are told first depends on one master; the entries are with all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_one_master_does_not_answer_is_done_by_the_others() {
    if server::skipped() {
        return;
    }
    let (servers, proxies) = proxied().await;
    let cache = connected(&url(proxies[0].port)).await;
    for n in 0..60 {
        put(&cache, &format!("acme:{n}"), "v");
    }
    cache.flush().await;
    let mut tells = Vec::new();
    for server in &servers {
        tells.push(server.text(&["GET", "t:3:p:sacme"]).await == "$-1\r\n");
    }
    for (tells, proxy) in tells.iter().zip(&proxies) {
        proxy.set(if *tells { Fault::Freeze } else { Fault::None });
    }
    cache.purge(&chimera_cache::Purge::Scope("acme".into())).await.unwrap_err();
    for (is_silent, server) in tells.iter().zip(&servers) {
        let left = server.text(&["KEYS", "t:3:e:acme:*"]).await;
        assert_eq!(left != "*0\r\n", *is_silent, "{left}");
    }
}
